-- Rankings as they were at a moment, so that a dashboard can show the three side by side, and compare what a ranking
-- predicted with what came; see docs/data.md for the columns.
CREATE TABLE route_analytics_rankings (
    ranked_at                timestamptz NOT NULL,
    ranking                  text        NOT NULL CHECK (ranking IN ('absolute', 'relative', 'savings')),
    "rank"                   integer     NOT NULL,
    route                    text        NOT NULL,
    method                   text        NOT NULL,
    query_params_normalized  jsonb       NOT NULL,
    -- cache_priority_score, priority_score or saved_seconds_per_day, as the ranking has it.
    score                    double precision NOT NULL,
    avg_hourly_requests      double precision,
    avg_p95_latency_ms       double precision,
    avg_unique_users         double precision,
    success_rate             double precision,
    -- Of the ranking by savings, else null.
    cache_key                text,
    ttl_seconds              double precision,
    predicted_hit_ratio      double precision,
    predicted_stale_ratio    double precision,
    saved_seconds_per_day    double precision,
    peak_memory_bytes        bigint,
    PRIMARY KEY (ranked_at, ranking, "rank")
);
