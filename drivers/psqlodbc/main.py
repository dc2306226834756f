"""What psqlODBC sees of a server, by pyodbc: one line a check, nothing in it that changes from run to run."""
import os
import threading
import time

import pyodbc

SCHEMA = os.environ["DRIVER_SCHEMA"]
pyodbc.pooling = False
conn = None


def connect(unicode=True, **more):
    driver = "/usr/lib/x86_64-linux-gnu/odbc/psqlodbcw.so"
    if not os.path.exists(driver):
        driver = "psqlodbcw.so"
    options = dict(DRIVER=driver, SERVER=os.environ["PGHOST"], PORT=os.environ["PGPORT"], DATABASE=os.environ["PGDATABASE"],
                   UID=os.environ["PGUSER"], SSLMODE="disable", ApplicationName="psqlodbc", **more)
    return pyodbc.connect(";".join(f"{k}={v}" for k, v in options.items()), autocommit=True)


def session(**more):
    """Begins a new session."""
    global conn
    if conn is not None:
        conn.close()
    conn = connect(**more)


def lines(name):
    with open(os.path.join(os.environ["DRIVER_FILES"], name), encoding="utf-8") as f:
        for line in f:
            if line.startswith("#"):
                session()
            else:
                yield line.rstrip("\n").split("\t", 1)


def check(name, run):
    try:
        value = run()
    except Exception as e:
        value = f"ERROR {type(e).__name__} {e.args}"
    print(f"{name}: {value}".replace("\n", "\\n"), flush=True)


def execute(text, *args):
    with conn.cursor() as cur:
        cur.execute(text, *args)
        out = []
        while True:
            if cur.description:
                out.append(([(c[0], c[1].__name__, c[3]) for c in cur.description], [tuple(r) for r in cur.fetchall()]))
            else:
                out.append(cur.rowcount)
            said = [m[1] for m in cur.messages or []]
            if said:
                out.append(said)
            if not cur.nextset():
                return out


session()
check("facts", lambda: (conn.getinfo(pyodbc.SQL_DBMS_NAME), conn.getinfo(pyodbc.SQL_DBMS_VER)[:2], conn.getinfo(pyodbc.SQL_USER_NAME)))
for file in "steps.tsv", "styles.tsv":
    session()
    for name, text in lines(file):
        check(name, lambda: execute(text))
for server_side, prefix in (1, "prepared"), (0, "plain"):
    session(UseServerSidePrepare=server_side)
    for name, expr in lines("types.tsv"):
        check(f"{prefix} {name}", lambda: execute(f"SELECT {expr}"))
    import datetime
    import decimal
    for i, v in enumerate([True, -1, 2**40, 2.5, decimal.Decimal("1.10"), "naïve 漢字", b"\x00\xff", datetime.date(2024, 2, 29), datetime.datetime(2024, 1, 2, 3, 4, 5, 6000), None]):
        check(f"{prefix} parameter {i}", lambda: execute("SELECT ? AS a", v))
    check(f"{prefix} cast", lambda: execute("SELECT ?::int + ?::int, ?::text", 1, 2, "x"))
    check(f"{prefix} error", lambda: execute("SELECT 1 / ?::int", 0))
    check(f"{prefix} after_error", lambda: execute("SELECT 1 / ?::int", 1))

    def many():
        total = 0
        for _ in range(4):
            for i in range(40):
                with conn.cursor() as cur:
                    total += cur.execute(f"SELECT ?::int + {i}", 1).fetchone()[0]
        return total

    check(f"{prefix} many", many)

    def one_cursor():
        with conn.cursor() as cur:
            return [cur.execute("SELECT name FROM item WHERE id = ?", i % 3 + 1).fetchall() for i in range(10)]

    check(f"{prefix} again", one_cursor)
session()


def executemany(fast):
    with conn.cursor() as cur:
        cur.fast_executemany = fast
        cur.executemany("INSERT INTO pair VALUES (?, ?)", [(i, f"many {fast}") for i in range(60)])
    return execute("SELECT count(*), sum(a) FROM pair WHERE b = ?", f"many {fast}")


