-- name: make_quick
-- Compiling would take longer than it saves, and a day is sorted in memory where it is sorted at all.
SET LOCAL jit = off;
SET LOCAL work_mem = '64MB';

-- name: stream
-- Every request of a span that a route matched, in the order of time, as numbers of fixed width. Text becomes 64-bit
-- hashes; 0 or -1 stands for null. PostgreSQL sorts the names in jsonb, so the order of parameters is of no account.
-- The flags are those of `request_columns`. A key is whole where the path was not cut, no value was hidden, and no
-- parameter was cut off: there are 50 of them at most, of 256 characters at most.
COPY (
    SELECT
        "timestamp",
        duration_ms,
        hashtextextended(
            split_part(route_full, '?', 1) || ' ' || query_params::text, hashtextextended(method, 0)),
        coalesce(hashtextextended(user_id, 0), 0),
        coalesce(response_hash, 0),
        coalesce(response_size_bytes, -1),
        hashtextextended(
            route || ' ' || query_params_normalized::text, hashtextextended(method, 0)),
        coalesce(db_query_count, -1),
        (CASE WHEN method IN ('GET', 'HEAD') THEN 1 ELSE 0 END
            + CASE WHEN length(route_full) < %(longest)s
                AND strpos(route_full, %(hidden)s) = 0
                AND (length(route_full) <= %(most_params)s OR (
                    length(route_full) - length(replace(route_full, '&', '')) < %(most_params)s
                    AND (length(route_full) <= %(longest_param)s OR query_params::text !~ %(long_param)s)))
                THEN 2 ELSE 0 END
            + CASE WHEN status_code BETWEEN 200 AND 299 AND status_code <> 206 THEN 4 ELSE 0 END
            + CASE WHEN status_code >= 400 THEN 8 ELSE 0 END
            + CASE WHEN cache_status = 'hit' THEN 16 ELSE 0 END)::smallint
    FROM route_analytics
    WHERE "timestamp" >= %(since)s AND "timestamp" < %(until)s AND route <> %(unmatched)s
        AND (%(route)s::text IS NULL OR route = %(route)s)
    ORDER BY "timestamp", event_id
) TO STDOUT (FORMAT binary);

-- name: names
-- What the hashes of groups stand for, looked up where each was first seen; others of the same moments come along.
SELECT DISTINCT
    hashtextextended(route || ' ' || query_params_normalized::text, hashtextextended(method, 0)),
    route, method, query_params_normalized::text
FROM route_analytics
WHERE "timestamp" = ANY (%(moments)s::timestamptz[]);
