-- What these hold comes from market_data and can be made again.
DROP MATERIALIZED VIEW IF EXISTS market_data_1w;
DROP MATERIALIZED VIEW IF EXISTS market_data_1d;
DROP MATERIALIZED VIEW IF EXISTS market_data_1h;
