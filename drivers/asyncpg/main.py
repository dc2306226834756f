"""What asyncpg sees of a server: one line a check, nothing in it that changes from run to run."""
import asyncio
import datetime
import decimal
import io
import math
import os
import uuid

import asyncpg

OPTIONS = dict(item.split("=", 1) for item in os.environ["PGOPTIONS"].replace("-c ", "").split())
SETTINGS = dict(OPTIONS, application_name="asyncpg")
CHANNEL = os.environ["DRIVER_SCHEMA"]
conn = None
notices = []


async def connect():
    return await asyncpg.connect(server_settings=SETTINGS, timeout=60)


async def session():
    """Begins a new session."""
    global conn
    if conn is not None:
        await conn.close()
    conn = await connect()
    conn.add_log_listener(lambda _, m: notices.append(f"{m.severity} {m.sqlstate} {m.message}|{m.detail}|{m.hint}"))


def lines(name):
    with open(os.path.join(os.environ["DRIVER_FILES"], name), encoding="utf-8") as f:
        for line in f:
            yield line.rstrip("\n")


def error(e):
    if not isinstance(e, asyncpg.PostgresError):
        return f"{type(e).__name__} {str(e).splitlines()[0] if str(e) else ''}"
    fields = [getattr(e, n, None) for n in ("severity", "sqlstate", "message", "detail", "hint", "position", "schema_name",
                                            "table_name", "column_name", "constraint_name", "data_type_name", "context")]
    return f"{type(e).__name__} " + "|".join("" if f is None else str(f) for f in fields).replace("\n", "\\n")


async def check(name, run):
    try:
        value = await run() if callable(run) else await run
    except Exception as e:
        value = "ERROR " + error(e)
    said = "".join(f" NOTICE {n}" for n in notices)
    notices.clear()
    print(f"{name}: {value}{said}".replace("\n", "\\n"), flush=True)


async def simple(text):
    return await conn.execute(text)


async def rows(text, *args):
    st = await conn.prepare(text)
    names = [(a.name, a.type.name) for a in st.get_attributes()]
    got = await st.fetch(*args)
    return st.get_statusmsg(), [p.name for p in st.get_parameters()], names, [tuple(r) for r in got]


async def fetch(text, *args):
    return [tuple(r) for r in await conn.fetch(text, *args)]


async def shared():
    await session()
    s = conn.get_settings()
    await check("facts", lambda: asyncio.sleep(0, (conn.get_server_pid() > 0, conn.get_server_version().major, s.client_encoding, s.TimeZone, s.application_name, s.is_superuser)))
    for file in "steps.tsv", "styles.tsv":
        await session()
        for line in lines(file):
            if line.startswith("#"):
                await session()
                continue
            name, text = line.split("\t", 1)
            await check(name, lambda: fetch(text))
    for line in lines("steps.tsv"):
        if line.startswith("#"):
            await session()
            continue
        name, text = line.split("\t", 1)
        if name.startswith(("set_", "error_", "zone", "cursor", "with_", "savepoint")):
            await check("simple " + name, lambda: simple(text))
    await session()
    for line in lines("types.tsv"):
        name, expr = line.split("\t", 1)
        await check(f"binary {name}", lambda: rows(f"SELECT {expr}"))
        await check(f"text {name}", lambda: fetch(f"SELECT ({expr})::text"))


async def parameters():
    values = [("bool", True), ("int2", -1), ("int8", 2**40), ("float8", 2.5), ("float8", math.nan), ("float8", math.inf), ("numeric", decimal.Decimal("1.10")),
              ("text", "naïve 漢字"), ("bytea", b"\x00\xff"), ("date", datetime.date(2024, 2, 29)), ("time", datetime.time(1, 2, 3, 4)),
              ("timestamp", datetime.datetime(2024, 1, 2, 3, 4, 5, 6)), ("timestamptz", datetime.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)),
              ("interval", datetime.timedelta(days=-3, microseconds=5)), ("uuid", uuid.UUID(int=5)), ("int4[]", [1, 2, None]), ("text[]", ["a", 'b"c']),
              ("float8[]", [[1.5], [2.5]]), ("jsonb", '{"a": [1, null]}'), ("int4range", asyncpg.Range(1, 5)), ("text", None), ("colour", "red"),
              ("place", (1, "b", 2.5)), ("colour[]", ["red", "green"]), ("int", "not a number")]
    for kind, value in values:
        await check(f"parameter {kind} {value!r}", lambda: fetch(f"SELECT $1::{kind}", value))


