"""What psycopg 3 sees of a server: one line a check, nothing in it that changes from run to run."""
import logging
import os
import threading
import time

import psycopg
from psycopg import sql

logging.getLogger("psycopg").setLevel(logging.ERROR)  # its warnings hold addresses

STARTUP = dict(autocommit=True, application_name="psycopg3")


def lines(name):
    with open(os.path.join(os.environ["DRIVER_FILES"], name), encoding="utf-8") as f:
        for line in f:
            if line.startswith("#"):
                session()
            else:
                yield line.rstrip("\n").split("\t", 1)


def error(e):
    d = getattr(e, "diag", None)
    if d is None or d.sqlstate is None:
        return f"{type(e).__name__} {str(e).splitlines()[0] if str(e) else ''}"
    fields = [d.severity, d.sqlstate, d.message_primary, d.message_detail, d.message_hint, d.statement_position,
              d.schema_name, d.table_name, d.column_name, d.constraint_name, d.datatype_name, d.context]
    return f"{type(e).__name__} " + "|".join("" if f is None else f for f in fields).replace("\n", "\\n")


def check(name, run):
    try:
        value = run()
    except Exception as e:
        value = "ERROR " + error(e)
    print(f"{name}: {value}", flush=True)


def result(cur):
    names = [(c.name, c.type_code) if c.type_code < 16384 else (c.name, "own") for c in cur.description or []]
    rows = cur.fetchall() if cur.description is not None else []
    return f"{cur.statusmessage} {names} {rows!r}"


conn = None
notices = []


def session():
    """Begins a new session."""
    global conn
    if conn is not None:
        conn.close()
    conn = psycopg.connect(**STARTUP)
    conn.add_notice_handler(lambda d: notices.append(f"{d.severity} {d.sqlstate} {d.message_primary}|{d.message_detail}|{d.message_hint}"))


def execute(text, args=None, **how):
    cur = conn.execute(text, args, **how)
    said = "".join(f" NOTICE {n}" for n in notices)
    notices.clear()
    return result(cur) + said


def facts():
    i = conn.info
    return (i.server_version // 10000, i.backend_pid > 0, i.transaction_status.name, i.encoding, i.parameter_status("TimeZone"),
            i.parameter_status("standard_conforming_strings"), i.parameter_status("application_name"), i.parameter_status("is_superuser"))


session()
check("facts", facts)
for name, text in lines("steps.tsv"):
    check(name, lambda: execute(text.encode()))
session()
for name, text in lines("styles.tsv"):
    check(name, lambda: execute(text.encode()))

session()
for name, expr in lines("types.tsv"):
    check(f"text {name}", lambda: execute(f"SELECT {expr}".encode()))
    if name != "enum_array":  # its binary form holds an oid
        check(f"binary {name}", lambda: execute(f"SELECT {expr}".encode(), binary=True))


# Values go in as parameters and come back as they were.
def round_trip():
    import datetime
    import decimal
    import uuid
    from psycopg.types.json import Jsonb
    values = [True, -1, 2**40, 2.5, float("nan"), float("inf"), decimal.Decimal("1.10"), "naïve 漢字", b"\x00\xff",
              datetime.date(2024, 2, 29), datetime.time(1, 2, 3, 4), datetime.datetime(2024, 1, 2, 3, 4, 5, 6),
              datetime.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc), datetime.timedelta(days=-3, microseconds=5),
              uuid.UUID(int=5), [1, 2, None], ["a", 'b"c'], [[1.5], [2.5]], Jsonb({"a": [1, None]}), None]
    for v in values:
        kind = f"parameter {type(v).__name__} {v!r}" if not isinstance(v, Jsonb) else "parameter Jsonb"
        check(kind, lambda: execute("SELECT %t AS a", [v]))
        check(kind + " binary", lambda: execute("SELECT %b AS a", [v], binary=True))


round_trip()


def many_prepared():
    total = 0
    for _ in range(4):
        for i in range(60):
            total += conn.execute(f"SELECT %s::int + {i}", [1], prepare=True).fetchone()[0]
        with conn.transaction():
            for i in range(0, 60, 7):
                total += conn.execute(f"SELECT %s::int + {i}", [1], prepare=True).fetchone()[0]
    return total


