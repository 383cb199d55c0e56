# differences.tcl - the differences between a walmap table and a native one that ext/SQL.md describes
#
# Each rule names the heading of ext/SQL.md that describes it. What no rule explains is a failure.

namespace eval differences {}

# The tables in the order in which a plan loops over them, and what else in it sets an order.
proc differences::plan {side name sql} {
  set steps {}
  ::twin::$side:$name eval "EXPLAIN QUERY PLAN $sql" row {
    if {[regexp {^(?:SCAN|SEARCH) (\S+)} $row(detail) -> table]} {
      lappend steps $table
      if {[string match *AUTOMATIC* $row(detail)]} { lappend steps AUTOMATIC }
    } else {
      lappend steps $row(detail)
    }
  }
  return $steps
}

# The reason for which a difference is none of walmap's own, with the place in ext/SQL.md, or nothing.
proc differences::explain {name sql difference ours theirs} {
  lassign $difference what got native
  set word [sql::first_word $sql]

  # A join without ORDER BY, whose loops SQLite nests in another way round a virtual table
  if {$what eq "order" && ![catch {plan native $name $sql} theirs_plan] && ![catch {plan walmap $name $sql} our_plan] &&
      $our_plan ne $theirs_plan} {
    return {another plan, without ORDER BY ("What differs without an error", Order)}
  }
  # A SELECT calls a function of the test that writes to the table
  if {$word eq "SELECT" && $twin::wrote} {
    return {a SELECT whose function writes to the table ("What it promises", T2)}
  }
  # Its function rolls the transaction back
  if {$word eq "SELECT" && $native eq {1 4 {abort due to ROLLBACK}}} {
    return {a SELECT that is open at a ROLLBACK ("What differs without an error")}
  }
  if {$word eq "UPDATE" && [regexp -nocase {\mFROM\M} $sql] && [regexp {NOT NULL constraint failed} $got]} {
    return {UPDATE ... FROM an aggregate ("What differs without an error")}
  }
  if {$word eq "UPDATE" && $what eq "changes" && [regexp -nocase {\mFROM\M} $sql]} {
    return {changes() after UPDATE ... FROM ("What differs without an error")}
  }
  # The same file under two names
  set files [lmap {- - file} [::twin::walmap:$name eval {PRAGMA database_list}] { if {$file eq ""} continue; set file }]
  if {[llength $files] > [llength [lsort -unique $files]]} {
    return {one file attached twice ("Durable tables")}
  }
  return ""
}
