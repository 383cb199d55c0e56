// cache_aside.js - a cache beside slow data, for all connections of a process, that never stores a stale value
//
// The danger: a reader finds nothing and loads the value; meanwhile the data changes and the cache is told to forget;
// then the reader stores the old value, and there it stays. So the reader that loads first puts a lease into the cache,
// a BLOB of its own, and stores the value only over that lease. To forget a key takes the lease away too. The value is
// text.
//
// A lease expires after LEASE seconds, if its loader never came back. Meanwhile others load for themselves.
const crypto = require('node:crypto');
const Database = require('better-sqlite3');

const LEASE = 10;
const KEEP = 300;

function openCache() {
  const db = new Database(':memory:');
  db.loadExtension('./walmap');
  db.exec(`CREATE VIRTUAL TABLE temp.cache USING walmap(map='cache', ttl=${KEEP})`);
  const get = db.prepare("SELECT walmap_get('cache', ?)").pluck();
  const take = db.prepare("SELECT walmap_set_if_absent('cache', ?, ?, ?)").pluck();
  const store = db.prepare('UPDATE cache SET value = ?, expires = ? WHERE key = ? AND value = ?');
  const remove = db.prepare("SELECT walmap_remove('cache', ?) IS NOT NULL").pluck();
  return {
    /** The value, from the cache or else from load(key), which may return a promise of it. */
    async get(key, load) {
      const found = get.get(key);
      if (typeof found === 'string') return found;
      const lease = crypto.randomBytes(16);
      const mine = take.get(key, lease, LEASE) === 1;
      const value = await load(key);
      if (mine) store.run(value, Date.now() / 1000 + KEEP, key, lease);
      return value;
    },

    /** Call it after each change of the data, once that is committed. */
    forget(key) { remove.get(key); },

    close() { db.close(); },
  };
}

module.exports = { openCache };
