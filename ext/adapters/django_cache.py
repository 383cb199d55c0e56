"""A cache backend for Django that keeps its entries in a walmap table.

    CACHES = {"default": {
        "BACKEND": "sqlite_walmap.django.WalmapCache",
        "LOCATION": "sessions",  # the map: threads of the process share it
        "OPTIONS": {"MAX_ENTRIES": 100000},
    }}

The library is the package's, or the one that "LIBRARY" among the OPTIONS names.

With "FILE" among the OPTIONS the entries are in a durable table, which LOCATION names, of that database file: the
processes of a server share it, and it survives them. Without it each process has a map of its own, as with Django's
LocMemCache.

Each thread has a connection, and one more keeps the map when threads end. Entries expire in walmap itself. incr() is
atomic, and keeps the time at which an entry expires.
"""
import json
import os
import pickle
import sqlite3
import threading
import time

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

_keepers = {}
_lock = threading.Lock()


def _use_wal(db):
    """The processes of a server begin together, and SQLite fails at once where two of them switch a file to WAL."""
    for left in range(100, -1, -1):
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if left == 0:
                raise
            time.sleep(0.05)


class WalmapCache(BaseCache):
    pickle_protocol = pickle.HIGHEST_PROTOCOL

    def __init__(self, location, params):
        super().__init__(params)
        options = params.get("OPTIONS", {})
        self._library = options.get("LIBRARY")
        if self._library is None:
            from sqlite_walmap import loadable_path

            self._library = loadable_path()
        self._file = options.get("FILE")
        name = (location or "default").replace('"', '""')
        self._table = f'main."{name}"' if self._file else f'temp."{name}"'
        self._name = location or "default"
        self._local = threading.local()
        key = (os.getpid(), self._file, self._name)
        with _lock:
            if key not in _keepers:
                _keepers[key] = self._connect()

    def _connect(self):
        db = sqlite3.connect(self._file or ":memory:", isolation_level=None, check_same_thread=False)
        db.enable_load_extension(True)
        db.load_extension(self._library)
        db.enable_load_extension(False)
        name = self._name.replace("'", "''")
        if self._file:
            _use_wal(db)
            db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"CREATE VIRTUAL TABLE IF NOT EXISTS {self._table} USING walmap" + ("" if self._file else f"(map='{name}')"))
        return db

    def _rows(self, sql, *parameters):
        db = getattr(self._local, "db", None)
        if db is None or self._local.pid != os.getpid():  # a child of fork() opens its own
            db = self._local.db = self._connect()
            self._local.pid = os.getpid()
        return db.execute(sql, parameters).fetchall()

    def _call(self, function, *arguments):
        places = ", ?" * len(arguments)
        return self._rows(f"SELECT {function}(?{places})", self._table, *arguments)[0][0]

    def _key(self, key, version):
        key = self.make_key(key, version=version)
        self.validate_key(key)
        return key

    def _ttl(self, timeout):
        timeout = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return None if timeout is None else max(0, timeout)

    def _encode(self, value):
        """An integer as one, so that SQL can use it; all else pickled, as a BLOB."""
        return value if type(value) is int and -(2**63) <= value < 2**63 else pickle.dumps(value, self.pickle_protocol)

    def _decode(self, value):
        return pickle.loads(value) if isinstance(value, bytes) else value

    def _cull(self):
        """Django's rule: a cache that has MAX_ENTRIES drops one in CULL_FREQUENCY of them before the next."""
        entries = self._call("walmap_len")
        if entries < self._max_entries:
            return
        if self._cull_frequency == 0:
            self._call("walmap_clear")
        else:
            some = f"SELECT key FROM {self._table} LIMIT ?"
            self._rows(f"DELETE FROM {self._table} WHERE key IN ({some})", entries // self._cull_frequency)

    def add(self, key, value, timeout=DEFAULT_TIMEOUT, version=None):
        key, value = self._key(key, version), self._encode(value)
        self._cull()
        return self._call("walmap_set_if_absent", key, value, self._ttl(timeout)) == 1

    def get(self, key, default=None, version=None):
        value = self._call("walmap_get", self._key(key, version))
        return default if value is None else self._decode(value)

    def set(self, key, value, timeout=DEFAULT_TIMEOUT, version=None):
        key, value = self._key(key, version), self._encode(value)
        self._cull()
        self._call("walmap_set", key, value, self._ttl(timeout))

    def get_many(self, keys, version=None):
        """All of one state."""
        names = {self._key(key, version): key for key in keys}
        rows = self._rows(
            "SELECT value, walmap_get(?, value) FROM json_each(?)", self._table, json.dumps(list(names))
        )
        return {names[key]: self._decode(value) for key, value in rows if value is not None}

    def touch(self, key, timeout=DEFAULT_TIMEOUT, version=None):
        return self._call("walmap_touch", self._key(key, version), self._ttl(timeout)) == 1

    def incr(self, key, delta=1, version=None):
        name = self._key(key, version)
        while True:
            old = self._call("walmap_get", name)
            if old is None:
                raise ValueError("Key '%s' not found" % key)
            new = self._decode(old) + delta
            if self._call("walmap_set_if", name, old, self._encode(new)):
                return new

    def has_key(self, key, version=None):
        return self._call("walmap_get", self._key(key, version)) is not None

    def delete(self, key, version=None):
        return self._call("walmap_remove", self._key(key, version)) is not None

    def clear(self):
        self._call("walmap_clear")
