# Tcl's sqlite3: ext/HOSTS.md, Tcl.
package require sqlite3

set failed 0
proc check {what got expected} {
  if {$got eq $expected} { puts "ok $what" } else { puts "FAILED $what: $got, not $expected"; incr ::failed }
}
proc connect {name file} {
  sqlite3 $name $file
  $name enable_load_extension 1
  $name eval {SELECT load_extension($::env(WALMAP))}
  $name enable_load_extension 0
}
proc open_map {name} {
  connect $name :memory:
  $name eval {CREATE VIRTUAL TABLE temp.kv USING walmap(map='clients')}
}

open_map db
open_map other
check load [string range [db onecolumn {SELECT walmap_version()}] 0 1] 0.
set status online
db eval {INSERT INTO kv VALUES ('alice', $status), (7, 3.5)}
check map [other onecolumn {SELECT value FROM kv WHERE key = 'alice'}] online
catch { db transaction { db eval {DELETE FROM kv}; error no } }
check rollback [other onecolumn {SELECT count(*) FROM kv}] 2
for {set i 0} {$i < 1000} {incr i} {
  [lindex {db other} [expr {$i % 2}]] eval {SELECT walmap_upsert('temp.kv', 'visits', 1, 'value + 1')}
}
check "two connections" [db onecolumn {SELECT value FROM kv WHERE key = 'visits'}] 1000
db eval {SELECT walmap_set('temp.kv', 'soon', 1, 0.2)}
set there [other onecolumn {SELECT count(*) FROM kv WHERE key = 'soon'}]
after 300
check expiry [list $there [other onecolumn {SELECT count(*) FROM kv WHERE key = 'soon'}]] {1 0}
db eval {CREATE VIRTUAL TABLE temp.sorted USING walmap(ordered=1);
  INSERT INTO sorted SELECT value, 0 FROM json_each('[5, 2.5, "five", 4, 1]')}
check range [db eval {SELECT key FROM sorted WHERE key >= 2 AND key < 5}] {2.5 4}

# $name is bound by what the variable holds just then, text for most; @name is always a BLOB
set in [open $env(DIR)/image rb]
set image [read $in]
close $in
db eval {SELECT walmap_restore('temp.kv', @image)}
check image [db eval {SELECT count(*), walmap_get('temp.kv', 7) FROM kv WHERE key = 'from'}] {1 3.5}
set seven "7"
check "a text that is a number" [db eval {SELECT typeof($seven), typeof(CAST($seven AS INTEGER)), typeof(@seven)}] {text integer blob}
set name $env(NAME)
db eval {INSERT OR REPLACE INTO kv VALUES ('from', $name)}
set out [open $env(DIR)/image wb]
puts -nonewline $out [db onecolumn {SELECT walmap_snapshot('temp.kv')}]
close $out

connect file $env(DIR)/shared.db
file transaction immediate {
  set before [file onecolumn {SELECT value FROM main.kv WHERE key = 'count'}]
  file eval {UPDATE main.kv SET value = value + 1 WHERE key = 'count'; INSERT INTO main.kv VALUES ('by ' || $name, 1)}
}
check durable [file onecolumn {SELECT value FROM main.kv WHERE key = 'count'}] [expr {$before + 1}]
exit [expr {$failed > 0}]
