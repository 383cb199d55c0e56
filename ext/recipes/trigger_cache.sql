-- trigger_cache.sql - a cache in front of a table, which triggers keep in step with it
--
-- Each order's lines as one JSON text, made once and dropped when a line changes. The triggers belong to the change
-- that fires them: ROLLBACK undoes both. They are TEMP triggers, so each connection that changes the table needs them.
--
-- A text that was made from the lines of a moment ago must not be stored over a change: `fill` makes and stores it in
-- one transaction that writes to the file, BEGIN IMMEDIATE, so no other connection can change a line in between.

-- once: in each connection, whose main database has the table line(order_id INTEGER, item TEXT, n INTEGER)
CREATE VIRTUAL TABLE temp.basket USING walmap(map='baskets');
CREATE TEMP TRIGGER line_insert AFTER INSERT ON main.line BEGIN
  SELECT walmap_remove('basket', new.order_id);
END;
CREATE TEMP TRIGGER line_update AFTER UPDATE ON main.line BEGIN
  SELECT walmap_remove('basket', old.order_id), walmap_remove('basket', new.order_id);
END;
CREATE TEMP TRIGGER line_delete AFTER DELETE ON main.line BEGIN
  SELECT walmap_remove('basket', old.order_id);
END;
PRAGMA recursive_triggers = on; -- a REPLACE fires the trigger of the row that it replaces

-- get: the text, or NULL when it must be made
SELECT walmap_get('basket', :order_id);

-- fill: makes it, between BEGIN IMMEDIATE and COMMIT
SELECT walmap_set('basket', :order_id,
  (SELECT json_group_array(json_object('item', item, 'n', n)) FROM
    (SELECT item, n FROM main.line WHERE order_id = :order_id ORDER BY item)));
