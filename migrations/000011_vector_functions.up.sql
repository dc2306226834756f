-- The functions that programs call for embeddings and regimes. A literal metric
-- leaves the plain ORDER BY column <operator> vector LIMIT k, for which an index
-- of that metric is used: constant folding drops the other branches, and the check.
DO $do$
DECLARE
  vector     text := (SELECT quote_ident(n.nspname) FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace WHERE x.extname = 'vector'
                      AND to_regclass('feature_embeddings') IS NOT NULL);
  here       text := quote_ident(current_schema());
  metrics    text := '''cosine'', ''l2'', ''inner_product''';
  distance   text := 'CASE {metric} WHEN ''cosine'' THEN {column} OPERATOR({vector}.<=>) {query} WHEN ''l2'' THEN {column} OPERATOR({vector}.<->) {query} WHEN ''inner_product'' THEN {column} OPERATOR({vector}.<#>) {query}';
  neighbours text := $check$
    WHEN {k} IS NULL OR {k} NOT BETWEEN 1 AND 10000 THEN qvp.refuse('22023', 'top_k must be 1 to 10000, not ' || coalesce({k}::text, 'NULL'), 'Give the number of neighbours that are wanted.')
    WHEN {metric} IS NULL OR {metric} NOT IN ({metrics}) THEN qvp.refuse('22023', 'unknown metric ' || coalesce({metric}, 'NULL'), 'There are {words}.')$check$;
