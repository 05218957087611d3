-- name: are_wanted
-- Whether the raw table belongs to the owner of deploy/postgres/roles.sql, who shares it with two other roles.
SELECT pg_get_userbyid(relowner) = 'otel_analytics_owner' FROM pg_class WHERE oid = 'route_analytics'::regclass;

-- name: grant
-- What each role needs and no more; given anew after every migration, so that new tables are among them. The parent
-- speaks for its partitions. Of the raw table, the worker may read what hourly figures and kept rankings are made of:
-- not the address, the user agent, the referrer, the session, the trace or the error of a request.
GRANT SELECT ON
    route_analytics, route_analytics_hourly, route_analytics_touched_hours, route_analytics_ledger,
    route_analytics_stream_entries, route_analytics_drops, route_analytics_rankings, route_analytics_migrations
    TO otel_analytics_reader;
GRANT INSERT, SELECT (
    "timestamp", event_id, route, route_full, method, status_code, duration_ms, user_id, query_params,
    query_params_normalized, request_size_bytes, response_size_bytes, db_query_count, cache_status, response_hash
) ON route_analytics TO otel_analytics_ingest;
GRANT SELECT, INSERT, DELETE ON route_analytics_touched_hours, route_analytics_rankings TO otel_analytics_ingest;
GRANT SELECT, INSERT, UPDATE ON route_analytics_ledger TO otel_analytics_ingest;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    route_analytics_hourly, route_analytics_stream_entries, route_analytics_drops TO otel_analytics_ingest;
GRANT SELECT ON route_analytics_migrations TO otel_analytics_ingest;
GRANT EXECUTE ON FUNCTION route_analytics_make_partition(date), route_analytics_drop_partition(date)
    TO otel_analytics_ingest;
