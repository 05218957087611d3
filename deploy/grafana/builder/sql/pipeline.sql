-- name: rolled_up
-- The share of the raw events of the last full hour that its hourly figures count; null where there are no events.
WITH last AS (SELECT date_trunc('hour', $__timeTo()::timestamptz, 'UTC') - interval '1 hour' AS hour)
SELECT
    (SELECT coalesce(sum(total_requests), 0) FROM route_analytics_hourly WHERE "timestamp" = hour)::float8
    / nullif((
        SELECT count(*) FROM route_analytics
        WHERE "timestamp" >= hour AND "timestamp" < hour + interval '1 hour'
    ), 0) AS "In hourly figures"
FROM last

-- name: ledger
-- The ledger of each life of the stream that the range touches. What is missing waits on the stream, or for an
-- earlier life is lost.
SELECT
    first_seen AS "Begun", last_seen AS "Last batch", accepted AS "Accepted", replayed AS "Replayed",
    stored AS "Stored",
    duplicates AS "Duplicates", dead AS "Dead", purged AS "Purged",
    accepted + replayed - stored - duplicates - dead AS "Not accounted for", epoch AS "Epoch"
FROM route_analytics_ledger
WHERE last_seen >= $__timeFrom() AND first_seen <= $__timeTo()
ORDER BY first_seen DESC

-- name: drops
-- Events that applications gave up, by reason, in the hours in which they said so.
SELECT reason AS "Reason", sum(events)::bigint AS "Events", max(hour) AS "Last hour"
FROM route_analytics_drops
WHERE hour >= date_trunc('hour', $__timeFrom()::timestamptz, 'UTC') AND hour <= $__timeTo()
GROUP BY reason ORDER BY 2 DESC, 1
