-- name: lock
-- One keeper of rankings at a time in a schema, until it lets go or its connection ends.
SELECT pg_advisory_lock(hashtext('otel_analytics.rankings'), hashtext(current_schema()));

-- name: unlock
-- Let the next one in.
SELECT pg_advisory_unlock(hashtext('otel_analytics.rankings'), hashtext(current_schema()));

-- name: latest
-- When the rankings that were kept last were made.
SELECT max(ranked_at) FROM route_analytics_rankings;

-- name: add
-- One row of a ranking.
INSERT INTO route_analytics_rankings (
    ranked_at, ranking, "rank", route, method, query_params_normalized, score,
    avg_hourly_requests, avg_p95_latency_ms, avg_unique_users, success_rate,
    cache_key, ttl_seconds, predicted_hit_ratio, predicted_stale_ratio, saved_seconds_per_day, peak_memory_bytes)
VALUES (
    %(ranked_at)s, %(ranking)s, %(rank)s, %(route)s, %(method)s, %(pattern)s::jsonb, %(score)s,
    %(avg_hourly_requests)s, %(avg_p95_latency_ms)s, %(avg_unique_users)s, %(success_rate)s,
    %(cache_key)s, %(ttl_seconds)s, %(predicted_hit_ratio)s, %(predicted_stale_ratio)s,
    %(saved_seconds_per_day)s, %(peak_memory_bytes)s);

-- name: forget
-- Rankings that are no longer kept.
DELETE FROM route_analytics_rankings WHERE ranked_at < %(before)s;
