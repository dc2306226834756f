-- loses: risk_metrics portfolio_values tick_data market_data
DROP TABLE IF EXISTS risk_metrics;
DROP TABLE IF EXISTS portfolio_values;
DROP TABLE IF EXISTS tick_data;
DROP TABLE IF EXISTS market_data;
