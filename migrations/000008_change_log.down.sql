-- What the log holds is of use to running gateways alone.
DO $do$
DECLARE
  watched regclass;
  writer  regprocedure;
BEGIN
  FOR watched IN
    SELECT DISTINCT t.tgrelid::regclass FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE p.pronamespace = 'qvpgw'::regnamespace AND (p.proname LIKE 'log\_rows\_of\_%' OR p.proname = 'log_correction')
  LOOP
    PERFORM qvpgw.unwatch(watched);
  END LOOP;
  -- Those of tables that are gone.
  FOR writer IN
    SELECT oid FROM pg_proc WHERE pronamespace = 'qvpgw'::regnamespace AND proname LIKE 'log\_rows\_of\_%'
  LOOP
    EXECUTE format('DROP FUNCTION %s', writer);
  END LOOP;
END
$do$;
DROP FUNCTION IF EXISTS qvpgw.watch(regclass), qvpgw.unwatch(regclass), qvpgw.log_correction();
DROP VIEW IF EXISTS qvpgw.row_changes;
DROP TABLE IF EXISTS qvpgw.horizon, qvpgw.changes;
