-- Another process
.load ./walmap
CREATE VIRTUAL TABLE temp.kv USING walmap;
.timer on
SELECT walmap_restore('kv', readfile('kv.image')) AS entries;
SELECT lower(hex(sha3_query('SELECT key, value FROM temp.kv ORDER BY key'))) AS digest_of_all_rows;