session()
check("prepared_many", many_prepared)
check("prepared_evicted", lambda: (setattr(conn, "prepared_max", 5), many_prepared()))
check("prepared_by_threshold", lambda: [conn.execute("SELECT name FROM item WHERE id = %s", [i % 3 + 1]).fetchone() for i in range(12)])
check("prepared_statement_error", lambda: conn.execute("SELECT 1 / %s::int", [0], prepare=True))
check("prepared_after_error", lambda: conn.execute("SELECT 1 / %s::int", [1], prepare=True).fetchone())
check("prepared_rollback", lambda: prepared_rollback())


def prepared_rollback():
    try:
        with conn.transaction():
            conn.execute("SELECT %s::text || 'x'", ["a"], prepare=True)
            raise psycopg.Rollback()
    except psycopg.Rollback:
        pass
    return conn.execute("SELECT %s::text || 'x'", ["a"], prepare=True).fetchone()


def changed_table():
    conn.execute("CREATE TABLE changing (a int)")
    conn.execute("INSERT INTO changing VALUES (1)")
    rows = [conn.execute("SELECT * FROM changing WHERE a = %s", [1], prepare=True).fetchall()]
    conn.execute("DROP TABLE changing")
    conn.execute("DEALLOCATE ALL")
    return rows


check("prepared_deallocate_all", changed_table)
check("prepared_discard", lambda: [execute("DISCARD ALL"), execute("SHOW lock_timeout"), execute("SELECT current_schema() IS NOT NULL")])
session()


def pipeline():
    out = []
    with conn.pipeline() as p:
        curs = [conn.execute("SELECT %s::int", [i]) for i in range(30)]
        p.sync()
        out.append(sum(c.fetchone()[0] for c in curs))
        conn.execute("INSERT INTO pair VALUES (%s, 'pipeline')", [1])
        conn.execute("SET app.tenant TO 'pipelined'")
        out.append(conn.execute("SELECT count(*), current_setting('app.tenant') FROM pair WHERE b = 'pipeline'").fetchone())
    return out


def pipeline_fails():
    # Which call raises depends on how soon the answer arrives.
    out = []
    try:
        with conn.pipeline() as p:
            conn.execute("INSERT INTO pair VALUES (2, 'pipeline')")
            conn.execute("SELECT 1 / %s::int", [0])
            conn.execute("SELECT 'skipped'")
            p.sync()
    except psycopg.Error as e:
        out.append(error(e))
    out.append(conn.execute("SELECT count(*) FROM pair WHERE b = 'pipeline'").fetchone())
    return out


def pipeline_transaction():
    with conn.pipeline():
        with conn.transaction():
            conn.execute("INSERT INTO pair VALUES (3, 'piped')")
            with conn.transaction(force_rollback=True):
                conn.execute("INSERT INTO pair VALUES (4, 'piped')")
        n = conn.execute("SELECT array_agg(a) FROM pair WHERE b = 'piped'").fetchone()
    return n, conn.info.transaction_status.name


check("pipeline", pipeline)
check("pipeline_fails", pipeline_fails)
check("pipeline_transaction", pipeline_transaction)
check("executemany", lambda: [conn.cursor().executemany("INSERT INTO pair VALUES (%s, %s)", [(i, "many") for i in range(100)]),
                              execute("SELECT count(*), sum(a) FROM pair WHERE b = 'many'")])


def executemany_returning():
    cur = conn.cursor()
    cur.executemany("INSERT INTO pair VALUES (%s, 'returned') RETURNING a", [(i,) for i in range(5)], returning=True)
    got = []
    while True:
        got.append(cur.fetchone()[0])
        if not cur.nextset():
            return got


check("executemany_returning", executemany_returning)


def several():
    cur = conn.execute("SELECT 1; SELECT 'two', 3; INSERT INTO pair VALUES (1, 'several'); SELECT count(*) FROM pair WHERE b = 'several'")
    out = [result(cur)]
    while cur.nextset():
        out.append(result(cur))
    return out


check("several_statements", several)
check("several_fail", lambda: conn.execute("INSERT INTO pair VALUES (2, 'several'); SELECT 1 / 0"))
check("several_undone", lambda: execute("SELECT count(*) FROM pair WHERE b = 'several'"))
check("empty_statement", lambda: execute(""))


def copy_in(options, rows, types=None):
    cur = conn.cursor()
    with cur.copy(f"COPY pair FROM STDIN {options}") as copy:
        if types:
            copy.set_types(types)
        for row in rows:
            copy.write_row(row)
    return cur.rowcount, conn.info.transaction_status.name


