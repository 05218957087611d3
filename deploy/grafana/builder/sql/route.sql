-- name: routes
-- The routes with requests in the range, busiest first.
SELECT route FROM route_analytics_hourly
WHERE "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()
GROUP BY route ORDER BY sum(total_requests) DESC, route

-- name: methods
-- The methods of the route in the range.
SELECT DISTINCT method FROM route_analytics_hourly
WHERE route = ${route:sqlstring}
    AND "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()
ORDER BY method

-- name: requests
-- All requests of the hours that the range touches.
SELECT sum(total_requests)::bigint AS "Requests"
FROM route_analytics_hourly
WHERE route = ${route:sqlstring} AND method IN (${method:sqlstring})
    AND "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()

-- name: users
-- Users are counted among the raw requests: those of several hours or patterns cannot be added up.
SELECT count(*) AS "Users"
FROM (
    SELECT DISTINCT user_id FROM route_analytics
    WHERE route = ${route:sqlstring} AND method IN (${method:sqlstring}) AND user_id IS NOT NULL
        AND $__timeFilter("timestamp")
) AS users

-- name: server_errors
-- The share of requests answered 5xx.
SELECT sum(server_errors)::float8 / sum(total_requests) AS "5xx"
FROM route_analytics_hourly
WHERE route = ${route:sqlstring} AND method IN (${method:sqlstring})
    AND "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()

-- name: p95
-- The p95 of all requests together, within 2 %, from the merged histogram. A bucket i holds durations about
-- 2 g^i / (g + 1) ms with g = 51/49.
WITH histogram AS (
    SELECT bucket, sum(requests) AS requests
    FROM route_analytics_hourly
    CROSS JOIN unnest(duration_buckets, duration_bucket_counts) AS buckets (bucket, requests)
    WHERE route = ${route:sqlstring} AND method IN (${method:sqlstring})
        AND "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()
    GROUP BY bucket
), counted AS (
    SELECT bucket, sum(requests) OVER (ORDER BY bucket) AS up_to, sum(requests) OVER () AS total
    FROM histogram
)
SELECT 2 * power(51::float8 / 49, min(bucket)) / (51::float8 / 49 + 1) / 1000 AS "p95"
FROM counted
WHERE up_to > 0.95 * (total - 1)

-- name: cache_hits
-- Of the requests of which a cache said hit or miss; null where none said so.
SELECT sum(cache_hits)::float8 / nullif(sum(cache_hits + cache_misses), 0) AS "Cache hits"
FROM route_analytics_hourly
WHERE route = ${route:sqlstring} AND method IN (${method:sqlstring})
    AND "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()

-- name: queries
-- The hourly means weighted by requests; null where queries are not counted.
SELECT
    sum(avg_db_query_count * total_requests)
    / sum(total_requests) FILTER (WHERE avg_db_query_count IS NOT NULL) AS "Queries"
FROM route_analytics_hourly
WHERE route = ${route:sqlstring} AND method IN (${method:sqlstring})
    AND "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()

-- name: traffic
-- Requests by hour of the seven busiest patterns, and of the others together.
WITH hourly AS (
    SELECT
        "timestamp", total_requests,
        method || ' ' || coalesce(
            (SELECT string_agg(key || '=' || value, '&' ORDER BY key) FROM jsonb_each_text(query_params_normalized)),
            '(none)') AS pattern
    FROM route_analytics_hourly
    WHERE route = ${route:sqlstring} AND method IN (${method:sqlstring})
        AND "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()
), busiest AS (
    SELECT pattern FROM hourly GROUP BY pattern ORDER BY sum(total_requests) DESC, pattern LIMIT 7
)
SELECT
    $__timeGroupAlias("timestamp", '1h'), coalesce(busiest.pattern, '(others)') AS metric,
    sum(total_requests)::bigint AS value
FROM hourly LEFT JOIN busiest USING (pattern)
GROUP BY 1, 2 ORDER BY 1, 2

