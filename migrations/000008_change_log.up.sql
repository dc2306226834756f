-- The change log: what other parts of the gateway cannot learn otherwise. Statement
-- triggers write it, with the rights of this schema's owner, so that every writer
-- fires them and none can write it himself. It uses no sequence: lastval stays the
-- client's.
CREATE TABLE qvpgw.changes (
  xid      xid8     NOT NULL DEFAULT pg_current_xact_id(),
  relation regclass NOT NULL,
  kind     "char"   NOT NULL, -- c correction of a hypertable; + - row of a vector table, x any of its rows
  low      bigint,            -- c: the time touched, internal and both ends in it; null: open
  high     bigint,
  key      text,              -- + -: the row's primary key
  vector   real[],            -- +: its vector
  facts    jsonb              -- +: its other columns of short types
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000);
CREATE INDEX changes_xid_idx ON qvpgw.changes (xid);
CREATE INDEX changes_corrections_idx ON qvpgw.changes (relation) WHERE kind = 'c';

-- Rows of vector tables with a lower xid may be gone. One row, none before the first
-- pruning.
CREATE TABLE qvpgw.horizon (one boolean PRIMARY KEY DEFAULT true CHECK (one), xid xid8 NOT NULL);

-- Who may read a table may read what was logged of its rows.
CREATE VIEW qvpgw.row_changes WITH (security_barrier) AS
SELECT xid, relation, kind, key, vector, facts FROM qvpgw.changes
WHERE kind <> 'c' AND has_table_privilege(relation, 'SELECT');

GRANT SELECT (xid, relation, kind, low, high) ON qvpgw.changes TO PUBLIC;
GRANT SELECT ON qvpgw.horizon, qvpgw.row_changes TO PUBLIC;

-- log_correction logs what TimescaleDB's own log misses: MERGE with UPDATE or DELETE.
-- A trigger does not see which statement fires it, so the text decides, and what is
-- not known to be no MERGE counts as one: the statement of the innermost caller, or
-- the client's own text.
CREATE FUNCTION qvpgw.log_correction() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  said    text;
  columns text;
  low     bigint;
  high    bigint;
  touched boolean := true;
BEGIN
  GET DIAGNOSTICS said = PG_CONTEXT;
  IF position(E'\n' IN said) = 0 THEN
    said := current_query();
  ELSE
    said := substr(said, position(E'\n' IN said) + 1);
    IF NOT starts_with(said, 'SQL statement "') THEN
      said := NULL;
    END IF;
  END IF;
  IF said !~* 'merge|execute' THEN
    RETURN NULL;
  END IF;
  -- A column that was renamed since leaves the range open: no writer is refused.
  IF TG_OP = 'UPDATE' AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = TG_RELID AND a.attname = TG_ARGV[0] AND NOT a.attisdropped) THEN
    columns := CASE TG_ARGV[1]
      WHEN 'time' THEN 'CASE WHEN isfinite(min(t)) THEN (extract(epoch FROM min(t)) * 1000000)::bigint END,'
                       ' CASE WHEN isfinite(max(t)) THEN (extract(epoch FROM max(t)) * 1000000)::bigint END'
      WHEN 'integer' THEN 'min(t)::bigint, max(t)::bigint'
      ELSE 'NULL, NULL' END;
    EXECUTE format('SELECT %s, count(*) > 0 FROM (SELECT %I FROM old_rows UNION ALL SELECT %I FROM new_rows) r (t)',
      columns, TG_ARGV[0], TG_ARGV[0]) INTO low, high, touched;
  END IF;
  IF touched THEN
    INSERT INTO qvpgw.changes (relation, kind, low, high) VALUES (TG_RELID, 'c', low, high);
  END IF;
  RETURN NULL;
END
$function$;

-- watch has the changes of a table logged; unwatch ends it. Both want the rights of
-- the table's owner. What is logged depends on the table: corrections of a
-- hypertable, rows of another table with a vector column.
CREATE FUNCTION qvpgw.watch(target regclass) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  most    CONSTANT integer := 64; -- rows of one statement that are logged one by one
  moment  record;
  stored  record;
  key     text;
  facts   text;
  plus    text;
  minus   text;
  columns text;
  writer  text;
