-- Indexes of the raw table at less than half the size: where many entries have the same key, PostgreSQL stores the key
-- once. A partition is one day, so the user or the duration alone finds few rows; time goes by the primary key. The
-- latest requests of a route are asked for often, so that index is also ordered by time, minute by minute.
-- Reading goes on while this builds, about three seconds for a million rows; writing waits, and events on the stream.
CREATE INDEX route_analytics_route_minute ON route_analytics
    (route, date_trunc('minute', "timestamp" AT TIME ZONE 'UTC'));
CREATE INDEX route_analytics_user ON route_analytics (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX route_analytics_duration ON route_analytics (duration_ms);
DROP INDEX route_analytics_route_timestamp, route_analytics_user_timestamp, route_analytics_duration_timestamp;
