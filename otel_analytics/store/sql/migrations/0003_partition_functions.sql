-- What only the owner of the raw table may do, lent to others in the smallest form: a day is all they can name, and
-- they can take away no day that is still being filled. The bounds are those of the settings partitions_ahead_days,
-- raw_retention_days and their limits, and a day more for clocks that differ. They do not bind the owner, who could do
-- it without these functions.
CREATE FUNCTION route_analytics_make_partition(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    today     CONSTANT date := (now() AT TIME ZONE 'UTC')::date;
    partition CONSTANT text := to_char(day, '"route_analytics_y"YYYY"m"MM"d"DD');
BEGIN
    IF day NOT BETWEEN today - 3651 AND today + 366 AND NOT pg_has_role(session_user, current_user, 'USAGE') THEN
        RAISE insufficient_privilege USING MESSAGE = format('no partition is made for a day as far away as %s', day);
    END IF;
    -- Made beside the table, indexes included, and attached: queries that run meanwhile go on, while
    -- CREATE TABLE ... PARTITION OF would wait for every one of them.
    EXECUTE format('CREATE TABLE %I (LIKE route_analytics INCLUDING ALL)', partition);
    EXECUTE format(
        'ALTER TABLE route_analytics ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        partition, to_char(day, 'YYYY-MM-DD" 00:00:00+00"'), to_char(day + 1, 'YYYY-MM-DD" 00:00:00+00"'));
END
$$;

CREATE FUNCTION route_analytics_drop_partition(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    today     CONSTANT date := (now() AT TIME ZONE 'UTC')::date;
    partition CONSTANT text := to_char(day, '"route_analytics_y"YYYY"m"MM"d"DD');
BEGIN
    IF day >= today - 1 AND NOT pg_has_role(session_user, current_user, 'USAGE') THEN
        RAISE insufficient_privilege USING MESSAGE = format('the partition of %s is too young to be dropped', day);
    END IF;
    -- Another table of that name is none of ours.
    IF EXISTS (
        SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'route_analytics'::regclass AND relname = partition
    ) THEN
        EXECUTE format('DROP TABLE IF EXISTS %I', partition);
    END IF;
END
$$;

-- Names in the functions mean the schema of the raw table, whoever calls them: a search path of the caller could put
-- another table in its place. A drop gives up soon, since every query that comes after it waits behind it.
DO $$
DECLARE
    -- Quoted where it has to be, as a regnamespace is.
    path text := (SELECT relnamespace::regnamespace || ', pg_temp' FROM pg_class WHERE oid = 'route_analytics'::regclass);
BEGIN
    EXECUTE 'ALTER FUNCTION route_analytics_make_partition(date) SET search_path = ' || path;
    EXECUTE 'ALTER FUNCTION route_analytics_drop_partition(date) SET search_path = ' || path;
END
$$;
ALTER FUNCTION route_analytics_drop_partition(date) SET lock_timeout = '1s';
REVOKE ALL ON FUNCTION route_analytics_make_partition(date), route_analytics_drop_partition(date) FROM PUBLIC;
