// better-sqlite3, with worker threads: ext/HOSTS.md, Node.js.
'use strict';
const { Worker, isMainThread } = require('node:worker_threads');
const { once } = require('node:events');
const Database = require('better-sqlite3');
const { check, errorOf, suite, WALMAP } = require('./kit.js');

const connect = (file) => {
  const db = new Database(file);
  db.loadExtension(WALMAP);
  return db;
};
const run = (db, sql, parameters = []) => {
  const statement = db.prepare(sql);
  if (statement.reader) return statement.all(...parameters);
  statement.run(...parameters);
  return [];
};
const upsert = "SELECT walmap_upsert('temp.kv', 'visits', 1, 'value + 1')";

async function main() {
  await suite({
    connect,
    run,
    close: (db) => db.close(),
    visits: async () => {
      const workers = [1, 2, 3, 4].map(() => new Worker(__filename));
      await Promise.all(workers.map((worker) => once(worker, 'exit')));
    },
  });
  const db = connect(':memory:');
  db.exec('CREATE VIRTUAL TABLE temp.kv USING walmap');
  // run() takes the first row of a SELECT, so it writes that one alone; all() writes all
  const three = "SELECT walmap_set('temp.kv', column1, 1) FROM (VALUES (1), (2), (3))";
  db.prepare(three).run();
  const first = run(db, 'SELECT count(*) AS n FROM kv')[0].n;
  db.prepare(three).all();
  check('run() and all() of a SELECT that writes', [first, run(db, 'SELECT count(*) AS n FROM kv')[0].n], [1, 3]);
  const set = db.prepare("SELECT walmap_set('temp.kv', ?, ?)");
  // transaction() begins by itself, so a SELECT that writes is undone, too
  await errorOf(() => db.transaction(() => { set.get('a', 1); throw new Error('no'); })());
  check('transaction() undoes a SELECT that writes', run(db, 'SELECT count(*) AS n FROM kv')[0].n, 3);
  // Each number that is bound is a REAL; the key 1.0 is the key 1, and a BigInt is an integer
  set.get(1, 2);
  check('numbers', run(db, 'SELECT typeof(key) AS k, typeof(value) AS v FROM kv WHERE key = 1'), [{ k: 'real', v: 'real' }]);

  // Another binding has an SQLite of its own: walmap serves the one that loaded it first
  const sqlite3 = (() => { try { return require('sqlite3'); } catch { return null; } })();
  if (sqlite3 !== null) {
    const other = new sqlite3.Database(':memory:');
    const error = await new Promise((resolve) => other.loadExtension(WALMAP, resolve));
    check('two SQLite libraries', /another SQLite library of this process has loaded it already/.test(error?.message), true);
  }
}

if (isMainThread) {
  main();
} else {
  const db = connect(':memory:');
  db.exec("CREATE VIRTUAL TABLE temp.kv USING walmap(map='clients')");
  const statement = db.prepare(upsert);
  for (let i = 0; i < 250; i++) statement.get();
  db.close();
}
