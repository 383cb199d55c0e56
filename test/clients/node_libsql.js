// libsql, whose interface is that of better-sqlite3: ext/HOSTS.md, Node.js.
'use strict';
const Database = require('libsql');
const { suite, WALMAP } = require('./kit.js');

suite({
  connect: (file) => {
    const db = new Database(file);
    db.loadExtension(WALMAP);
    return db;
  },
  run: (db, sql, parameters = []) => {
    if (/^(BEGIN|ROLLBACK|COMMIT|CREATE)/.test(sql)) {
      db.exec(sql);
      return [];
    }
    const statement = db.prepare(sql);
    // all parameters as one array: a Buffer as an argument by itself ends the process
    return /^SELECT/.test(sql) ? statement.all(parameters) : (statement.run(parameters), []);
  },
  close: (db) => db.close(),
  visits: async (openMap) => {
    const connections = await Promise.all([openMap(), openMap()]);
    for (let i = 0; i < 1000; i++)
      connections[i % 2].prepare("SELECT walmap_upsert('temp.kv', 'visits', 1, 'value + 1')").get();
    for (const db of connections) db.close();
  },
});
