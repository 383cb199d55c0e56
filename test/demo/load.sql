-- Rows of ordinary text, first in an ordinary table, then in a map
.load ./walmap
CREATE TABLE words(place PRIMARY KEY, word) WITHOUT ROWID;
.import --ascii words.txt words
SELECT count(*) AS words, count(DISTINCT word) AS different, sum(length(place) + length(word)) AS bytes FROM words;
CREATE VIRTUAL TABLE temp.kv USING walmap(map='words');
.timer on
INSERT INTO kv SELECT place, word FROM words;
SELECT walmap_len('kv') AS entries, walmap_size('kv') AS bytes_of_log;
SELECT value, count(*) AS times FROM kv GROUP BY value ORDER BY times DESC LIMIT 3;
SELECT key, value FROM kv WHERE key = (SELECT max(place) FROM words);
SELECT count(*) AS same FROM words WHERE walmap_get('kv', place) IS word;
SELECT count(*) AS same FROM words JOIN kv ON kv.key = words.place WHERE kv.value IS words.word;
-- A transaction changes every row; another connection reads them all meanwhile, as they were; then it is undone
BEGIN;
UPDATE kv SET value = '';
.connection 1
.load ./walmap
CREATE VIRTUAL TABLE temp.kv USING walmap(map='words');
SELECT count(*) AS rows, count(value <> '' OR NULL) AS unchanged FROM kv;
.connection 0
ROLLBACK;
SELECT count(value <> '' OR NULL) AS unchanged FROM kv;
-- What is committed stays, and goes out as one image
UPDATE kv SET value = upper(value) WHERE key GLOB '*:1:*';
DELETE FROM kv WHERE length(value) = 1;
SELECT walmap_len('kv') AS entries, walmap_reclaimable('kv') AS reclaimable;
SELECT writefile('kv.image', walmap_snapshot('kv')) AS bytes_of_image;
SELECT lower(hex(sha3_query('SELECT key, value FROM temp.kv ORDER BY key'))) AS digest_of_all_rows;