-- name: percentiles
-- The durations of each interval, at least an hour, from the merged histograms; see p95.
WITH histogram AS (
    SELECT $__timeGroupAlias("timestamp", $__interval), bucket, sum(requests) AS requests
    FROM route_analytics_hourly
    CROSS JOIN unnest(duration_buckets, duration_bucket_counts) AS buckets (bucket, requests)
    WHERE route = ${route:sqlstring} AND method IN (${method:sqlstring})
        AND "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()
    GROUP BY 1, 2
), counted AS (
    SELECT
        "time", 2 * power(51::float8 / 49, bucket) / (51::float8 / 49 + 1) / 1000 AS seconds,
        sum(requests) OVER (PARTITION BY "time" ORDER BY bucket) AS up_to,
        sum(requests) OVER (PARTITION BY "time") AS total
    FROM histogram
)
SELECT
    "time",
    min(seconds) FILTER (WHERE up_to > 0.50 * (total - 1)) AS p50,
    min(seconds) FILTER (WHERE up_to > 0.95 * (total - 1)) AS p95,
    min(seconds) FILTER (WHERE up_to > 0.99 * (total - 1)) AS p99
FROM counted
GROUP BY "time" ORDER BY "time"

-- name: users_by_hour
-- Distinct users by hour of the five busiest patterns, each on its own: one user may ask for several.
WITH hourly AS (
    SELECT
        "timestamp", total_requests, unique_users,
        method || ' ' || coalesce(
            (SELECT string_agg(key || '=' || value, '&' ORDER BY key) FROM jsonb_each_text(query_params_normalized)),
            '(none)') AS pattern
    FROM route_analytics_hourly
    WHERE route = ${route:sqlstring} AND method IN (${method:sqlstring})
        AND "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()
), busiest AS (
    SELECT pattern FROM hourly GROUP BY pattern ORDER BY sum(total_requests) DESC, pattern LIMIT 5
)
SELECT "timestamp" AS "time", pattern AS metric, unique_users AS value
FROM hourly JOIN busiest USING (pattern)
ORDER BY 1, 2

-- name: errors_by_hour
-- Requests answered 4xx and 5xx, by hour.
SELECT
    $__timeGroupAlias("timestamp", '1h'),
    sum(client_errors)::bigint AS "4xx", sum(server_errors)::bigint AS "5xx"
FROM route_analytics_hourly
WHERE route = ${route:sqlstring} AND method IN (${method:sqlstring})
    AND "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()
GROUP BY 1 ORDER BY 1

-- name: week
-- Requests of each hour of the week, averaged over the times it came by in the range: 0 where others were asked for
-- and this route was not, null where nothing at all was recorded.
WITH hours AS (
    SELECT hour
    FROM generate_series(
        date_trunc('hour', $__timeFrom()::timestamptz, 'UTC'), $__timeTo()::timestamptz, interval '1 hour') AS hour
    WHERE EXISTS (SELECT FROM route_analytics_hourly WHERE "timestamp" = hour)
), traffic AS (
    SELECT "timestamp" AS hour, sum(total_requests) AS requests
    FROM route_analytics_hourly
    WHERE route = ${route:sqlstring} AND method IN (${method:sqlstring})
        AND "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()
    GROUP BY 1
), week AS (
    SELECT
        extract(isodow FROM hour AT TIME ZONE 'UTC')::int AS weekday,
        extract(hour FROM hour AT TIME ZONE 'UTC')::int AS hour_of_day,
        avg(coalesce(requests, 0))::float8 AS requests
    FROM hours LEFT JOIN traffic USING (hour)
    GROUP BY 1, 2
)
SELECT
    (ARRAY['Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'])[weekday] AS "Weekday",
    max(requests) FILTER (WHERE hour_of_day = 0) AS "00",
    max(requests) FILTER (WHERE hour_of_day = 1) AS "01",
    max(requests) FILTER (WHERE hour_of_day = 2) AS "02",
    max(requests) FILTER (WHERE hour_of_day = 3) AS "03",
    max(requests) FILTER (WHERE hour_of_day = 4) AS "04",
    max(requests) FILTER (WHERE hour_of_day = 5) AS "05",
    max(requests) FILTER (WHERE hour_of_day = 6) AS "06",
    max(requests) FILTER (WHERE hour_of_day = 7) AS "07",
    max(requests) FILTER (WHERE hour_of_day = 8) AS "08",
    max(requests) FILTER (WHERE hour_of_day = 9) AS "09",
    max(requests) FILTER (WHERE hour_of_day = 10) AS "10",
    max(requests) FILTER (WHERE hour_of_day = 11) AS "11",
    max(requests) FILTER (WHERE hour_of_day = 12) AS "12",
    max(requests) FILTER (WHERE hour_of_day = 13) AS "13",
    max(requests) FILTER (WHERE hour_of_day = 14) AS "14",
    max(requests) FILTER (WHERE hour_of_day = 15) AS "15",
    max(requests) FILTER (WHERE hour_of_day = 16) AS "16",
    max(requests) FILTER (WHERE hour_of_day = 17) AS "17",
    max(requests) FILTER (WHERE hour_of_day = 18) AS "18",
    max(requests) FILTER (WHERE hour_of_day = 19) AS "19",
    max(requests) FILTER (WHERE hour_of_day = 20) AS "20",
    max(requests) FILTER (WHERE hour_of_day = 21) AS "21",
    max(requests) FILTER (WHERE hour_of_day = 22) AS "22",
    max(requests) FILTER (WHERE hour_of_day = 23) AS "23"
