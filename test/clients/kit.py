"""What every client in Python does: see test/README.md, The clients.

A client calls suite() with two functions: connect(file) returns a connection with walmap in it, and
run(connection, sql, parameters) returns the rows as tuples. What is particular to the client it checks itself.
"""
import os
import sys
import threading
import time

WALMAP = os.environ["WALMAP"]  # the library, without .so
DIR = os.environ["DIR"]  # what the clients hand to one another
NAME = os.environ["NAME"]
failed = 0


def check(what, got, expected):
    global failed
    ok = got == expected
    failed += not ok
    print(f"ok {what}" if ok else f"FAILED {what}: {got!r}, not {expected!r}", flush=True)


def raises(action, text):
    """Whether the action fails with that in its text."""
    try:
        action()
    except Exception as error:  # every client has its own
        return text in str(error) or str(error)
    return "no error"


def suite(connect, run, close=lambda db: db.close()):
    def open_map(file=":memory:"):
        db = connect(file)
        run(db, "CREATE VIRTUAL TABLE temp.kv USING walmap(map='clients')")
        return db

    def one(db, sql, *parameters):
        return run(db, sql, parameters)[0][0]

    db, other = open_map(), open_map()
    check("load", one(db, "SELECT walmap_version()")[:2], "0.")
    run(db, "INSERT INTO kv VALUES (?, ?), (7, 3.5)", ("alice", "online"))
    check("map", one(other, "SELECT value FROM kv WHERE key = ?", "alice"), "online")
    run(db, "BEGIN")
    run(db, "DELETE FROM kv")
    run(db, "ROLLBACK")
    check("rollback", one(other, "SELECT count(*) FROM kv"), 2)

    def visit():
        mine = open_map()
        for _ in range(250):
            run(mine, "SELECT walmap_upsert('temp.kv', 'visits', 1, 'value + 1')")
        close(mine)

    threads = [threading.Thread(target=visit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check("threads", one(db, "SELECT value FROM kv WHERE key = 'visits'"), 1000)

    run(db, "SELECT walmap_set('temp.kv', 'soon', 1, 0.2)")
    there = one(other, "SELECT count(*) FROM kv WHERE key = 'soon'")
    time.sleep(0.3)
    check("expiry", (there, one(other, "SELECT count(*) FROM kv WHERE key = 'soon'")), (1, 0))

    run(db, "CREATE VIRTUAL TABLE temp.sorted USING walmap(ordered=1)")
    for key in (5, 2.5, "five", 4, 1):
        run(db, "INSERT INTO sorted VALUES (?, NULL)", (key,))
    check("range", run(db, "SELECT key FROM sorted WHERE key >= 2 AND key < 5"), [(2.5,), (4,)])

    with open(f"{DIR}/image", "rb") as file:
        run(db, "SELECT walmap_restore('temp.kv', ?)", (file.read(),))
    check("image", (one(db, "SELECT count(*) FROM kv WHERE key = 'from'"), one(db, "SELECT walmap_get('temp.kv', 7)")),
          (1, 3.5))
    run(db, "INSERT OR REPLACE INTO kv VALUES ('from', ?)", (NAME,))
    with open(f"{DIR}/image", "wb") as file:
        file.write(one(db, "SELECT walmap_snapshot('temp.kv')"))

    file = connect(f"{DIR}/shared.db")
    run(file, "BEGIN IMMEDIATE")
    before = one(file, "SELECT value FROM main.kv WHERE key = 'count'")
    run(file, "UPDATE main.kv SET value = value + 1 WHERE key = 'count'")
    run(file, "INSERT INTO main.kv VALUES ('by ' || ?, 1)", (NAME,))
    run(file, "COMMIT")
    check("durable", one(file, "SELECT value FROM main.kv WHERE key = 'count'"), before + 1)
    for connection in (file, other, db):
        close(connection)


def finish():
    sys.exit(failed > 0)
