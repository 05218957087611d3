-- name: routes
-- The routes with figures in a span.
SELECT route FROM route_analytics_hourly
WHERE "timestamp" >= %(since)s AND "timestamp" <= %(until)s
GROUP BY route ORDER BY route;

-- name: hours_of_day
-- Each route and hour of the day (UTC): its active hours, all requests, and those of the busiest and the average hour.
SELECT
    route, extract(hour FROM "timestamp" AT TIME ZONE 'UTC')::int AS hour_of_day,
    count(*), sum(requests)::bigint, max(requests)::bigint, avg(requests)::float8
FROM (
    SELECT route, "timestamp", sum(total_requests) AS requests
    FROM route_analytics_hourly
    WHERE "timestamp" >= %(since)s AND "timestamp" <= %(until)s
        AND (%(route)s::text IS NULL OR route = %(route)s::text)
    GROUP BY route, "timestamp"
) AS hourly
GROUP BY route, hour_of_day;

-- name: hour_of_day_histograms
-- The durations of some routes at some hours of the day, each merged over the span: place among those given, bucket,
-- requests.
SELECT place, bucket, sum(requests)::bigint
FROM unnest(%(routes)s::text[], %(hours_of_day)s::int[]) WITH ORDINALITY AS wanted (route, hour_of_day, place)
JOIN route_analytics_hourly AS hourly
    ON hourly.route = wanted.route
    AND extract(hour FROM hourly."timestamp" AT TIME ZONE 'UTC')::int = wanted.hour_of_day
CROSS JOIN unnest(duration_buckets, duration_bucket_counts) AS histogram (bucket, requests)
WHERE hourly."timestamp" >= %(since)s AND hourly."timestamp" <= %(until)s
GROUP BY place, bucket;

-- name: hour_totals
-- The requests of each hour of a span that has figures of any route; of one route, 0 where it had none.
SELECT
    "timestamp",
    coalesce(sum(total_requests) FILTER (WHERE %(route)s::text IS NULL OR route = %(route)s::text), 0)::bigint
FROM route_analytics_hourly
WHERE "timestamp" >= %(since)s AND "timestamp" <= %(until)s
GROUP BY "timestamp" ORDER BY "timestamp";

-- name: route_patterns
-- The methods and patterns of one route; see the statement patterns of the rankings.
SELECT
    method, query_params_normalized::text,
    count(*) AS active_hours,
    sum(total_requests)::bigint,
    sum(successful_requests)::bigint,
    sum(client_errors + server_errors)::bigint,
    avg(total_requests)::float8,
    avg(unique_users)::float8,
    round(avg(p95_duration_ms)::numeric, 6)::float8,
    round(avg(p99_duration_ms)::numeric, 6)::float8,
    sum(server_errors)::bigint,
    sum(total_duration_seconds)
FROM route_analytics_hourly
WHERE route = %(route)s AND "timestamp" >= %(since)s AND "timestamp" <= %(until)s AND total_requests > 0
GROUP BY method, query_params_normalized;

-- name: pattern_course
-- The requests of each method and pattern of one route by slot of time, the first slot 0.
SELECT
    method, query_params_normalized::text,
    floor(extract(epoch FROM "timestamp" - %(since)s::timestamptz) / %(slot_seconds)s)::int AS slot,
    sum(total_requests)::bigint
FROM route_analytics_hourly
WHERE route = %(route)s AND "timestamp" >= %(since)s AND "timestamp" <= %(until)s
GROUP BY method, query_params_normalized, slot;

-- name: route_course
-- The mean duration of each route and method by slot of time, the first slot 0, in milliseconds.
SELECT
    route, method,
    floor(extract(epoch FROM "timestamp" - %(since)s::timestamptz) / %(slot_seconds)s)::int AS slot,
    1000 * sum(total_duration_seconds) / sum(total_requests)::float8
FROM route_analytics_hourly
WHERE "timestamp" >= %(since)s AND "timestamp" <= %(until)s AND total_requests > 0
GROUP BY route, method, slot;

-- name: slots
-- One route, all methods and patterns together, by slot of time, the first slot 0.
SELECT
    floor(extract(epoch FROM "timestamp" - %(since)s::timestamptz) / %(slot_seconds)s)::int AS slot,
    sum(total_requests)::bigint, sum(server_errors)::bigint, sum(total_duration_seconds)
FROM route_analytics_hourly
WHERE route = %(route)s AND "timestamp" >= %(since)s AND "timestamp" <= %(until)s
GROUP BY slot ORDER BY slot;

-- name: slot_histograms
-- The durations of one route by slot of time, as above: slot, bucket, requests.
SELECT
    floor(extract(epoch FROM "timestamp" - %(since)s::timestamptz) / %(slot_seconds)s)::int AS slot,
    bucket, sum(requests)::bigint