BEGIN
  PERFORM qvpgw.unwatch(target);
  IF to_regclass('_timescaledb_catalog.hypertable') IS NOT NULL THEN
    SELECT d.column_name, CASE WHEN d.column_type IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype) THEN 'time'
                               WHEN d.column_type IN ('int8'::regtype, 'int4'::regtype, 'int2'::regtype) THEN 'integer' ELSE '' END AS scale
    INTO moment
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN _timescaledb_catalog.hypertable h ON h.schema_name = n.nspname AND h.table_name = c.relname
    JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id AND d.interval_length IS NOT NULL
    WHERE c.oid = target ORDER BY d.id LIMIT 1;
    IF FOUND THEN
      -- A trigger on DELETE with a transition table would forbid compression.
      EXECUTE format('CREATE TRIGGER qvpgw_update AFTER UPDATE ON %s REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows'
                     ' FOR EACH STATEMENT EXECUTE FUNCTION qvpgw.log_correction(%L, %L)', target, moment.column_name, moment.scale);
      EXECUTE format('CREATE TRIGGER qvpgw_delete AFTER DELETE ON %s FOR EACH STATEMENT EXECUTE FUNCTION qvpgw.log_correction()', target);
      RETURN 'corrections';
    END IF;
  END IF;

  IF EXISTS (SELECT FROM pg_inherits WHERE target IN (inhparent, inhrelid)) OR (SELECT relkind <> 'r' OR relpersistence = 't' FROM pg_class WHERE oid = target) THEN
    RAISE EXCEPTION 'the changes of % cannot be logged', target
      USING ERRCODE = 'wrong_object_type', DETAIL = 'Only a hypertable, or a permanent table without partitions, parents and children, can be watched.';
  END IF;
  SELECT count(*) AS columns, min(a.attname::text) AS name, min(t.typname::text) AS type INTO stored
  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
  WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND t.typname IN ('vector', 'halfvec', 'sparsevec', 'bit');
  IF stored.columns = 0 THEN
    RAISE EXCEPTION 'the changes of % cannot be logged', target
      USING ERRCODE = 'wrong_object_type', DETAIL = 'It is no hypertable and has no vector column: nothing needs to know them.';
  END IF;
  SELECT min(a.attname::text) INTO key
  FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
  WHERE i.indrelid = target AND i.indisprimary AND i.indnkeyatts = 1;
  SELECT string_agg(format('%L, r.%I', a.attname, a.attname), ', ' ORDER BY a.attnum) INTO facts
  FROM pg_attribute a
  WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped
    AND (a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'bool'::regtype, 'date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype, 'uuid'::regtype)
         OR a.atttypid = 'varchar'::regtype AND a.atttypmod BETWEEN 5 AND 104);
  -- The writer is made for the table's columns: a plan that is made once costs an
  -- INSERT a part of one that is made each time. It first looks whether the columns are
  -- still there: no writer is refused for one that was renamed. Types of PostgreSQL have
  -- the same numbers everywhere, others are looked up, once a statement.
  SELECT 'log_rows_of_' || CASE WHEN n.nspname = 'public' THEN '' ELSE n.nspname || '_' END || c.relname INTO writer
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = target;
  writer := writer::name;
  IF EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'qvpgw'::regnamespace AND proname = writer) THEN
    writer := left(writer, 50) || '_' || target::oid; -- that of a table renamed since
  END IF;
  writer := quote_ident(writer);
  SELECT format('(SELECT count(*) FROM pg_attribute a WHERE a.attrelid = TG_RELID AND NOT a.attisdropped AND (a.attname, a.atttypid) IN (%s)) = %s',
                string_agg(format('(%L, %s)', a.attname, CASE WHEN a.atttypid < 10000 THEN a.atttypid::text ELSE format('(SELECT to_regtype(%L))', a.atttypid::regtype) END), ', ' ORDER BY a.attnum), count(*)) INTO columns
  FROM pg_attribute a
  WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped
    AND (a.attname IN (stored.name, key) OR strpos(facts, format('r.%I', a.attname)) > 0);
  -- Which row it was and where its vector lies is known for one vector column with a
  -- cast to real[], and one key; else any row may have changed.
  IF stored.columns = 1 AND stored.type IN ('vector', 'halfvec') AND key IS NOT NULL THEN
    plus := format($sql$INSERT INTO qvpgw.changes (relation, kind, key, vector, facts)
      SELECT TG_RELID, '+', r.%I::text, r.%I::real[], jsonb_build_object(%s) FROM new_rows r;$sql$, key, stored.name, facts);
    minus := format($sql$INSERT INTO qvpgw.changes (relation, kind, key) SELECT TG_RELID, '-', r.%I::text FROM old_rows r;$sql$, key);
  ELSE
    columns := 'true';
    plus := $sql$INSERT INTO qvpgw.changes (relation, kind) SELECT TG_RELID, 'x' FROM new_rows LIMIT 1;$sql$;
    minus := $sql$INSERT INTO qvpgw.changes (relation, kind) SELECT TG_RELID, 'x' FROM old_rows LIMIT 1;$sql$;
  END IF;
  EXECUTE format($sql$
CREATE FUNCTION qvpgw.%s() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF %s AND NOT EXISTS (SELECT FROM new_rows OFFSET %s) THEN
      %s
      RETURN NULL;
    END IF;
  ELSIF TG_OP = 'UPDATE' THEN
    IF %s AND NOT EXISTS (SELECT FROM new_rows OFFSET %s) THEN
      %s
      %s
      RETURN NULL;
    END IF;
  ELSIF TG_OP = 'DELETE' THEN
    IF %s AND NOT EXISTS (SELECT FROM old_rows OFFSET %s) THEN
      %s
      RETURN NULL;
    END IF;
  END IF;
  INSERT INTO qvpgw.changes (relation, kind) VALUES (TG_RELID, 'x');
  RETURN NULL;
END
$body$$sql$, writer, columns, most, plus, columns, most, minus, plus, columns, most, minus);
  EXECUTE format('REVOKE ALL ON FUNCTION qvpgw.%s() FROM PUBLIC', writer);
  EXECUTE format('CREATE TRIGGER qvpgw_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION qvpgw.%s()', target, writer);
  EXECUTE format('CREATE TRIGGER qvpgw_update AFTER UPDATE ON %s REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION qvpgw.%s()', target, writer);
  EXECUTE format('CREATE TRIGGER qvpgw_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION qvpgw.%s()', target, writer);
  EXECUTE format('CREATE TRIGGER qvpgw_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION qvpgw.%s()', target, writer);
  -- Also where session_replication_role is replica.
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER qvpgw_insert, ENABLE ALWAYS TRIGGER qvpgw_update, ENABLE ALWAYS TRIGGER qvpgw_delete, ENABLE ALWAYS TRIGGER qvpgw_truncate', target);
  RETURN 'rows';
