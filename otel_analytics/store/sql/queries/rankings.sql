-- name: make_quick
-- The groups fit into memory instead of being sorted on disk (3 times as quick with 5,000 of them), and compiling
-- would take longer than it saves.
SET LOCAL work_mem = '64MB';
SET LOCAL jit = off;

-- name: hours
-- The hours of a span that have figures. Goes from one to the next in the index, past the rows between.
WITH RECURSIVE hours AS (
    (SELECT "timestamp" AS hour FROM route_analytics_hourly
     WHERE "timestamp" >= %(since)s AND "timestamp" <= %(until)s ORDER BY "timestamp" LIMIT 1)
    UNION ALL
    SELECT (SELECT "timestamp" FROM route_analytics_hourly
            WHERE "timestamp" > hour AND "timestamp" <= %(until)s ORDER BY "timestamp" LIMIT 1)
    FROM hours WHERE hour IS NOT NULL
)
SELECT hour FROM hours WHERE hour IS NOT NULL ORDER BY hour;

-- name: latest_hour
-- The last hour that has figures, whenever that was.
SELECT max("timestamp") FROM route_analytics_hourly;

-- name: patterns
-- Each route, method and pattern of a span. A pattern has at most one row an hour, so rows are active hours.
-- The sum of floats depends on their order; without the rounding, equal patterns would not come out equal.
SELECT
    route, method, query_params_normalized::text,
    count(*) AS active_hours,
    sum(total_requests)::bigint AS total_requests,
    sum(successful_requests)::bigint AS successful_requests,
    sum(client_errors + server_errors)::bigint AS failed_requests,
    avg(total_requests)::float8 AS avg_hourly_requests,
    avg(unique_users)::float8 AS avg_unique_users,
    round(avg(p95_duration_ms)::numeric, 6)::float8 AS avg_p95_ms,
    round(avg(p99_duration_ms)::numeric, 6)::float8 AS avg_p99_ms
FROM route_analytics_hourly
WHERE "timestamp" >= %(since)s AND "timestamp" <= %(until)s AND total_requests > 0
GROUP BY route, method, query_params_normalized;

-- name: histograms
-- The durations of some patterns in some hours, each pattern's hours merged: its place among those given, bucket, requests.
-- The hours, all of which have rows, let a few patterns be looked up by key; the span keeps a scan for many within it.
SELECT place, bucket, sum(requests)::bigint
FROM unnest(%(routes)s::text[], %(methods)s::text[], %(patterns)s::text[]::jsonb[])
    WITH ORDINALITY AS wanted (route, method, pattern, place)
CROSS JOIN unnest(%(hours)s::timestamptz[]) AS hour
JOIN route_analytics_hourly AS hourly
    ON hourly."timestamp" = hour AND hourly.route = wanted.route AND hourly.method = wanted.method
    AND hourly.query_params_normalized = wanted.pattern
CROSS JOIN unnest(duration_buckets, duration_bucket_counts) AS histogram (bucket, requests)
WHERE hourly."timestamp" >= %(since)s AND hourly."timestamp" <= %(until)s
GROUP BY place, bucket;

-- name: request_forms
-- In which forms the patterns of some routes were requested, by the last raw requests of each route: the parameters
-- that are no part of the pattern. The index of a route is ordered by minutes.
SELECT wanted.route, method, pattern::text, varying::text, count(*)
FROM unnest(%(routes)s::text[]) AS wanted (route)
CROSS JOIN LATERAL (
    SELECT
        method, query_params_normalized AS pattern,
        query_params - ARRAY(SELECT jsonb_object_keys(query_params_normalized)) AS varying
    FROM (
        SELECT method, query_params, query_params_normalized FROM route_analytics AS raw
        WHERE raw.route = wanted.route AND "timestamp" >= %(since)s AND "timestamp" <= %(until)s
        ORDER BY date_trunc('minute', "timestamp" AT TIME ZONE 'UTC') DESC, "timestamp" DESC LIMIT %(sample)s
    ) AS latest
) AS sampled
GROUP BY wanted.route, method, pattern, varying;
