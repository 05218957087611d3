-- name: names
-- The partitions the raw table has.
SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = 'route_analytics'::regclass;

-- name: schema
-- The schema the raw table is in.
SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = 'route_analytics'::regclass;

-- name: lock
-- One maker of partitions at a time in a schema, until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtext('otel_analytics.partitions'), hashtext(current_schema()));

-- name: create
-- A table like the raw one, indexes included, so that attaching it finds all in place.
CREATE TABLE {partition} (LIKE route_analytics INCLUDING ALL);

-- name: attach
-- The table becomes the partition of its day; queries that run meanwhile go on.
ALTER TABLE route_analytics ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({end});

-- name: wait_briefly
-- Give up a drop soon, since every query that comes after it waits behind it.
SET LOCAL lock_timeout = '1s';

-- name: hold
-- Dropping a partition needs the parent for itself, so this keeps all of them in place.
LOCK TABLE ONLY route_analytics IN ACCESS SHARE MODE;
