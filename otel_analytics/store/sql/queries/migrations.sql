-- name: has_table
-- Whether anything was ever migrated here.
SELECT to_regclass('route_analytics_migrations') IS NOT NULL;

-- name: lock
-- One migration at a time in a schema, until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtext('otel_analytics.migrations'), hashtext(current_schema()));

-- name: create_table
-- The record of what was applied; made by whoever migrates first.
DO $$
BEGIN
    IF to_regclass('route_analytics_migrations') IS NULL THEN
        CREATE TABLE route_analytics_migrations (
            name       text PRIMARY KEY,
            applied_at timestamptz NOT NULL DEFAULT now()
        );
    END IF;
END
$$;

-- name: applied
-- The migrations this database has.
SELECT name FROM route_analytics_migrations;

-- name: record
-- Remember that a migration was applied.
INSERT INTO route_analytics_migrations (name) VALUES (%(name)s);
