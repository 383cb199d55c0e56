"""walmap, a SQLite extension: a shared in-memory key/value table for the connections of a process.

    import sqlite3, sqlite_walmap

    db = sqlite3.connect("app.db")
    sqlite_walmap.load(db)
    db.execute("CREATE VIRTUAL TABLE temp.kv USING walmap(map='sessions')")
"""

import os
from importlib.metadata import version as _version

__all__ = ["load", "loadable_path"]
__version__ = _version("sqlite-walmap")


def loadable_path() -> str:
    """The path for SQLite's load_extension(), without the suffix, which SQLite appends."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "walmap")


def load(conn) -> None:
    """Loads walmap into a connection of sqlite3, or of a module with the same methods (pysqlite3, apsw).

    Extensions are disabled on the connection afterwards. RuntimeError: this Python's sqlite3 cannot load extensions.
    """
    if not hasattr(conn, "enable_load_extension"):
        raise RuntimeError(
            "sqlite-walmap: the sqlite3 module of this Python was built without loadable extensions. Use a Python that "
            "has them (those of Debian, Fedora, Homebrew, conda and uv do; python.org's for macOS does not; pyenv: "
            'PYTHON_CONFIGURE_OPTS="--enable-loadable-sqlite-extensions" pyenv install ...), or another module: '
            "pip install apsw, or pip install pysqlite3-binary, and pass load() a connection of that."
        )
    conn.enable_load_extension(True)
    try:
        conn.load_extension(loadable_path())
    finally:
        conn.enable_load_extension(False)
