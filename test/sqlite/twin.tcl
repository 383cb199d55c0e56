# twin.tcl - connections in pairs: what SQLite's tests open by `sqlite3 db FILE` is here two databases
#
# The one is SQLite's alone. In the other each table that the tests make with two columns is a walmap table. On the
# native side the same table is declared as what ext/SQL.md says a walmap table behaves like: two columns without types,
# the first the primary key, WITHOUT ROWID. Columns keep the names that the test gives them (two_columns.c), so both
# sides run the test's own SQL; only CREATE TABLE differs. Each statement runs on both, and they must agree in rows and
# their order, in errors, changes() and the state of the transaction; and after each statement that writes, or ends a
# transaction, in the content of all walmap tables.
#
# What does not agree is a difference: a problem, unless differences.tcl knows it as one that ext/SQL.md describes.
# After a difference the walmap tables get the native side's rows, so that one does not bring a hundred others.

namespace eval twin {
  variable mode ordered ;# ordered, durable or unordered (run)
  variable extension "" ;# two_columns.so
  variable root ""      ;# folder of this run; native/ and walmap/ in it have the two sides' files
  variable handles {}   ;# by name: how each connection was opened and set up
  variable generation 0 ;# goes up when any schema may have changed
  variable left_out {}  ;# indexes and triggers that neither side has, because SQLite refuses them to virtual tables
  variable unkeyed {}   ;# tables whose first column is no key in the test's own declaration
  variable pace         ;# by table: how many comparisons of a large table are still to be left out
  variable problems {}  ;# differences that are not described
  variable skip ""      ;# why the running test cannot be judged, if so
  variable reached 0    ;# whether the running test has used a walmap table
  variable differs 0    ;# whether it has found a problem
  variable within ""    ;# inside a function that a test defines: the side that calls it, and whether it runs SQL
  variable wrote 0      ;# whether the last statement has written to a walmap table
  variable test ""      ;# name of the running test
  variable null "\u2400\u2400"
  variable count        ;# figures
  variable skipped      ;# statements that were not compared, by reason
  variable excused      ;# differences that ext/SQL.md describes, by reason
  array set count {statements 0 reached 0 contents 0 reopened 0 tables 0 again 0}
  array set skipped {}
  array set excused {}
  array set pace {}
  variable drawn        ;# by side: the last random number
  array set drawn {native 1 walmap 1}
}

# ---------------------------------------------------------------------------------------------------------------------
# Opening and closing

# In the place of the command that opens a connection: `sqlite3 HANDLE ?FILE? ?options?`
proc twin::open {args} {
  if {[string match -* [lindex $args 0]]} { return 0 }
  set file ""
  set options {}
  set args [lassign $args name]
  if {[llength $args] % 2} { set args [lassign $args file] }
  foreach {option value} $args {
    switch -- $option {
      -readonly - -create - -nomutex - -fullmutex { lappend options $option $value }
      -uri - -key {}
      default { error [leave_out "sqlite3 $option"] }
    }
  }
  if {[string match file:* $file]} { error [leave_out "open by a URI"] }
  close $name
  dict set twin::handles $name [dict create file $file options $options setup {} attached {} null {}]
  connect $name
  interp alias {} ::$name {} twin::call $name
  return
}

# Opens both sides, as the handle was opened and set up.
proc twin::connect {name} {
  set h [dict get $twin::handles $name]
  foreach {side entry} {native nativetwin walmap walmaptwin} {
    set real ::twin::$side:$name
    if {[info commands $real] ne ""} { $real close }
    real_sqlite3 $real [place $side [dict get $h file]] {*}[dict get $h options]
    $real nullvalue $twin::null
    $real enable_load_extension 1
    $real eval "SELECT load_extension('$twin::extension', 'sqlite3_${entry}_init')"
    $real enable_load_extension 0
    catch {$real eval {PRAGMA synchronous = off}}
    $real function random -argcount 0 -innocuous [list twin::random $side]
    $real function randomblob -argcount 1 -innocuous -returntype blob [list twin::random_blob $side]
    foreach {ours theirs} [dict get $h setup] { catch {$real {*}[expr {$side eq "walmap" ? $ours : $theirs}]} }
    dict for {schema sql} [dict get $h attached] { $real eval [dict get $sql $side] }
  }
  incr twin::generation
}

