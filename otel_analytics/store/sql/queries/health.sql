-- name: clock
-- The time on the server.
SELECT extract(epoch FROM clock_timestamp());

-- name: is_read_only
-- Whether a transaction that begins now may write.
SELECT current_setting('transaction_read_only')::boolean;

-- name: may_write
-- Whether the role may write anything.
SELECT bool_or(has_any_column_privilege(relation, 'INSERT'))
FROM unnest(ARRAY['route_analytics', 'route_analytics_hourly', 'route_analytics_ledger']) AS relation;

-- name: lacking_permissions
-- What the worker does and the role may not. Of the raw table some columns are enough.
SELECT privilege || ' on ' || relation
FROM (VALUES
    ('route_analytics', ARRAY['SELECT', 'INSERT']),
    ('route_analytics_hourly', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
    ('route_analytics_touched_hours', ARRAY['SELECT', 'INSERT', 'DELETE']),
    ('route_analytics_ledger', ARRAY['SELECT', 'INSERT', 'UPDATE']),
    ('route_analytics_stream_entries', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
    ('route_analytics_drops', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
    ('route_analytics_rankings', ARRAY['SELECT', 'INSERT', 'DELETE'])
) AS needed (relation, privileges), unnest(privileges) AS privilege
WHERE NOT CASE privilege
    WHEN 'DELETE' THEN has_table_privilege(relation, privilege) ELSE has_any_column_privilege(relation, privilege) END
UNION ALL
SELECT 'TEMPORARY on the database' WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')
UNION ALL
SELECT 'EXECUTE on ' || name FROM unnest(ARRAY[
    'route_analytics_make_partition(date)', 'route_analytics_drop_partition(date)']) AS name
WHERE NOT has_function_privilege(name, 'EXECUTE');
