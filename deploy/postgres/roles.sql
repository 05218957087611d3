-- The roles of a database that is ours alone, and what it is closed to. Run by init.sh, as a superuser; running it again
-- changes nothing. It holds no password, and a role without one cannot log in.
-- What each role may do in the tables is granted by `otel-analytics migrate`, after every migration.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['otel_analytics_owner', 'otel_analytics_ingest', 'otel_analytics_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', role);
        END IF;
    END LOOP;

    -- Anybody may connect to a new database and fill its disk with temporary tables.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO otel_analytics_owner, otel_analytics_reader', current_database());
    -- The figures of an hour, and a batch of which a part is stored already, stand in a temporary table for a moment.
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO otel_analytics_ingest', current_database());
END
$$;

-- Before PostgreSQL 15, anybody may make tables here.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO otel_analytics_owner;
GRANT USAGE ON SCHEMA public TO otel_analytics_ingest, otel_analytics_reader;

-- What was migrated by another role before becomes the owner's; its old role can do no more with it.
DO $$
DECLARE
    owned text;
BEGIN
    FOR owned IN
        SELECT 'TABLE ' || oid::regclass FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'route\_analytics%' AND relkind IN ('r', 'p')
            AND relowner <> 'otel_analytics_owner'::regrole
        UNION ALL
        SELECT 'FUNCTION ' || oid::regprocedure FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'route\_analytics%'
            AND proowner <> 'otel_analytics_owner'::regrole
    LOOP
        EXECUTE format('ALTER %s OWNER TO otel_analytics_owner', owned);
    END LOOP;
END
$$;