# The next number of an xorshift generator
proc twin::random {side} {
  variable drawn
  set x $drawn($side)
  set x [expr {($x ^ ($x << 13)) & 0xffffffffffffffff}]
  set x [expr {$x ^ ($x >> 7)}]
  set drawn($side) [expr {($x ^ ($x << 17)) & 0xffffffffffffffff}]
  return [expr {$drawn($side) - 0x8000000000000000}]
}

proc twin::random_blob {side size} {
  set blob ""
  while {[string length $blob] < max(1, $size)} { append blob [binary format w [random $side]] }
  return [string range $blob 0 [expr {max(1, $size) - 1}]]
}

proc twin::close {name} {
  if {![dict exists $twin::handles $name]} return
  dict unset twin::handles $name
  foreach side {native walmap} { if {[info commands ::twin::$side:$name] ne ""} { ::twin::$side:$name close } }
  catch {rename ::$name ""}
}

# Where a side has a file. Only durable tables need files.
proc twin::place {side file} {
  if {$file eq "" || $file eq ":memory:"} { return $file }
  if {$twin::mode ne "durable"} { return :memory: }
  if {[file pathtype $file] ne "relative"} { set file [file tail $file] }
  return [file join $twin::root $side $file]
}

# Closes and opens both sides of a file that has walmap tables, where nothing but its content is lost by that.
proc twin::reopen {name} {
  set h [dict get $twin::handles $name]
  if {$twin::mode ne "durable" || [dict get $h file] in {"" :memory:}} return
  if {![llength [tables $name]] || ![inside native $name 1] || ![inside walmap $name 1]} return
  dict for {schema sql} [dict get $h attached] { if {[string match *:memory:* $sql]} return }
  if {[::twin::native:$name onecolumn {SELECT count(*) FROM sqlite_temp_schema}]} return
  connect $name
  incr twin::count(reopened)
}

# ---------------------------------------------------------------------------------------------------------------------
# The command of a connection

# Notes why the running test cannot be judged.
proc twin::leave_out {what} {
  set twin::skip $what
  return "left out: $what"
}

