// sqlite3 of npm, whose statements run in threads of its own: ext/HOSTS.md, Node.js.
'use strict';
const { promisify } = require('node:util');
const sqlite3 = require('sqlite3');
const { suite, WALMAP } = require('./kit.js');

const connect = async (file) => {
  const db = new sqlite3.Database(file);
  await promisify(db.loadExtension.bind(db))(WALMAP);
  return db;
};
const run = (db, sql, parameters = []) => promisify(db.all.bind(db))(sql, parameters);

suite({
  connect,
  run,
  close: (db) => promisify(db.close.bind(db))(),
  visits: async (openMap) => {
    const connections = await Promise.all([openMap(), openMap(), openMap(), openMap()]);
    const visits = [];
    for (let i = 0; i < 1000; i++)
      visits.push(run(connections[i % 4], "SELECT walmap_upsert('temp.kv', 'visits', 1, 'value + 1')"));
    await Promise.all(visits);
    for (const db of connections) await promisify(db.close.bind(db))();
  },
});
