-- The event of every request, one row each; see docs/data.md for the columns.
-- No DEFAULT partition: a row without a partition is a mistake to mend, not to hide.
CREATE TABLE route_analytics (
    "timestamp"              timestamptz NOT NULL,
    event_id                 uuid        NOT NULL,
    -- Route and method are part of index keys, and a b-tree entry holds at most 2,704 bytes.
    route                    text        NOT NULL CHECK (octet_length(route) <= 1000),
    route_full               text        NOT NULL,
    method                   text        NOT NULL CHECK (octet_length(method) <= 32),
    status_code              smallint    NOT NULL,
    duration_ms              double precision NOT NULL CHECK (duration_ms >= 0 AND duration_ms < 'Infinity'),
    ttfb_ms                  double precision,
    user_id                  text,
    error_type               text,
    query_params             jsonb       NOT NULL DEFAULT '{}',
    query_params_normalized  jsonb       NOT NULL DEFAULT '{}',
    request_size_bytes       bigint,
    response_size_bytes      bigint,
    db_query_count           integer,
    cache_status             text,
    response_hash            bigint,
    trace_id                 text,
    span_id                  text,
    client_address           text,
    user_agent               text,
    referrer                 text,
    session_id               text,
    created_at               timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY ("timestamp", event_id)
) PARTITION BY RANGE ("timestamp");

-- The primary key serves lookups by time. Users are looked up one at a time, so anonymous rows stay out of that index.
CREATE INDEX route_analytics_route_timestamp ON route_analytics (route, "timestamp");
CREATE INDEX route_analytics_user_timestamp ON route_analytics (user_id, "timestamp") WHERE user_id IS NOT NULL;
CREATE INDEX route_analytics_duration_timestamp ON route_analytics (duration_ms, "timestamp");

-- One row an hour, route, method and parameter pattern, recomputed from the raw rows of that hour.
CREATE TABLE route_analytics_hourly (
    "timestamp"              timestamptz NOT NULL,
    route                    text        NOT NULL,
    method                   text        NOT NULL,
    query_params_normalized  jsonb       NOT NULL DEFAULT '{}',
    total_requests           bigint      NOT NULL,
    successful_requests      bigint      NOT NULL,
    client_errors            bigint      NOT NULL,
    server_errors            bigint      NOT NULL,
    avg_duration_ms          double precision NOT NULL,
    p50_duration_ms          double precision NOT NULL,
    p95_duration_ms          double precision NOT NULL,
    p99_duration_ms          double precision NOT NULL,
    unique_users             bigint      NOT NULL,
    avg_request_size_bytes   double precision,
    avg_response_size_bytes  double precision,
    avg_db_query_count       double precision,
    cache_hits               bigint      NOT NULL DEFAULT 0,
    cache_misses             bigint      NOT NULL DEFAULT 0,
    -- Durations in logarithmic buckets: bucket i counts the durations in (g^(i-1), g^i] ms with g = 51/49, so that
    -- the value 2 g^i / (g + 1) is within 2 % of each of them. Mergeable over hours, unlike a percentile.
    duration_buckets         smallint[]  NOT NULL DEFAULT '{}',
    duration_bucket_counts   bigint[]    NOT NULL DEFAULT '{}',
    total_duration_seconds   double precision NOT NULL DEFAULT 0,
    distinct_response_hashes bigint      NOT NULL DEFAULT 0,
    created_at               timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY ("timestamp", route, method, query_params_normalized)
);
CREATE INDEX route_analytics_hourly_route_timestamp ON route_analytics_hourly (route, "timestamp");

-- Hours whose raw rows changed since they were last rolled up. Every transaction that adds raw rows adds marks of its
-- own, and a rollup removes only the marks it saw, so a commit during a rollup leaves the hour marked.
CREATE TABLE route_analytics_touched_hours (
    hour timestamptz NOT NULL,
    mark bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (hour, mark)
);

-- One row for each life of the stream (an epoch ends when Redis comes back empty), all counted in events.
-- accepted, replayed and purged are what Redis last said; stored, duplicates and dead are counted here, each in the
-- transaction that made it true.
CREATE TABLE route_analytics_ledger (
    epoch      text PRIMARY KEY,
    accepted   bigint NOT NULL DEFAULT 0,
    replayed   bigint NOT NULL DEFAULT 0,
    purged     bigint NOT NULL DEFAULT 0,
    stored     bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    dead       bigint NOT NULL DEFAULT 0,
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen  timestamptz NOT NULL DEFAULT now()
);

-- The stream entries already in the ledger, so that one delivered again is recognised and counted once. An id is
-- padded with zeros, so that ids sort as Redis sorts them. dead is null or a list of [index or null, reason]: which
-- events of the entry are dead letters, for the worker that has to write them after a crash.
CREATE TABLE route_analytics_stream_entries (
    epoch        text NOT NULL,
    entry_id     text COLLATE "C" NOT NULL,
    dead         jsonb,
    processed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (epoch, entry_id)
);

-- Events that applications had to give up, by the hour in which they reported it.
CREATE TABLE route_analytics_drops (
    hour   timestamptz NOT NULL,
    reason text   NOT NULL,
    events bigint NOT NULL,
    PRIMARY KEY (hour, reason)
);