BEGIN
  IF vector IS NULL THEN
    RAISE NOTICE 'qvpgw: qvp.insert_embedding, qvp.find_similar_features, qvp.regime_vector, qvp.insert_regime and qvp.find_similar_regimes are not made, the tables of vectors are missing';
    RETURN;
  END IF;
  IF EXISTS (SELECT FROM pg_operator WHERE oprname = '<+>' AND oprnamespace = vector::regnamespace) THEN
    metrics := metrics || ', ''l1''';
    distance := distance || ' WHEN ''l1'' THEN {column} OPERATOR({vector}.<+>) {query}';
  ELSE
    RAISE NOTICE 'qvpgw: there is no metric l1, pgvector is older than 0.7';
  END IF;
  distance := replace(distance || ' END', '{vector}', vector);
  neighbours := replace(replace(neighbours, '{metrics}', metrics), '{words}', replace(metrics, '''', ''));

  CREATE TYPE qvp.similar_feature AS (id bigint, "timestamp" timestamptz, symbol varchar(20), feature_type varchar(50), metadata text, distance double precision);
  CREATE TYPE qvp.similar_regime AS (id bigint, "timestamp" timestamptz, regime_label varchar(50), realized_vol double precision, vix_level double precision, skew double precision, kurtosis double precision, distance double precision);

  EXECUTE replace(replace($make$
CREATE FUNCTION qvp.insert_embedding(embedding {vector}.vector, symbol text DEFAULT NULL, feature_type text DEFAULT NULL, metadata text DEFAULT NULL, at timestamptz DEFAULT now())
RETURNS bigint LANGUAGE sql VOLATILE AS $f$
  INSERT INTO {here}.feature_embeddings (timestamp, symbol, feature_type, embedding, metadata)
  SELECT coalesce($5, now()), $2, $3, $1, $4
  LIMIT CAST(CASE
    WHEN $1 IS NULL OR {vector}.vector_dims($1) <> 128 THEN qvp.refuse('22000', 'embedding must have 128 dimensions, not ' || coalesce({vector}.vector_dims($1)::text, 'NULL'), 'Pad or project it to 128 numbers.')
    WHEN char_length($2) > 20 THEN qvp.refuse('22001', 'symbol has ' || char_length($2)::text || ' characters, more than 20', 'Give a symbol of 1 to 20 characters.')
    WHEN char_length($3) > 50 THEN qvp.refuse('22001', 'feature_type has ' || char_length($3)::text || ' characters, more than 50', 'Give a name of 1 to 50 characters.')
    END AS bigint)
  RETURNING id
$f$$make$, '{vector}', vector), '{here}', here);

  EXECUTE replace(replace(replace(replace(replace(replace($make$
CREATE FUNCTION qvp.find_similar_features(query_vector {vector}.vector, top_k integer DEFAULT 10, metric text DEFAULT 'cosine', symbol text DEFAULT NULL, feature_type text DEFAULT NULL, start_time timestamptz DEFAULT NULL, end_time timestamptz DEFAULT NULL)
RETURNS SETOF qvp.similar_feature LANGUAGE sql STABLE PARALLEL SAFE AS $f$
  SELECT e.id, e.timestamp, e.symbol, e.feature_type, e.metadata, {distance}
  FROM {here}.feature_embeddings AS e
  WHERE e.embedding IS NOT NULL
    AND ($4 IS NULL OR e.symbol = $4) AND ($5 IS NULL OR e.feature_type = $5)
    AND ($6 IS NULL OR e.timestamp >= $6) AND ($7 IS NULL OR e.timestamp < $7)
  ORDER BY 6
  LIMIT coalesce(CAST(CASE
    WHEN $1 IS NULL OR {vector}.vector_dims($1) <> 128 THEN qvp.refuse('22000', 'query_vector must have 128 dimensions, not ' || coalesce({vector}.vector_dims($1)::text, 'NULL'), 'Make it as the stored embeddings were made.'){neighbours}
    WHEN char_length($4) > 20 THEN qvp.refuse('22001', 'symbol has ' || char_length($4)::text || ' characters, more than 20', 'Give a symbol of 1 to 20 characters.')
    WHEN char_length($5) > 50 THEN qvp.refuse('22001', 'feature_type has ' || char_length($5)::text || ' characters, more than 50', 'Give a name of 1 to 50 characters.')
    END AS bigint), $2)
$f$$make$, '{distance}', replace(replace(distance, '{column}', 'e.embedding'), '{query}', '$1')),
    '{neighbours}', neighbours), '{k}', '$2'), '{metric}', '$3'), '{vector}', vector), '{here}', here);

  EXECUTE replace($make$
CREATE FUNCTION qvp.regime_vector(realized_vol double precision, vix_level double precision, skew double precision, kurtosis double precision)
RETURNS {vector}.vector LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $f$
  SELECT CASE
    WHEN $1 IS NULL OR $2 IS NULL OR $3 IS NULL OR $4 IS NULL OR 'NaN' IN ($1, $2, $3, $4)
    THEN CAST(qvp.refuse('22023', 'realized_vol, vix_level, skew and kurtosis must be numbers, not ' || concat_ws(', ', coalesce($1::text, 'NULL'), coalesce($2::text, 'NULL'), coalesce($3::text, 'NULL'), coalesce($4::text, 'NULL')), 'What is outside its range counts as the range''s end.') AS {vector}.vector)
    ELSE CAST(ARRAY(
      SELECT exp(-power((least(greatest(f.x, f.low), f.high) - f.low) / (f.high - f.low) * 15 - i, 2) / 2)
      FROM (VALUES (1, $1, 0.0, 1.0), (2, $2, 5.0, 85.0), (3, $3, -3.0, 3.0), (4, $4, 0.0, 15.0)) AS f (n, x, low, high), generate_series(0, 15) AS i
      ORDER BY f.n, i) AS {vector}.vector(64))
    END
$f$$make$, '{vector}', vector);

  EXECUTE replace($make$
CREATE FUNCTION qvp.insert_regime(regime_label text, realized_vol double precision, vix_level double precision, skew double precision, kurtosis double precision, at timestamptz DEFAULT now())
RETURNS bigint LANGUAGE sql VOLATILE AS $f$
  INSERT INTO {here}.volatility_regimes (timestamp, regime_label, regime_vector, realized_vol, vix_level, skew, kurtosis)
  SELECT coalesce($6, now()), $1, qvp.regime_vector($2, $3, $4, $5), $2, $3, $4, $5
  RETURNING id
$f$$make$, '{here}', here);

  -- regime_vector in the check refuses bad figures when there is no row, too.
  EXECUTE replace(replace(replace(replace(replace($make$
CREATE FUNCTION qvp.find_similar_regimes(realized_vol double precision, vix_level double precision, skew double precision, kurtosis double precision, top_k integer DEFAULT 10, metric text DEFAULT 'l2', start_time timestamptz DEFAULT NULL, end_time timestamptz DEFAULT NULL)
RETURNS SETOF qvp.similar_regime LANGUAGE sql STABLE PARALLEL SAFE AS $f$
  SELECT v.id, v.timestamp, v.regime_label, v.realized_vol, v.vix_level, v.skew, v.kurtosis, {distance}
  FROM {here}.volatility_regimes AS v
  WHERE v.regime_vector IS NOT NULL
    AND ($7 IS NULL OR v.timestamp >= $7) AND ($8 IS NULL OR v.timestamp < $8)
  ORDER BY 8
  LIMIT coalesce(CAST(CASE
    WHEN qvp.regime_vector($1, $2, $3, $4) IS NULL THEN qvp.refuse('22004', 'there is no vector for ' || $1::text, 'Give four numbers.'){neighbours}
    END AS bigint), $5)
$f$$make$, '{distance}', replace(replace(distance, '{column}', 'v.regime_vector'), '{query}', 'qvp.regime_vector($1, $2, $3, $4)')),
    '{neighbours}', neighbours), '{k}', '$5'), '{metric}', '$6'), '{here}', here);
END
$do$;
