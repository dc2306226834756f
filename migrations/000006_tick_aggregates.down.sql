-- loses: tick_data_1w tick_data_1d tick_data_1h tick_data_1m
-- They can be made again from tick_data, but for what its retention dropped.
DROP MATERIALIZED VIEW IF EXISTS tick_data_1w;
DROP MATERIALIZED VIEW IF EXISTS tick_data_1d;
DROP MATERIALIZED VIEW IF EXISTS tick_data_1h;
DROP MATERIALIZED VIEW IF EXISTS tick_data_1m;
