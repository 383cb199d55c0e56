"""SQLAlchemy: ext/HOSTS.md, SQLAlchemy."""
import os
import tempfile

import sqlalchemy
from sqlalchemy import event, pool, text

import kit
from kit import WALMAP, check


def make_engine(file, kept=None, **options):
    engine = sqlalchemy.create_engine(f"sqlite:///{file}", **options)

    @event.listens_for(engine, "connect")
    def load(connection, record):
        connection.isolation_level = None  # SQLAlchemy's own BEGIN, below, in place of the driver's
        connection.enable_load_extension(True)
        connection.load_extension(WALMAP)
        connection.enable_load_extension(False)
        if kept:
            connection.execute(f"CREATE VIRTUAL TABLE temp.kept USING walmap(map='{kept}')")

    @event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN")

    return engine


def connect(file):
    return make_engine(file).raw_connection()


def run(db, sql, parameters=()):
    cursor = db.cursor()
    cursor.execute(sql, parameters)
    return cursor.fetchall()


kit.suite(connect, run)

old = sqlalchemy.__version__.startswith("1.")
with tempfile.TemporaryDirectory() as folder:
    file = os.path.join(folder, "app.db")
    default = type(make_engine(os.path.join(folder, "default.db")).pool).__name__
    check("the pool that files have", default, "NullPool" if old else "QueuePool")
    # A pool that opens a connection for each use loses the map between two
    for name, poolclass, left in (("NullPool", pool.NullPool, 0), ("QueuePool", pool.QueuePool, 1)):
        engine = make_engine(file, name, poolclass=poolclass)
        with engine.begin() as db:
            db.execute(text("INSERT INTO kept VALUES ('alice', 'online')"))
        with engine.connect() as db:
            check(f"what {name} keeps", db.execute(text("SELECT count(*) FROM kept")).scalar(), left)
        engine.dispose()
    # A connection that is kept apart keeps the map, whatever the pool does
    engine = make_engine(file, "keeper", poolclass=pool.NullPool)
    keeper = engine.raw_connection()
    with engine.begin() as db:
        db.execute(text("SELECT walmap_set('temp.kept', :key, :value)"), {"key": "bob", "value": "away"}).all()
    try:
        with engine.begin() as db:
            db.execute(text("SELECT walmap_set('temp.kept', 'eve', 1)")).all()
            raise KeyError
    except KeyError:
        pass
    with engine.connect() as db:
        rows = db.execute(text("SELECT key FROM kept")).all()
    check("a rolled-back SELECT that writes", [tuple(row) for row in rows], [("bob",)])
    keeper.close()
kit.finish()
