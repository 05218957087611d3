-- name: touched_hours
-- The hours that wait to be recomputed.
SELECT DISTINCT hour FROM route_analytics_touched_hours ORDER BY hour;

-- name: try_lock
-- Keep the hour for this transaction, unless another one has it.
SELECT pg_try_advisory_xact_lock(
    hashtext('otel_analytics.rollup.' || current_schema()), (extract(epoch FROM %(hour)s::timestamptz) / 3600)::int);

-- name: lock
-- Keep the hour for this transaction, as soon as it is free.
SELECT pg_advisory_xact_lock(
    hashtext('otel_analytics.rollup.' || current_schema()), (extract(epoch FROM %(hour)s::timestamptz) / 3600)::int
) IS NOT NULL;

-- name: remove_marks
-- Those whose rows a statement after this one sees, or whose hour can no longer be recomputed.
DELETE FROM route_analytics_touched_hours WHERE hour = %(hour)s;

-- name: forget
-- Hours that are no longer kept.
DELETE FROM route_analytics_hourly WHERE "timestamp" < %(before)s;

-- name: make_quick
-- The statement looks up the pattern of every event, by hash. The planner knows nothing of how many patterns there are,
-- and might sort all the events for it, which takes longer than all the rest, or compare each event with each pattern.
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_nestloop = off;
-- The histograms are such a loop, and not to be had otherwise. What is switched off counts as so dear that PostgreSQL
-- up to 17 would take half a second to compile expressions.
SET LOCAL jit = off;

-- name: compute
-- The figures of one hour from its raw rows. Apart from writing them, since of all statements that write, PostgreSQL
-- spreads only those that make a table over several processes.
CREATE TEMPORARY TABLE route_analytics_figures ON COMMIT DROP AS
WITH events AS NOT MATERIALIZED (
    -- By name, since the role of the worker may read no other column.
    SELECT
        route, method, query_params_normalized, status_code, duration_ms, user_id, request_size_bytes,
        response_size_bytes, db_query_count, cache_status, response_hash
    FROM route_analytics
    WHERE "timestamp" >= %(hour)s AND "timestamp" < %(hour)s::timestamptz + interval '1 hour'
), grouped AS MATERIALIZED (
    SELECT route, method, query_params_normalized, count(*) AS requests
    FROM events GROUP BY route, method, query_params_normalized
), ranked AS (
    -- A pattern counts with all its methods. Ties go by its text, so that a rerun keeps the same ones.
    SELECT route, query_params_normalized, row_number() OVER (
        PARTITION BY route ORDER BY sum(requests) DESC, query_params_normalized::text COLLATE "C") AS place
    FROM grouped
    WHERE octet_length(query_params_normalized::text) <= %(max_pattern_bytes)s
    GROUP BY route, query_params_normalized
), patterns AS MATERIALIZED (
    SELECT DISTINCT
        route, method,
        CASE WHEN place <= %(max_patterns)s THEN query_params_normalized ELSE %(overflow)s::jsonb END AS pattern
    FROM grouped LEFT JOIN ranked USING (route, query_params_normalized)
), numbered AS NOT MATERIALIZED (
    -- All that follows sorts and groups every event by a number, which takes half the time of text and jsonb. From
    -- arrays, since every process can have those, and the planner takes what comes from them for few rows: it hashes
    -- the patterns and not the events.
    SELECT route, method, pattern, number
    FROM unnest(
        (SELECT array_agg(route) FROM patterns),
        (SELECT array_agg(method) FROM patterns),
        (SELECT array_agg(pattern) FROM patterns)
    ) WITH ORDINALITY AS listed (route, method, pattern, number)
), keyed AS (
    SELECT
        coalesce(own.number, overflow.number) AS number, status_code, duration_ms, user_id, request_size_bytes,
        response_size_bytes, db_query_count, cache_status, response_hash,
        ceil(ln(greatest(duration_ms, 0.001)) / ln(51::float8 / 49))::smallint AS bucket
    FROM events
    LEFT JOIN numbered AS own
        ON own.pattern = query_params_normalized AND own.route = events.route AND own.method = events.method
    LEFT JOIN numbered AS overflow
        ON overflow.pattern = CASE WHEN own.number IS NULL THEN %(overflow)s::jsonb END
        AND overflow.route = events.route AND overflow.method = events.method
), aggregated AS (
    SELECT
        number,
        count(*) AS total_requests,
        -- In the order of size, so that a rerun finds the same sum, whichever process read which event.
        sum(duration_ms ORDER BY duration_ms) AS total_duration_ms,
        count(*) FILTER (WHERE status_code BETWEEN 200 AND 299) AS successful_requests,
        count(*) FILTER (WHERE status_code BETWEEN 400 AND 499) AS client_errors,
        count(*) FILTER (WHERE status_code BETWEEN 500 AND 599) AS server_errors,
        percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_ms) AS percentiles,
        count(DISTINCT user_id) AS unique_users,
        avg(request_size_bytes)::float8 AS avg_request_size_bytes,
        avg(response_size_bytes)::float8 AS avg_response_size_bytes,
        avg(db_query_count)::float8 AS avg_db_query_count,
        count(*) FILTER (WHERE cache_status = 'hit') AS cache_hits,
        count(*) FILTER (WHERE cache_status = 'miss') AS cache_misses,
        count(DISTINCT response_hash) AS distinct_response_hashes,
        -- Two bytes an event, and no negative number among them; an array would take nine, and hold 67 million at most.
        string_agg(int2send((bucket + 1000)::smallint), '') AS buckets
    FROM keyed
    GROUP BY number
)
SELECT
    route, method, pattern, total_requests, successful_requests, client_errors, server_errors,
    total_duration_ms / total_requests AS avg_duration_ms, total_duration_ms / 1000 AS total_duration_seconds,
    percentiles, unique_users, avg_request_size_bytes, avg_response_size_bytes, avg_db_query_count, cache_hits,
    cache_misses, duration_buckets, duration_bucket_counts, distinct_response_hashes
