// cache.js - a cache in worker threads of Node.js: walmap beside a file in WAL mode, a Map for each worker, and Redis
//
// As cache.py: each worker gets nine values and sets one, of 10,000 keys with 100 characters each, again and again. A line
// tells thousands of operations a second, of all workers together. Run by test/bench/hosts/run.
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const Database = require('better-sqlite3');

const seconds = Number(process.env.BENCH_SECONDS ?? 1);
const keys = Array.from({ length: 10000 }, (_, i) => `key:${i}`);
const value = 'v'.repeat(100);

const sql = (db, get, set) => {
  const [getting, setting] = [db.prepare(get).pluck(), db.prepare(set)];
  return { get: (key) => getting.get(key), set: (key) => (setting.reader ? setting.get(key, value) : setting.run(key, value)) };
};
const contenders = {
  walmap: () => {
    const db = new Database(':memory:');
    db.loadExtension(process.env.WALMAP);
    db.exec("CREATE VIRTUAL TABLE temp.kv USING walmap(map='bench')");
    return sql(db, "SELECT walmap_get('temp.kv', ?)", "SELECT walmap_set('temp.kv', ?, ?)");
  },
  'a file in WAL mode': (folder) => {
    const db = new Database(path.join(folder, 'bench.db'), { timeout: 60000 });
    db.pragma('journal_mode = WAL');
    db.pragma('synchronous = NORMAL');
    db.exec('CREATE TABLE IF NOT EXISTS kv(key PRIMARY KEY, value) WITHOUT ROWID');
    return sql(db, 'SELECT value FROM kv WHERE key = ?', 'INSERT OR REPLACE INTO kv VALUES (?, ?)');
  },
  'a Map for each worker, which share nothing': () => {
    const map = new Map();
    return { get: (key) => map.get(key), set: (key) => map.set(key, value) };
  },
};
// One command at a time, as a cache is used that waits for its value
if (process.env.REDIS_SOCKET) {
  contenders['Redis over a Unix socket'] = () => {
    const socket = net.connect(process.env.REDIS_SOCKET);
    const command = (...words) => {
      socket.write(`*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`);
      return new Promise((resolve) => socket.once('data', resolve));
    };
    return { get: (key) => command('GET', key), set: (key) => command('SET', key, value), end: () => socket.end() };
  };
}

async function work({ name, folder }) {
  const client = contenders[name](folder);
  for (const key of keys) await client.set(key);
  parentPort.postMessage('ready');
  await new Promise((resolve) => parentPort.once('message', resolve));
  const end = performance.now() + 1000 * seconds, begin = performance.now();
  const waits = client.end !== undefined;
  let n = 0;
  for (; performance.now() < end; n += 10) {
    for (let i = 0; i < 9; i++) {
      const got = client.get(keys[Math.floor(Math.random() * keys.length)]);
      if (waits) await got;
    }
    const set = client.set(keys[Math.floor(Math.random() * keys.length)]);
    if (waits) await set;
  }
  client.end?.();
  parentPort.postMessage(n / (performance.now() - begin));
}

const message = (worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));

async function measure(name, threads, folder) {
  const workers = Array.from({ length: threads }, () => new Worker(__filename, { workerData: { name, folder } }));
  await Promise.all(workers.map(message));
  const results = workers.map(message);
  for (const worker of workers) worker.postMessage('go');
  return (await Promise.all(results)).reduce((sum, figure) => sum + figure, 0);
}

async function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'walmap-bench-'));
  for (const name of Object.keys(contenders)) {
    const [one, two] = [await measure(name, 1, folder), await measure(name, 2, folder)];
    console.log(`| ${name} | ${one.toFixed(0)} | ${two.toFixed(0)} |`);
  }
  fs.rmSync(folder, { recursive: true });
}

if (isMainThread) main();
else work(workerData);
