// node:sqlite, which is in Node.js itself, with worker threads: ext/HOSTS.md, Node.js.
'use strict';
const { Worker, isMainThread } = require('node:worker_threads');
const { once } = require('node:events');
const { DatabaseSync } = require('node:sqlite');
const { check, errorOf, suite, WALMAP } = require('./kit.js');

const connect = (file) => {
  const db = new DatabaseSync(file, { allowExtension: true });
  db.loadExtension(WALMAP);
  return db;
};

async function main() {
  await suite({
    connect,
    run: (db, sql, parameters = []) => db.prepare(sql).all(...parameters),
    close: (db) => db.close(),
    visits: async () => {
      const workers = [1, 2, 3, 4].map(() => new Worker(__filename));
      await Promise.all(workers.map((worker) => once(worker, 'exit')));
    },
  });
  const refused = await errorOf(() => new DatabaseSync(':memory:').loadExtension(WALMAP));
  check('without allowExtension', /extension loading is not allowed/.test(refused), true);
}

if (isMainThread) {
  main();
} else {
  const db = connect(':memory:');
  db.exec("CREATE VIRTUAL TABLE temp.kv USING walmap(map='clients')");
  const statement = db.prepare("SELECT walmap_upsert('temp.kv', 'visits', 1, 'value + 1')");
  for (let i = 0; i < 250; i++) statement.get();
  db.close();
}
