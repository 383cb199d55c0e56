-- fixed_window.sql - at most :limit requests of each :client in any window of :seconds, over all connections
--
-- A client's window begins with its first request. It needs no end: the count expires, and the next request begins
-- another. Each request is counted once, however many connections count at the same time.

-- once: in each connection
CREATE VIRTUAL TABLE temp.requests USING walmap(map='requests in a window');

-- allow: at each request; 1 when it is within the limit, else 0
SELECT walmap_upsert('requests', :client, 1, 'value + 1', :seconds) <= :limit;

-- wait: for an answer "try again later"; in how many seconds the client's window ends
SELECT expires - (julianday('now') - 2440587.5) * 86400 FROM requests WHERE key = :client;