async def prepared():
    async def many():
        total = 0
        for _ in range(4):
            for i in range(60):
                total += await conn.fetchval(f"SELECT $1::int + {i}", 1)
            async with conn.transaction():
                for i in range(0, 60, 7):
                    total += await conn.fetchval(f"SELECT $1::int + {i}", 1)
        return total

    await check("prepared_many", many)
    st = await conn.prepare("SELECT id, name FROM item WHERE id = $1", name="named_by_me")
    for i in range(3):
        await check(f"prepared_named {i}", lambda: st.fetch(i + 1))
    await check("prepared_name", asyncio.sleep(0, st.get_name()))
    await check("prepared_explain", lambda: st.explain(1))
    await check("prepared_error", lambda: fetch("SELECT 1 / $1::int", 0))
    await check("prepared_after_error", lambda: fetch("SELECT 1 / $1::int", 1))
    await check("prepared_missing", lambda: fetch("SELECT * FROM missing WHERE a = $1", 0))

    async def changed():
        await conn.execute("CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)")
        before = await fetch("SELECT * FROM changing WHERE a = $1", 1)
        await conn.execute("ALTER TABLE changing ADD COLUMN b text DEFAULT 'b'")
        after = await fetch("SELECT * FROM changing WHERE a = $1", 1)
        await conn.execute("DROP TABLE changing")
        return before, after

    await check("prepared_table_changes", changed)
    await check("prepared_reset", lambda: conn.reset())
    await check("prepared_after_reset", lambda: fetch("SELECT $1::int + 1", 1))
    await check("prepared_reload", lambda: conn.reload_schema_state())
    await check("prepared_own_types", lambda: rows("SELECT $1::place, $2::colour", (1, "x", 2.0), "blue"))


async def batches():
    await check("executemany", lambda: conn.executemany("INSERT INTO pair VALUES ($1, $2)", [(i, "many") for i in range(100)]))
    await check("executemany_seen", lambda: fetch("SELECT count(*), sum(a) FROM pair WHERE b = 'many'"))
    await check("executemany_fails", lambda: conn.executemany("INSERT INTO pair VALUES (10 / $1::int, 'half')", [(1,), (2,), (0,), (3,)]))
    await check("executemany_undone", lambda: fetch("SELECT count(*) FROM pair WHERE b = 'half'"))
    if hasattr(conn, "fetchmany"):
        await check("fetchmany", lambda: conn.fetchmany("INSERT INTO pair VALUES ($1, 'returned') RETURNING a", [(i,) for i in range(5)]))
    await check("several_statements", lambda: simple("SELECT 1; INSERT INTO pair VALUES (1, 'several'), (2, 'several')"))
    await check("several_fail", lambda: simple("INSERT INTO pair VALUES (3, 'several'); SELECT 1 / 0"))
    await check("several_undone", lambda: fetch("SELECT count(*) FROM pair WHERE b = 'several'"))
    await check("empty_statement", lambda: simple(""))
    await check("empty_prepared", lambda: fetch(""))
    await check("wrong_arguments", lambda: fetch("SELECT $1::int, $2::int", 1))
    await check("bad_value", lambda: fetch("SELECT $1::int", "x"))


