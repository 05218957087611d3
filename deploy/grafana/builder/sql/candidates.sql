-- name: routes
-- The routes in the rankings that were the latest at the end of the range.
SELECT DISTINCT route FROM route_analytics_rankings
WHERE ranked_at = (SELECT max(ranked_at) FROM route_analytics_rankings WHERE ranked_at <= $__timeTo())
ORDER BY route

-- name: methods
-- The methods in the same rankings.
SELECT DISTINCT method FROM route_analytics_rankings
WHERE ranked_at = (SELECT max(ranked_at) FROM route_analytics_rankings WHERE ranked_at <= $__timeTo())
ORDER BY method

-- name: ranked_at
-- When the rankings shown were made, in milliseconds since 1970.
SELECT extract(epoch FROM max(ranked_at))::float8 * 1000 AS "Ranked"
FROM route_analytics_rankings
WHERE ranked_at <= $__timeTo()

-- name: saved
-- Seconds of work a day that the candidates by savings would save together.
SELECT sum(saved_seconds_per_day) AS "Saved a day"
FROM route_analytics_rankings
WHERE ranking = 'savings' AND route IN (${route:sqlstring}) AND method IN (${method:sqlstring})
    AND ranked_at = (SELECT max(ranked_at) FROM route_analytics_rankings WHERE ranked_at <= $__timeTo())

-- name: memory
-- What their entries would take at the most, one beside the other.
SELECT sum(peak_memory_bytes)::bigint AS "Memory"
FROM route_analytics_rankings
WHERE ranking = 'savings' AND route IN (${route:sqlstring}) AND method IN (${method:sqlstring})
    AND ranked_at = (SELECT max(ranked_at) FROM route_analytics_rankings WHERE ranked_at <= $__timeTo())

-- name: in_all
-- How many candidates stand in all three rankings.
SELECT count(*) AS "In all three"
FROM (
    SELECT FROM route_analytics_rankings
    WHERE route IN (${route:sqlstring}) AND method IN (${method:sqlstring})
        AND ranked_at = (SELECT max(ranked_at) FROM route_analytics_rankings WHERE ranked_at <= $__timeTo())
    GROUP BY route, method, query_params_normalized HAVING count(*) = 3
) AS agreed

-- name: absolute
-- The latest ranking by score.
SELECT
    "rank" AS "#", method AS "Method", route AS "Route",
    coalesce(
        (SELECT string_agg(key || '=' || value, '&' ORDER BY key) FROM jsonb_each_text(query_params_normalized)),
        '(none)') AS "Parameters",
    score AS "Score"
FROM route_analytics_rankings
WHERE ranking = 'absolute' AND route IN (${route:sqlstring}) AND method IN (${method:sqlstring})
    AND ranked_at = (SELECT max(ranked_at) FROM route_analytics_rankings WHERE ranked_at <= $__timeTo())
ORDER BY "rank"

-- name: relative
-- The latest ranking of each against the others.
SELECT
    "rank" AS "#", method AS "Method", route AS "Route",
    coalesce(
        (SELECT string_agg(key || '=' || value, '&' ORDER BY key) FROM jsonb_each_text(query_params_normalized)),
        '(none)') AS "Parameters",
    score AS "Priority"
FROM route_analytics_rankings
WHERE ranking = 'relative' AND route IN (${route:sqlstring}) AND method IN (${method:sqlstring})
    AND ranked_at = (SELECT max(ranked_at) FROM route_analytics_rankings WHERE ranked_at <= $__timeTo())
ORDER BY "rank"

-- name: savings
-- The latest ranking by what a cache would save.
SELECT
    "rank" AS "#", method AS "Method", route AS "Route",
    coalesce(
        (SELECT string_agg(key || '=' || value, '&' ORDER BY key) FROM jsonb_each_text(query_params_normalized)),
        '(none)') AS "Parameters",
    saved_seconds_per_day AS "Saved a day"
FROM route_analytics_rankings
WHERE ranking = 'savings' AND route IN (${route:sqlstring}) AND method IN (${method:sqlstring})
    AND ranked_at = (SELECT max(ranked_at) FROM route_analytics_rankings WHERE ranked_at <= $__timeTo())
ORDER BY "rank"

-- name: terms
-- How to cache the candidates by savings.
SELECT
    "rank" AS "#", method AS "Method", route AS "Route",
    coalesce(
        (SELECT string_agg(key || '=' || value, '&' ORDER BY key) FROM jsonb_each_text(query_params_normalized)),
        '(none)') AS "Parameters",
    cache_key AS "A copy is", ttl_seconds AS "Time to live", saved_seconds_per_day AS "Saved a day",
    predicted_hit_ratio AS "Hits", predicted_stale_ratio AS "Stale hits", peak_memory_bytes AS "Memory",
    avg_hourly_requests AS "Requests/hour", avg_p95_latency_ms / 1000 AS "Average p95",
    avg_unique_users AS "Users/hour", success_rate AS "Success"
