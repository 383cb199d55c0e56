# tester.tcl - runs one file of SQLite's own tests on pairs of connections (twin.tcl)
#
#    tclsh tester.tcl MODE FOLDER_OF_THE_TESTS FILE EXTENSION
#
# It has the commands that SQLite's test/tester.tcl gives to the files, as far as they run SQL. What needs the C code of
# SQLite's own test program is left out, test by test: `skipped` says why. Prints "KEY VALUE" lines for test/sqlite/run.

package require Tcl 8.6
package require sqlite3
rename sqlite3 real_sqlite3
rename source real_source
rename file real_file
rename unknown real_unknown
rename exit real_exit
rename puts real_puts

set here [real_file dirname [real_file normalize [info script]]]
foreach part {twin sql differences} { real_source [real_file join $here $part.tcl] }
interp alias {} sqlite3 {} twin::open
real_sqlite3 ::twin::parser :memory:

lassign $argv twin::mode testdir script twin::extension
set testdir [real_file normalize $testdir]
set twin::extension [real_file normalize $twin::extension]
set argv0 [real_file join $testdir $script]
set argv {}

namespace eval tester {
  variable count
  array set count {tests 0 as_expected 0 agreed 0 differed 0}
  variable unjudged ;# tests, by why
  array set unjudged {}
  variable done 0
}

# ---------------------------------------------------------------------------------------------------------------------
# Tests

