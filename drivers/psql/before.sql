\set VERBOSITY verbose
\set SHOW_CONTEXT always
\pset null '(null)'
\echo '# encoding: '
\encoding
\echo '# server: '
\echo :SERVER_VERSION_NUM
