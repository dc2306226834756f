-- loses: portfolio_values_1d
-- It can be made again from portfolio_values, but for what a retention dropped.
DROP MATERIALIZED VIEW IF EXISTS portfolio_values_1d;
