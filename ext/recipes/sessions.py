"""sessions.py - sessions that end half an hour after their last use, for all threads of a process

A connection of sqlite3 belongs to one thread. The sessions live as long as some connection has the map, so let the
thread that starts the others keep one.
"""
import json
import secrets
import sqlite3

IDLE = 30 * 60  # seconds


def connect():
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.enable_load_extension(True)
    db.load_extension("./walmap")
    db.execute(f"CREATE VIRTUAL TABLE temp.session USING walmap(map='sessions', ttl={IDLE})")
    return db


def log_in(db, user):
    """The name of a new session, for a cookie."""
    name = secrets.token_urlsafe(32)
    db.execute("INSERT INTO session VALUES(?, ?)", (name, json.dumps({"user": user})))
    return name


def use(db, name):
    """The session's data, or None when there is no such session, or not any more. It then has IDLE seconds again."""
    sql = "SELECT CASE WHEN walmap_touch('session', ?1, ?2) THEN walmap_get('session', ?1) END"
    (data,) = db.execute(sql, (name, IDLE)).fetchone()
    return None if data is None else json.loads(data)


def put(db, name, field, value):
    """Sets one field; others that change at the same time are not lost, and the session ends when it was to end."""
    sql = "UPDATE session SET value = json_set(value, '$.' || ?2, json(?3)) WHERE key = ?1"
    return db.execute(sql, (name, field, json.dumps(value))).rowcount == 1


def log_out(db, name):
    db.execute("DELETE FROM session WHERE key = ?", (name,))


def count(db):
    """How many there are: a session that has ended does not count, although no call has removed it."""
    return db.execute("SELECT walmap_len('session')").fetchone()[0]
