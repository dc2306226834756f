-- loses: trades portfolio_values tick_data market_data
DROP TABLE IF EXISTS trades;
DROP TABLE IF EXISTS portfolio_values;
DROP TABLE IF EXISTS tick_data;
DROP TABLE IF EXISTS market_data;