def copy_out(query):
    with conn.cursor().copy(query) as copy:
        return b"".join(bytes(d) for d in copy)


session()
check("copy_text", lambda: copy_in("", [(i, f"row {i}\t\\") for i in range(1000)]))
check("copy_binary", lambda: copy_in("(FORMAT BINARY)", [(i, "binary") for i in range(1000)], ["int4", "text"]))
check("copy_out_text", lambda: copy_out("COPY (SELECT * FROM pair WHERE b LIKE 'row%' ORDER BY a LIMIT 5) TO STDOUT"))
check("copy_out_csv", lambda: copy_out("COPY (SELECT a, b, NULL FROM pair WHERE b LIKE 'row%' ORDER BY a LIMIT 3) TO STDOUT (FORMAT csv, HEADER)"))
check("copy_out_binary", lambda: copy_out("COPY (SELECT 1::int, 'x'::text, NULL) TO STDOUT (FORMAT BINARY)"))
check("copy_out_large", lambda: len(copy_out("COPY (SELECT i, repeat('x', 50) FROM generate_series(1, 40000) i) TO STDOUT")))


def copy_breaks():
    with conn.cursor().copy("COPY pair FROM STDIN") as copy:
        copy.write("1\tfine\nnot a number\tbroken\n")
        copy.write("2\tmore\n" * 20000)


def copy_given_up():
    with conn.cursor().copy("COPY pair FROM STDIN") as copy:
        copy.write("1\tgiven up\n")
        raise ValueError("the program's own")


def copy_out_breaks():
    with conn.cursor().copy("COPY (SELECT 1 / (5000 - i) FROM generate_series(1, 6000) i) TO STDOUT") as copy:
        for _ in copy:
            pass


check("copy_breaks", copy_breaks)
check("copy_given_up", copy_given_up)
check("copy_out_breaks", copy_out_breaks)
check("copy_after", lambda: execute("SELECT count(*) FROM pair WHERE b IN ('fine', 'given up', 'more')"))


def copy_in_transaction():
    with conn.transaction(force_rollback=True):
        copy_in("", [(1, "undone")])
    return execute("SELECT count(*) FROM pair WHERE b = 'undone'")


check("copy_in_transaction", copy_in_transaction)

channel = os.environ["DRIVER_SCHEMA"]


def taken(timeout=5.0, n=1):
    return [(x.channel == channel, x.payload, x.pid == conn.info.backend_pid) for x in conn.notifies(timeout=timeout, stop_after=n)]


def notify_self():
    conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
    conn.execute("SELECT pg_notify(%s, 'to myself')", [channel])
    return taken()


def notify_other():
    with psycopg.connect(autocommit=True) as other:
        other.execute("SELECT pg_notify(%s, %s)", [channel, "from another"])
        return taken()


def notify_transaction():
    with psycopg.connect(autocommit=True) as other:
        with other.transaction():
            for i in range(5):
                other.execute("SELECT pg_notify(%s, %s)", [channel, str(i)])
        return taken(n=5)


def notify_rolled_back():
    with psycopg.connect(autocommit=True) as other:
        with other.transaction(force_rollback=True):
            other.execute("SELECT pg_notify(%s, 'never')", [channel])
        other.execute("SELECT pg_notify(%s, 'only this')", [channel])
        return taken()


def unlisten():
    conn.execute("UNLISTEN *")
    conn.execute("SELECT pg_notify(%s, 'unheard')", [channel])
    return taken(timeout=0.3), conn.execute("SELECT count(*) FROM pg_listening_channels()").fetchone()


session()
check("notify_self", notify_self)
check("listening", lambda: execute("SELECT count(*) FROM pg_listening_channels()"))
check("notify_other", notify_other)
check("notify_transaction", notify_transaction)
check("notify_rolled_back", notify_rolled_back)
check("unlisten", unlisten)


session()


def cancelled(text):
    t = threading.Timer(0.3, lambda: conn.cancel_safe(timeout=10))
    t.start()
    start = time.monotonic()
    try:
        conn.execute(text)
        return "not cancelled"
    except psycopg.errors.QueryCanceled as e:
        return error(e), time.monotonic() - start < 20
    finally:
        t.join()


check("cancel", lambda: cancelled("SELECT pg_sleep(30)"))
check("cancel_after", lambda: execute("SELECT 'usable'"))


