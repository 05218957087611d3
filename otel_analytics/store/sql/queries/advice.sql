-- What reads raw requests looks at the latest of a route and method, among ten times as many of the route: a method that
-- is rare on a busy route must not lead through all of its requests.

-- name: totals
-- What each route and method was asked for and what that took, by the hourly table.
SELECT
    route, method, count(DISTINCT "timestamp") AS active_hours, sum(total_requests)::bigint AS requests,
    sum(client_errors)::bigint AS client_errors, sum(server_errors)::bigint AS server_errors,
    sum(total_duration_seconds) AS seconds
FROM route_analytics_hourly
WHERE "timestamp" >= %(since)s AND "timestamp" <= %(until)s AND route <> '(unmatched)'
    AND (%(route)s::text IS NULL OR route = %(route)s) AND (%(method)s::text IS NULL OR method = %(method)s)
GROUP BY route, method ORDER BY seconds DESC, route, method;

-- name: hours_of_day
-- The requests of each route and method by hour of the day (UTC), over the hours that are over.
SELECT
    route, method, extract(hour FROM hour AT TIME ZONE 'UTC')::int AS hour_of_day, count(*) AS days,
    sum(requests)::bigint AS requests, max(requests)::bigint AS most_requests
FROM (
    SELECT route, method, "timestamp" AS hour, sum(total_requests) AS requests
    FROM route_analytics_hourly
    WHERE "timestamp" >= %(since)s AND "timestamp" < date_trunc('hour', %(until)s::timestamptz)
        AND (%(route)s::text IS NULL OR route = %(route)s) AND (%(method)s::text IS NULL OR method = %(method)s)
    GROUP BY route, method, "timestamp"
) AS hourly
GROUP BY route, method, hour_of_day ORDER BY route, method, hour_of_day;

-- name: sample
-- The latest raw requests of a route and method, taken together. Plain ones were answered 2xx, and not by a cache of the
-- application's own.
SELECT
    count(*) AS requests,
    count(*) FILTER (WHERE plain) AS plain,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) FILTER (WHERE plain) AS p50_ms,
    percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) FILTER (WHERE plain) AS p99_ms,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY ttfb_ms) FILTER (WHERE plain) AS ttfb_p50_ms,
    avg(response_size_bytes) FILTER (WHERE plain)::float8 AS avg_size,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY response_size_bytes) FILTER (WHERE plain) AS p95_size,
    count(db_query_count) FILTER (WHERE plain) AS counted_queries,
    avg(db_query_count) FILTER (WHERE plain)::float8 AS avg_queries,
    stddev_pop(db_query_count) FILTER (WHERE plain)::float8 AS deviation_queries,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY db_query_count) FILTER (WHERE plain) AS p95_queries,
    corr(db_query_count, response_size_bytes) FILTER (WHERE plain) AS queries_by_size,
    count(*) FILTER (WHERE cache_status = 'hit') AS cache_hits,
    count(*) FILTER (WHERE cache_status = 'miss') AS cache_misses,
    avg(duration_ms) FILTER (WHERE cache_status = 'hit') AS hit_ms,
    avg(duration_ms) FILTER (WHERE cache_status = 'miss') AS miss_ms
FROM (
    SELECT
        duration_ms, ttfb_ms, response_size_bytes, db_query_count, cache_status,
        status_code BETWEEN 200 AND 299 AND cache_status IS DISTINCT FROM 'hit' AS plain
    FROM (
        SELECT * FROM route_analytics
        WHERE route = %(route)s AND "timestamp" >= %(since)s AND "timestamp" < %(until)s
        ORDER BY date_trunc('minute', "timestamp" AT TIME ZONE 'UTC') DESC, "timestamp" DESC LIMIT 10 * %(sample)s
    ) AS newest
    WHERE method = %(method)s ORDER BY "timestamp" DESC LIMIT %(sample)s
) AS latest;

-- name: parameters
-- The query parameters in the latest requests of a route and method.
SELECT name, count(*) AS requests, count(DISTINCT value) AS values
FROM (
    SELECT query_params FROM (
        SELECT * FROM route_analytics
        WHERE route = %(route)s AND "timestamp" >= %(since)s AND "timestamp" < %(until)s
        ORDER BY date_trunc('minute', "timestamp" AT TIME ZONE 'UTC') DESC, "timestamp" DESC LIMIT 10 * %(sample)s
    ) AS newest
    WHERE method = %(method)s ORDER BY "timestamp" DESC LIMIT %(sample)s
) AS latest
CROSS JOIN LATERAL jsonb_each(query_params) AS parameter (name, value)
WHERE value <> '"REDACTED"'
GROUP BY name ORDER BY requests DESC, name LIMIT %(most)s;

