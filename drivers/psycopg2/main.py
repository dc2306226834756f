"""What psycopg2 sees of a server: one line a check, nothing in it that changes from run to run."""
import io
import os
import select
import threading
import time

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras

SCHEMA = os.environ["DRIVER_SCHEMA"]
conn = None


def connect():
    c = psycopg2.connect("application_name=psycopg2")
    c.autocommit = True
    return c


def session():
    """Begins a new session."""
    global conn
    if conn is not None:
        conn.close()
    conn = connect()


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
    fields = [d.severity, d.sqlstate, d.message_primary, d.message_detail, d.message_hint, d.statement_position, d.schema_name,
              d.table_name, d.column_name, d.constraint_name, d.datatype_name, d.context]
    return f"{type(e).__name__} " + "|".join(f or "" for f in fields).replace("\n", "\\n")


def check(name, run):
    try:
        value = run()
    except Exception as e:
        value = "ERROR " + error(e)
    print(f"{name}: {value}".replace("\n", "\\n"), flush=True)


def result(cur):
    names = [(c.name, c.type_code if c.type_code < 16384 else "own") for c in cur.description or []]
    rows = cur.fetchall() if cur.description is not None else []
    rows = [tuple(bytes(v) if isinstance(v, memoryview) else v for v in r) for r in rows]
    return f"{cur.statusmessage} {cur.rowcount} {names} {rows!r}"


def execute(text, args=None):
    with conn.cursor() as cur:
        cur.execute(text, args)
        said = "".join(f" NOTICE {n.strip()}" for n in conn.notices)
        del conn.notices[:]
        return result(cur) + said


