-- TimescaleDB and pgvector where they can be had and are not switched off
-- (qvpgw.without names those). What is missing is named in a notice and leaves the
-- tables plain; nothing here fails for it.
DO $do$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['timescaledb', 'vector'] LOOP
    IF EXISTS (SELECT FROM pg_extension WHERE extname = wanted)
       OR position(wanted IN coalesce(current_setting('qvpgw.without', true), '')) > 0 THEN
      CONTINUE;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = wanted) THEN
      RAISE NOTICE 'qvpgw: extension % is not installed on the server', wanted;
      CONTINUE;
    END IF;
    -- Its library ends the session when it was not preloaded, so look for a
    -- setting that the preloaded library defines.
    IF wanted = 'timescaledb' AND current_setting('timescaledb.disable_load', true) IS NULL THEN
      RAISE NOTICE 'qvpgw: extension timescaledb is installed but not preloaded: set shared_preload_libraries = ''timescaledb'' and restart PostgreSQL';
      CONTINUE;
    END IF;
    BEGIN
      EXECUTE format('CREATE EXTENSION IF NOT EXISTS %I', wanted);
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE NOTICE 'qvpgw: role % may not create extension %: run CREATE EXTENSION % as a superuser', current_user, wanted, wanted;
    END;
  END LOOP;
END
$do$;
