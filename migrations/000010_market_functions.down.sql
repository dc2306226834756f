DROP FUNCTION IF EXISTS qvp.insert_portfolio_value(double precision, double precision, double precision, timestamptz);
DROP FUNCTION IF EXISTS qvp.insert_trade(text, text, double precision, double precision, double precision, text, timestamptz);
DROP FUNCTION IF EXISTS qvp.insert_market_data(text[], timestamptz[], double precision[], double precision[], double precision[], double precision[], bigint[]);
DROP FUNCTION IF EXISTS qvp.get_portfolio_history(integer);
DROP FUNCTION IF EXISTS qvp.time_bucket_aggregates(text, interval, timestamptz, timestamptz, text);
DROP FUNCTION IF EXISTS qvp.get_market_data(text, timestamptz, timestamptz);
DROP FUNCTION IF EXISTS qvp.refuse(text, text, text);
DROP SCHEMA IF EXISTS qvp;
