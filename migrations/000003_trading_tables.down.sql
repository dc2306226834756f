-- loses: positions strategies trades
DROP TABLE IF EXISTS positions;
DROP TABLE IF EXISTS strategies;
DROP TABLE IF EXISTS trades;