def cancelled_inside():
    with conn.transaction():
        return cancelled("SELECT pg_sleep(30)")


check("cancel_in_transaction", cancelled_inside)
check("cancel_idle", lambda: [conn.cancel_safe(timeout=10), time.sleep(0.2), execute("SELECT 'untouched'")])
check("statement_timeout", lambda: [execute("SET statement_timeout TO '100ms'"), check("statement_timeout_hits", lambda: execute("SELECT pg_sleep(5)")),
                                    execute("SET statement_timeout TO 0")])


def server_cursor(**how):
    with conn.transaction():
        with conn.cursor("walk", **how) as cur:
            cur.itersize = 7
            cur.execute("SELECT i FROM generate_series(1, 50) i")
            out = [cur.fetchone(), cur.fetchmany(3)]
            if how.get("scrollable"):
                cur.scroll(-2)
                out.append(cur.fetchone())
            out.append(sum(r[0] for r in cur))
    return out


def hold_cursor():
    cur = conn.cursor("held", withhold=True)
    with conn.transaction():
        cur.execute("SELECT i FROM generate_series(1, 10) i")
        first = cur.fetchmany(4)
    conn.execute("SELECT 1")
    rest = cur.fetchall()
    cur.close()
    return first, rest


session()
check("server_cursor", server_cursor)
check("server_cursor_scroll", lambda: server_cursor(scrollable=True))
check("server_cursor_hold", hold_cursor)


def stream():
    return sum(r[0] for r in conn.cursor().stream("SELECT i FROM generate_series(1, 1000) i"))


check("stream", stream)


def savepoints():
    seen = []
    with conn.transaction():
        conn.execute("INSERT INTO pair VALUES (1, 'nested')")
        try:
            with conn.transaction():
                conn.execute("INSERT INTO pair VALUES (2, 'nested')")
                conn.execute("SELECT 1 / 0")
        except psycopg.errors.DivisionByZero as e:
            seen.append(error(e))
        with conn.transaction():
            conn.execute("INSERT INTO pair VALUES (3, 'nested')")
        seen.append(conn.info.transaction_status.name)
    return seen, conn.execute("SELECT array_agg(a ORDER BY a) FROM pair WHERE b = 'nested'").fetchone()


session()
check("savepoints", savepoints)


def modes():
    conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    conn.read_only = True
    try:
        with conn.transaction():
            got = conn.execute("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')").fetchone()
    finally:
        conn.isolation_level = None
        conn.read_only = None
    return got, conn.execute("SELECT current_setting('transaction_isolation')").fetchone()


check("transaction_modes", modes)


def large():
    b = bytes(range(256)) * (16 << 10)
    s = "é漢" * (1 << 20)
    conn.execute("INSERT INTO wide VALUES (1, %s, %s)", [b, s])
    out = [conn.execute("SELECT b = %s, length(t) FROM wide", [b]).fetchone()]
    for binary in False, True:
        got = conn.execute("SELECT b, t FROM wide", binary=binary).fetchone()
        out.append((got[0] == b, got[1] == s))
    return out


check("large_values", large)
check("large_rows", lambda: sum(len(r[0]) for r in conn.execute("SELECT repeat('y', 100) FROM generate_series(1, 30000)").fetchall()))
check("many_small", lambda: sum(conn.execute("SELECT %s::int", [i]).fetchone()[0] for i in range(500)))


def two_phase():
    xid = conn.xid(1, os.environ["DRIVER_SCHEMA"], "branch")
    conn.tpc_begin(xid)
    conn.execute("INSERT INTO pair VALUES (9, 'tpc')")
    conn.tpc_prepare()
    conn.tpc_commit()
    return conn.execute("SELECT count(*) FROM pair WHERE b = 'tpc'").fetchone()


session()
check("two_phase", two_phase)
session()
check("database_error_fields", lambda: execute("INSERT INTO item (name, amount) VALUES ('x', -1)"))
check("facts_after", lambda: (conn.info.transaction_status.name, conn.info.parameter_status("TimeZone"), conn.info.backend_pid > 0))


def again():
    conn.close()
    with psycopg.connect(**STARTUP) as c:
        return c.execute("SELECT current_setting('app.tenant', true) IS DISTINCT FROM 'pipelined', current_setting('work_mem'), current_setting('lock_timeout'), current_user").fetchone()


check("new_session", again)
