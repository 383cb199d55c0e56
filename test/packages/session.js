// session.js: node session.js SESSION.json MODULE: README.md's session, with the package sqlite-walmap and a module for
// SQLite, better-sqlite3 or node:sqlite. Both ways to get at the package are used.
'use strict';
const fs = require('fs');
const walmap = require(require.resolve('sqlite-walmap', { paths: [process.cwd()] }));

const open = {
  'better-sqlite3': () => new (require('better-sqlite3'))(':memory:'),
  'node:sqlite': () => new (require('node:sqlite').DatabaseSync)(':memory:', { allowExtension: true }),
}[process.argv[3]];

const db = open();
walmap.load(db);
for (const [statement, expected] of JSON.parse(fs.readFileSync(process.argv[2]))) {
  const printed = [];
  for (const sql of statement.split(';').filter((part) => part.trim())) {
    const prepared = db.prepare(sql);
    const returns = prepared.reader ?? /^\s*SELECT/.test(sql);
    if (!returns) prepared.run();
    else for (const row of prepared.all()) printed.push(Object.values(row).map((v) => v ?? '').join('|'));
  }
  if (JSON.stringify(printed) !== JSON.stringify(expected)) {
    console.error(`${statement}: ${printed}, not ${expected}`);
    process.exit(1);
  }
}
