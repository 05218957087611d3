-- name: names
-- The partitions the raw table has.
SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = 'route_analytics'::regclass;

-- name: lock
-- One maker of partitions at a time in a schema, until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtext('otel_analytics.partitions'), hashtext(current_schema()));

-- name: make
-- Make the partition of a day.
SELECT route_analytics_make_partition(%(day)s);

-- name: drop
-- Drop the partition of a day, unless somebody holds it for a second.
SELECT route_analytics_drop_partition(%(day)s);

-- name: hold
-- Dropping a partition needs the parent for itself, so this keeps all of them in place. Unlike LOCK TABLE, it needs no
-- right to read every column.
SELECT FROM ONLY route_analytics;
