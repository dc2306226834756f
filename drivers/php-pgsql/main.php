<?php
// What PHP's pgsql and PDO see of a server: one line a check, nothing in it that
// changes from run to run.
declare(strict_types=1);
error_reporting(E_ALL);
$said = [];
set_error_handler(function (int $level, string $text) use (&$said): bool {
    $said[] = $text;
    return true;
});
$schema = getenv('DRIVER_SCHEMA');
$db = null;

function open()
{
    return pg_connect("application_name='php-pgsql'", PGSQL_CONNECT_FORCE_NEW);
}

function session(): void
{
    global $db;
    if ($db) {
        pg_close($db);
    }
    $db = open();
    pg_set_error_verbosity($db, PGSQL_ERRORS_VERBOSE);
}

function show($v): string
{
    return json_encode($v, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE | JSON_PARTIAL_OUTPUT_ON_ERROR);
}

function check(string $name, callable $run): void
{
    global $said, $db;
    $said = [];
    try {
        $value = show($run());
    } catch (Throwable $e) {
        $value = 'ERROR ' . get_class($e) . ' ' . $e->getMessage();
    }
    $notices = pg_last_notice($db, PGSQL_NOTICE_ALL) ?: [];
    pg_last_notice($db, PGSQL_NOTICE_CLEAR);
    echo str_replace("\n", '\n', "$name: $value" . implode('', array_map(fn($x) => " NOTICE $x", $notices)) . implode('', array_map(fn($x) => " SAID $x", $said))), "\n";
}

function result($r)
{
    global $db;
    if ($r === false) {
        return 'ERROR ' . pg_last_error($db);
    }
    $status = pg_result_status($r);
    if ($status === PGSQL_FATAL_ERROR) {
        $fields = [PGSQL_DIAG_SEVERITY, PGSQL_DIAG_SQLSTATE, PGSQL_DIAG_MESSAGE_PRIMARY, PGSQL_DIAG_MESSAGE_DETAIL, PGSQL_DIAG_MESSAGE_HINT, PGSQL_DIAG_STATEMENT_POSITION, PGSQL_DIAG_CONTEXT];
        return array_map(fn($f) => pg_result_error_field($r, $f), $fields);
    }
    $columns = [];
    for ($i = 0; $i < pg_num_fields($r); $i++) {
        $columns[] = [pg_field_name($r, $i), pg_field_type($r, $i), pg_field_size($r, $i)];
    }
    $rows = [];
    while ($row = pg_fetch_row($r)) {
        $rows[] = $row;
    }
    return [pg_result_status($r, PGSQL_STATUS_STRING), pg_affected_rows($r), $columns, $rows];
}

function execute(string $text, array $args = null)
{
    global $db;
    $args === null ? pg_send_query($db, $text) : pg_send_query_params($db, $text, $args);
    $all = [];
    while ($r = pg_get_result($db)) {
        $all[] = result($r);
    }
    return count($all) === 1 ? $all[0] : $all;
}

function lines(string $file): array
{
    return file(getenv('DRIVER_FILES') . "/$file", FILE_IGNORE_NEW_LINES);
}

session();
check('facts', fn() => [pg_get_pid($db) > 0, intdiv((int) pg_version($db)['server'], 1), pg_client_encoding($db), pg_parameter_status($db, 'TimeZone'), pg_connection_status($db), pg_transaction_status($db)]);
foreach (['steps.tsv', 'styles.tsv'] as $file) {
    session();
    foreach (lines($file) as $line) {
        if ($line[0] === '#') {
            session();
            continue;
        }
        [$name, $text] = explode("\t", $line, 2);
        check($name, fn() => execute($text));
    }
}
session();
foreach (lines('types.tsv') as $line) {
    [$name, $expr] = explode("\t", $line, 2);
    check("text $name", fn() => execute("SELECT $expr"));
    check("parameters $name", fn() => execute("SELECT $expr WHERE \$1", ['t']));
}
foreach ([true, -1, 2.5, "it's", 'naïve 漢字', null, '{1,2,NULL}'] as $i => $v) {
    check("parameter $i", fn() => execute('SELECT $1::text AS a', [$v === true ? 't' : $v]));
}
check('escape', fn() => [pg_escape_literal($db, "it's"), pg_escape_identifier($db, 'a"b'), pg_escape_bytea($db, "\x00\xff'")]);

