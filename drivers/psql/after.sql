\c -reuse-previous=on
\set VERBOSITY default
\echo '# expanded: '
\x on
SELECT * FROM item WHERE id <= 2 ORDER BY id;
\x off
\echo '# several: '
SELECT 1\; SELECT 'two', 3\; INSERT INTO pair VALUES (1, 'several');
\echo '# several_fail: '
INSERT INTO pair VALUES (2, 'several')\; SELECT 1 / 0;
\echo '# bind: '
SELECT $1::int + $2::int, $3 \bind 1 2 three \g
\echo '# bind_fails: '
SELECT 1 / $1::int \bind 0 \g
\echo '# gset: '
SELECT 5 AS five, 'six' AS six \gset
\echo :five :six
\echo '# gdesc: '
SELECT 1 AS a, 'x'::text AS b, now() AS c, '[1]'::vector AS d \gdesc
\echo '# gexec: '
SELECT format('SELECT %s AS n', i) FROM generate_series(1, 3) i \gexec
\echo '# crosstabview: '
SELECT i % 2 AS a, i / 2 AS b, i AS c FROM generate_series(0, 5) i \crosstabview
\echo '# describe_table: '
\d item
\echo '# describe_function: '
\df says
\echo '# describe_type: '
\dT+ colour
\echo '# describe_schemas: '
\dn :schema
\echo '# list_tables: '
\dt
\echo '# show_function: '
\sf remember
\echo '# extensions: '
\dx vector
\echo '# copy_in: '
\copy pair FROM STDIN
1	copied
2	copied
\.
COPY pair FROM STDIN;
3	copied
4	copied
\.
\echo '# copy_out: '
COPY (SELECT * FROM pair WHERE b = 'copied' ORDER BY a) TO STDOUT;
\echo '# copy_csv: '
\copy (SELECT a, b, NULL AS c FROM pair WHERE b = 'copied' ORDER BY a) TO STDOUT CSV HEADER
\echo '# copy_breaks: '
COPY pair FROM STDIN;
1	fine
not a number	broken
2	more
\.
\echo '# copy_breaks_after: '
SELECT count(*) FROM pair WHERE b IN ('fine', 'more');
\echo '# copy_out_breaks: '
COPY (SELECT 1 / (3 - i) FROM generate_series(1, 5) i) TO STDOUT;
\echo '# copy_large: '
\copy (SELECT i, repeat('x', 50) FROM generate_series(1, 40000) i) TO '/dev/null'
\echo '# fetch_count: '
\set FETCH_COUNT 7
SELECT i FROM generate_series(1, 20) i;
\unset FETCH_COUNT
\echo '# on_error_rollback: '
\set ON_ERROR_ROLLBACK on
BEGIN;
INSERT INTO pair VALUES (1, 'kept');
SELECT 1 / 0;
INSERT INTO pair VALUES (2, 'kept');
COMMIT;
SELECT count(*) FROM pair WHERE b = 'kept';
\set ON_ERROR_ROLLBACK off
\echo '# autocommit_off: '
\set AUTOCOMMIT off
INSERT INTO pair VALUES (1, 'rolled back');
ROLLBACK;
SELECT count(*) FROM pair WHERE b = 'rolled back';
COMMIT;
\set AUTOCOMMIT on
\echo '# notify: '
LISTEN :schema;
NOTIFY :schema, 'payload';
SELECT 1;
UNLISTEN *;
\echo '# large_value: '
SELECT length(repeat('é', 4000000)) AS l, md5(repeat('é', 4000000)) AS m;
\echo '# large_object: '
\set QUIET on
\lo_import main.sh 'a comment'
SELECT length(lo_get(:LASTOID)) > 100 AS imported;
\set QUIET on
\lo_unlink :LASTOID
\set QUIET off
\echo '# errverbose: '
SELECT 1 / 0;
\errverbose
\echo '# watch: '
SELECT 'once' \g
\echo '# error_variables: '
SELECT 1 / 0;
\echo :ERROR :SQLSTATE :LAST_ERROR_MESSAGE :ROW_COUNT
\echo '# set_role: '
SET ROLE plain;
SELECT name FROM item WHERE id = 1;
INSERT INTO pair VALUES (1, 'x');
RESET ROLE;
\echo '# cancel_timeout: '
SET statement_timeout TO '100ms';
SELECT pg_sleep(5);
RESET statement_timeout;
\echo '# end: '
SELECT 'usable';
