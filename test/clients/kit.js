// What every client in Node.js does: see test/README.md, The clients.
//
// A client calls suite() with connect(file), which returns a connection with walmap in it, run(connection, sql,
// parameters), which returns the rows as objects, close(connection), and visits(), which counts the key 'visits' up to
// 1000, by connections in threads where the client can be used there. All may be async.
'use strict';
const fs = require('node:fs');
const path = require('node:path');
const { DIR, NAME, WALMAP } = process.env;

function check(what, got, expected) {
  const ok = JSON.stringify(got) === JSON.stringify(expected);
  if (!ok) process.exitCode = 1;
  console.log(ok ? `ok ${what}` : `FAILED ${what}: ${JSON.stringify(got)}, not ${JSON.stringify(expected)}`);
}

// The text of the error that the action throws.
async function errorOf(action) {
  try {
    await action();
  } catch (error) {
    return error.message;
  }
  return 'no error';
}

async function suite({ connect, run, close, visits }) {
  const openMap = async () => {
    const db = await connect(':memory:');
    await run(db, "CREATE VIRTUAL TABLE temp.kv USING walmap(map='clients')");
    return db;
  };
  const one = async (db, sql, ...parameters) => Object.values((await run(db, sql, parameters))[0])[0];

  const db = await openMap(), other = await openMap();
  check('load', (await one(db, 'SELECT walmap_version() AS v')).slice(0, 2), '0.');
  await run(db, 'INSERT INTO kv VALUES (?, ?), (7, 3.5)', ['alice', 'online']);
  check('map', await one(other, 'SELECT value FROM kv WHERE key = ?', 'alice'), 'online');
  await run(db, 'BEGIN');
  await run(db, 'DELETE FROM kv');
  await run(db, 'ROLLBACK');
  check('rollback', await one(other, 'SELECT count(*) AS n FROM kv'), 2);

  await visits(openMap);
  check('threads or connections', await one(db, "SELECT value FROM kv WHERE key = 'visits'"), 1000);

  await run(db, "SELECT walmap_set('temp.kv', 'soon', 1, 0.2)");
  const there = await one(other, "SELECT count(*) AS n FROM kv WHERE key = 'soon'");
  await new Promise((resolve) => setTimeout(resolve, 300));
  check('expiry', [there, await one(other, "SELECT count(*) AS n FROM kv WHERE key = 'soon'")], [1, 0]);

  await run(db, 'CREATE VIRTUAL TABLE temp.sorted USING walmap(ordered=1)');
  for (const key of [5, 2.5, 'five', 4, 1]) await run(db, 'INSERT INTO sorted VALUES (?, NULL)', [key]);
  check('range', (await run(db, 'SELECT key FROM sorted WHERE key >= 2 AND key < 5')).map((row) => row.key), [2.5, 4]);

  const image = path.join(DIR, 'image');
  await run(db, "SELECT walmap_restore('temp.kv', ?)", [fs.readFileSync(image)]);
  check('image', [await one(db, "SELECT count(*) AS n FROM kv WHERE key = 'from'"),
    await one(db, "SELECT walmap_get('temp.kv', 7) AS v")], [1, 3.5]);
  await run(db, "INSERT OR REPLACE INTO kv VALUES ('from', ?)", [NAME]);
  fs.writeFileSync(image, Buffer.from(await one(db, "SELECT walmap_snapshot('temp.kv') AS image")));

  const file = await connect(path.join(DIR, 'shared.db'));
  await run(file, 'BEGIN IMMEDIATE');
  const before = await one(file, "SELECT value FROM main.kv WHERE key = 'count'");
  await run(file, "UPDATE main.kv SET value = value + 1 WHERE key = 'count'");
  await run(file, "INSERT INTO main.kv VALUES ('by ' || ?, 1)", [NAME]);
  await run(file, 'COMMIT');
  check('durable', await one(file, "SELECT value FROM main.kv WHERE key = 'count'"), before + 1);
  for (const connection of [file, other, db]) await close(connection);
}

module.exports = { check, errorOf, suite, DIR, NAME, WALMAP };
