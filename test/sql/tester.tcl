# tester.tcl - a small test harness in the style of SQLite's own
#
# Every test/sql/*.test sources this file, runs tests by the procs below and ends with finish_test. The last line that it
# prints is "N passed, N failed"; the exit status is 1 when a test failed, when an error got out of the file, when the
# file did not reach finish_test, and when it ran no test (selftest.test proves all four).
#
# Environment:
#   WALMAP_SO  the extension, as load_extension takes it; default: walmap in the top folder
#   SEED       repeats a random test that printed this seed
#   DURABLE    if set, files take the place of databases in memory, so that their tables are durable, and do_same_test
#              closes and opens them between statements (durable_suite.test)

package require Tcl 8.6
package require sqlite3

namespace eval tester {
  variable passed 0 failed 0 finished 0
  variable file [file tail [info script]]
  variable top [file dirname [file dirname [file dirname [file normalize [info script]]]]]
  variable extension [file join $top walmap]
  variable durable [info exists ::env(DURABLE)]
  variable fresh 0 ;# files that took the place of a database in memory
  # What do_same_test opens, and files by the name of twin* are deleted before
  variable twin [expr {$durable ? "twin.db" : ":memory:"}]
  variable counts_all [expr {!$durable}] ;# total_changes() as well, which is another with durable tables
  if {[info exists ::env(WALMAP_SO)]} { set extension [file normalize $::env(WALMAP_SO)] }
  variable dir [file normalize [file join [expr {[info exists ::env(TMPDIR)] ? $::env(TMPDIR) : "/tmp"}] \
    walmap-test-[pid]]]
}
if {$tester::file eq "tester.tcl"} { set tester::file [file tail $::argv0] }

# ---------------------------------------------------------------------------------------------------------------------
# Tests

