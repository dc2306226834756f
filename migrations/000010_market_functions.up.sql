-- The functions that programs call for bars, ticks, trades and portfolio values.
-- Each is one plain query, so that PostgreSQL and the gateway can put it in the
-- place of its call. Arguments are checked in LIMIT, which is evaluated once and
-- first, rows or none; with good literals nothing is left of the check.
CREATE SCHEMA qvp;
GRANT USAGE ON SCHEMA qvp TO PUBLIC;
COMMENT ON SCHEMA qvp IS 'Functions of the qvpgw platform; docs/functions.md';

-- It never returns. IMMUTABLE lets callers be inlined; so wherever a condition is
-- not known when the statement is planned, an argument must not be either, or it
-- would be raised then.
CREATE FUNCTION qvp.refuse(sqlstate_code text, message text, hint text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $f$
BEGIN
  RAISE EXCEPTION USING ERRCODE = sqlstate_code, MESSAGE = message, HINT = hint;
END
$f$;

DO $do$
DECLARE
  timescale text := (SELECT quote_ident(n.nspname) FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace WHERE x.extname = 'timescaledb'
                     AND position('timescaledb' IN coalesce(current_setting('qvpgw.without', true), '')) = 0);
  here      text := quote_ident(current_schema());
  bucket    text := 'date_bin($2, {t}.timestamp, timestamptz ''2000-01-03 00:00:00+00'')';
  first_of  text := '(array_agg({t}.{c} ORDER BY {t}.timestamp))[1]';
  last_of   text := '(array_agg({t}.{c} ORDER BY {t}.timestamp DESC))[1]';
  symbols   text := $check$
    WHEN $1 IS NULL THEN qvp.refuse('22004', 'symbol must not be NULL' || coalesce($1, ''), 'Give a symbol of 1 to 20 characters.')
    WHEN char_length($1) > 20 THEN qvp.refuse('22001', 'symbol has ' || char_length($1)::text || ' characters, more than 20', 'Give a symbol of 1 to 20 characters.')$check$;
  begins    text := $check$
    WHEN {start} IS NULL THEN qvp.refuse('22004', 'start_time must not be NULL' || coalesce({start}::text, ''), 'Give the earliest moment that is wanted, or -infinity.')$check$;
BEGIN
  IF timescale IS NOT NULL THEN
    bucket   := timescale || '.time_bucket($2, {t}.timestamp)';
    first_of := timescale || '.first({t}.{c}, {t}.timestamp)';
    last_of  := timescale || '.last({t}.{c}, {t}.timestamp)';
  ELSE
    RAISE NOTICE 'qvpgw: qvp.time_bucket_aggregates uses date_bin, TimescaleDB is missing: no buckets of months or years';
  END IF;

  EXECUTE 'CREATE FUNCTION qvp.get_market_data(symbol text, start_time timestamptz, end_time timestamptz DEFAULT NULL)
    RETURNS TABLE ("timestamp" timestamptz, open double precision, high double precision, low double precision, close double precision, volume bigint)
    LANGUAGE sql STABLE PARALLEL SAFE AS $f$
  SELECT m.timestamp, m.open, m.high, m.low, m.close, m.volume
  FROM ' || here || '.market_data AS m
  WHERE m.symbol = $1 AND m.timestamp >= $2 AND ($3 IS NULL OR m.timestamp < $3)
  ORDER BY m.timestamp
  LIMIT CAST(CASE' || symbols || replace(begins, '{start}', '$2') || '
    END AS bigint)
$f$';

  EXECUTE 'CREATE FUNCTION qvp.time_bucket_aggregates(symbol text, bucket_width interval, start_time timestamptz, end_time timestamptz DEFAULT NULL, source text DEFAULT ''bars'')
    RETURNS TABLE (bucket timestamptz, open double precision, high double precision, low double precision, close double precision, volume bigint)
    LANGUAGE sql STABLE PARALLEL SAFE AS $f$
  SELECT ' || replace(bucket, '{t}', 'm') || ', ' || replace(replace(first_of, '{t}', 'm'), '{c}', 'open') || ', max(m.high), min(m.low), '
           || replace(replace(last_of, '{t}', 'm'), '{c}', 'close') || ', CAST(sum(m.volume) AS bigint)
  FROM ' || here || '.market_data AS m
  WHERE $5 = ''bars'' AND m.symbol = $1 AND m.timestamp >= $3 AND ($4 IS NULL OR m.timestamp < $4)
  GROUP BY 1
  UNION ALL
  SELECT ' || replace(bucket, '{t}', 't') || ', ' || replace(replace(first_of, '{t}', 't'), '{c}', 'price') || ', max(t.price), min(t.price), '
           || replace(replace(last_of, '{t}', 't'), '{c}', 'price') || ', CAST(sum(t.volume) AS bigint)
  FROM ' || here || '.tick_data AS t
  WHERE $5 = ''ticks'' AND t.symbol = $1 AND t.timestamp >= $3 AND ($4 IS NULL OR t.timestamp < $4)
  GROUP BY 1
  ORDER BY 1
  LIMIT CAST(CASE' || symbols || replace(begins, '{start}', '$3') || $check$
    WHEN $2 IS NULL THEN qvp.refuse('22004', 'bucket_width must not be NULL' || coalesce($2::text, ''), 'Give a width as interval ''1 hour''.')
    WHEN NOT $2 > interval '0' THEN qvp.refuse('22023', 'bucket_width must be positive, not ' || $2::text, 'Give a width as interval ''1 hour''.')
    WHEN $5 IS NULL OR $5 NOT IN ('bars', 'ticks') THEN qvp.refuse('22023', 'source must be bars or ticks, not ' || coalesce($5, 'NULL'), 'bars reads market_data, ticks reads tick_data.')
    END AS bigint)
$f$$check$;

  EXECUTE 'CREATE FUNCTION qvp.get_portfolio_history(days integer DEFAULT 30)
    RETURNS TABLE ("timestamp" timestamptz, total_value double precision, cash double precision, equity double precision)
    LANGUAGE sql STABLE PARALLEL SAFE AS $f$
  SELECT p.timestamp, p.total_value, p.cash, p.equity
  FROM ' || here || '.portfolio_values AS p
  WHERE p.timestamp >= now() - make_interval(days => $1)
  ORDER BY p.timestamp
  LIMIT CAST(CASE
    WHEN $1 IS NULL OR $1 NOT BETWEEN 1 AND 36500 THEN qvp.refuse(''22023'', ''days must be 1 to 36500, not '' || coalesce($1::text, ''NULL''), ''A year is 365 days.'')
    END AS bigint)
$f$';

  EXECUTE 'CREATE FUNCTION qvp.insert_market_data(symbols text[], timestamps timestamptz[], opens double precision[], highs double precision[], lows double precision[], closes double precision[], volumes bigint[])
    RETURNS bigint LANGUAGE sql VOLATILE AS $f$
  WITH made AS (
    INSERT INTO ' || here || '.market_data (symbol, timestamp, open, high, low, close, volume)
    SELECT u.s, u.t, u.o, u.h, u.l, u.c, u.v
    FROM unnest($1, $2, $3, $4, $5, $6, $7) AS u (s, t, o, h, l, c, v)
    LIMIT CAST(CASE' || $check$
      WHEN coalesce(NOT cardinality($1) = ALL (ARRAY[cardinality($2), cardinality($3), cardinality($4), cardinality($5), cardinality($6), cardinality($7)]), true)
      THEN qvp.refuse('22023', 'the arrays are NULL or differ in length: ' || concat_ws(', ', cardinality($1), cardinality($2), cardinality($3), cardinality($4), cardinality($5), cardinality($6), cardinality($7)), 'Give one element of each array for each bar.')
      WHEN 'NaN' = ANY ($3) OR 'NaN' = ANY ($4) OR 'NaN' = ANY ($5) OR 'NaN' = ANY ($6)
      THEN qvp.refuse('22023', 'a price among ' || cardinality($1)::text || ' bars is NaN', 'Give NULL for a price that is not known.')
      END AS bigint)
    RETURNING 1)
  SELECT count(*) FROM made
$f$$check$;

  EXECUTE 'CREATE FUNCTION qvp.insert_trade(symbol text, action text, quantity double precision, price double precision, commission double precision DEFAULT 0, strategy text DEFAULT NULL, at timestamptz DEFAULT now())
    RETURNS bigint LANGUAGE sql VOLATILE AS $f$
  INSERT INTO ' || here || '.trades (timestamp, symbol, action, quantity, price, commission, strategy)
  SELECT coalesce($7, now()), $1, $2, $3, $4, $5, $6
  LIMIT CAST(CASE' || symbols || $check$
    WHEN $2 IS NULL OR $2 NOT IN ('buy', 'sell') THEN qvp.refuse('22023', 'action must be buy or sell, not ' || coalesce($2, 'NULL'), 'It is written in lower case.')
    WHEN coalesce($3 = 'NaN' OR $3 <= 0, true) THEN qvp.refuse('22023', 'quantity must be positive, not ' || coalesce($3::text, 'NULL'), 'action says whether it is bought or sold.')
    WHEN coalesce($4 = 'NaN', true) THEN qvp.refuse('22023', 'price must be a number, not ' || coalesce($4::text, 'NULL'), 'Give the price of one unit.')
    WHEN $5 = 'NaN' THEN qvp.refuse('22023', 'commission must be a number, not ' || $5::text, 'Give 0 or NULL when there was none.')
    END AS bigint)
  RETURNING id
$f$$check$;

  EXECUTE 'CREATE FUNCTION qvp.insert_portfolio_value(total_value double precision, cash double precision, equity double precision, at timestamptz DEFAULT now())
    RETURNS bigint LANGUAGE sql VOLATILE AS $f$
  WITH made AS (
    INSERT INTO ' || here || '.portfolio_values (timestamp, total_value, cash, equity)
    SELECT coalesce($4, now()), $1, $2, $3
    LIMIT CAST(CASE' || $check$
      WHEN coalesce($1 = 'NaN', true) THEN qvp.refuse('22023', 'total_value must be a number, not ' || coalesce($1::text, 'NULL'), 'cash and equity may be NULL.')
      WHEN $2 = 'NaN' OR $3 = 'NaN' THEN qvp.refuse('22023', 'cash and equity must be numbers, not ' || concat_ws(' and ', $2::text, $3::text), 'Give NULL for what is not known.')
      END AS bigint)
    RETURNING id)
  SELECT id FROM made
$f$$check$;
END
$do$;
