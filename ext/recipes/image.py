"""image.py - a map that outlives its process, but for the last seconds: an image every few seconds, restored at start

For state that may be lost for some seconds, where a durable table's write at each commit is too much. An image is one
committed state, taken while others write, and a file is replaced whole or not at all: a kill at any moment leaves the
image before, or the new one.
"""
import os
import sqlite3
import threading


def connect():
    """For one thread. Let the thread that starts the others keep one, for the map lives as long as some is open."""
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    db.enable_load_extension(True)
    db.load_extension("./walmap")
    db.execute("CREATE VIRTUAL TABLE temp.kv USING walmap(map='kv')")
    return db


def restore(db, path):
    """At start, before others write. How many entries; 0 when there is no image yet. A damaged one is an error."""
    if not os.path.exists(path):
        return 0
    return db.execute("SELECT walmap_restore_file('kv', ?)", (path,)).fetchone()[0]


class Saver:
    """Saves the map every `seconds` to `path`, and once more at stop()."""

    def __init__(self, path, seconds):
        self.path, self.seconds, self.db = path, seconds, connect()
        self.ends = threading.Event()
        self.error = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        ends = False
        while not ends:
            ends = self.ends.wait(self.seconds)
            try:
                self.db.execute("SELECT walmap_snapshot_file('kv', ?)", (self.path,)).fetchone()
                self.error = None
            except sqlite3.Error as error:  # a full disk, say: the last image is still there, and it tries again
                self.error = error

    def stop(self):
        self.ends.set()
        self.thread.join()
        self.db.close()
