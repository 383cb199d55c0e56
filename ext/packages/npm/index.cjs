'use strict';
// walmap's library is in a package of its own for each platform, an optional dependency of this one.
const fs = require('fs');
const path = require('path');

const PLATFORMS = ['linux-x64', 'linux-arm64', 'linux-x64-musl', 'linux-arm64-musl', 'win32-x64'];

function platform() {
  const name = `${process.platform}-${process.arch}`;
  if (process.platform !== 'linux') return name;
  // A report without a version of glibc comes from a Node.js that was built with musl
  const { header } = process.report.getReport();
  return header.glibcVersionRuntime ? name : `${name}-musl`;
}

function getLoadablePath() {
  const name = platform();
  if (!PLATFORMS.includes(name)) {
    throw new Error(`sqlite-walmap: there is no package for ${name}; there are ${PLATFORMS.join(', ')}. ` +
      'walmap can be built from its sources: make');
  }
  let folder;
  try {
    folder = path.dirname(require.resolve(`sqlite-walmap-${name}/package.json`));
  } catch {
    throw new Error(`sqlite-walmap: the package sqlite-walmap-${name} is missing. It is an optional dependency: was ` +
      'npm told to leave them out (--no-optional, --omit=optional), or were node_modules copied from another platform?');
  }
  const file = path.join(folder, process.platform === 'win32' ? 'walmap.dll' : 'walmap.so');
  if (!fs.existsSync(file)) throw new Error(`sqlite-walmap: ${file} is missing; install sqlite-walmap-${name} again`);
  return file;
}

function load(db) {
  db.loadExtension(getLoadablePath());
}

module.exports = { getLoadablePath, load };