FROM week
GROUP BY weekday ORDER BY weekday

-- name: patterns
-- The fifty busiest patterns. Requests and users an hour are means over the hours in which the pattern was asked for.
WITH hourly AS (
    SELECT * FROM route_analytics_hourly
    WHERE route = ${route:sqlstring} AND method IN (${method:sqlstring}) AND total_requests > 0
        AND "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()
), patterns AS (
    SELECT
        method, query_params_normalized AS pattern,
        sum(total_requests)::bigint AS requests,
        avg(total_requests)::float8 AS requests_an_hour,
        avg(unique_users)::float8 AS users_an_hour,
        sum(total_duration_seconds) AS seconds,
        sum(client_errors + server_errors)::float8 / sum(total_requests) AS failed,
        sum(cache_hits)::float8 / nullif(sum(cache_hits + cache_misses), 0) AS hits,
        sum(avg_db_query_count * total_requests)
            / sum(total_requests) FILTER (WHERE avg_db_query_count IS NOT NULL) AS queries,
        sum(avg_response_size_bytes * total_requests)
            / sum(total_requests) FILTER (WHERE avg_response_size_bytes IS NOT NULL) AS size
    FROM hourly
    GROUP BY 1, 2 ORDER BY requests DESC, 1, 2 LIMIT 50
), histogram AS (
    SELECT method, query_params_normalized AS pattern, bucket, sum(n) AS n
    FROM hourly CROSS JOIN unnest(duration_buckets, duration_bucket_counts) AS buckets (bucket, n)
    GROUP BY 1, 2, 3
), counted AS (
    SELECT
        method, pattern, bucket, sum(n) OVER (PARTITION BY method, pattern ORDER BY bucket) AS up_to,
        sum(n) OVER (PARTITION BY method, pattern) AS total
    FROM histogram
), percentiles AS (
    SELECT method, pattern, 2 * power(51::float8 / 49, min(bucket)) / (51::float8 / 49 + 1) / 1000 AS p95
    FROM counted WHERE up_to > 0.95 * (total - 1)
    GROUP BY 1, 2
)
SELECT
    method AS "Method",
    coalesce((SELECT string_agg(key || '=' || value, '&' ORDER BY key) FROM jsonb_each_text(pattern)), '(none)')
        AS "Parameters",
    requests AS "Requests", requests_an_hour AS "Requests/hour", users_an_hour AS "Users/hour",
    seconds / requests AS "Mean", p95 AS "p95", seconds AS "Time spent", failed AS "4xx, 5xx", hits AS "Cache hits",
    queries AS "Queries", size AS "Response size"
FROM patterns LEFT JOIN percentiles USING (method, pattern)
ORDER BY requests DESC
