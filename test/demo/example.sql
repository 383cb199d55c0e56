-- A map, and its content carried over into another one
.load ./walmap
CREATE VIRTUAL TABLE temp.kv USING walmap;
INSERT INTO kv VALUES ('foo', 'bar'), ('hello', 'world');
SELECT value FROM kv WHERE key = 'foo';
SELECT walmap_remove('kv', 'foo');
SELECT value FROM kv WHERE key = 'foo';
SELECT walmap_size('kv') AS bytes, walmap_reclaimable('kv') AS reclaimable, walmap_reclaimable('kv') > 0 AS more_than_none;
SELECT length(walmap_compact('kv')) AS bytes_of_the_compacted_image;
SELECT walmap_reclaimable('kv') AS reclaimable;
CREATE TABLE backup(image BLOB);
INSERT INTO backup VALUES (walmap_snapshot('kv'));
CREATE VIRTUAL TABLE temp.other USING walmap;
SELECT walmap_restore('other', image) AS entries FROM backup;
SELECT value FROM other WHERE key = 'hello';
SELECT count(*) AS removed_keys_that_came_back FROM other WHERE key = 'foo';