proc twin::call {name method args} {
  set native ::twin::native:$name
  switch -- $method {
    eval {
      while {[string match -* [lindex $args 0]]} { set args [lrange $args 1 end] }
      set args [lassign $args sql]
      set with_names [expr {[llength $args] > 0}]
      set got [uplevel 1 [list twin::run $name $sql $with_names]]
      if {!$with_names} { return $got }
      set script [lindex $args end]
      set array [expr {[llength $args] > 1 ? [lindex $args 0] : ""}]
      if {$array ne ""} {
        upvar 1 $array row
        catch {unset row}
      }
      foreach {columns values} $got {
        if {$array ne ""} { set row(*) $columns }
        foreach column $columns value $values {
          if {$array ne ""} { set row($column) $value } else { uplevel 1 [list set $column $value] }
        }
        set code [catch {uplevel 1 $script} result options]
        if {$code == 3} break
        if {$code != 0 && $code != 4} {
          dict incr options -level
          return -options $options $result
        }
      }
      return
    }
    one - onecolumn { return [lindex [uplevel 1 [list twin::run $name [lindex $args 0] 0]] 0] }
    exists { return [expr {[llength [uplevel 1 [list twin::run $name [lindex $args 0] 0]]] > 0}] }
    transaction {
      set outer [inside native $name 1]
      run $name [expr {$outer ? "BEGIN [lrange $args 0 end-1]" : "SAVEPOINT _tcl"}] 0
      set code [catch {uplevel 1 [lindex $args end]} result options]
      if {$code == 1} {
        run $name [expr {$outer ? "ROLLBACK" : "ROLLBACK TO _tcl; RELEASE _tcl"}] 0
      } else {
        run $name [expr {$outer ? "COMMIT" : "RELEASE _tcl"}] 0
      }
      dict incr options -level
      return -options $options $result
    }
    close { close $name }
    nullvalue {
      if {[llength $args]} { dict set twin::handles $name null [lindex $args 0] }
      return [dict get $twin::handles $name null]
    }
    changes - last_insert_rowid - total_changes - errorcode - version - complete - cache - status {
      return [::twin::[lindex "$twin::within native" 0]:$name $method {*}$args]
    }
    function - func {
      if {[lindex $args 0] in {random randomblob}} { error [leave_out "db $method random"] }
      set script [lindex $args end]
      foreach side {walmap native} {
        set for($side) [list $method {*}[lreplace $args end end [list twin::function $side $script]]]
        ::twin::$side:$name {*}$for($side)
      }
      remember $name $for(walmap) $for(native)
    }
    collate - collation_needed - timeout {
      ::twin::walmap:$name $method {*}$args
      $native $method {*}$args
      remember $name [list $method {*}$args] [list $method {*}$args]
    }
    busy - commit_hook - rollback_hook - update_hook - trace - trace_v2 - profile - progress - authorizer - wal_hook -
    preupdate - unlock_notify - interrupt - enable_load_extension - config - bind_fallback { leave_out "db $method" }
    default { error [leave_out "db $method"] }
  }
  return
}

# Notes what is to be done again when the connection is opened again.
proc twin::remember {name walmap native} {
  set setup [dict get $twin::handles $name setup]
  dict set twin::handles $name setup [linsert $setup end $walmap $native]
}

