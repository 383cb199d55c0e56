"""threads.py FILE STATEMENT NAME=VALUE... THREADS CALLS: for recipes.test: threads, each with a connection of its own,
call a statement of a recipe in SQL; prints the sum of what the calls returned

A recipe in SQL is "once" and other statements, each under a comment "-- name: ..." (recipes.test).
"""
import re
import sqlite3
import sys
import threading

file, statement = sys.argv[1:3]
threads, calls = map(int, sys.argv[-2:])
parameters = {}
for argument in sys.argv[3:-2]:
    name, value = argument.split("=")
    parameters[name] = float(value) if re.fullmatch(r"[\d.]+", value) else value
with open(file, encoding="utf-8") as text:
    parts = re.split(r"(?m)^-- (\w+): .*\n", text.read())
statements = dict(zip(parts[1::2], parts[2::2]))


def connect():
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.enable_load_extension(True)
    db.load_extension("./walmap")
    db.executescript(statements["once"])
    return db


sums = []


def work():
    db = connect()
    sums.append(sum(db.execute(statements[statement], parameters).fetchone()[0] for _ in range(calls)))


keeper = connect()
workers = [threading.Thread(target=work) for _ in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
assert len(sums) == threads, "a thread failed"
print(int(sum(sums)))