session()
check("facts", lambda: (conn.server_version // 10000, conn.info.backend_pid > 0, conn.encoding, conn.status, conn.get_parameter_status("TimeZone"), conn.info.transaction_status))
for file in "steps.tsv", "styles.tsv":
    session()
    for name, text in lines(file):
        check(name, lambda: execute(text))
session()
for name, expr in lines("types.tsv"):
    check(f"type {name}", lambda: execute(f"SELECT {expr}"))


def parameters():
    import datetime
    import decimal
    import uuid
    psycopg2.extras.register_uuid()
    values = [True, -1, 2**40, 2.5, float("nan"), float("-inf"), decimal.Decimal("1.10"), "naïve 漢字", "it's \\ quoted", b"\x00\xff", datetime.date(2024, 2, 29),
              datetime.time(1, 2, 3, 4), datetime.datetime(2024, 1, 2, 3, 4, 5, 6), datetime.timedelta(days=-3, microseconds=5), uuid.UUID(int=5), [1, 2, None],
              ["a", 'b"c'], psycopg2.extras.Json({"a": [1, None]}), psycopg2.extras.NumericRange(1, 5), None, (1, "b")]
    for i, v in enumerate(values):
        check(f"parameter {i}", lambda: execute("SELECT %s AS a", [v]))


parameters()
session()
check("executemany", lambda: [conn.cursor().executemany("INSERT INTO pair VALUES (%s, 'many')", [(i,) for i in range(50)]), execute("SELECT count(*), sum(a) FROM pair WHERE b = 'many'")])
check("execute_batch", lambda: [psycopg2.extras.execute_batch(conn.cursor(), "INSERT INTO pair VALUES (%s, 'batch')", [(i,) for i in range(250)]), execute("SELECT count(*) FROM pair WHERE b = 'batch'")])


def execute_values():
    with conn.cursor() as cur:
        return psycopg2.extras.execute_values(cur, "INSERT INTO pair VALUES %s RETURNING a", [(i, "values") for i in range(150)], fetch=True)


check("execute_values", execute_values)
check("execute_batch_fails", lambda: psycopg2.extras.execute_batch(conn.cursor(), "INSERT INTO pair VALUES (10 / %s, 'half')", [(1,), (0,), (2,)]))
check("execute_batch_undone", lambda: execute("SELECT count(*) FROM pair WHERE b = 'half'"))
check("several_statements", lambda: execute("SELECT 1; SELECT 'two', 3; INSERT INTO pair VALUES (1, 'several') RETURNING b"))
check("several_fail", lambda: execute("INSERT INTO pair VALUES (2, 'several'); SELECT 1 / 0"))
check("several_undone", lambda: execute("SELECT count(*) FROM pair WHERE b = 'several'"))
check("empty_statement", lambda: execute(""))


def prepare_many():
    with conn.cursor() as cur:
        total = 0
        for i in range(30):
            cur.execute(f"PREPARE p{i} (int) AS SELECT $1 + {i}")
        for _ in range(3):
            for i in range(30):
                cur.execute(f"EXECUTE p{i} (1)")
                total += cur.fetchone()[0]
        cur.execute("DEALLOCATE ALL")
        return total


check("prepare_many", prepare_many)
session()


def copy_in(text, **how):
    with conn.cursor() as cur:
        cur.copy_from(io.StringIO(text), "pair", **how)
        return cur.rowcount


def copy_out(query):
    b = io.StringIO()
    with conn.cursor() as cur:
        cur.copy_expert(query, b)
        return cur.rowcount, b.getvalue()


class Broken:
    def read(self, n):
        raise ValueError("the program's own")


check("copy_in", lambda: copy_in("".join(f"{i}\trow {i}\n" for i in range(1000))))
check("copy_in_columns", lambda: copy_in("5\n6\n", columns=("a",)))
check("copy_out", lambda: copy_out("COPY (SELECT * FROM pair WHERE b LIKE 'row%' ORDER BY a LIMIT 5) TO STDOUT"))
check("copy_out_large", lambda: len(copy_out("COPY (SELECT i, repeat('x', 50) FROM generate_series(1, 40000) i) TO STDOUT")[1]))
check("copy_breaks", lambda: copy_in("1\tfine\nnot a number\tbroken\n" + "2\tmore\n" * 20000))
check("copy_given_up", lambda: conn.cursor().copy_expert("COPY pair FROM STDIN", Broken()))
check("copy_out_breaks", lambda: len(copy_out("COPY (SELECT 1 / (5000 - i) FROM generate_series(1, 6000) i) TO STDOUT")[1]))
check("copy_after", lambda: execute("SELECT count(*) FROM pair WHERE b IN ('fine', 'more')"))
session()


def taken(n=1, timeout=10.0):
    got, end = [], time.monotonic() + timeout
    while len(got) < n and time.monotonic() < end:
        select.select([conn], [], [], 0.1)
        conn.poll()
        while conn.notifies:
            x = conn.notifies.pop(0)
            got.append((x.channel == SCHEMA, x.payload, x.pid == conn.info.backend_pid))
    return got


def other(*texts):
    c = connect()
    with c.cursor() as cur:
        for text in texts:
            cur.execute(text)
    c.close()


check("notify_self", lambda: [execute(f"LISTEN {SCHEMA}"), execute(f"NOTIFY {SCHEMA}, 'to myself'"), taken()])
check("notify_other", lambda: [other(f"NOTIFY {SCHEMA}, 'from another'"), taken()])
check("notify_transaction", lambda: [other("BEGIN", f"NOTIFY {SCHEMA}, 'a'", f"NOTIFY {SCHEMA}, 'b'", "COMMIT"), taken(2)])
check("notify_rolled_back", lambda: [other("BEGIN", f"NOTIFY {SCHEMA}, 'never'", "ROLLBACK", f"NOTIFY {SCHEMA}, 'only this'"), taken()])
check("unlisten", lambda: [execute("UNLISTEN *"), execute(f"NOTIFY {SCHEMA}, 'unheard'"), taken(timeout=0.3)])
session()


def cancelled():
    t = threading.Timer(0.3, conn.cancel)
    t.start()
    try:
        return execute("SELECT pg_sleep(30)")
    finally:
        t.join()


check("cancel", cancelled)
check("cancel_after", lambda: execute("SELECT 'usable'"))


def cancelled_inside():
    conn.autocommit = False
    try:
        return cancelled()
    finally:
        conn.rollback()
        conn.autocommit = True


check("cancel_in_transaction", cancelled_inside)
check("cancel_in_transaction_after", lambda: execute("SELECT 'usable'"))
session()


def named(**how):
    conn.autocommit = False
    try:
        with conn.cursor("walk", **how) as cur:
            cur.itersize = 7
            cur.execute("SELECT i FROM generate_series(1, 50) i")
            out = [cur.fetchone(), cur.fetchmany(3)]
            if how.get("scrollable"):
                cur.scroll(-2)
                out.append(cur.fetchone())
            out.append(sum(r[0] for r in cur))
            return out
    finally:
        conn.commit()
        conn.autocommit = True


def held():
    cur = conn.cursor("held", withhold=True)
    cur.execute("SELECT i FROM generate_series(1, 9) i")
    first = cur.fetchmany(4)
    execute("SELECT 1")
    rest = cur.fetchall()
    cur.close()
    return first, rest


check("server_cursor", named)
check("server_cursor_scroll", lambda: named(scrollable=True))
check("server_cursor_hold", held)


def savepoints():
    conn.autocommit = False
    out = []
    with conn.cursor() as cur:
        cur.execute("INSERT INTO pair VALUES (1, 'nested')")
        cur.execute("SAVEPOINT s")
        try:
            cur.execute("SELECT 1 / 0")
        except psycopg2.Error as e:
            out.append((error(e), conn.info.transaction_status))
        cur.execute("ROLLBACK TO s")
        cur.execute("INSERT INTO pair VALUES (2, 'nested')")
    conn.commit()
    conn.autocommit = True
    return out, execute("SELECT array_agg(a ORDER BY a) FROM pair WHERE b = 'nested'")


check("savepoints", savepoints)


def modes():
    conn.set_session(isolation_level="SERIALIZABLE", readonly=True, autocommit=False)
    try:
        got = execute("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')")
        conn.commit()
        return got
    finally:
        conn.set_session(isolation_level="DEFAULT", readonly=False, autocommit=True)


check("modes", modes)
check("session_default", lambda: [conn.set_session(isolation_level="REPEATABLE READ", autocommit=True), execute("SHOW transaction_isolation"), conn.set_session(isolation_level="DEFAULT", autocommit=True)])
check("encoding", lambda: [conn.set_client_encoding("LATIN1"), execute("SELECT 'é'"), conn.encoding, conn.set_client_encoding("UTF8")])


def two_phase():
    conn.autocommit = False
    xid = conn.xid(1, SCHEMA, "branch 2")
    conn.tpc_begin(xid)
    execute("INSERT INTO pair VALUES (1, 'tpc')")
    conn.tpc_prepare()
    conn.reset()
    conn.tpc_commit(xid)
    conn.autocommit = True
    return execute("SELECT count(*) FROM pair WHERE b = 'tpc'")


check("two_phase", two_phase)
check("reset", lambda: [conn.reset(), execute("SELECT current_schema() IS NOT NULL")])
session()


def large_object():
    conn.autocommit = False
    try:
        lo = conn.lobject(0, "wb")
        lo.write(b"some bytes " * 1000)
        oid = lo.oid
        lo.close()
        lo = conn.lobject(oid, "rb")
        lo.seek(5)
        got = lo.read(10), lo.tell()
        lo.unlink()
        return got
    finally:
        conn.commit()
        conn.autocommit = True


check("large_object", large_object)


def small():
    with conn.cursor() as cur:
        total = 0
        for i in range(500):
            cur.execute("SELECT %s", [i])
            total += cur.fetchone()[0]
        return total




def large():
    b, s = bytes(range(256)) * (8 << 10), "é漢" * (1 << 20)
    execute("INSERT INTO wide VALUES (1, %s, %s)", [b, s])
    with conn.cursor() as cur:
        cur.execute("SELECT b, t FROM wide")
        got = cur.fetchone()
        return bytes(got[0]) == b, got[1] == s


check("many_small", small)
check("large_values", large)
check("large_rows", lambda: len(execute("SELECT repeat('y', 100) FROM generate_series(1, 30000)")))


def asynchronous():
    c = psycopg2.connect("", async_=1)
    psycopg2.extras.wait_select(c)
    cur = c.cursor()
    out = []
    for i in range(3):
        cur.execute("SELECT %s + 1", [i])
        psycopg2.extras.wait_select(c)
        out.append(cur.fetchone())
    c.close()
    return out


check("asynchronous", asynchronous)
conn.close()
