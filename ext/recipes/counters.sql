-- counters.sql - counters of what happens, from any number of connections; each count is reported once
--
-- Counters of different names are counted side by side, and for one name no count is lost.

-- once: in each connection
CREATE VIRTUAL TABLE temp.counter USING walmap(map='counters');

-- count: :n more of :name; returns the sum so far. `initial` hands :n to the expression
SELECT walmap_upsert('counter', :name, :n, 'value + initial');

-- look: at all of them, in one state
SELECT key, value FROM counter ORDER BY key;

-- report: takes each counter away as it is, so that what is counted meanwhile is in the next report. MATERIALIZED keeps
-- SQLite from calling walmap_remove twice, for the condition and for the result
WITH taken AS MATERIALIZED (SELECT key, walmap_remove('counter', key) AS n FROM counter)
SELECT key, n FROM taken WHERE n IS NOT NULL;
