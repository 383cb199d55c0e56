// keyv.js - a store for Keyv (https://keyv.org) that keeps its entries in a walmap table
//
//   const { KeyvWalmap } = require('sqlite-walmap/keyv');
//   const store = new KeyvWalmap({ database, map: 'sessions' });
//   const keyv = new Keyv({ store, namespace: 'users', ttl: 60000 });
//
// `database` is an open connection of better-sqlite3, libsql or node:sqlite into which walmap is loaded. It stays the
// caller's: as long as it, or another with the map, is open, the entries are there. All connections of the process whose
// stores name the same map share it, also those of worker threads. With `table` in place of `map` the entries are in a
// walmap table that is there already, as a durable one: then processes share them, and they survive.
//
// walmap itself lets an entry expire: its memory comes back without a read of the key. Keyv checks the time, too.
'use strict';
const { EventEmitter } = require('node:events');

const quoted = (name) => `"${name.replaceAll('"', '""')}"`;
const text = (value) => `'${value.replaceAll("'", "''")}'`;

class KeyvWalmap extends EventEmitter {
  constructor({ database, map, table } = {}) {
    super();
    if (!database || (map === undefined) === (table === undefined)) {
      throw new TypeError('KeyvWalmap needs a database with walmap in it, and a map or a table');
    }
    this.database = database;
    this.opts = { dialect: 'sqlite', url: 'sqlite://walmap' }; // by which Keyv knows that the iterator is one
    this.namespace = undefined; // Keyv sets it
    const [schema, name] = table === undefined ? ['temp', `keyv ${map}`] : table.includes('.') ? table.split('.') : ['main', table];
    const full = `${quoted(schema)}.${quoted(name)}`;
    if (map !== undefined) {
      // in the order of keys, so that a namespace is a range
      database.exec(`CREATE VIRTUAL TABLE IF NOT EXISTS ${full} USING walmap(map=${text(map)}, ordered=1)`);
    }
    const t = text(full);
    const prepare = (sql) => database.prepare(sql);
    this.sql = {
      get: prepare(`SELECT walmap_get(${t}, ?) AS v`),
      getMany: prepare(`SELECT walmap_get(${t}, value) AS v FROM json_each(?)`),
      set: prepare(`SELECT walmap_set(${t}, ?, ?, ?) IS NULL AS v`),
      setMany: prepare(`SELECT count(walmap_set(${t}, value ->> 0, value ->> 1, value ->> 2)) AS v FROM json_each(?)`),
      delete: prepare(`SELECT walmap_remove(${t}, ?) IS NOT NULL AS v`),
      deleteMany: prepare(`SELECT count(walmap_remove(${t}, value)) AS v FROM json_each(?)`),
      clear: prepare(`SELECT walmap_clear(${t}) AS v`),
      clearRange: prepare(`DELETE FROM ${full} WHERE key >= ? AND key < ?`),
      page: prepare(`SELECT key, value FROM ${full} WHERE key > ? AND key < ifnull(?, x'') ORDER BY key LIMIT 100`),
    };
  }

  async get(key) {
    return this.sql.get.get(key).v ?? undefined;
  }

  // All of one state
  async getMany(keys) {
    return this.sql.getMany.all(JSON.stringify(keys)).map((row) => row.v ?? undefined);
  }

  // ttl is in ms; walmap's is in seconds
  async set(key, value, ttl) {
    this.sql.set.get(key, value, ttl ? ttl / 1000 : null);
    return true;
  }

  // All or nothing
  async setMany(entries) {
    this.sql.setMany.get(JSON.stringify(entries.map(({ key, value, ttl }) => [key, value, ttl ? ttl / 1000 : null])));
  }

  async has(key) {
    return (await this.get(key)) !== undefined;
  }

  async hasMany(keys) {
    return (await this.getMany(keys)).map((value) => value !== undefined);
  }

  async delete(key) {
    return Boolean(this.sql.delete.get(key).v);
  }

  // Whether all were there
  async deleteMany(keys) {
    return this.sql.deleteMany.get(JSON.stringify(keys)).v === keys.length;
  }

  // The keys of a namespace are from "name:" to before "name;"
  async clear() {
    if (this.namespace === undefined) this.sql.clear.get();
    else this.sql.clearRange.run(`${this.namespace}:`, `${this.namespace};`);
  }

  // In pages, each of the state at its time: a statement that stays open would keep the connection busy
  async *iterator(namespace) {
    let last = namespace === undefined ? '' : `${namespace}:`;
    const end = namespace === undefined ? null : `${namespace};`; // a BLOB comes after all texts
    for (;;) {
      const rows = this.sql.page.all(last, end);
      for (const { key, value } of rows) yield [key, value];
      if (rows.length === 0) return;
      last = rows[rows.length - 1].key;
    }
  }

  // The connection is the caller's
  async disconnect() {}
}

module.exports = { KeyvWalmap, default: KeyvWalmap };