FROM route_analytics_rankings
WHERE ranking = 'savings' AND route IN (${route:sqlstring}) AND method IN (${method:sqlstring})
    AND ranked_at = (SELECT max(ranked_at) FROM route_analytics_rankings WHERE ranked_at <= $__timeTo())
ORDER BY "rank"

-- name: realised
-- What was predicted as the range began, or first in it, against the hours since, that of the prediction included:
-- only patterns of which a cache says hit or miss.
WITH prediction AS (
    SELECT coalesce(
        (SELECT max(ranked_at) FROM route_analytics_rankings
         WHERE ranking = 'savings' AND ranked_at <= $__timeFrom()),
        (SELECT min(ranked_at) FROM route_analytics_rankings
         WHERE ranking = 'savings' AND $__timeFilter(ranked_at))
    ) AS ranked_at
), predicted AS (
    SELECT ranking.* FROM route_analytics_rankings AS ranking JOIN prediction USING (ranked_at)
    WHERE ranking = 'savings' AND route IN (${route:sqlstring}) AND method IN (${method:sqlstring})
), realised AS (
    SELECT
        route, method, query_params_normalized,
        sum(cache_hits)::bigint AS hits, sum(cache_hits + cache_misses)::bigint AS requests
    FROM predicted JOIN route_analytics_hourly AS hourly USING (route, method, query_params_normalized)
    WHERE hourly."timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC')
        AND hourly."timestamp" >= date_trunc('hour', ranked_at, 'UTC') AND hourly."timestamp" <= $__timeTo()
    GROUP BY 1, 2, 3 HAVING sum(cache_hits + cache_misses) > 0
)
SELECT
    method AS "Method", route AS "Route",
    coalesce(
        (SELECT string_agg(key || '=' || value, '&' ORDER BY key) FROM jsonb_each_text(query_params_normalized)),
        '(none)') AS "Parameters",
    ranked_at AS "Predicted at", ttl_seconds AS "Time to live", predicted_hit_ratio AS "Predicted",
    hits::float8 / requests AS "Realised", hits::float8 / requests - predicted_hit_ratio AS "Difference",
    requests AS "Hits and misses"
FROM predicted JOIN realised USING (route, method, query_params_normalized)
ORDER BY requests DESC

-- name: realised_by_hour
-- The same by hour, of the three with most hits and misses: each hour beside what the last ranking until its end
-- predicted.
WITH patterns AS (
    SELECT DISTINCT route, method, query_params_normalized
    FROM route_analytics_rankings
    WHERE ranking = 'savings' AND route IN (${route:sqlstring}) AND method IN (${method:sqlstring})
        AND ranked_at >= coalesce(
            (SELECT max(ranked_at) FROM route_analytics_rankings
             WHERE ranking = 'savings' AND ranked_at <= $__timeFrom()), $__timeFrom())
        AND ranked_at <= $__timeTo()
), busiest AS (
    SELECT
        route, method, query_params_normalized,
        method || ' ' || route || coalesce(
            ' ' || (SELECT string_agg(key || '=' || value, '&' ORDER BY key)
                    FROM jsonb_each_text(query_params_normalized)), '') AS pattern
    FROM route_analytics_hourly JOIN patterns USING (route, method, query_params_normalized)
    WHERE "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()
        AND cache_hits + cache_misses > 0
    GROUP BY 1, 2, 3 ORDER BY sum(cache_hits + cache_misses) DESC, 4 LIMIT 3
), realised AS (
    SELECT
        "timestamp", busiest.*, cache_hits::float8 / (cache_hits + cache_misses) AS hits,
        (SELECT max(ranked_at) FROM route_analytics_rankings
         WHERE ranking = 'savings' AND ranked_at < "timestamp" + interval '1 hour') AS ranked_at
    FROM route_analytics_hourly JOIN busiest USING (route, method, query_params_normalized)
    WHERE "timestamp" >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND "timestamp" <= $__timeTo()
        AND cache_hits + cache_misses > 0
)
SELECT "timestamp" AS "time", pattern || ': realised' AS metric, hits AS value FROM realised
UNION ALL
SELECT "timestamp", pattern || ': predicted', predicted_hit_ratio
FROM realised JOIN route_analytics_rankings AS ranking USING (ranked_at, route, method, query_params_normalized)
WHERE ranking = 'savings'
ORDER BY 1, 2
