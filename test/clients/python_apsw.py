"""apsw: ext/HOSTS.md, Python."""
import sqlite3

import apsw

import kit
from kit import WALMAP, check, raises


def connect(file):
    db = apsw.Connection(file)
    db.enableloadextension(True)
    db.loadextension(WALMAP)
    db.enableloadextension(False)
    return db


kit.suite(connect, lambda db, sql, parameters=(): db.cursor().execute(sql, parameters).fetchall())

# Debian's apsw and sqlite3 share one SQLite. apsw from PyPI brings its own: then the second of them gets an error
db = sqlite3.connect(":memory:")
db.enable_load_extension(True)
if apsw.using_amalgamation:
    check("two SQLite libraries", raises(lambda: db.load_extension(WALMAP), "has loaded it already"), True)
else:
    db.load_extension(WALMAP)
    check("one SQLite library", db.execute("SELECT walmap_version() IS NOT NULL").fetchall(), [(1,)])
kit.finish()