check("executemany", lambda: executemany(False))
check("executemany_fast", lambda: executemany(True))
check("several_statements", lambda: execute("SELECT 1; SELECT 'two', 3; INSERT INTO pair VALUES (1, 'several')"))
check("several_fail", lambda: execute("INSERT INTO pair VALUES (2, 'several'); SELECT 1 / 0"))
check("several_undone", lambda: execute("SELECT count(*) FROM pair WHERE b = 'several'"))
session()


def rolled_back():
    conn.autocommit = False
    execute("INSERT INTO pair VALUES (1, 'odbc')")
    inside = execute("SELECT count(*) FROM pair WHERE b = 'odbc'")
    conn.rollback()
    conn.autocommit = True
    return inside, execute("SELECT count(*) FROM pair WHERE b = 'odbc'")


def nested():
    conn.autocommit = False
    out = [execute("INSERT INTO pair VALUES (1, 'nested')")]
    execute("SAVEPOINT s")
    try:
        execute("SELECT 1 / 0")
    except pyodbc.Error as e:
        out.append(e.args)
    execute("ROLLBACK TO s")
    execute("INSERT INTO pair VALUES (2, 'nested')")
    conn.commit()
    conn.autocommit = True
    return out, execute("SELECT count(*) FROM pair WHERE b = 'nested'")


def broken():
    conn.autocommit = False
    out = []
    for text in "INSERT INTO pair VALUES (1, 'broken')", "SELECT 1 / 0", "SELECT 1":
        try:
            out.append(execute(text))
        except pyodbc.Error as e:
            out.append(e.args)
    conn.rollback()
    conn.autocommit = True
    return out


check("rollback", rolled_back)
check("savepoints", nested)
check("broken_transaction", broken)


def cancelled():
    with conn.cursor() as cur:
        t = threading.Timer(0.5, cur.cancel)
        t.start()
        try:
            cur.execute("SELECT pg_sleep(30)")
            return "not cancelled"
        finally:
            t.join()


check("cancel", cancelled)
check("cancel_after", lambda: execute("SELECT 'usable'"))
session(UseDeclareFetch=1, Fetch=7)


def fetch():
    with conn.cursor() as cur:
        cur.execute("SELECT i FROM generate_series(1, 60) i")
        first = [r[0] for r in cur.fetchmany(10)]
        return first, sum(r[0] for r in cur.fetchall())


def fetch_in_transaction():
    conn.autocommit = False
    try:
        return fetch()
    finally:
        conn.commit()
        conn.autocommit = True


check("declare_fetch", fetch)
check("declare_fetch_in_transaction", fetch_in_transaction)
check("declare_fetch_breaks", lambda: execute("SELECT 1 / (30 - i) FROM generate_series(1, 50) i"))
check("declare_fetch_after", lambda: execute("SELECT 'usable'"))
session()
check("tables", lambda: [(r.table_schem == SCHEMA, r.table_name, r.table_type) for r in conn.cursor().tables(schema=SCHEMA)])
check("columns", lambda: [(r.column_name, r.type_name, r.column_size, r.nullable) for r in conn.cursor().columns(table="item", schema=SCHEMA)])
check("primary_keys", lambda: [(r.column_name, r.pk_name) for r in conn.cursor().primaryKeys("item", schema=SCHEMA)])
check("statistics", lambda: [(r.index_name, r.column_name) for r in conn.cursor().statistics("item", schema=SCHEMA)])
check("procedures", lambda: sorted(r.procedure_name for r in conn.cursor().procedures(schema=SCHEMA)))
check("type_info", lambda: len(conn.cursor().getTypeInfo().fetchall()))
check("call", lambda: execute("{call says(?)}", "called"))
session(MaxLongVarcharSize=10000000, MaxVarcharSize=10000000, ByteaAsLongVarBinary=1)


def large():
    b, s = bytes(range(256)) * (4 << 10), "é漢" * (1 << 19)
    with conn.cursor() as cur:
        cur.execute("INSERT INTO wide VALUES (1, ?, ?)", b, s)
        got = cur.execute("SELECT b, t FROM wide").fetchone()
        return got[0] == b, got[1] == s


check("large_values", large)
check("large_rows", lambda: sum(len(r[0]) for r in conn.cursor().execute("SELECT repeat('y', 100) FROM generate_series(1, 20000)").fetchall()))


def small():
    with conn.cursor() as cur:
        return sum(cur.execute("SELECT ?::int", i).fetchone()[0] for i in range(400))


check("many_small", small)
conn.close()
