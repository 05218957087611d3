-- name: delete_events
-- The events of a user within a span, with marks on their hours, so that the hourly figures follow.
WITH gone AS (
    DELETE FROM route_analytics
    WHERE user_id = ANY(%(names)s) AND "timestamp" >= %(since)s AND "timestamp" < %(until)s
    RETURNING "timestamp"
), marked AS (
    INSERT INTO route_analytics_touched_hours (hour)
    SELECT DISTINCT date_trunc('hour', "timestamp", 'UTC') FROM gone ORDER BY 1
)
SELECT count(*) FROM gone;

-- name: hide_in_events
-- What the events of others within a span say of a user, with marks on their hours.
WITH hidden AS (
    UPDATE route_analytics SET
        route_full = regexp_replace(route_full, %(mention)s, %(instead)s, 'gi'),
        query_params = regexp_replace(query_params::text, %(mention)s, %(instead)s, 'gi')::jsonb,
        query_params_normalized =
            regexp_replace(query_params_normalized::text, %(mention)s, %(instead)s, 'gi')::jsonb,
        referrer = regexp_replace(referrer, %(mention)s, %(instead)s, 'gi'),
        user_agent = regexp_replace(user_agent, %(mention)s, %(instead)s, 'gi'),
        session_id = regexp_replace(session_id, %(mention)s, %(instead)s, 'gi')
    WHERE "timestamp" >= %(since)s AND "timestamp" < %(until)s
        AND concat_ws(' ', route_full, query_params::text, query_params_normalized::text, referrer, user_agent, session_id)
            ~* %(mention)s
    RETURNING "timestamp"
), marked AS (
    INSERT INTO route_analytics_touched_hours (hour)
    SELECT DISTINCT date_trunc('hour', "timestamp", 'UTC') FROM hidden ORDER BY 1
)
SELECT count(*) FROM hidden;

-- name: delete_hourly
-- Parameter patterns that name a user, in hours whose raw events are gone: with those there, a recompute has seen to it.
DELETE FROM route_analytics_hourly WHERE query_params_normalized::text ~* %(mention)s;

-- name: hide_in_rankings
-- The same in the rankings that are kept.
UPDATE route_analytics_rankings
SET query_params_normalized = regexp_replace(query_params_normalized::text, %(mention)s, %(instead)s, 'gi')::jsonb
WHERE query_params_normalized::text ~* %(mention)s;

-- name: vacuum
-- What was deleted leaves the tables, so that its place can be used again.
VACUUM route_analytics, route_analytics_hourly, route_analytics_rankings;
