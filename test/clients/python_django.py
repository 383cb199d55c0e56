"""Django's database layer: ext/HOSTS.md, Django."""
import os
import tempfile

import django
from django.conf import settings
from django.db import connection, transaction
from django.db.backends.signals import connection_created
from django.db.utils import ConnectionHandler

import kit
from kit import DIR, WALMAP, check

folder = tempfile.TemporaryDirectory()
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder.name}/app.db"}})


def load(sender, connection, **kwargs):
    if connection.vendor == "sqlite":
        connection.connection.enable_load_extension(True)
        connection.connection.load_extension(WALMAP)
        connection.connection.enable_load_extension(False)


connection_created.connect(load)
django.setup()


def connect(file):
    database = ConnectionHandler({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": file}})["default"]
    database.ensure_connection()
    return database


def run(database, sql, parameters=()):
    with database.cursor() as cursor:
        cursor.execute(sql.replace("?", "%s"), parameters or None)
        return cursor.fetchall()


kit.suite(connect, run)

run(connection, "CREATE VIRTUAL TABLE temp.kv USING walmap(map='django')")
try:
    with transaction.atomic():
        run(connection, "SELECT walmap_set('temp.kv', ?, 1)", ("a",))
        raise KeyError
except KeyError:
    pass
check("atomic() undoes a SELECT that writes", run(connection, "SELECT count(*) FROM kv"), [(0,)])
kit.finish()
