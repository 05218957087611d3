-- name: use_utc
-- Times come back in UTC, whatever the server's own zone is.
SET TIME ZONE 'UTC';

-- name: limit_statements
-- Every later statement of the session is stopped when it takes longer; the limit has its unit with it.
SELECT set_config('statement_timeout', %(limit)s, false);

-- name: see_one_moment
-- All statements of the transaction see the database as it is at the first, and none can write.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
