-- name: copy
-- A batch straight into the raw table; see rows.py for the order of the columns.
COPY route_analytics (
    "timestamp", event_id, status_code, duration_ms, route, route_full, method, ttfb_ms, user_id, error_type,
    request_size_bytes, response_size_bytes, db_query_count, cache_status, response_hash, trace_id, span_id,
    client_address, user_agent, referrer, session_id, query_params, query_params_normalized)
FROM STDIN (FORMAT binary);

-- name: mark
-- The hours that a batch changed.
INSERT INTO route_analytics_touched_hours (hour) SELECT hour FROM unnest(%(hours)s::timestamptz[]) AS hour;

-- name: prepare_incoming
-- Where COPY puts a batch of which a part is there already, private to the session.
CREATE TEMPORARY TABLE IF NOT EXISTS route_analytics_incoming (
    "timestamp"              timestamptz,
    event_id                 uuid,
    status_code              smallint,
    duration_ms              double precision,
    route                    text,
    route_full               text,
    method                   text,
    ttfb_ms                  double precision,
    user_id                  text,
    error_type               text,
    request_size_bytes       bigint,
    response_size_bytes      bigint,
    db_query_count           integer,
    cache_status             text,
    response_hash            bigint,
    trace_id                 text,
    span_id                  text,
    client_address           text,
    user_agent               text,
    referrer                 text,
    session_id               text,
    query_params             jsonb,
    query_params_normalized  jsonb
) ON COMMIT DELETE ROWS;
DELETE FROM route_analytics_incoming;

-- name: copy_incoming
-- Bring the batch to the server.
COPY route_analytics_incoming FROM STDIN (FORMAT binary);

-- name: store_incoming
-- The batch into the raw table, sorted, what is there already left out; and a mark for each hour that changed.
WITH stored AS (
    INSERT INTO route_analytics (
        "timestamp", event_id, status_code, duration_ms, route, route_full, method, ttfb_ms, user_id, error_type,
        request_size_bytes, response_size_bytes, db_query_count, cache_status, response_hash, trace_id, span_id,
        client_address, user_agent, referrer, session_id, query_params, query_params_normalized)
    SELECT * FROM route_analytics_incoming ORDER BY "timestamp", event_id
    ON CONFLICT DO NOTHING
    RETURNING "timestamp"
), marked AS (
    INSERT INTO route_analytics_touched_hours (hour)
    SELECT DISTINCT date_trunc('hour', "timestamp", 'UTC') FROM stored ORDER BY 1
)
SELECT count(*) FROM stored;
