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
-- The hour can no longer be recomputed.
DELETE FROM route_analytics_touched_hours WHERE hour = %(hour)s;

-- name: forget
-- Hours that are no longer kept.
DELETE FROM route_analytics_hourly WHERE "timestamp" < %(before)s;

-- name: make_quick
-- The statement looks up the pattern of every event, by hash. The planner knows nothing of how many patterns there are,
-- and might sort all the events for it, which takes longer than all the rest, or compare each event with each pattern.
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_nestloop = off;

-- name: recompute
-- The figures of one hour from its raw rows: write what differs, delete what is no longer there, remove the marks.
WITH marks AS (
    DELETE FROM route_analytics_touched_hours WHERE hour = %(hour)s
), events AS NOT MATERIALIZED (
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
), patterns AS (
    SELECT
        route, method, query_params_normalized,
        CASE WHEN place <= %(max_patterns)s THEN query_params_normalized ELSE %(overflow)s::jsonb END AS pattern
    FROM grouped LEFT JOIN ranked USING (route, query_params_normalized)
), numbered AS MATERIALIZED (
    -- All that follows sorts and groups every event by a number, which takes half the time of text and jsonb.
    SELECT *, dense_rank() OVER (ORDER BY route, method, pattern)::int AS number FROM patterns
), keyed AS MATERIALIZED (
    SELECT
        number, status_code, duration_ms, user_id, request_size_bytes, response_size_bytes, db_query_count,
        cache_status, response_hash,
        ceil(ln(greatest(duration_ms, 0.001)) / ln(51::float8 / 49))::smallint AS bucket
    FROM events JOIN numbered USING (route, method, query_params_normalized)
), histogram AS (
    SELECT number, array_agg(bucket ORDER BY bucket) AS buckets, array_agg(n ORDER BY bucket) AS counts
    FROM (SELECT number, bucket, count(*) AS n FROM keyed GROUP BY number, bucket) AS bucketed
    GROUP BY number
), aggregated AS (
    SELECT
        number,
        count(*) AS total_requests,
        count(*) FILTER (WHERE status_code BETWEEN 200 AND 299) AS successful_requests,
        count(*) FILTER (WHERE status_code BETWEEN 400 AND 499) AS client_errors,
        count(*) FILTER (WHERE status_code BETWEEN 500 AND 599) AS server_errors,
        avg(duration_ms) AS avg_duration_ms,
        percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_ms) AS percentiles,
        count(DISTINCT user_id) AS unique_users,
        avg(request_size_bytes)::float8 AS avg_request_size_bytes,
        avg(response_size_bytes)::float8 AS avg_response_size_bytes,
        avg(db_query_count)::float8 AS avg_db_query_count,
        count(*) FILTER (WHERE cache_status = 'hit') AS cache_hits,
        count(*) FILTER (WHERE cache_status = 'miss') AS cache_misses,
        sum(duration_ms) / 1000 AS total_duration_seconds,
        count(DISTINCT response_hash) AS distinct_response_hashes
    FROM keyed
    GROUP BY number
), figures AS MATERIALIZED (
    SELECT *
    FROM (SELECT DISTINCT number, route, method, pattern FROM numbered) AS named
    JOIN aggregated USING (number) JOIN histogram USING (number)
), written AS (
    INSERT INTO route_analytics_hourly AS old (
        "timestamp", route, method, query_params_normalized, total_requests, successful_requests, client_errors,
        server_errors, avg_duration_ms, p50_duration_ms, p95_duration_ms, p99_duration_ms, unique_users,
        avg_request_size_bytes, avg_response_size_bytes, avg_db_query_count, cache_hits, cache_misses,
        duration_buckets, duration_bucket_counts, total_duration_seconds, distinct_response_hashes)
    SELECT
        %(hour)s, route, method, pattern, total_requests, successful_requests, client_errors,
        server_errors, avg_duration_ms, percentiles[1], percentiles[2], percentiles[3], unique_users,
        avg_request_size_bytes, avg_response_size_bytes, avg_db_query_count, cache_hits, cache_misses,
        buckets, counts, total_duration_seconds, distinct_response_hashes
    FROM figures
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
        SELECT FROM figures
        WHERE figures.route = old.route AND figures.method = old.method
          AND figures.pattern = old.query_params_normalized)
    RETURNING 1
)
SELECT (SELECT count(*) FROM written), (SELECT count(*) FROM removed);
