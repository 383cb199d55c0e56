"""cache.py - a cache in threads of Python: walmap beside SQLite's own ways to share, and beside what Python has

Each thread gets nine values and sets one, of 10,000 keys with 100 characters each, again and again. A line tells thousands
of operations a second, of all threads together. Run by test/bench/hosts/run.
"""
import os
import random
import socket
import sqlite3
import sys
import tempfile
import threading
import time

try:
    import cachetools
except ImportError:
    cachetools = None

SECONDS = float(os.environ.get("BENCH_SECONDS", 1))
KEYS = [f"key:{i}" for i in range(10000)]
VALUE = "v" * 100
folder = tempfile.TemporaryDirectory()


class Sql:
    """A connection of a thread; `get` and `set` are its statements."""

    def __init__(self, file, get, set, setup=(), **options):
        self.db = sqlite3.connect(file, isolation_level=None, check_same_thread=False, **options)
        for sql in setup:
            self.db.execute(sql)
        self.sql = get, set
        self.retries = 0

    def get(self, key):
        return self.retry(self.sql[0], (key,))

    def set(self, key, value):
        self.retry(self.sql[1], (key, value))

    def retry(self, sql, parameters):
        while True:
            try:
                return self.db.execute(sql, parameters).fetchone()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                self.retries += 1


def walmap():
    db = Sql(":memory:", "SELECT walmap_get('temp.kv', ?)", "SELECT walmap_set('temp.kv', ?, ?)")
    db.db.enable_load_extension(True)
    db.db.load_extension(os.environ["WALMAP"])
    db.db.execute("CREATE VIRTUAL TABLE temp.kv USING walmap(map='bench')")
    return db


TABLE = "CREATE TABLE IF NOT EXISTS kv(key PRIMARY KEY, value) WITHOUT ROWID"
GET, SET = "SELECT value FROM kv WHERE key = ?", "INSERT OR REPLACE INTO kv VALUES (?, ?)"


def shared():
    return Sql("file:bench?mode=memory&cache=shared", GET, SET, [TABLE], uri=True)


def wal():
    setup = ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", TABLE]
    return Sql(f"{folder.name}/bench.db", GET, SET, setup, timeout=60)


class Locked:
    """A mapping and a lock, which all threads share."""

    def __init__(self, mapping):
        self.mapping, self.lock = mapping, threading.Lock()

    def get(self, key):
        with self.lock:
            return self.mapping.get(key)

    def set(self, key, value):
        with self.lock:
            self.mapping[key] = value


class Redis:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.environ["REDIS_SOCKET"])

    def command(self, *words):
        text = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        self.socket.sendall(text.encode())
        return self.socket.recv(4096)  # all of these answers come in one piece

    def get(self, key):
        return self.command("GET", key)

    def set(self, key, value):
        self.command("SET", key, value)


def one_for_all(thing):
    return lambda: thing


contenders = {
    "walmap": walmap,
    "cache=shared": shared,
    "a file in WAL mode": wal,
    "a dict with a lock": one_for_all(Locked({})),
}
if cachetools:
    contenders["cachetools.TTLCache with a lock"] = one_for_all(Locked(cachetools.TTLCache(20000, 3600)))
if "REDIS_SOCKET" in os.environ:
    contenders["Redis over a Unix socket"] = Redis


def measure(make, threads):
    keeper = make()
    for key in KEYS:
        keeper.set(key, VALUE)
    clients = [make() for _ in range(threads)]
    done = [0] * threads
    begin = threading.Barrier(threads + 1)
    stop = []

    def work(number):
        client, choose, n = clients[number], random.Random(number), 0
        begin.wait()
        while not stop:
            for _ in range(9):
                client.get(choose.choice(KEYS))
            client.set(choose.choice(KEYS), VALUE)
            n += 10
        done[number] = n

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    begin.wait()
    start = time.perf_counter()
    time.sleep(SECONDS)
    stop.append(True)
    for worker in workers:
        worker.join()
    return sum(done) / (time.perf_counter() - start) / 1000, sum(getattr(client, "retries", 0) for client in clients)


for name, make in contenders.items():
    figures = [measure(make, threads) for threads in (1, 2)]
    failed = f" ({figures[1][1]} times 'table is locked')" if figures[1][1] else ""
    print(f"| {name}{failed} | {figures[0][0]:.0f} | {figures[1][0]:.0f} |", flush=True)
sys.exit(0)
