// cache_aside.js: for recipes.test: the recipe of that name, whose loads are held while the data changes
const assert = require('node:assert');
const { openCache } = require('./recipe.js');

// A load that ends when it is told to, with the data as it was when it began
function held(data) {
  let end;
  const promise = new Promise((resolve) => { end = resolve; });
  return { load: () => { const value = data.value; return promise.then(() => value); }, end: () => end() };
}

const never = () => { throw new Error('it was in the cache'); };

(async () => {
  const cache = openCache(), other = openCache();
  const data = { value: 'one' };
  let loads = 0;
  const load = () => { loads++; return data.value; };

  // Loaded once, for all connections; forgotten and loaded anew
  assert.equal(await cache.get('k', load), 'one');
  assert.equal(await other.get('k', never), 'one');
  assert.equal(await cache.get('k', never), 'one');
  data.value = 'two';
  other.forget('k');
  assert.equal(await cache.get('k', load), 'two');
  assert.equal(loads, 2);

  // The data changes while a reader loads: what it has loaded is not stored
  cache.forget('k');
  const slow = held(data);
  const reading = cache.get('k', slow.load);
  data.value = 'three';
  other.forget('k');
  slow.end();
  assert.equal(await reading, 'two'); // it began before the change
  assert.equal(await other.get('k', load), 'three');

  // The same, and another has loaded and stored meanwhile: the new value stays
  cache.forget('k');
  const slower = held(data);
  const late = cache.get('k', slower.load);
  data.value = 'four';
  other.forget('k');
  assert.equal(await other.get('k', load), 'four');
  slower.end();
  assert.equal(await late, 'three');
  assert.equal(await cache.get('k', never), 'four');

  // Two at once: both get the value, and it is stored
  cache.forget('k');
  const first = held(data);
  const both = [cache.get('k', first.load), other.get('k', load)];
  first.end();
  assert.deepEqual(await Promise.all(both), ['four', 'four']);
  assert.equal(await other.get('k', never), 'four');

  // A load that fails stores nothing, and its lease is no value
  cache.forget('k');
  await assert.rejects(cache.get('k', async () => { throw new Error('down'); }), /down/);
  assert.equal(await other.get('k', load), 'four');
  cache.close();
  other.close();
  console.log('good');
})();