END
$function$;

CREATE FUNCTION qvpgw.unwatch(target regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  ours record;
BEGIN
  FOR ours IN
    SELECT t.tgname, p.oid::regprocedure AS writer, p.proname LIKE 'log\_rows\_of\_%' AS made
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = target AND p.pronamespace = 'qvpgw'::regnamespace
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', ours.tgname, target);
    IF ours.made AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = ours.writer::oid) THEN
      EXECUTE format('DROP FUNCTION %s', ours.writer);
    END IF;
  END LOOP;
END
$function$;

REVOKE ALL ON FUNCTION qvpgw.log_correction(), qvpgw.watch(regclass), qvpgw.unwatch(regclass) FROM PUBLIC;

DO $do$
DECLARE
  relation text;
BEGIN
  FOREACH relation IN ARRAY ARRAY['market_data', 'tick_data', 'portfolio_values', 'feature_embeddings', 'volatility_regimes'] LOOP
    CONTINUE WHEN to_regclass(relation) IS NULL; -- an extension is missing
    CONTINUE WHEN EXISTS (SELECT FROM pg_class WHERE oid = to_regclass(relation)) AND relation IN ('market_data', 'tick_data', 'portfolio_values')
      AND NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb');
    PERFORM qvpgw.watch(relation::regclass);
  END LOOP;
END
$do$;