async def copies():
    await check("copy_records", lambda: conn.copy_records_to_table("pair", records=[(i, f"row {i}") for i in range(1000)]))
    await check("copy_to_table", lambda: conn.copy_to_table("pair", source=io.BytesIO(b"1\ttext\n2\ttext\n")))
    await check("copy_csv", lambda: conn.copy_to_table("pair", source=io.BytesIO(b"a,b\n1,csv\n"), format="csv", header=True))

    async def out(query, *args, **how):
        b = io.BytesIO()
        tag = await conn.copy_from_query(query, *args, output=b, **how)
        return tag, b.getvalue()

    await check("copy_out", lambda: out("SELECT * FROM pair WHERE b LIKE 'row%' ORDER BY a LIMIT 5"))
    await check("copy_out_binary", lambda: out("SELECT 1::int, 'x'::text, NULL", format="binary"))
    await check("copy_out_arguments", lambda: out("SELECT $1::int", 5))

    async def size():
        tag, data = await out("SELECT i, repeat('x', 50) FROM generate_series(1, 40000) i")
        return tag, len(data)

    await check("copy_out_large", size)
    await check("copy_breaks", lambda: conn.copy_to_table("pair", source=io.BytesIO(b"1\tfine\nnot a number\tbroken\n" + b"2\tmore\n" * 20000)))

    async def broken_rows():
        for i in range(2000):
            if i == 1000:
                raise ValueError("the program's own")
            yield (i, "given up")

    await check("copy_given_up", lambda: conn.copy_records_to_table("pair", records=broken_rows()))
    await check("copy_out_breaks", lambda: size_of("SELECT 1 / (5000 - i) FROM generate_series(1, 6000) i"))
    await check("copy_after", lambda: fetch("SELECT count(*) FROM pair WHERE b IN ('fine', 'given up', 'more')"))


async def size_of(query):
    b = io.BytesIO()
    await conn.copy_from_query(query, output=b)
    return len(b.getvalue())


async def listening():
    heard = asyncio.Queue()
    callback = lambda c, pid, channel, payload: heard.put_nowait((channel == CHANNEL, payload, pid == c.get_server_pid()))

    async def taken(n=1, timeout=5):
        got = []
        try:
            for _ in range(n):
                got.append(await asyncio.wait_for(heard.get(), timeout))
        except asyncio.TimeoutError:
            pass
        return got

    async def other(*texts):
        o = await connect()
        for text in texts:
            await o.execute(text)
        await o.close()
        return await taken()

    await conn.add_listener(CHANNEL, callback)
    await check("notify_self", lambda: both(conn.execute(f"NOTIFY {CHANNEL}, 'to myself'"), taken()))
    await check("notify_other", lambda: other(f"NOTIFY {CHANNEL}, 'from another'"))
    await check("notify_transaction", lambda: other("BEGIN", f"NOTIFY {CHANNEL}, 'a'", "COMMIT"))
    await check("notify_rolled_back", lambda: other("BEGIN", f"NOTIFY {CHANNEL}, 'never'", "ROLLBACK", f"NOTIFY {CHANNEL}, 'only this'"))

    async def inside():
        async with conn.transaction():
            await conn.fetchval("SELECT 1")
            o = await connect()
            await o.execute(f"NOTIFY {CHANNEL}, 'while inside'")
            await o.close()
            early = await taken(timeout=0.2)
        return early, await taken()

    await check("notify_inside", inside)
    await conn.remove_listener(CHANNEL, callback)
    await check("unlisten", lambda: both(conn.execute(f"NOTIFY {CHANNEL}, 'unheard'"), taken(timeout=0.3)))


async def both(first, second):
    return await first, await second


async def cancels():
    await check("cancel_timeout", lambda: conn.execute("SELECT pg_sleep(30)", timeout=0.3))
    await check("cancel_after", lambda: fetch("SELECT 'usable'"))

    async def task():
        t = asyncio.ensure_future(conn.fetch("SELECT pg_sleep($1)", 30))
        await asyncio.sleep(0.3)
        t.cancel()
        try:
            await t
        except asyncio.CancelledError:
            return "cancelled"

    await check("cancel_task", task)
    await check("cancel_task_after", lambda: fetch("SELECT 'usable'"))

    async def inside():
        async with conn.transaction():
            await conn.fetchval("SELECT pg_sleep(30)", timeout=0.3)

    await check("cancel_in_transaction", inside)
    await check("cancel_in_transaction_after", lambda: fetch("SELECT 'usable'"))