# A function that a test defines may return something else at each call: the native side, which comes second, gets what
# the same arguments gave the walmap side. One that runs SQL itself does so on the side that calls it.
proc twin::function {side script args} {
  variable given
  variable within
  set call [list $script $args]
  if {$side eq "native" && [info exists given($call)] && [llength $given($call)]} {
    set given($call) [lassign $given($call) result]
    return $result
  }
  set outer $within
  set within [list $side 0]
  set code [catch {uplevel #0 $script $args} result options]
  if {$side eq "walmap" && $code != 1 && ![lindex $within 1]} { lappend given($call) $result }
  set within $outer
  return -options $options $result
}

# Whether one side's transaction state, 1 outside of a transaction and 0 inside, is `state`.
proc twin::inside {side name state} {
  expr {[::twin::$side:$name onecolumn {SELECT twin_autocommit()}] == $state}
}

# Runs SQL on both sides. Returns the values of all rows, or columns and values of each.
proc twin::run {name sql with_names} {
  set result {}
  set null [dict get $twin::handles $name null]
  foreach statement [statements $sql] {
    lassign [uplevel 1 [list twin::run_statement $name $statement $with_names]] code got
    if {$code} { return -code error -level 2 $got }
    if {[string first $twin::null $got] >= 0} {
      set got [lmap value $got {
        if {$with_names} { lmap v $value { string map [list $twin::null $null] $v } } else {
          string map [list $twin::null $null] $value
        }
      }]
    }
    lappend result {*}$got
    # A script that closes the connection
    if {![dict exists $twin::handles $name]} break
  }
  return $result
}

proc twin::run_statement {name sql with_names} {
  variable within
  lassign [sql::sort $name $sql] kind reason native walmap
  if {$within ne ""} {
    set side [lindex $within 0]
    lset within 1 1
    if {$kind ne "both"} { return {0 {}} }
    set outcome [uplevel 1 [list twin::observe $side $name [set $side] $with_names]]
    if {[lindex $outcome 0]} { lset outcome 1 [without_column [lindex $outcome 1]] }
    return $outcome
  }
  if {$kind eq "neither"} {
    incr twin::skipped($reason)
    return {0 {}}
  }
  reopen $name
  if {$kind eq "native"} {
    incr twin::skipped($reason)
    return [uplevel 1 [list twin::observe native $name $sql $with_names]]
  }
  incr twin::count(statements)
  if {[regexp -nocase random $sql]} {
    # Both sides draw the same numbers
    foreach side {native walmap} { set twin::drawn($side) $twin::count(statements) }
  }
  array unset twin::given
  set total [::twin::native:$name total_changes]
  set calls [::twin::walmap:$name onecolumn {SELECT twin_calls()}]
  set ours [uplevel 1 [list twin::observe walmap $name $walmap $with_names]]
  if {[lindex $ours 0] && [set refused [sql::refused $sql [lindex $ours 1]]] ne ""} {
    incr twin::skipped($refused)
    return {0 {}}
  }
  set theirs [uplevel 1 [list twin::observe native $name $native $with_names]]
  if {![dict exists $twin::handles $name]} { return $theirs }
  set schema_changes [expr {[sql::first_word $sql] in
      {CREATE DROP ALTER ATTACH DETACH VACUUM ROLLBACK RELEASE END COMMIT}}]
  if {$schema_changes} { incr twin::generation }
  set now [::twin::walmap:$name onecolumn {SELECT twin_calls()}]
  set twin::wrote [expr {[lindex $now 1] != [lindex $calls 1]}]
  if {$now ne $calls} {
    set twin::reached 1
    incr twin::count(reached)
  }
  set difference [compare $name $sql $ours $theirs]
  if {$difference eq "" && ($now ne $calls || $schema_changes || $total != [::twin::native:$name total_changes])} {
    set difference [compare_contents $name]
  }
  if {$difference ne ""} {
    set reason [differences::explain $name $sql $difference $ours $theirs]
    if {$reason ne ""} { incr twin::excused($reason) } else {
      set twin::differs 1
      lappend twin::problems [list $twin::test $sql $difference]
    }
    align $name
  }
  sql::ran $name $sql $ours $theirs
  # The test knows of no key there: with the rows that the key allows, it goes on nearly as it would
  if {[lindex $theirs 0] && $difference eq "" && [set again [sql::or_ignore $sql [lindex $theirs 1]]] ne ""} {
    incr twin::count(again)
    return [uplevel 1 [list twin::run_statement $name $again $with_names]]
  }
  return $theirs
}

# {code result}, and for a statement that writes changes(), and the state of the transaction.
proc twin::observe {side name sql with_names} {
  set real ::twin::$side:$name
  if {$with_names} {
    set twin::rows {}
    set code [catch {uplevel 1 [list $real eval $sql ::twin::row ::twin::collect]} got]
    if {$code == 0} { set got $twin::rows }
  } else {
    set code [catch {uplevel 1 [list $real eval $sql]} got]
  }
  set writes [expr {[sql::first_word $sql] in {INSERT REPLACE UPDATE DELETE}}]
  set kind [expr {$code ? [$real errorcode] & 0xff : 0}]
  list [expr {$code != 0}] $got $kind [expr {$writes ? [$real changes] : 0}] [inside $side $name 1]
}

proc twin::collect {} {
  upvar #0 ::twin::row row
  lappend twin::rows $row(*) [lmap column $row(*) { set row($column) }]
}

# ---------------------------------------------------------------------------------------------------------------------
# Comparing

# An error of a constraint without the column, which walmap calls key.
proc twin::without_column {text} { regsub {(constraint failed: .*)\.[^.]*$} $text {\1} }

# In what two observations differ: empty, or {what walmap's native's}.
proc twin::compare {name sql ours theirs} {
  lassign $ours code got kind changes outside
  lassign $theirs native_code native_got native_kind native_changes native_outside
  if {$code || $native_code} {
    foreach text {got native_got} { set $text [without_column [set $text]] }
  }
  if {$code != $native_code || $kind != $native_kind || ($code && $got ne $native_got)} {
    return [list error [list $code $kind $got] [list $native_code $native_kind $native_got]]
  }
  if {$outside != $native_outside} { return [list autocommit $outside $native_outside] }
  if {$got ne $native_got} {
    return [list [expr {[lsort $got] eq [lsort $native_got] ? "order" : "rows"}] $got $native_got]
  }
  # What fails before it runs leaves changes() as it was
  if {$changes != $native_changes && ($code == 0 || $kind == 19)} { return [list changes $changes $native_changes] }
  return ""
}

# The walmap tables that a connection sees: {schema table column column ...}
proc twin::tables {name} {
  variable known
  if {[info exists known($name)] && [lindex $known($name) 0] == $twin::generation} { return [lindex $known($name) 1] }
  set real ::twin::walmap:$name
  set found {}
  catch {
    $real eval {PRAGMA database_list} database {
      set sql "SELECT name, sql FROM [sql::quote $database(name)].sqlite_schema
        WHERE sql LIKE 'CREATE VIRTUAL%columns=%'"
      # To read is to lock: the other side does it as well
      ::twin::native:$name eval $sql
      $real eval $sql table {
        regexp {columns='([0-9a-f]+):([0-9a-f]+)} $table(sql) -> first second
        lappend found $database(name) $table(name) [sql::decode $first] [sql::decode $second]
      }
    }
  }
  set known($name) [list $twin::generation $found]
  return $found
}

proc twin::compare_contents {name} {
  variable pace
  foreach {schema table first second} [tables $name] {
    if {[info exists pace($table)] && [incr pace($table) -1] > 0} continue
    set sql "SELECT count(*), twin_digest([sql::quote $first], [sql::quote $second])
      FROM [sql::quote $schema].[sql::quote $table]"
    foreach side {native walmap} {
      if {[catch {::twin::$side:$name eval $sql} $side]} { set $side "error [set $side]" }
    }
    incr twin::count(contents)
    if {$native ne $walmap} {
      set rows "SELECT quote([sql::quote $first]), quote([sql::quote $second])
        FROM [sql::quote $schema].[sql::quote $table]"
      set shown {}
      foreach side {walmap native} {
        if {[catch {::twin::$side:$name eval $rows} got]} { set got "error $got" }
        lappend shown $got
      }
      return [list "content of $table" {*}$shown]
    }
    # Tables of many thousand rows now and then only
    set pace($table) [expr {[string is integer -strict [lindex $native 0]] ? [lindex $native 0] / 1000 : 0}]
  }
  return ""
}

# Gives the walmap tables the native side's rows.
proc twin::align {name} {
  foreach {schema table first second} [tables $name] {
    set place [sql::quote $schema].[sql::quote $table]
    catch {
      set rows [::twin::native:$name eval "SELECT '(' || quote([sql::quote $first]) || ', ' ||
        quote([sql::quote $second]) || ')' FROM $place"]
      ::twin::walmap:$name eval "DELETE FROM $place"
      foreach row $rows { ::twin::walmap:$name eval "INSERT INTO $place VALUES $row" }
    }
  }
}

# The statements of an SQL text.
proc twin::statements {sql} {
  variable split
  if {[info exists split($sql)]} { return $split($sql) }
  set found {}
  set statement ""
  foreach piece [::split $sql ";"] {
    append statement $piece ";"
    if {[::twin::parser complete $statement]} {
      if {[sql::first_word $statement] ne ""} { lappend found $statement }
      set statement ""
    }
  }
  if {[sql::first_word $statement] ne ""} { lappend found $statement }
  # Comments at the end are no statement
  return [set split($sql) $found]
}
