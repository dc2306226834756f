-- portfolio_values by day: first, last, sum, count, min and max of each value, and
-- the first and last moment of a day.
DO $do$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb' AND position(extname IN coalesce(current_setting('qvpgw.without', true), '')) = 0) THEN
    RAISE NOTICE 'qvpgw: portfolio_values_1d is not made, TimescaleDB is missing or switched off';
    RETURN;
  END IF;
  IF current_setting('timescaledb.license', true) IS DISTINCT FROM 'timescale' THEN
    RAISE NOTICE 'qvpgw: portfolio_values_1d is not made, continuous aggregates need TimescaleDB''s Community edition and this is the % edition',
      coalesce(current_setting('timescaledb.license', true), 'unknown');
    RETURN;
  END IF;

  CREATE MATERIALIZED VIEW portfolio_values_1d
  WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
  SELECT time_bucket(INTERVAL '1 day', timestamp) AS bucket,
         min(timestamp)                           AS first_timestamp,
         max(timestamp)                           AS last_timestamp,
         count(*)                                 AS count,
         first(total_value, timestamp)            AS first_total_value,
         last(total_value, timestamp)             AS last_total_value,
         sum(total_value)                         AS sum_total_value,
         count(total_value)                       AS count_total_value,
         min(total_value)                         AS min_total_value,
         max(total_value)                         AS max_total_value,
         first(cash, timestamp)                   AS first_cash,
         last(cash, timestamp)                    AS last_cash,
         sum(cash)                                AS sum_cash,
         count(cash)                              AS count_cash,
         min(cash)                                AS min_cash,
         max(cash)                                AS max_cash,
         first(equity, timestamp)                 AS first_equity,
         last(equity, timestamp)                  AS last_equity,
         sum(equity)                              AS sum_equity,
         count(equity)                            AS count_equity,
         min(equity)                              AS min_equity,
         max(equity)                              AS max_equity
  FROM portfolio_values
  GROUP BY 1
  WITH NO DATA;
END
$do$;