async def cursors():
    async def walk():
        async with conn.transaction():
            cur = await conn.cursor("SELECT i FROM generate_series(1, $1::int) i", 50)
            out = [tuple(await cur.fetchrow()), await cur.forward(3), [r[0] for r in await cur.fetch(7)]]
            out.append(sum(r[0] for r in await cur.fetch(100)))
            total = 0
            async for r in conn.cursor("SELECT i FROM generate_series(1, 1000) i", prefetch=33):
                total += r[0]
            return out, total

    await check("cursor", walk)
    await check("cursor_outside", lambda: conn.cursor("SELECT 1"))

    async def broken():
        async with conn.transaction():
            async for r in conn.cursor("SELECT 1 / (30 - i) FROM generate_series(1, 50) i", prefetch=10):
                pass

    await check("cursor_breaks", broken)

    async def nested():
        out = []
        async with conn.transaction():
            await conn.execute("INSERT INTO pair VALUES (1, 'nested')")
            try:
                async with conn.transaction():
                    await conn.execute("INSERT INTO pair VALUES (2, 'nested')")
                    await conn.execute("SELECT 1 / 0")
            except asyncpg.DivisionByZeroError as e:
                out.append(error(e))
            async with conn.transaction():
                await conn.execute("INSERT INTO pair VALUES (3, 'nested')")
        return out, await fetch("SELECT array_agg(a ORDER BY a) FROM pair WHERE b = 'nested'")

    await check("savepoints", nested)

    async def modes():
        async with conn.transaction(isolation="serializable", readonly=True, deferrable=True):
            return await fetch("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')")

    await check("transaction_modes", modes)
    await check("notice", lambda: fetch("SELECT says('heard')"))


async def large():
    b = bytes(range(256)) * (16 << 10)
    s = "é漢" * (1 << 20)
    await conn.execute("INSERT INTO wide VALUES (1, $1, $2)", b, s)

    async def back():
        r = await conn.fetchrow("SELECT b, t FROM wide WHERE b = $1", b)
        return r["b"] == b, r["t"] == s

    await check("large_values", back)

    async def many():
        return sum(len(r[0]) for r in await conn.fetch("SELECT repeat('y', 100) FROM generate_series(1, 30000)"))

    await check("large_rows", many)

    async def small():
        return sum([await conn.fetchval("SELECT $1::int", i) for i in range(500)])

    await check("many_small", small)


async def pools():
    async def use():
        async with asyncpg.create_pool(server_settings=SETTINGS, min_size=1, max_size=5) as pool:
            async def one(i):
                async with pool.acquire() as c:
                    async with c.transaction():
                        return await c.fetchval("SELECT $1::int", i)

            got = await asyncio.gather(*[one(i) for i in range(40)])
            return sum(got), await pool.fetchval("SELECT current_setting('application_name')")

    await check("pool", use)

    async def statement_cache():
        c = await asyncpg.connect(server_settings=SETTINGS, statement_cache_size=0)
        try:
            return [await c.fetchval("SELECT $1::int + 1", i) for i in range(20)]
        finally:
            await c.close()

    await check("no_statement_cache", statement_cache)
    await check("codec", codec)


async def codec():
    import json
    await conn.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    await conn.set_type_codec("vector", encoder=str, decoder=str, schema="public", format="text")
    return await fetch("SELECT $1::jsonb, '[1,2,3]'::vector", {"a": [1, None]})


async def main():
    await shared()
    for section in parameters, prepared, batches, copies, listening, cancels, cursors, large, pools:
        await session()
        await section()
    await conn.close()


asyncio.run(main())
