-- name: prepare_incoming
-- Where COPY puts a batch, private to the session; its columns are the fields of an event in their order.
CREATE TEMPORARY TABLE IF NOT EXISTS route_analytics_incoming (
    event_id                 uuid,
    timestamp_us             bigint,
    route                    text,
    route_full               text,
    method                   text,
    status_code              smallint,
    duration_ms              double precision,
    ttfb_ms                  double precision,
    user_id                  text,
    error_type               text,
    query_params             jsonb,
    query_params_normalized  jsonb,
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
    session_id               text
) ON COMMIT DELETE ROWS;
DELETE FROM route_analytics_incoming;

-- name: copy_incoming
-- Bring the batch to the server.
COPY route_analytics_incoming FROM STDIN;

-- name: store_incoming
-- The batch into the raw table, sorted, what is there already left out; and a mark for each hour that changed.
WITH stored AS (
    INSERT INTO route_analytics (
        "timestamp", event_id, route, route_full, method, status_code, duration_ms, ttfb_ms, user_id, error_type,
        query_params, query_params_normalized, request_size_bytes, response_size_bytes, db_query_count,
        cache_status, response_hash, trace_id, span_id, client_address, user_agent, referrer, session_id)
    SELECT
        timestamptz 'epoch' + timestamp_us * interval '1 microsecond', event_id, route, route_full, method,
        status_code, duration_ms, ttfb_ms, user_id, error_type, query_params, query_params_normalized,
        request_size_bytes, response_size_bytes, db_query_count, cache_status, response_hash, trace_id, span_id,
        client_address, user_agent, referrer, session_id
    FROM route_analytics_incoming
    ORDER BY timestamp_us, event_id
    ON CONFLICT DO NOTHING
    RETURNING "timestamp"
), marked AS (
    INSERT INTO route_analytics_touched_hours (hour)
    SELECT DISTINCT date_trunc('hour', "timestamp", 'UTC') FROM stored ORDER BY 1
)
SELECT count(*) FROM stored;