session();
check('prepared_many', function () use (&$db) {
    for ($i = 0; $i < 50; $i++) {
        pg_prepare($db, "p$i", "SELECT \$1::int + $i");
    }
    $total = 0;
    for ($round = 0; $round < 4; $round++) {
        for ($i = 0; $i < 50; $i++) {
            $total += (int) pg_fetch_result(pg_execute($db, "p$i", [1]), 0, 0);
        }
        pg_query($db, 'BEGIN');
        for ($i = 0; $i < 50; $i += 7) {
            $total += (int) pg_fetch_result(pg_execute($db, "p$i", [2]), 0, 0);
        }
        pg_query($db, 'COMMIT');
    }
    return $total;
});
check('prepared_again', fn() => pg_prepare($db, 'p1', 'SELECT 1'));
check('prepared_error', fn() => [pg_prepare($db, 'd', 'SELECT 1 / $1::int') !== false, pg_execute($db, 'd', [0])]);
check('prepared_after_error', fn() => result(pg_execute($db, 'd', [1])));
check('prepared_missing', fn() => pg_execute($db, 'nothing', []));
check('deallocate', fn() => [result(pg_query($db, 'DEALLOCATE p1')), pg_execute($db, 'p1', [1])]);
check('several_statements', fn() => execute("SELECT 1; SELECT 'two', 3; INSERT INTO pair VALUES (1, 'several')"));
check('several_fail', fn() => execute("INSERT INTO pair VALUES (2, 'several'); SELECT 1 / 0"));
check('several_undone', fn() => execute("SELECT count(*) FROM pair WHERE b = 'several'"));
check('empty_statement', fn() => execute(''));
check('pg_insert', fn() => pg_insert($db, 'pair', ['a' => 5, 'b' => 'inserted']));
check('pg_select', fn() => pg_select($db, 'pair', ['b' => 'inserted']));
check('pg_meta_data', fn() => array_map(fn($c) => [$c['num'], $c['type'], $c['not null']], pg_meta_data($db, 'item')));

session();
check('copy_from', fn() => pg_copy_from($db, 'pair', array_map(fn($i) => "$i\trow $i\n", range(1, 1000))));
check('copy_to', fn() => count(pg_copy_to($db, 'pair')));
check('copy_breaks', fn() => pg_copy_from($db, 'pair', ["1\tfine\n", "not a number\tbroken\n", "2\tmore\n"]));
check('put_line', function () use (&$db) {
    pg_query($db, 'COPY pair FROM STDIN');
    pg_put_line($db, "1\tput\n");
    pg_put_line($db, "\\.\n");
    return pg_end_copy($db);
});
check('copy_after', fn() => execute("SELECT count(*) FROM pair WHERE b IN ('fine', 'more', 'put')"));

session();
function taken(int $n, float $patience): array
{
    global $db, $schema;
    $got = [];
    for ($end = microtime(true) + $patience; count($got) < $n && microtime(true) < $end; usleep(50000)) {
        while ($x = pg_get_notify($db, PGSQL_ASSOC)) {
            $got[] = [$x['message'] === $schema, $x['payload'], $x['pid'] === pg_get_pid($db)];
        }
    }
    return $got;
}
function other(string ...$texts): void
{
    $c = open();
    foreach ($texts as $t) {
        pg_query($c, $t);
    }
    pg_close($c);
}
check('notify_self', function () use (&$db, $schema) {
    pg_query($db, "LISTEN $schema");
    pg_query($db, "NOTIFY $schema, 'to myself'");
    return taken(1, 10);
});
check('notify_other', function () use ($schema) {
    other("NOTIFY $schema, 'from another'");
    return taken(1, 10);
});
check('notify_transaction', function () use ($schema) {
    other('BEGIN', "NOTIFY $schema, 'a'", "NOTIFY $schema, 'b'", 'COMMIT');
    return taken(2, 10);
});
check('unlisten', function () use (&$db, $schema) {
    pg_query($db, 'UNLISTEN *');
    pg_query($db, "NOTIFY $schema, 'unheard'");
    return taken(1, 0.3);
});

