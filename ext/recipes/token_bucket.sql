-- token_bucket.sql - a bucket for each :client, of 20 tokens at most, which gets 10 a second; a request takes one
--
-- The value says when the bucket will be full again: an empty one in 2 seconds, and each token that is taken puts that
-- off by 0.1. So two numbers, the tokens and when they were counted, are one. A refused request changes the sign alone,
-- which tells what the last call was told. `initial` hands the time to the expression: it is the value after one token
-- of a full bucket, so one of an empty bucket is `initial` + 1.9; 1.9001 leaves room for rounding.
--
-- When a bucket has been full for a while its entry expires: a client that is not there has a full one. The touch comes
-- first, so the entry does not expire before its bucket is full.

-- once: in each connection
CREATE VIRTUAL TABLE temp.bucket USING walmap(map='buckets of tokens');

-- allow: at each request; :now is the time in seconds, as (julianday('now') - 2440587.5) * 86400; 1 or 0
SELECT walmap_touch('bucket', :client, 3) IN (0, 1) AND walmap_upsert('bucket', :client, :now + 0.1, '
  CASE WHEN max(abs(value) + 0.1, initial) <= initial + 1.9001 THEN max(abs(value) + 0.1, initial) ELSE -abs(value) END
', 3) > 0;

-- tokens: how many are left
SELECT CAST(20 - max(0, abs(walmap_get('bucket', :client)) - :now) * 10 + 0.001 AS INTEGER);