FROM aggregated
JOIN numbered USING (number)
CROSS JOIN LATERAL (
    SELECT array_agg(bucket ORDER BY bucket) AS duration_buckets, array_agg(n ORDER BY bucket) AS duration_bucket_counts
    FROM (
        SELECT get_byte(buckets, 2 * i) * 256 + get_byte(buckets, 2 * i + 1) - 1000 AS bucket, count(*) AS n
        FROM generate_series(0, total_requests::int - 1) AS i
        GROUP BY bucket
    ) AS counted
) AS histogram;

-- name: write
-- Make the hour what has been computed: write what differs, delete what is no longer there.
WITH written AS (
    INSERT INTO route_analytics_hourly AS old (
        "timestamp", route, method, query_params_normalized, total_requests, successful_requests, client_errors,
        server_errors, avg_duration_ms, p50_duration_ms, p95_duration_ms, p99_duration_ms, unique_users,
        avg_request_size_bytes, avg_response_size_bytes, avg_db_query_count, cache_hits, cache_misses,
        duration_buckets, duration_bucket_counts, total_duration_seconds, distinct_response_hashes)
    SELECT
        %(hour)s, route, method, pattern, total_requests, successful_requests, client_errors,
        server_errors, avg_duration_ms, percentiles[1], percentiles[2], percentiles[3], unique_users,
        avg_request_size_bytes, avg_response_size_bytes, avg_db_query_count, cache_hits, cache_misses,
        duration_buckets, duration_bucket_counts, total_duration_seconds, distinct_response_hashes
    FROM route_analytics_figures
    ORDER BY route, method, pattern
    ON CONFLICT ("timestamp", route, method, query_params_normalized) DO UPDATE SET
        total_requests = excluded.total_requests,
        successful_requests = excluded.successful_requests,
        client_errors = excluded.client_errors,
        server_errors = excluded.server_errors,
        avg_duration_ms = excluded.avg_duration_ms,
        p50_duration_ms = excluded.p50_duration_ms,
        p95_duration_ms = excluded.p95_duration_ms,
        p99_duration_ms = excluded.p99_duration_ms,
        unique_users = excluded.unique_users,
        avg_request_size_bytes = excluded.avg_request_size_bytes,
        avg_response_size_bytes = excluded.avg_response_size_bytes,
        avg_db_query_count = excluded.avg_db_query_count,
        cache_hits = excluded.cache_hits,
        cache_misses = excluded.cache_misses,
        duration_buckets = excluded.duration_buckets,
        duration_bucket_counts = excluded.duration_bucket_counts,
        total_duration_seconds = excluded.total_duration_seconds,
        distinct_response_hashes = excluded.distinct_response_hashes,
        created_at = excluded.created_at
    -- A row that is right already is not written again.
    WHERE (old.total_requests, old.successful_requests, old.client_errors, old.server_errors, old.avg_duration_ms,
           old.p50_duration_ms, old.p95_duration_ms, old.p99_duration_ms, old.unique_users,
           old.avg_request_size_bytes, old.avg_response_size_bytes, old.avg_db_query_count, old.cache_hits,
           old.cache_misses, old.duration_buckets, old.duration_bucket_counts, old.total_duration_seconds,
           old.distinct_response_hashes)
        IS DISTINCT FROM
          (excluded.total_requests, excluded.successful_requests, excluded.client_errors, excluded.server_errors,
           excluded.avg_duration_ms, excluded.p50_duration_ms, excluded.p95_duration_ms, excluded.p99_duration_ms,
           excluded.unique_users, excluded.avg_request_size_bytes, excluded.avg_response_size_bytes,
           excluded.avg_db_query_count, excluded.cache_hits, excluded.cache_misses, excluded.duration_buckets,
           excluded.duration_bucket_counts, excluded.total_duration_seconds, excluded.distinct_response_hashes)
    RETURNING 1
), removed AS (
    DELETE FROM route_analytics_hourly AS old
    WHERE "timestamp" = %(hour)s AND NOT EXISTS (
        SELECT FROM route_analytics_figures AS figures
        WHERE figures.route = old.route AND figures.method = old.method
          AND figures.pattern = old.query_params_normalized)
    RETURNING 1
)
SELECT (SELECT count(*) FROM written), (SELECT count(*) FROM removed);
