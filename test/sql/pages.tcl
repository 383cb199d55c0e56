# pages.tcl - the documents as tests see them: blocks of code, and sessions of the sqlite3 shell
#
# For snippets.test, sqlmd.test and readme.test, after tester.tcl.

namespace eval page {
  # Another shell than the system's, which loads the extension that WALMAP_SHELL_SO names: that of another platform. It
  # writes without buffers (test/packages/unbuffered.c).
  variable shell sqlite3
  variable extension $tester::extension
  variable in_order ".output /dev/stderr\n"
  if {[info exists ::env(WALMAP_SHELL)]} {
    set shell $::env(WALMAP_SHELL)
    set extension $::env(WALMAP_SHELL_SO)
    set in_order ""
  }
}

proc page::read {args} {
  set in [open [file join {*}$args]]
  fconfigure $in -encoding utf-8
  set text [::read $in]
  close $in
  return $text
}

# The fenced blocks of a page, in order: dictionaries of `line` (the fence's), `language`, `text`, `why_not` (the reason in
# a comment <!-- not run: reason --> before the block, else empty) and `output` (1 when it is a ```text block that follows
# another block, with blank lines alone between: what that one prints).
proc page::blocks {text} {
  set blocks {}
  set number 0
  set inside 0
  set why_not ""
  set follows 0
  foreach line [split $text \n] {
    incr number
    if {$inside} {
      if {[string trimright $line] eq $fence} {
        lappend blocks [dict create line $start language $language text $body why_not $why_not \
          output [expr {$follows && $language eq "text"}]]
        set inside 0
        set follows [expr {$language ne "text"}]
        set why_not ""
      } else {
        append body $line \n
      }
    } elseif {[regexp {^ *(```+)(.*)$} $line -> fence language]} {
      set inside 1
      set start $number
      set language [string trim $language]
      set body ""
    } elseif {[regexp {^<!-- not run: (.+) -->$} $line -> reason]} {
      set why_not $reason
    } elseif {[string trim $line] ne ""} {
      set why_not ""
      set follows 0
    }
  }
  if {$inside} { error "line $start: a fence that does not end" }
  return $blocks
}

# What the sqlite3 shell prints for each of these pieces of SQL, all in one session. An error is "Error: text", for how
# the shell introduces it depends on the shell's version.
proc page::sql_results {sqls} {
  # The shell writes rows and errors to different streams. A new ".output" before each statement keeps them in order,
  # where the shell has buffers.
  set mark "--- end of block ---"
  set script ".load '$page::extension'\n.nullvalue NULL\n"
  foreach sql $sqls {
    foreach statement [tester::statements $sql] { append script "$page::in_order$statement\n" }
    append script "$page::in_order.print $mark\n"
  }
  catch { exec {*}$page::shell -batch :memory: << $script 2>@1 } printed; # the shell's exit code tells of the errors
  regsub {child process exited abnormally$} $printed {} printed
  regsub -all -line {^(?:Parse error|Runtime error|Error)(?: near line \d+)?: (.*?)(?: \(\d+\))?$} $printed {Error: \1} printed
  regsub -all -line {^  .*\n +\^--- error here\n} $printed {} printed
  set results {}
  append printed \n
  set printed [string map [list \r\n \n] $printed]; # Windows
  while {[set end [string first $mark\n $printed]] >= 0} {
    lappend results [string range $printed 0 $end-1]
    set printed [string range $printed [expr {$end + [string length $mark] + 1}] end]
  }
  return $results
}
