-- tick_data by minute, and by hour, day and week from the one before: bars of
-- prices (OHLCV) with bid, ask and their spread. As in market_data's aggregates
-- there is sum_x and count_x beside each column x, min_x and max_x (of price: low
-- and high), first_x and last_x, and the first and last moment of a bucket, by
-- which the bars of several buckets are put in order. The columns have the same
-- names and types in all four. They are made without data: a refresh cannot run
-- in a transaction.
DO $do$
DECLARE
  aggregate record;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb' AND position(extname IN coalesce(current_setting('qvpgw.without', true), '')) = 0) THEN
    RAISE NOTICE 'qvpgw: tick_data_1m, tick_data_1h, tick_data_1d and tick_data_1w are not made, TimescaleDB is missing or switched off';
    RETURN;
  END IF;
  IF current_setting('timescaledb.license', true) IS DISTINCT FROM 'timescale' THEN
    RAISE NOTICE 'qvpgw: tick_data_1m, tick_data_1h, tick_data_1d and tick_data_1w are not made, continuous aggregates need TimescaleDB''s Community edition and this is the % edition',
      coalesce(current_setting('timescaledb.license', true), 'unknown');
    RETURN;
  END IF;

  CREATE MATERIALIZED VIEW tick_data_1m
  WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
  SELECT time_bucket(INTERVAL '1 minute', timestamp) AS bucket,
         symbol,
         first(price, timestamp)                     AS open,
         max(price)                                  AS high,
         min(price)                                  AS low,
         last(price, timestamp)                      AS close,
         sum(volume)                                 AS volume,
         min(timestamp)                              AS first_timestamp,
         max(timestamp)                              AS last_timestamp,
         count(*)                                    AS count,
         sum(price)                                  AS sum_price,
         count(price)                                AS count_price,
         count(volume)                               AS count_volume,
         min(volume)                                 AS min_volume,
         max(volume)                                 AS max_volume,
         first(bid, timestamp)                       AS first_bid,
         last(bid, timestamp)                        AS last_bid,
         sum(bid)                                    AS sum_bid,
         count(bid)                                  AS count_bid,
         min(bid)                                    AS min_bid,
         max(bid)                                    AS max_bid,
         first(ask, timestamp)                       AS first_ask,
         last(ask, timestamp)                        AS last_ask,
         sum(ask)                                    AS sum_ask,
         count(ask)                                  AS count_ask,
         min(ask)                                    AS min_ask,
         max(ask)                                    AS max_ask,
         sum(ask - bid)                              AS sum_spread,
         count(ask - bid)                            AS count_spread,
         min(ask - bid)                              AS min_spread,
         max(ask - bid)                              AS max_spread
  FROM tick_data
  GROUP BY 1, 2
  WITH NO DATA;

  FOR aggregate IN
    SELECT * FROM (VALUES ('tick_data_1h', '1 hour', 'tick_data_1m'), ('tick_data_1d', '1 day', 'tick_data_1h'), ('tick_data_1w', '7 days', 'tick_data_1d')) v (name, width, source)
  LOOP
    EXECUTE format($sql$
      CREATE MATERIALIZED VIEW %I
      WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
      SELECT time_bucket(INTERVAL %L, bucket)  AS bucket,
             symbol,
             first(open, first_timestamp)      AS open,
             max(high)                         AS high,
             min(low)                          AS low,
             last(close, last_timestamp)       AS close,
             sum(volume)::bigint               AS volume,
             min(first_timestamp)              AS first_timestamp,
             max(last_timestamp)               AS last_timestamp,
             sum(count)::bigint                AS count,
             sum(sum_price)                    AS sum_price,
             sum(count_price)::bigint          AS count_price,
             sum(count_volume)::bigint         AS count_volume,
             min(min_volume)                   AS min_volume,
             max(max_volume)                   AS max_volume,
             first(first_bid, first_timestamp) AS first_bid,
             last(last_bid, last_timestamp)    AS last_bid,
             sum(sum_bid)                      AS sum_bid,
             sum(count_bid)::bigint            AS count_bid,
             min(min_bid)                      AS min_bid,
             max(max_bid)                      AS max_bid,
             first(first_ask, first_timestamp) AS first_ask,
             last(last_ask, last_timestamp)    AS last_ask,
             sum(sum_ask)                      AS sum_ask,
             sum(count_ask)::bigint            AS count_ask,
             min(min_ask)                      AS min_ask,
             max(max_ask)                      AS max_ask,
             sum(sum_spread)                   AS sum_spread,
             sum(count_spread)::bigint         AS count_spread,
             min(min_spread)                   AS min_spread,
             max(max_spread)                   AS max_spread
      FROM %I
      GROUP BY 1, 2
      WITH NO DATA
    $sql$, aggregate.name, aggregate.width, aggregate.source);
  END LOOP;
END
$do$;
