-- What it holds is worked out again.
DROP TABLE IF EXISTS qvpgw.settled;
