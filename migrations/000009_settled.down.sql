-- What it holds is worked out again.
DROP TABLE qvpgw.settled;