proc do_test {name cmd expected} {
  fix_testname name
  set twin::skip ""
  set twin::reached 0
  set twin::differs 0
  set twin::test $name
  set failed [catch {uplevel #0 "$cmd;\n"} result]
  set as_expected [expr {!$failed && [tester::matches $result $expected]}]
  set twin::test "after $name"
  if {!$twin::reached && !$twin::differs} return
  incr tester::count(tests)
  if {$twin::differs} {
    incr tester::count(differed)
  } elseif {$as_expected} {
    incr tester::count(as_expected)
  } elseif {$twin::skip ne ""} {
    incr tester::unjudged($twin::skip)
  } else {
    incr tester::count(agreed)
  }
  return
}

# As in SQLite's tester.tcl: /regular expression/, ~ for not, #/numbers/, *glob*, or the text itself
proc tester::matches {result expected} {
  if {[regexp {^([~#]?)/(.*)/$} $expected -> sign pattern]} {
    if {$sign eq "#"} {
      foreach value $result range $pattern {
        if {[regexp {^(-?\d+)\.\.(-?\d+)$} $range -> low high]} {
          set ok [expr {$value + 0 >= $low && $value + 0 <= $high}]
        } else {
          set ok [expr {$value + 0 >= 0.9 * $range && $value + 0 <= 1.1 * $range}]
        }
        if {!$ok} { return 0 }
      }
      return [expr {[llength $result] == [llength $pattern]}]
    }
    if {[string match \\** $pattern]} { set ok [string match $pattern $result] } else {
      set ok [regexp [string map {# {[-0-9.]+}} $pattern] $result]
    }
    return [expr {$sign eq "~" ? !$ok : $ok}]
  }
  if {[regexp {^~(\*.*\*)$} $expected -> pattern]} { return [expr {![string match $pattern $result]}] }
  if {[regexp {^\*.*\*$} $expected]} { return [string match $expected $result] }
  return [expr {$result eq $expected}]
}

proc fix_testname {name} {
  upvar $name testname
  if {[info exists ::testprefix] && [string is digit -strict [string index $testname 0]]} {
    set testname "${::testprefix}-$testname"
  }
}

proc do_execsql_test {args} {
  set db db
  if {[lindex $args 0] eq "-db"} { set args [lassign $args - db] }
  lassign $args name sql result
  fix_testname name
  uplevel 1 [list do_test $name "execsql {$sql} $db" [list {*}$result]]
}

proc do_catchsql_test {name sql result} { uplevel 1 [list do_test $name "catchsql {$sql}" $result] }
proc do_timed_execsql_test {name sql {result {}}} { uplevel 1 [list do_execsql_test $name $sql $result] }
proc do_filepath_test {name cmd expected} { uplevel 1 [list do_test $name $cmd $expected] }
proc do_realnum_test {name cmd expected} {
  uplevel 1 [list do_test $name "realnum_normalize \[$cmd\]" [realnum_normalize $expected]]
}
proc realnum_normalize {r} { string map {1.#INF inf Inf inf .0e e} [regsub -all {(e[+-])0+} $r {\1}] }

# Plans are another matter
proc do_eqp_test {args} {}
proc do_eqp_execsql_test {name eqp sql result} { uplevel 1 [list do_execsql_test $name $sql $result] }
foreach faults {do_malloc_test do_ioerr_test do_faultsim_test crashsql crash_on_write do_multiclient_test} {
  proc $faults {args} {
    incr tester::unjudged(faults)
    return
  }
}

proc integrity_check {name {db db}} { uplevel 1 [list do_test $name [list execsql {PRAGMA integrity_check} $db] ok] }
proc verify_ex_errcode {args} {}

proc do_select_tests {prefix args} {
  set format ""
  set query ""
  set repair ""
  set counts 0
  foreach {switch value} [lrange $args 0 end-1] {
    switch -glob -- $switch {
      -q* { set query [list execsql $value] }
      -t* { set query $value }
      -e* { set format $value }
      -r* { set repair $value }
      -c* { set counts 1 }
    }
  }
  eval $repair
  foreach {tn sql result} [lindex $args end] {
    if {$query ne ""} {
      execsql $sql
      uplevel 1 [list do_test $prefix.$tn $query [list {*}$result]]
    } elseif {$counts} {
      uplevel 1 [list do_test $prefix.$tn "set n 0; db eval {$sql} {incr n}; set n" $result]
    } elseif {$format eq ""} {
      uplevel 1 [list do_execsql_test $prefix.$tn $sql $result]
    } else {
      uplevel 1 [list do_catchsql_test $prefix.$tn $sql [list 1 [string trim [format $format {*}$result]]]]
    }
    eval $repair
  }
}

proc finish_test {} { set tester::done 1 }
proc finish_test_precleanup {} {}
proc set_test_counter {counter args} { return 0 }
proc incr_ntest {} {}
proc omit_test {args} {}
proc fail_test {args} {}
proc warning {args} {}
proc output1 {args} {}
proc output2 {args} {}
proc puts {args} {
  # What a test writes into a file is written
  if {[llength $args] == 1 || [lindex $args 0] in {-nonewline stdout stderr}} return
  uplevel 1 [list real_puts {*}$args]
}
proc speed_trial {name count units sql} { uplevel 1 [list execsql $sql] }
foreach nothing {speed_trial_init speed_trial_summary speed_trial_tcl sqlite3_memdebug_settitle optimization_control
    sqlite3_db_config sqlite3_soft_heap_limit sqlite3_test_control autoinstall_test_functions sqlite3_shutdown
    sqlite3_initialize sqlite3_config sqlite3_extended_result_codes sqlite3_release_memory sqlite3_enable_shared_cache
    do_not_use_codec test_set_config_pagecache test_restore_config_pagecache sqlite3_db_release_memory
    save_prng_state restore_prng_state register_wholenumber_module breakpoint sqlite3_test_control_pending_byte} {
  proc $nothing {args} { return 0 }
}

# ---------------------------------------------------------------------------------------------------------------------
# SQL and files

proc execsql {sql {db db}} { uplevel 1 [list $db eval $sql] }
proc execsql_timed {sql {db db}} { uplevel 1 [list $db eval $sql] }
proc execsql_pp {sql {db db}} { uplevel 1 [list $db eval $sql] }
proc catchsql {sql {db db}} {
  set code [catch {uplevel 1 [list $db eval $sql]} message]
  list $code $message
}
proc execsql2 {sql} {
  set result {}
  db eval $sql data { foreach f $data(*) { lappend result $f $data($f) } }
  return $result
}
proc memdbsql {sql} {
  sqlite3 memdb :memory:
  set result [memdb eval $sql]
  memdb close
  return $result
}
proc sqlite3_exec {db sql} {
  set code [catch {execsql2_of $db $sql} message]
  list $code $message
}
proc execsql2_of {db sql} {
  set result {}
  $db eval $sql data {
    if {![llength $result]} { lappend result {*}$data(*) }
    foreach f $data(*) { lappend result $data($f) }
  }
  return $result
}
proc sqlite3_connection_pointer {db} { return $db }
proc explain {args} {}
proc explain_i {args} {}

proc drop_all_tables {{db db}} {
  foreach {- name -} [$db eval {PRAGMA database_list}] {
    foreach {t type} [$db eval "SELECT name, type FROM \"$name\".sqlite_master
        WHERE type IN ('table', 'view') AND name NOT LIKE 'sqliteX_%' ESCAPE 'X'"] {
      $db eval "DROP $type \"$t\""
    }
  }
}
proc drop_all_indexes {{db db}} {
  foreach index [$db eval {SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE 'create%'}] {
    $db eval "DROP INDEX $index"
  }
}
proc delete_all_data {} {
  db eval {SELECT tbl_name AS t FROM sqlite_master WHERE type = 'table'} { db eval "DELETE FROM '$t'" }
}

# Both sides' files, and what a test has of its own in the current folder
proc file {subcommand args} {
  if {$subcommand in {delete copy rename exists size mtime attributes}} {
    set options [lsearch -all -inline -glob $args -*]
    set names [lsearch -all -inline -not -glob $args -*]
    if {[llength $names] && [lsearch -not [lmap n $names { real_file pathtype $n }] relative] < 0} {
      if {$subcommand in {exists size mtime}} {
        set native [real_file join $twin::root native [lindex $names 0]]
        return [real_file $subcommand [expr {[real_file exists $native] ? $native : [lindex $names 0]}]]
      }
      foreach side {native walmap .} {
        catch {real_file $subcommand {*}$options {*}[lmap n $names { real_file join $twin::root $side $n }]}
      }
      return
    }
  }
  uplevel 1 [list real_file $subcommand {*}$args]
}
proc forcedelete {args} { foreach name $args { file delete -force $name } }
proc delete_file {args} { forcedelete {*}$args }
proc copy_file {from to} { file copy -force $from $to }
proc forcecopy {from to} { file copy -force $from $to }
proc get_pwd {} { pwd }
proc db_save {} {
  forcedelete {*}[lmap path [glob -nocomplain -directory native -tails sv_test.db*] { set path }]
  foreach path [glob -nocomplain -directory $twin::root/walmap -tails test.db*] { file copy -force $path sv_$path }
}
proc db_save_and_close {} { db_save; catch {db close} }
proc db_restore {} {
  foreach path [glob -nocomplain -directory $twin::root/walmap -tails test.db*] { file delete -force $path }
  foreach path [glob -nocomplain -directory $twin::root/walmap -tails sv_test.db*] {
    file copy -force $path [string range $path 3 end]
  }
}
proc db_restore_and_reopen {{file test.db}} { catch {db close}; db_restore; sqlite3 db $file }
proc db_delete_and_reopen {{file test.db}} {
  catch {db close}
  foreach side {native walmap} { real_file delete -force {*}[glob -nocomplain $twin::root/$side/test.db*] }
  sqlite3 db $file
}
proc reset_db {} {
  foreach name {db db2 db3} { catch {$name close} }
  forcedelete test.db test.db-journal test.db-wal
  sqlite3 db test.db
}

# ---------------------------------------------------------------------------------------------------------------------
# What SQLite can do

array set sqlite_options {default_autovacuum 0}
foreach missing {debug memdebug icu crashtest 8_3_names api_armor atomicwrite curdir fts1 fts2 geopoly mem3 mem5 diskio
    mutex_noop stat4 session snapshot scanstatus setlk_timeout uri win32malloc has_codec oversize_cell_check
    default_ckptfullfsync malloc_usable_size case_sensitive_like fast_secure_delete
    unlock_notify shared_cache incrblob vtab_echo progress authorizer memorymanage rbu stmtvtab zipfile preupdate
    lock_proxy_pragmas prefer_proxy_locking userauth normalize pager_pragmas like_match_blobs update_delete_limit} {
  set sqlite_options($missing) 0
}
trace add variable sqlite_options read {apply {{name index op} {
  if {$index ne "" && ![info exists ::sqlite_options($index)]} { set ::sqlite_options($index) 1 }
}}}
proc capable {expression} { expr [regsub -all {\w+} $expression {$::sqlite_options(&)}] }
proc ifcapable {expression code {else ""} {other ""}} {
  set code [catch {uplevel 1 [expr {[capable $expression] ? $code : $other}]} result options]
  if {$code == 0} { return $result }
  dict incr options -level
  return -options $options $result
}
proc permutation {} {}
proc presql {} {}
proc isquick {} { return 0 }
proc verbose {} { return 0 }
proc wal_is_wal_mode {} { return 0 }
proc wal_set_journal_mode {{db db}} {}
proc wal_check_journal_mode {args} {}
proc wal_is_capable {} { return 0 }
proc nonzero_reserved_bytes {} { return 0 }
proc working_64bit_int {} { return 1 }
proc atomic_batch_write {args} { return 0 }
proc clang_sanitize_address {} { return 0 }
proc database_may_be_corrupt {} {}
proc database_never_corrupt {} {}
proc extra_schema_checks {args} {}
proc use_mmap {args} {}

set AUTOVACUUM 0
set TEMP_STORE 1
set SQLITE_DEFAULT_PAGE_SIZE 4096
set SQLITE_MAX_PAGE_SIZE 65536
set SQLITE_DEFAULT_CACHE_SIZE -2000
set SQLITE_MAX_LENGTH 1000000000
set SQLITE_MAX_SQL_LENGTH 1000000000
set SQLITE_MAX_COLUMN 2000
set SQLITE_MAX_COMPOUND_SELECT 500
set SQLITE_MAX_EXPR_DEPTH 1000
set SQLITE_MAX_VDBE_OP 250000000
set SQLITE_MAX_FUNCTION_ARG 127
set SQLITE_MAX_ATTACHED 10
set SQLITE_MAX_VARIABLE_NUMBER 250000
set SQLITE_MAX_LIKE_PATTERN_LENGTH 50000
set SQLITE_MAX_PAGE_COUNT 1073741823
set bitmask_size 64
set sqlite_pending_byte 0x40000000
foreach counter {sqlite_interrupt_count sqlite_sync_count sqlite_fullsync_count sqlite_open_file_count
    sqlite_found_count sqlite_search_count sqlite_sort_count sqlite_like_count sqlite3_xferopt_count
    sqlite3_max_blobsize sqlite_current_time sqlite_opentemp_count} {
  set $counter 0
}
array set G {isquick 0 perm:name {} perm:presql {}}
array set cmdlinearg {soak 0 maxerror 1000 verbose 0 match {} soft-heap-limit 0 file-retries 0 file-retry-delay 0}
set STMT ""
set DB db

# ---------------------------------------------------------------------------------------------------------------------
# Running the file

proc source {args} {
  set path [lindex $args end]
  # tester.tcl is this file; what other files of SQLite's add to it is for faults and files
  if {[real_file tail $path] in {tester.tcl malloc_common.tcl ioerr_common.tcl thread_common.tcl wal_common.tcl
      lock_common.tcl}} return
  uplevel #0 [list real_source {*}$args]
}

# A command of SQLite's test program: the running test cannot be judged
proc unknown {command args} {
  twin::leave_out "needs $command"
  return ""
}
foreach alien {exec load thread vwait after fcntl} {
  catch {rename $alien real_$alien}
  proc $alien {args} [list twin::leave_out "needs $alien"]
}
proc exit {args} { return -code 2 }

proc tester::run {path} {
  set channel [::open $path]
  fconfigure $channel -encoding utf-8
  set text [read $channel]
  ::close $channel
  # One command at a time: a file goes on behind one that needs what is not there
  set command ""
  foreach line [split $text \n] {
    append command $line \n
    if {![info complete $command]} continue
    set code [catch {uplevel #0 $command} result]
    if {$code == 1} { incr "tester::unjudged(error outside of a test)" }
    if {$code == 2 || $tester::done} break
    set command ""
  }
}

set twin::root [real_file join [expr {[info exists env(TMPDIR)] ? $env(TMPDIR) : "/tmp"}] walmap-sqlite-[pid]]
foreach side {native walmap} { real_file mkdir [real_file join $twin::root $side] }
cd $twin::root
sqlite3 db test.db
tester::run [real_file join $testdir $script]
foreach name [dict keys $twin::handles] { twin::close $name }
cd /
real_file delete -force $twin::root

foreach {key value} [array get tester::count] { real_puts "tests $key $value" }
foreach {key value} [array get twin::count] { real_puts "statements $key $value" }
foreach {key value} [array get tester::unjudged] { real_puts "unjudged $value $key" }
foreach {key value} [array get twin::skipped] { real_puts "skipped $value $key" }
foreach {key value} [array get twin::excused] { real_puts "excused $value $key" }
foreach problem $twin::problems {
  lassign $problem test sql difference
  lassign $difference what ours theirs
  real_puts "PROBLEM $test: $what\n  sql:    [string range [string trim $sql] 0 600]"
  real_puts "  walmap: [string range $ours 0 300]\n  native: [string range $theirs 0 300]"
}
flush stdout
real_exit 0
