#!/bin/bash
# The sqlite3 shell: ext/HOSTS.md, The sqlite3 shell. Makes the image and the file for the clients that come after it.
set -u
status=0
check() { # what, got, expected
  if [ "$2" = "$3" ]; then echo "ok $1"; else echo "FAILED $1: $2, not $3"; status=1; fi
}
# A shell that stays, as another connection of the same process would: .connection has several
sql() { sqlite3 -cmd ".load $WALMAP" "$@" 2>&1; }

check load "$(sql :memory: "SELECT substr(walmap_version(), 1, 2)")" 0.
both=".connection 1
.open :memory:
.load $WALMAP
CREATE VIRTUAL TABLE temp.kv USING walmap(map='clients');"
map="CREATE VIRTUAL TABLE temp.kv USING walmap(map='clients');"
check map "$(sql :memory: <<<"$map INSERT INTO kv VALUES('alice', 'online');
$both
SELECT value FROM kv WHERE key = 'alice';")" online
check rollback "$(sql :memory: "$map INSERT INTO kv VALUES(1, 2); BEGIN; DELETE FROM kv; ROLLBACK; SELECT count(*) FROM kv")" 1
check "two connections" "$(sql :memory: <<<"$map
SELECT walmap_upsert('temp.kv', 'visits', 1, 'value + 1');
$both
SELECT walmap_upsert('temp.kv', 'visits', 1, 'value + 1');
.connection 0
SELECT value FROM kv WHERE key = 'visits';" | tr '\n' ' ')" "1 2 2 "
check expiry "$(sql :memory: <<<"$map SELECT walmap_set('temp.kv', 'soon', 1, 0.2);
.shell sleep 0.3
SELECT count(*) FROM kv;" | tr '\n' ' ')" "1 0 "
check range "$(sql :memory: "CREATE VIRTUAL TABLE temp.sorted USING walmap(ordered=1); INSERT INTO sorted SELECT value, 0 FROM
  json_each('[5, 2.5, \"five\", 4, 1]'); SELECT key FROM sorted WHERE key >= 2 AND key < 5" | tr '\n' ' ')" "2.5 4 "
check image "$(sql :memory: "$map INSERT INTO kv VALUES(7, 3.5), ('from', '$NAME');
  SELECT writefile('$DIR/image', walmap_snapshot('temp.kv')) > 100; DELETE FROM kv;
  SELECT walmap_restore('temp.kv', readfile('$DIR/image'))" | tr '\n' ' ')" "1 2 "
sql "$DIR/shared.db" "CREATE VIRTUAL TABLE kv USING walmap; INSERT INTO kv VALUES('count', 1), ('by $NAME', 1)"
check durable "$(sql "$DIR/shared.db" "SELECT value FROM kv WHERE key = 'count'")" 1

# Without walmap the other tables of the file can be used
check "without walmap" "$(sqlite3 "$DIR/shared.db" "CREATE TABLE other(x); DROP TABLE other; SELECT count(*) FROM kv" 2>&1 |
  grep -o 'no such module: walmap')" "no such module: walmap"
exit $status
