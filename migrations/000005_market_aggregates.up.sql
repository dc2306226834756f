-- market_data by hour, day and week with the parts from which every sum, count,
-- average, minimum, maximum, first and last over a coarser bucket is derived:
-- sum_x and count_x beside each column x, min_x and max_x (high is max_high, low
-- is min_low), and the first and last moment of a bucket, by which opens and
-- closes of several buckets are put in order. They are made without data; the
-- refresh is a step of its own because it cannot run in a transaction.
DO $do$
DECLARE
  aggregate record;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb' AND position(extname IN coalesce(current_setting('qvpgw.without', true), '')) = 0) THEN
    RAISE NOTICE 'qvpgw: market_data_1h, market_data_1d and market_data_1w are not made, TimescaleDB is missing or switched off';
    RETURN;
  END IF;
  IF current_setting('timescaledb.license', true) IS DISTINCT FROM 'timescale' THEN
    RAISE NOTICE 'qvpgw: market_data_1h, market_data_1d and market_data_1w are not made, continuous aggregates need TimescaleDB''s Community edition and this is the % edition',
      coalesce(current_setting('timescaledb.license', true), 'unknown');
    RETURN;
  END IF;
  FOR aggregate IN
    SELECT * FROM (VALUES ('market_data_1h', '1 hour'), ('market_data_1d', '1 day'), ('market_data_1w', '7 days')) v (name, width)
  LOOP
    EXECUTE format($sql$
      CREATE MATERIALIZED VIEW %I
      WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
      SELECT time_bucket(INTERVAL %L, timestamp) AS bucket,
             symbol,
             first(open, timestamp) AS open,
             max(high)              AS high,
             min(low)               AS low,
             last(close, timestamp) AS close,
             sum(volume)            AS volume,
             min(timestamp)         AS first_timestamp,
             max(timestamp)         AS last_timestamp,
             count(*)               AS count,
             sum(open)              AS sum_open,
             count(open)            AS count_open,
             min(open)              AS min_open,
             max(open)              AS max_open,
             sum(high)              AS sum_high,
             count(high)            AS count_high,
             min(high)              AS min_high,
             sum(low)               AS sum_low,
             count(low)             AS count_low,
             max(low)               AS max_low,
             sum(close)             AS sum_close,
             count(close)           AS count_close,
             min(close)             AS min_close,
             max(close)             AS max_close,
             count(volume)          AS count_volume,
             min(volume)            AS min_volume,
             max(volume)            AS max_volume
      FROM market_data
      GROUP BY bucket, symbol
      WITH NO DATA
    $sql$, aggregate.name, aggregate.width);
  END LOOP;
END
$do$;
