"""image.py: for recipes.test: the recipe of that name, whose process is killed while threads write and it saves"""
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import recipe  # the recipe, by the path

PATH, ACCOUNTS, SUM = "kv.image", 50, 5000


def move():
    """Moves money for ever: the sum over all accounts stays, in each committed state."""
    db = recipe.connect()
    while True:
        try:
            db.execute("BEGIN")
            for change in (-1, 1):
                db.execute("UPDATE kv SET value = value + ? WHERE key = ?", (change, random.randrange(ACCOUNTS)))
            db.execute("UPDATE kv SET value = value + 1 WHERE key = 'moves'")
            db.execute("COMMIT")
        except sqlite3.OperationalError:
            if db.in_transaction:
                db.execute("ROLLBACK")


def figures(db):
    sql = "SELECT sum(value) FILTER (WHERE typeof(key) = 'integer'), walmap_get('kv', 'moves') FROM kv"
    return db.execute(sql).fetchone()


def version():
    if not os.path.exists(PATH):
        return None
    status = os.stat(PATH)
    return status.st_ino, status.st_mtime_ns


def wait_until(condition):
    """For as long as a busy machine may need."""
    for _ in range(60000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")


if len(sys.argv) > 1:
    keeper = recipe.connect()
    if recipe.restore(keeper, PATH) == 0:
        rows = [(i, SUM // ACCOUNTS) for i in range(ACCOUNTS)]
        keeper.executemany("INSERT INTO kv VALUES(?, ?)", rows + [("moves", 0)])
    for _ in range(3):
        threading.Thread(target=move, daemon=True).start()
    begin = figures(keeper)[1]
    recipe.Saver(PATH, 0.01)
    wait_until(lambda: figures(keeper)[1] > begin)
    for _ in range(2):  # the second image that comes now was begun after that
        last = version()
        wait_until(lambda: version() != last)
    print("runs", flush=True)
    sys.stdin.read()  # until this process is killed, or its parent has ended
    os._exit(1)

before = 0
for life in range(4):
    process = subprocess.Popen([sys.executable, __file__, "live"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"runs\n"
    time.sleep(0.3 + random.random() / 10)
    process.send_signal(signal.SIGKILL)
    process.wait()
    db = recipe.connect()
    assert recipe.restore(db, PATH) == ACCOUNTS + 1
    total, moves = figures(db)
    assert total == SUM, total
    assert moves > before, (before, moves)  # each life went on where the last image was
    before = moves
    db.close()

# stop() saves what came after the last time; a damaged image is an error and not an empty map
keeper = recipe.connect()
assert recipe.restore(keeper, "none.image") == 0
saver = recipe.Saver("last.image", 3600)
keeper.execute("INSERT INTO kv VALUES('late', 1)")
saver.stop()
assert saver.error is None
keeper.execute("DELETE FROM kv")
assert recipe.restore(keeper, "last.image") == 1
with open("last.image", "r+b") as image:
    image.truncate(os.path.getsize("last.image") - 1)
try:
    recipe.restore(keeper, "last.image")
    raise AssertionError("a damaged image was restored")
except sqlite3.DatabaseError as error:
    assert "damaged" in str(error), error
assert keeper.execute("SELECT walmap_get('kv', 'late')").fetchone()[0] == 1

# A save that fails is told, and the next one is tried
saver = recipe.Saver("no/such/folder/image", 0.01)
wait_until(lambda: isinstance(saver.error, sqlite3.Error))
os.makedirs("no/such/folder")
wait_until(lambda: saver.error is None and os.path.exists("no/such/folder/image"))
saver.stop()
print("good")
