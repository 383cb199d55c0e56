-- Rows of ordinary text, first in an ordinary table, then in a map
CREATE TABLE words(place PRIMARY KEY, word) WITHOUT ROWID;
.import --ascii words.txt words
SELECT count(*) AS words, count(DISTINCT word) AS different, sum(length(place) + length(word)) AS bytes FROM words;
CREATE VIRTUAL TABLE temp.kv USING walmap;
.timer on
INSERT INTO kv SELECT place, word FROM words;
SELECT walmap_len('kv') AS entries, walmap_size('kv') AS bytes_of_log;
SELECT value, count(*) AS times FROM kv GROUP BY value ORDER BY times DESC LIMIT 3;
SELECT key, value FROM kv WHERE key = (SELECT max(place) FROM words);
SELECT count(*) AS same FROM words WHERE walmap_get('kv', place) IS word;
SELECT count(*) AS same FROM words JOIN kv ON kv.key = words.place WHERE kv.value IS words.word;
UPDATE kv SET value = upper(value) WHERE key GLOB '*:1:*';
DELETE FROM kv WHERE length(value) = 1;
SELECT walmap_len('kv') AS entries, walmap_reclaimable('kv') AS reclaimable;
SELECT writefile('kv.image', walmap_snapshot('kv')) AS bytes_of_image;
SELECT lower(hex(sha3_query('SELECT key, value FROM temp.kv ORDER BY key'))) AS digest_of_all_rows;
