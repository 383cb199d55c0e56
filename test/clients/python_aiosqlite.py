"""aiosqlite: ext/HOSTS.md, Python. Each of its connections has a thread of its own."""
import asyncio
import threading

import aiosqlite

import kit
from kit import WALMAP

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def wait(action):
    return asyncio.run_coroutine_threadsafe(action, loop).result()


async def connect(file):
    db = await aiosqlite.connect(file, isolation_level=None)
    await db.enable_load_extension(True)
    await db.load_extension(WALMAP)
    await db.enable_load_extension(False)
    return db


kit.suite(
    lambda file: wait(connect(file)),
    lambda db, sql, parameters=(): [tuple(row) for row in wait(db.execute_fetchall(sql, parameters))],
    lambda db: wait(db.close()),
)
kit.finish()
