"""Runs each line of its input as a statement, one that only reads as text and in binary, and prints what it gave as a line."""
import sys

import psycopg

with psycopg.connect(autocommit=True) as conn:
    for line in sys.stdin:
        seen = []
        for binary in (False,) if "insert_" in line or "create_" in line else (False, True):
            cur = conn.cursor(binary=binary)
            cur.execute(line.strip().encode())
            seen.append((cur.statusmessage, [(c.name, c.type_code) for c in cur.description or []], cur.fetchall() if cur.description else []))
        print(repr(seen), flush=True)
