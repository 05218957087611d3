-- name: clock
-- The time on the server.
SELECT extract(epoch FROM clock_timestamp());

-- name: is_read_only
-- Whether a transaction that begins now may write.
SELECT current_setting('transaction_read_only')::boolean;

-- name: lacking_permissions
-- What the worker does and the role may not. Partitions are made and dropped, which takes the owner of the table.
SELECT privilege || ' on ' || relation
FROM (VALUES
    ('route_analytics', ARRAY['SELECT', 'INSERT']),
    ('route_analytics_hourly', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
    ('route_analytics_touched_hours', ARRAY['SELECT', 'INSERT', 'DELETE']),
    ('route_analytics_ledger', ARRAY['SELECT', 'INSERT', 'UPDATE']),
    ('route_analytics_stream_entries', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
    ('route_analytics_drops', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'])
) AS needed (relation, privileges), unnest(privileges) AS privilege
WHERE NOT has_table_privilege(relation, privilege)
UNION ALL
SELECT 'TEMPORARY on the database' WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')
UNION ALL
SELECT 'CREATE on the schema ' || relnamespace::regnamespace FROM pg_class
WHERE oid = 'route_analytics'::regclass AND NOT has_schema_privilege(relnamespace, 'CREATE')
UNION ALL
SELECT 'ownership of ' || relname FROM pg_class
WHERE oid = 'route_analytics'::regclass AND NOT pg_has_role(relowner, 'USAGE');