# Runs `script` and compares its result with `expected`: a string, or /regular expression/.
proc do_test {name script expected} {
  if {[catch {uplevel #0 $script} got]} { set got "ERROR: $got" }
  tester::judge $name $expected $got
}

# Runs SQL and compares the list of all values that it returns.
proc do_execsql_test {args} {
  lassign [tester::db_option $args] handle rest
  lassign $rest name sql expected
  if {[catch {execsql $sql $handle} got]} { set got "ERROR: $got" }
  if {![regexp {^/.*/$} $expected]} { set expected [list {*}$expected] }
  tester::judge $name $expected $got
}

# Runs SQL and compares {0 {values ...}} or {1 {error text}}. The text may be /regular expression/.
proc do_catchsql_test {args} {
  lassign [tester::db_option $args] handle rest
  lassign $rest name sql expected
  lassign [catchsql $sql $handle] code got
  lassign $expected want_code want
  if {$code != $want_code} {
    tester::judge $name $expected [list $code $got]
  } else {
    if {$code == 0} { set want [list {*}$want] }
    tester::judge $name $want $got
  }
}

# Runs an SQL script twice, on two fresh pairs of databases: as it is, and with every walmap table in it replaced by
# the table that ext/SQL.md says it behaves like. After each statement of the script the two must agree in rows,
# error, changes(), total_changes(), last_insert_rowid and transaction state, and at the end in the content of every
# table that the script made. `errors` are the texts of all errors that the script meets, in order: so a slip in the
# script, which fails on both sides alike, does not pass. Rows are compared in order only where ORDER BY asks for it.
proc do_same_test {name script {errors {}}} {
  set ends [tester::ends $script]
  set ours [tester::transcript $script $ends]
  set native [tester::transcript [tester::native $script] $ends]
  set met [lmap entry $ours {
    if {[dict get $entry code] != 1} continue
    dict get $entry result
  }]
  foreach a $ours b $native {
    if {$a ne [dict replace $b sql [dict get $a sql]]} {
      return [tester::judge "$name: [dict get $a sql]" $b $a]
    }
  }
  tester::judge $name [list {*}$errors] $met
}

# Ends a test file.
proc finish_test {} {
  set tester::finished 1
  exit
}

# ---------------------------------------------------------------------------------------------------------------------
# SQL

# The values that `sql` returns, as one list.
proc execsql {sql {handle db}} { uplevel #0 [list $handle eval $sql] }

# {0 values} or {1 error-text}.
proc catchsql {sql {handle db}} {
  set code [catch {execsql $sql $handle} result]
  list $code $result
}

# Content of a table with types and bits: key and value as quote() shows them, in key order.
proc content {table {handle db}} {
  $handle eval "SELECT quote(key), quote(value) FROM $table ORDER BY key"
}

# Opens a database (by default a new one in memory, or with DURABLE in a file) under a handle name and loads the
# extension into it. Files lie in a folder of this run, which is the current folder, and which is deleted at the end.
proc open_db {handle {file ""} args} {
  close_db $handle
  if {$file eq ""} { set file [expr {$tester::durable ? "fresh[incr tester::fresh].db" : ":memory:"}] }
  sqlite3 $handle $file {*}$args
  $handle nullvalue NULL
  $handle enable_load_extension 1
  $handle eval {SELECT load_extension($tester::extension)}
  if {$file ne ":memory:" && "-readonly" ni $args} { $handle eval {PRAGMA synchronous = off} }
  return $handle
}

proc close_db {args} {
  foreach handle $args { catch {$handle close} }
}

# Closes `db` and all that are named, deletes their files, and opens `db` afresh.
proc reset_db {args} {
  close_db db {*}$args
  foreach file [glob -nocomplain *] { file delete -force $file }
  open_db db
}

# Whether the connection is outside of a transaction.
proc autocommit {{handle db}} {
  if {[catch {$handle eval BEGIN}]} { return 0 }
  $handle eval ROLLBACK
  return 1
}

# Milliseconds that a script took.
proc elapsed {script} {
  set start [clock milliseconds]
  uplevel 1 $script
  expr {[clock milliseconds] - $start}
}

# The same, of a script that is run again, some times, while that is not less than the limit. So what must take less
# does so at last, though a busy machine may stop it now and then.
proc elapsed_below {limit script} {
  for {set try 0} {$try < 20} {incr try} {
    set ms [uplevel 1 [list elapsed $script]]
    if {$ms < $limit} break
  }
  return $ms
}

# Runs a script that makes entries whose life is the variable's ms, and looks at them before it ends: again, with twice
# the life, whenever it took too long for that, as it may on a busy machine. Clocks may be a tick or two apart.
proc in_lifetime {variable ms script} {
  upvar 1 $variable life
  for {set life $ms} {[uplevel 1 [list elapsed $script]] > $life - 20} {set life [expr {2 * $life}]} {}
}

# Seeds rand() from SEED or the clock, and says so.
proc seed {} {
  set seed [expr {[info exists ::env(SEED)] ? $::env(SEED) : [clock microseconds] % 1000000}]
  puts "seed $seed (repeat with SEED=$seed)"
  expr {srand($seed + 1)}
  return $seed
}

# ---------------------------------------------------------------------------------------------------------------------
# Behind the scenes

proc tester::judge {name expected got} {
  variable passed
  variable failed
  set ok [expr {[regexp {^/(.*)/$} $expected -> pattern] ? [regexp -- $pattern $got] : $expected eq $got}]
  if {$ok} {
    incr passed
    puts "$name... ok"
  } else {
    incr failed
    puts "$name... FAILED\n  expected: $expected\n  got:      $got"
  }
  return
}

proc tester::db_option {arguments} {
  if {[lindex $arguments 0] eq "-db"} { return [list [lindex $arguments 1] [lrange $arguments 2 end]] }
  list db $arguments
}

# The script with native tables in place of walmap tables.
proc tester::native {script} {
  regsub -all -nocase {CREATE\s+VIRTUAL\s+TABLE\s+(\S+)\s+USING\s+walmap(\s*\([^()]*\))?} $script \
    {CREATE TABLE \1(key PRIMARY KEY, value) WITHOUT ROWID}
}

# The statements of a script.
proc tester::statements {script} {
  set statements {}
  set statement ""
  foreach piece [split $script ";"] {
    append statement $piece ";"
    if {[sqlite_complete $statement]} {
      if {[string trim $statement " \n\t;"] ne ""} { lappend statements [string trim $statement] }
      set statement ""
    }
  }
  return $statements
}

# Statements that show the content of every table that a script makes.
proc tester::ends {script} {
  lmap {- virtual table} [regexp -all -inline -nocase {CREATE\s+(VIRTUAL\s+|TEMP\s+)?TABLE\s+([\w.]+)} $script] {
    if {[string match -nocase "virtual*" $virtual]} {
      string cat "SELECT quote(key) AS k, quote(value) AS v FROM $table"
    } else {
      string cat "SELECT * FROM $table"
    }
  }
}

# What each statement of a script did, on a fresh connection: a list of dictionaries. At the end a table may be missing
# (code 2), for the script may have dropped it, or rolled its CREATE back.
proc tester::transcript {script ends} {
  variable twin
  file delete {*}[glob -nocomplain twin*]
  open_db twin $twin
  set entries [lmap sql [statements $script] {
    set entry [observe $sql]
    if {[reopens $script $entry]} { open_db twin $twin }
    set entry
  }]
  foreach sql $ends {
    set entry [observe $sql]
    if {[dict get $entry code]} { dict set entry code 2 }
    lappend entries $entry
  }
  close_db twin
  return $entries
}

# Whether the connection is closed and opened after that: not where a script needs what a connection has of its own.
proc tester::reopens {script entry} {
  set own {\m(TEMP|ATTACH|PRAGMA|changes|last_insert)}
  expr {$tester::durable && [dict get $entry autocommit] && ![regexp -nocase $own $script]}
}

proc tester::observe {sql} {
  set before [twin total_changes]
  set rows {}
  set code [catch {
    twin eval $sql row { lappend rows [lmap column $row(*) { set row($column) }] }
  } message]
  if {$code == 1} {
    set rows $message
  } elseif {![regexp -nocase {ORDER\s+BY} $sql]} {
    set rows [lsort $rows]
  }
  set entry [dict create sql $sql code $code result $rows autocommit [autocommit twin]]
  if {[regexp -nocase {^\s*(INSERT|REPLACE|UPDATE|DELETE|WITH)} $sql]} {
    dict set entry changes [twin changes]
    if {$tester::counts_all} { dict set entry total_changes [expr {[twin total_changes] - $before}] }
    dict set entry last_insert_rowid [twin last_insert_rowid]
  }
  return $entry
}

# `db complete` without a connection.
proc tester::sqlite_complete {sql} {
  if {[info commands ::tester_parser] eq ""} { sqlite3 ::tester_parser :memory: }
  ::tester_parser complete $sql
}

# tclsh calls exit at the end of a script and after an error, so this is where every file ends (Tcl_Main(3)).
rename exit tester::leave
proc exit {{status 0}} {
  variable tester::passed
  variable tester::failed
  if {!$tester::finished} {
    puts "$tester::file... FAILED\n  expected: finish_test\n  got:      exit $status"
    incr failed
  } elseif {$passed + $failed == 0} {
    puts "$tester::file... FAILED\n  expected: at least one test\n  got:      none"
    incr failed
  }
  foreach handle [info commands ::db*] { catch {$handle close} }
  cd /
  file delete -force $tester::dir
  puts "$passed passed, $failed failed"
  flush stdout
  tester::leave [expr {$failed > 0}]
}

file mkdir $tester::dir
cd $tester::dir
