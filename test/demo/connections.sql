-- Two connections of one process, each with a table on the same map
.load ./walmap
CREATE VIRTUAL TABLE temp.kv USING walmap(map='sessions');
INSERT INTO kv VALUES ('alice', 'online'), ('bob', 'away');
.connection 1
.load ./walmap
CREATE VIRTUAL TABLE temp.kv USING walmap(map='sessions');
SELECT key, value FROM kv ORDER BY key;
-- The second one writes, and has not committed: the first reads on, without waiting, what was committed last
BEGIN;
UPDATE kv SET value = 'busy' WHERE key = 'alice';
DELETE FROM kv WHERE key = 'bob';
SELECT key, value FROM kv ORDER BY key;
.connection 0
SELECT key, value FROM kv ORDER BY key;
-- ROLLBACK undoes it all; a COMMIT is there for all connections at once
.connection 1
ROLLBACK;
SELECT key, value FROM kv ORDER BY key;
BEGIN;
UPDATE kv SET value = 'busy' WHERE key = 'alice';
SELECT walmap_upsert('kv', 'visits', 1, 'value + 1') AS visits;
COMMIT;
.connection 0
SELECT key, value FROM kv ORDER BY key;
