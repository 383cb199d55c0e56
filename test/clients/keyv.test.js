// ext/adapters/keyv.js, held against Keyv's own test suite; and what the suite does not look at. Run by vitest.
import { createRequire } from 'node:module';
import * as test from 'vitest';
import Keyv from 'keyv';
import keyvTestSuite, { keyvIteratorTests } from '@keyv/test-suite';

const require = createRequire(import.meta.url); // finds better-sqlite3 by NODE_PATH
const Database = require('better-sqlite3');
const { KeyvWalmap } = require(process.env.ADAPTER);

const connect = (file = ':memory:') => {
  const db = new Database(file);
  db.loadExtension(process.env.WALMAP);
  return db;
};
const database = connect();

keyvTestSuite(test, Keyv, () => new KeyvWalmap({ database, map: 'suite' }));
keyvIteratorTests(test, Keyv, () => new KeyvWalmap({ database, map: 'iterator' }));

test.it('walmap lets the entry expire, not Keyv alone', async (t) => {
  const store = new KeyvWalmap({ database, map: 'expiry' });
  await new Keyv({ store }).set('a', 1, 100);
  const count = database.prepare('SELECT walmap_len(?) AS n').pluck();
  t.expect(count.get('temp.keyv expiry')).toBe(1);
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.expect(count.get('temp.keyv expiry')).toBe(0);
  t.expect(await store.get('keyv:a')).toBeUndefined();
});
test.it('connections share a map, and another map is another', async (t) => {
  const other = connect();
  await new Keyv({ store: new KeyvWalmap({ database, map: 'shared' }) }).set('a', 'b');
  t.expect(await new Keyv({ store: new KeyvWalmap({ database: other, map: 'shared' }) }).get('a')).toBe('b');
  t.expect(await new Keyv({ store: new KeyvWalmap({ database: other, map: "not 'shared'" }) }).get('a')).toBeUndefined();
  other.close();
});
test.it('setMany, hasMany, and an iterator over several pages', async (t) => {
  const keyv = new Keyv({ store: new KeyvWalmap({ database, map: 'many' }), namespace: 'n' });
  await new Keyv({ store: new KeyvWalmap({ database, map: 'many' }), namespace: 'n2' }).set('other', 1);
  await keyv.setMany(Array.from({ length: 250 }, (_, i) => ({ key: `k${i}`, value: { i }, ttl: i % 2 ? 60000 : undefined })));
  t.expect(await keyv.get('k249')).toEqual({ i: 249 });
  t.expect(await keyv.has(['k1', 'none'])).toEqual([true, false]);
  const seen = new Set();
  for await (const [key, value] of keyv.iterator()) if (key === `k${value.i}`) seen.add(key);
  t.expect(seen.size).toBe(250);
});
test.it('a table that is there already, durable', async (t) => {
  const file = `${process.env.DIR}/keyv.db`;
  const first = connect(file);
  first.exec('CREATE VIRTUAL TABLE cache USING walmap(ordered=1)');
  await new Keyv({ store: new KeyvWalmap({ database: first, table: 'cache' }) }).set('a', 'kept');
  first.close();
  const second = connect(file);
  t.expect(await new Keyv({ store: new KeyvWalmap({ database: second, table: 'main.cache' }) }).get('a')).toBe('kept');
  second.close();
});
test.it('says what it needs', (t) => {
  t.expect(() => new KeyvWalmap({ database })).toThrow('needs a database with walmap in it, and a map or a table');
});