-- name: dependence
-- Do the answers to one key depend on the sender, in the latest requests of a route and method? The key is the path with
-- all parameters, and the sender the user; or, where a parameter is named, the key lacks it (with the user in the key if
-- per_user), and the sender is its value. An answer is compared with the one before it, if that was complete by then.
-- One row for all patterns, or with by_pattern one for each. Senders and patterns are sorted often, so the former are
-- hashed, and the latter texts without the rules of a language.
WITH latest AS (
    SELECT
        "timestamp" AS start, event_id, "timestamp" + duration_ms * interval '1 millisecond' AS done, user_id,
        split_part(route_full, '?', 1) AS path, query_params, response_hash AS body,
        CASE WHEN %(by_pattern)s THEN query_params_normalized::text COLLATE "C" END AS pattern
    FROM (
        SELECT
            "timestamp", event_id, method, status_code, duration_ms, user_id, route_full, query_params,
            query_params_normalized, response_hash
        FROM route_analytics
        WHERE route = %(route)s AND "timestamp" >= %(since)s AND "timestamp" < %(until)s
        ORDER BY date_trunc('minute', "timestamp" AT TIME ZONE 'UTC') DESC, "timestamp" DESC LIMIT 10 * %(sample)s
    ) AS newest
    WHERE method = %(method)s
        AND status_code BETWEEN 200 AND 299 AND status_code <> 206 AND response_hash IS NOT NULL
        AND length(route_full) < %(longest)s AND strpos(route_full, '=REDACTED') = 0
    ORDER BY "timestamp" DESC LIMIT %(sample)s
), asked AS (
    SELECT
        start, event_id, done, body, pattern,
        hashtextextended(
            CASE WHEN %(param)s::text IS NULL THEN path || ' ' || query_params::text
                ELSE path || ' ' || (query_params - %(param)s::text)::text END,
            CASE WHEN %(per_user)s THEN coalesce(hashtextextended(user_id, 1), 0) ELSE 0 END) AS key,
        hashtextextended(
            CASE WHEN %(param)s::text IS NULL THEN user_id
                ELSE coalesce(query_params -> %(param)s::text, 'null')::text END,
            0) AS sender
    FROM latest
), placed AS (
    SELECT
        *, row_number() OVER by_time AS place, lag(sender) OVER by_time AS sender_before,
        lag(body) OVER by_time AS body_before, coalesce(lag(done) OVER by_time <= start, false) AS after_it,
        coalesce(lead(start) OVER by_time >= done, false) AS before_next
    FROM asked WINDOW by_time AS (PARTITION BY key ORDER BY start, event_id)
), seen AS (
    SELECT
        *, lag(place) OVER of_body AS body_place, lag(before_next) OVER of_body AS body_before_next,
        lag(place) OVER of_sender AS own_place, lag(body) OVER of_sender AS own_body,
        lag(body, 2) OVER of_sender AS own_body_before,
        sender <> sender_before AND after_it AS compared
    FROM placed
    WINDOW of_body AS (PARTITION BY key, body ORDER BY place),
        of_sender AS (PARTITION BY key, sender ORDER BY place)
), by_sender AS (
    SELECT
        pattern, sender, count(*) AS requests, count(*) FILTER (WHERE compared) AS compared,
        count(*) FILTER (WHERE compared AND body = body_before) AS equal,
        count(*) FILTER (WHERE body_place < place - 1 AND body_before_next AND after_it) AS returns,
        count(*) FILTER (WHERE sender IS NOT NULL AND own_body = body AND own_place < place - 1 AND after_it) AS kept,
        count(*) FILTER (
            WHERE sender IS NOT NULL AND own_body = body AND own_place < place - 1 AND after_it
                AND body <> body_before) AS contradicted,
        count(*) FILTER (WHERE own_body <> body AND own_body_before = body AND after_it) AS own_returns
    FROM seen GROUP BY pattern, sender
)
SELECT
    pattern, coalesce(sum(requests), 0)::bigint AS requests, count(sender) AS senders,
    coalesce(sum(compared), 0)::bigint AS compared, coalesce(sum(equal), 0)::bigint AS equal,
    count(*) FILTER (WHERE equal > 0) AS equal_senders, coalesce(sum(returns), 0)::bigint AS returns,
    coalesce(sum(kept), 0)::bigint AS kept, coalesce(sum(contradicted), 0)::bigint AS contradicted,
    coalesce(sum(own_returns), 0)::bigint AS own_returns,
    count(*) FILTER (WHERE sender IS NOT NULL AND requests = 1) AS lone,
    count(*) FILTER (
        WHERE sender IS NOT NULL AND equal = 0 AND (requests >= 5 OR (requests > 1 AND compared > 0))) AS unproven
FROM by_sender GROUP BY pattern;

-- name: keyed_requests
-- The latest requests of a route and method, oldest first, with the key as it is and without one parameter.
SELECT
    (extract(epoch FROM "timestamp") * 1000000)::bigint, (duration_ms * 1000)::bigint,
    hashtextextended(path || ' ' || query_params::text, 0),
    hashtextextended(path || ' ' || (query_params - %(param)s::text)::text, 0),
    coalesce(hashtextextended(user_id, 0), 0), coalesce(response_hash, 0), coalesce(response_size_bytes, -1),
    coalesce(db_query_count, -1),
    3 + CASE WHEN status_code BETWEEN 200 AND 299 AND status_code <> 206 THEN 4 ELSE 0 END
        + CASE WHEN status_code >= 400 THEN 8 ELSE 0 END
FROM (
    SELECT *, split_part(route_full, '?', 1) AS path FROM (
        SELECT * FROM route_analytics
        WHERE route = %(route)s AND "timestamp" >= %(since)s AND "timestamp" < %(until)s
        ORDER BY date_trunc('minute', "timestamp" AT TIME ZONE 'UTC') DESC, "timestamp" DESC LIMIT 10 * %(sample)s
    ) AS newest
    WHERE method = %(method)s
        AND length(route_full) < %(longest)s AND strpos(route_full, '=REDACTED') = 0
    ORDER BY "timestamp" DESC LIMIT %(sample)s
) AS latest
ORDER BY "timestamp", event_id;
