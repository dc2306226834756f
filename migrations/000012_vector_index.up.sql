-- An index for nearest neighbours as a call, with parameters for the number of rows.
DO $do$
DECLARE
  vector text := (SELECT quote_ident(n.nspname) FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace WHERE x.extname = 'vector'
                  AND to_regclass('feature_embeddings') IS NOT NULL);
BEGIN
  IF vector IS NULL THEN
    RAISE NOTICE 'qvpgw: qvp.create_vector_index is not made, the tables of vectors are missing';
    RETURN;
  END IF;

  CREATE TYPE qvp.vector_index AS (table_schema name, table_name name, column_name name, index_name name, method name, operators_schema name, operators name, rows bigint, m integer, ef_construction integer, lists integer);

  -- What the index will be: everything that is asked for is checked, nothing is made.
  CREATE FUNCTION qvp.choose_vector_index(table_name text, column_name text, method text DEFAULT 'hnsw', metric text DEFAULT 'cosine', m integer DEFAULT NULL, ef_construction integer DEFAULT NULL, lists integer DEFAULT NULL)
  RETURNS qvp.vector_index LANGUAGE plpgsql STABLE AS $f$
#variable_conflict use_column
DECLARE
  x    qvp.vector_index;
  rel  oid := to_regclass(choose_vector_index.table_name);
  kind text;
BEGIN
  IF rel IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = '42P01', MESSAGE = format('there is no table %s', coalesce(left(choose_vector_index.table_name, 200), 'NULL')), HINT = 'Write a name with upper case letters in double quotes.';
  END IF;
  SELECT a.attname, t.typname, n.nspname INTO x.column_name, kind, x.operators_schema
  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
  WHERE a.attrelid = rel AND a.attname = choose_vector_index.column_name AND a.attnum > 0 AND NOT a.attisdropped;
  IF x.column_name IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = '42703', MESSAGE = format('%s has no column %s', rel::regclass, coalesce(left(choose_vector_index.column_name, 200), 'NULL')), HINT = 'Write the name as it is, without quotes.';
  END IF;
  IF kind NOT IN ('vector', 'halfvec', 'sparsevec') THEN
    RAISE EXCEPTION USING ERRCODE = '42804', MESSAGE = format('column %s is of type %s, not a vector', x.column_name, kind), HINT = 'There are vector, halfvec and sparsevec.';
  END IF;
  IF choose_vector_index.method IS NULL OR choose_vector_index.method NOT IN ('hnsw', 'ivfflat') THEN
    RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('method must be hnsw or ivfflat, not %s', coalesce(left(choose_vector_index.method, 200), 'NULL')), HINT = 'hnsw answers faster, ivfflat is built faster.';
  END IF;
  IF choose_vector_index.metric IS NULL OR choose_vector_index.metric NOT IN ('cosine', 'l2', 'inner_product', 'l1') THEN
    RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown metric %s', coalesce(left(choose_vector_index.metric, 200), 'NULL')), HINT = 'There are cosine, l2, inner_product, l1.';
  END IF;
  x.method := choose_vector_index.method;
  x.operators := kind || CASE choose_vector_index.metric WHEN 'cosine' THEN '_cosine_ops' WHEN 'l2' THEN '_l2_ops' WHEN 'inner_product' THEN '_ip_ops' ELSE '_l1_ops' END;
  IF NOT EXISTS (SELECT FROM pg_opclass o JOIN pg_am a ON a.oid = o.opcmethod WHERE o.opcname = x.operators AND a.amname = x.method) THEN
    RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = format('%s has no index of %s for %s', x.method, kind, choose_vector_index.metric), HINT = 'hnsw has one for each metric since pgvector 0.7.';
  END IF;
  IF choose_vector_index.m NOT BETWEEN 2 AND 100 THEN
    RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('m must be 2 to 100, not %s', choose_vector_index.m), HINT = 'NULL has it chosen.';
  END IF;
  IF choose_vector_index.ef_construction NOT BETWEEN 4 AND 1000 THEN
    RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('ef_construction must be 4 to 1000, not %s', choose_vector_index.ef_construction), HINT = 'NULL has it chosen.';
  END IF;
  IF choose_vector_index.lists NOT BETWEEN 1 AND 32768 THEN
    RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('lists must be 1 to 32768, not %s', choose_vector_index.lists), HINT = 'NULL has it chosen.';
  END IF;
  IF x.method = 'hnsw' AND choose_vector_index.lists IS NOT NULL OR x.method = 'ivfflat' AND coalesce(choose_vector_index.m, choose_vector_index.ef_construction) IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('a parameter is not one of %s', x.method), HINT = 'hnsw has m and ef_construction, ivfflat has lists.';
  END IF;

  SELECT n.nspname, c.relname INTO x.table_schema, x.table_name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = rel;
  EXECUTE format('SELECT count(*) FROM %I.%I WHERE %I IS NOT NULL', x.table_schema, x.table_name, x.column_name) INTO x.rows;
  IF x.method = 'hnsw' THEN
    x.m := coalesce(choose_vector_index.m, CASE WHEN x.rows < 1000000 THEN 16 ELSE 24 END);
    x.ef_construction := coalesce(choose_vector_index.ef_construction, greatest(2 * x.m, CASE WHEN x.rows < 100000 THEN 64 WHEN x.rows < 1000000 THEN 128 ELSE 200 END));
    IF x.ef_construction < 2 * x.m THEN
      RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('ef_construction must be at least twice m, not %s with m %s', x.ef_construction, x.m), HINT = 'NULL has it chosen.';
    END IF;
  ELSE
    x.lists := coalesce(choose_vector_index.lists, least(greatest(CASE WHEN x.rows <= 1000000 THEN x.rows / 1000 ELSE sqrt(x.rows)::bigint END, 1), 32768));
  END IF;
  -- A name has 63 bytes; method and metric must stay in it.
  x.index_name := left(x.table_name || '_' || x.column_name, 37) || '_' || x.method || '_' || choose_vector_index.metric || '_idx';
  RETURN x;
END
$f$;

  CREATE FUNCTION qvp.create_vector_index(table_name text, column_name text, method text DEFAULT 'hnsw', metric text DEFAULT 'cosine', m integer DEFAULT NULL, ef_construction integer DEFAULT NULL, lists integer DEFAULT NULL)
  RETURNS text LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  x qvp.vector_index := qvp.choose_vector_index($1, $2, $3, $4, $5, $6, $7);
BEGIN
  IF x.method = 'hnsw' THEN
    EXECUTE format('CREATE INDEX %I ON %I.%I USING hnsw (%I %I.%I) WITH (m = %L, ef_construction = %L)',
      x.index_name, x.table_schema, x.table_name, x.column_name, x.operators_schema, x.operators, x.m, x.ef_construction);
  ELSE
    EXECUTE format('CREATE INDEX %I ON %I.%I USING ivfflat (%I %I.%I) WITH (lists = %L)',
      x.index_name, x.table_schema, x.table_name, x.column_name, x.operators_schema, x.operators, x.lists);
  END IF;
  RETURN format('%I.%I', x.table_schema, x.index_name);
END
$f$;
END
$do$;
