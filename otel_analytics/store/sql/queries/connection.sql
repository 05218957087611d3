-- name: begin_session
-- Times come back in UTC, whatever the server's own zone is. Returns the limit that statements have already, in seconds.
SELECT extract(epoch FROM current_setting('statement_timeout')::interval)::float8
FROM set_config('TimeZone', 'UTC', false);

-- name: limit_statements
-- Every later statement of the session is stopped when it takes longer; the limit has its unit with it.
SELECT set_config('statement_timeout', %(limit)s, false);

-- name: limit_transaction
-- Limits of this transaction alone: behind a pooler, the session serves others next. A limit that somebody has set, in
-- the DSN or for the role, stays.
SELECT set_config(name, "limit", true)
FROM (VALUES
    ('lock_timeout', '10s'), ('idle_in_transaction_session_timeout', '10s'), ('statement_timeout', %(limit)s)
) AS ours (name, "limit")
WHERE current_setting(name) = '0';

-- name: see_one_moment
-- All statements of the transaction see the database as it is at the first, and none can write.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