session();
check('cancel', function () use (&$db) {
    pg_send_query($db, 'SELECT pg_sleep(30)');
    usleep(300000);
    return pg_cancel_query($db);
});
check('cancel_after', fn() => execute("SELECT 'usable'"));
check('savepoints', function () use (&$db) {
    $all = [];
    foreach (['BEGIN', "INSERT INTO pair VALUES (1, 'nested')", 'SAVEPOINT s', 'SELECT 1 / 0', 'SELECT 1', 'ROLLBACK TO s', "INSERT INTO pair VALUES (2, 'nested')", 'COMMIT', "SELECT count(*) FROM pair WHERE b = 'nested'"] as $text) {
        $all[] = [execute($text), pg_transaction_status($db)];
    }
    return $all;
});
check('cursor', function () use (&$db) {
    pg_query($db, 'BEGIN');
    pg_query($db, 'DECLARE c CURSOR FOR SELECT i FROM generate_series(1, 30) i');
    $got = [];
    while (($n = pg_num_rows(pg_query($db, 'FETCH 7 FROM c'))) > 0) {
        $got[] = $n;
    }
    pg_query($db, 'COMMIT');
    return $got;
});
check('large_object', function () use (&$db) {
    pg_query($db, 'BEGIN');
    $oid = pg_lo_create($db);
    $lo = pg_lo_open($db, $oid, 'rw');
    pg_lo_write($lo, 'some bytes');
    pg_lo_seek($lo, 5, PGSQL_SEEK_SET);
    $got = pg_lo_read($lo, 5);
    pg_lo_close($lo);
    pg_lo_unlink($db, $oid);
    pg_query($db, 'COMMIT');
    return $got;
});
check('notice', fn() => execute("SELECT says('heard')"));
check('encoding', fn() => [pg_set_client_encoding($db, 'LATIN1'), pg_client_encoding($db), pg_set_client_encoding($db, 'UTF8')]);
check('large_values', function () use (&$db) {
    $b = str_repeat("a\x00b\xff", 1 << 19);
    $t = str_repeat('é漢', 1 << 19);
    pg_query_params($db, 'INSERT INTO wide VALUES (1, $1, $2)', [pg_escape_bytea($db, $b), $t]);
    $row = pg_fetch_row(pg_query($db, 'SELECT b, t FROM wide'));
    return [pg_unescape_bytea($row[0]) === $b, $row[1] === $t];
});
check('large_rows', fn() => array_sum(array_map('strlen', pg_fetch_all_columns(pg_query($db, "SELECT repeat('y', 100) FROM generate_series(1, 30000)")))));
check('many_small', function () use (&$db) {
    $sum = 0;
    for ($i = 0; $i < 500; $i++) {
        $sum += (int) pg_fetch_result(pg_query_params($db, 'SELECT $1::int', [$i]), 0, 0);
    }
    return $sum;
});
check('ping', fn() => pg_ping($db));

// PDO prepares on the server, or not at all.
foreach ([false, true] as $emulated) {
    $p = $emulated ? 'emulated' : 'prepared';
    $pdo = new PDO(sprintf('pgsql:host=%s;port=%s;dbname=%s;sslmode=disable', getenv('PGHOST'), getenv('PGPORT'), getenv('PGDATABASE')), getenv('PGUSER'), null,
        [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION, PDO::ATTR_EMULATE_PREPARES => $emulated]);
    check("pdo $p", function () use ($pdo) {
        $st = $pdo->prepare('SELECT ?::int + 1, ?::text');
        $got = [];
        for ($i = 0; $i < 20; $i++) {
            $st->execute([$i, "text $i"]);
            $got[] = $st->fetch(PDO::FETCH_NUM);
        }
        return $got;
    });
    check("pdo $p error", fn() => $pdo->prepare('SELECT 1 / ?::int')->execute([0]));
    check("pdo $p transaction", function () use ($pdo) {
        $pdo->beginTransaction();
        $pdo->exec("INSERT INTO pair VALUES (1, 'pdo')");
        $inside = $pdo->inTransaction();
        $pdo->rollBack();
        return [$inside, $pdo->query("SELECT count(*) FROM pair WHERE b = 'pdo'")->fetchColumn()];
    });
    check("pdo $p named", function () use ($pdo) {
        $st = $pdo->prepare('SELECT name FROM item WHERE id = :id');
        $st->bindValue(':id', 1, PDO::PARAM_INT);
        $st->execute();
        return $st->fetchAll(PDO::FETCH_ASSOC);
    });
    $pdo = null;
}
pg_close($db);
