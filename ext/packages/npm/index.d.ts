/** The path of walmap's library for this platform, for SQLite's load_extension. Throws where there is none. */
export function getLoadablePath(): string;

/** Loads walmap into a connection: of better-sqlite3, of node:sqlite (opened with allowExtension: true), and the like. */
export function load(db: { loadExtension(path: string): unknown }): void;