FROM route_analytics_hourly
CROSS JOIN unnest(duration_buckets, duration_bucket_counts) AS histogram (bucket, requests)
WHERE route = %(route)s AND "timestamp" >= %(since)s AND "timestamp" <= %(until)s
GROUP BY slot, bucket;

-- name: routes_with_errors
-- The routes and methods that answered 4xx or 5xx, and the last hour with a 5xx.
SELECT
    route, method, sum(total_requests)::bigint, sum(client_errors)::bigint, sum(server_errors)::bigint,
    max("timestamp") FILTER (WHERE server_errors > 0)
FROM route_analytics_hourly
WHERE "timestamp" >= %(since)s AND "timestamp" <= %(until)s
GROUP BY route, method
HAVING sum(client_errors) + sum(server_errors) > 0;

-- name: error_types
-- What went wrong on some routes: in the last hours with a 5xx, and in each of these among the last raw requests.
-- Both limits bound the cost: the place of the route and method among those given, error type, requests.
SELECT place, error_type, count(*)
FROM unnest(%(routes)s::text[], %(methods)s::text[]) WITH ORDINALITY AS wanted (route, method, place)
CROSS JOIN LATERAL (
    SELECT "timestamp" AS hour FROM route_analytics_hourly AS hourly
    WHERE hourly.route = wanted.route AND hourly.method = wanted.method AND server_errors > 0
        AND "timestamp" >= %(since)s AND "timestamp" <= %(until)s
    GROUP BY "timestamp" ORDER BY "timestamp" DESC LIMIT %(hours)s
) AS failing
CROSS JOIN LATERAL (
    SELECT method, error_type FROM route_analytics AS raw
    -- An hour is one of whole minutes, by which the index of a route is ordered; the rest names the partitions.
    WHERE raw.route = wanted.route
        AND date_trunc('minute', raw."timestamp" AT TIME ZONE 'UTC') >= hour AT TIME ZONE 'UTC'
        AND date_trunc('minute', raw."timestamp" AT TIME ZONE 'UTC') < hour AT TIME ZONE 'UTC' + interval '1 hour'
        AND raw."timestamp" >= hour AND raw."timestamp" < hour + interval '1 hour'
        AND raw."timestamp" >= %(since)s AND raw."timestamp" < %(until)s::timestamptz + interval '1 hour'
    ORDER BY date_trunc('minute', raw."timestamp" AT TIME ZONE 'UTC') DESC, raw."timestamp" DESC LIMIT %(sample)s
) AS latest
WHERE latest.method = wanted.method AND error_type IS NOT NULL
GROUP BY place, error_type;

-- name: route_totals
-- Each route and method: all requests, and the seconds spent on them.
SELECT route, method, sum(total_requests)::bigint, sum(total_duration_seconds)
FROM route_analytics_hourly
WHERE "timestamp" >= %(since)s AND "timestamp" <= %(until)s AND total_requests > 0
GROUP BY route, method;

-- name: route_histograms
-- The durations of each route and method, merged over the span.
SELECT route, method, bucket, sum(requests)::bigint
FROM route_analytics_hourly
CROSS JOIN unnest(duration_buckets, duration_bucket_counts) AS histogram (bucket, requests)
WHERE "timestamp" >= %(since)s AND "timestamp" <= %(until)s
GROUP BY route, method, bucket;

-- name: user_shares
-- How many requests the users with most of them sent together: for each of the places asked for, and for the last
-- place. Anonymous requests are counted apart, and no id leaves the database.
WITH senders AS MATERIALIZED (
    SELECT user_id, count(*) AS requests
    FROM route_analytics
    WHERE "timestamp" >= %(since)s AND "timestamp" <= %(until)s
        AND (%(route)s::text IS NULL OR route = %(route)s::text)
    GROUP BY user_id
), placed AS (
    SELECT
        row_number() OVER ranked AS place, sum(requests) OVER ranked AS requests, count(*) OVER () AS users
    FROM senders WHERE user_id IS NOT NULL
    WINDOW ranked AS (ORDER BY requests DESC ROWS UNBOUNDED PRECEDING)
)
SELECT 0, sum(requests)::bigint, 0 FROM senders WHERE user_id IS NULL HAVING count(*) > 0
UNION ALL
SELECT place, requests::bigint, users FROM placed WHERE place = ANY (%(places)s::bigint[]) OR place = users
ORDER BY 1;

-- name: top_users
-- The users with most requests, by id.
SELECT user_id, count(*) AS requests
FROM route_analytics
WHERE "timestamp" >= %(since)s AND "timestamp" <= %(until)s AND user_id IS NOT NULL
    AND (%(route)s::text IS NULL OR route = %(route)s::text)
GROUP BY user_id ORDER BY requests DESC, user_id COLLATE "C" LIMIT %(limit)s;
