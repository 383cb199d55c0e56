"""Python's own sqlite3: ext/HOSTS.md, Python."""
import sqlite3

import kit
from kit import WALMAP, check, raises


def connect(file, **options):
    db = sqlite3.connect(file, **{"isolation_level": None, **options})
    db.enable_load_extension(True)
    db.load_extension(WALMAP)
    db.enable_load_extension(False)
    return db


def run(db, sql, parameters=()):
    return db.execute(sql, parameters).fetchall()


kit.suite(connect, run)

# The default mode begins a transaction before INSERT, but not before a SELECT that writes
db = connect(":memory:", isolation_level="")
db.execute("CREATE VIRTUAL TABLE temp.kv USING walmap")
for sql, left in (("SELECT walmap_set('temp.kv', 1, 2)", 1), ("INSERT INTO kv VALUES (2, 3)", 1)):
    try:
        with db:
            db.execute(sql).fetchall()
            raise KeyError
    except KeyError:
        pass
    check(f"after an exception: {sql}", run(db, "SELECT count(*) FROM kv"), [(left,)])
many = "SELECT walmap_set('temp.kv', ?, 1)"
check("executemany refuses SELECT", raises(lambda: db.executemany(many, [(1,)]), "can only execute DML"), True)

# A SELECT that writes is run by fetching: of several rows, without it, only the first
db = connect(":memory:")
db.execute("CREATE VIRTUAL TABLE temp.kv USING walmap")
cursor = db.execute("SELECT walmap_set('temp.kv', column1, 1) FROM (VALUES (1), (2), (3))")
first = run(db, "SELECT count(*) FROM kv")
cursor.fetchall()
check("rows are written as they are fetched", (first < [(3,)], run(db, "SELECT count(*) FROM kv")), (True, [(3,)]))

# text_factory and the types: bytes are BLOBs, str is text
db.execute("INSERT INTO kv VALUES ('a', ?), ('b', ?)", (b"bytes", "text"))
check("types", run(db, "SELECT typeof(value) FROM kv WHERE key IN ('a', 'b')"), [("blob",), ("text",)])

# The progress handler ends long work
db.execute("INSERT INTO kv SELECT value, zeroblob(1 << 20) FROM json_each('[11,12,13,14,15,16]')")
db.set_progress_handler(lambda: 1, 500)
check("a handler ends a snapshot", raises(lambda: run(db, "SELECT length(walmap_snapshot('temp.kv'))"), "interrupted"), True)
# One that ends a write ends the transaction, as with SQLite's own tables; one that ends a read does not
db.set_progress_handler(None, 0)
image = run(db, "SELECT walmap_snapshot('temp.kv')")[0]
db.execute("BEGIN")
db.execute("DELETE FROM kv WHERE key = 'a'")
open_still = []
for sql, parameters in (("SELECT length(walmap_snapshot('temp.kv'))", ()), ("SELECT walmap_restore('temp.kv', ?)", image)):
    db.set_progress_handler(lambda: 1, 100)
    refused = raises(lambda: run(db, sql, parameters), "interrupted")
    db.set_progress_handler(None, 0)
    open_still.append((refused, db.in_transaction))
check("interrupts within BEGIN", open_still, [(True, True), (True, False)])
check("what they leave", run(db, "SELECT count(*) FROM kv WHERE key = 'a'"), [(1,)])
kit.finish()
