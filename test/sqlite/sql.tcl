# sql.tcl - what each statement of SQLite's tests becomes on the two sides of twin.tcl

namespace eval sql {
  # What only tells of the schema, of files and plans, or is otherwise another on each side by its nature
  variable reports {(?xi)\m(
    sqlite_(temp_)?(master|schema) | sqlite_stat\d | sqlite_sequence | sqlite_dbpage | dbstat | pragma_\w+ |
    current_(time|date|timestamp) | 'now' | sqlite_version | sqlite_source_id | sqlite_log | changes | total_changes |
    last_insert_rowid | sqlite_offset | sqlite_autoindex_\w+ | indexed\s+by\s+\w+ | sqlite_compileoption_\w+ |
    load_extension)}
  # SQLite's errors for what it refuses to virtual tables
  variable refusals {
    {^virtual tables may not be indexed$} "CREATE INDEX"
    {^cannot create triggers on virtual tables$} "CREATE TRIGGER"
    {^virtual tables may not be altered$} "ALTER TABLE ADD COLUMN"
    {^cannot (rename columns of|drop column from) virtual table} "ALTER TABLE RENAME or DROP COLUMN"
    {^UPSERT not implemented for virtual table} "UPSERT"
    {^(UPDATE|DELETE) RETURNING is not available on virtual tables$} "UPDATE or DELETE with RETURNING"
  }
  # The pragmas that both sides get; those that hold for a connection are set again when it is opened again
  variable pragmas {user_version encoding auto_vacuum page_size journal_mode integrity_check quick_check optimize}
  variable settings {case_sensitive_like recursive_triggers cache_size temp_store full_column_names short_column_names
    automatic_index legacy_alter_table trusted_schema query_only synchronous cache_spill cell_size_check
    secure_delete mmap_size busy_timeout}
}

proc sql::quote {name} { string cat \" [string map {\" \"\"} $name] \" }
proc sql::encode {name} { binary encode hex [encoding convertto utf-8 $name] }
proc sql::decode {hex} { encoding convertfrom utf-8 [binary decode hex $hex] }

# Without what stands before the first word
proc sql::trim {sql} { regsub {^(\s|;|--[^\n]*(\n|$)|/\*.*?\*/)+} $sql "" }
proc sql::first_word {sql} { string toupper [lindex [regexp -inline {^[A-Za-z_]+|^\S} [trim $sql]] 0] }

# A name as SQL may have it, and what it stands for
set sql::name [string cat {(?:"(?:[^"]|"")+"|\[[^\]]+\]|`(?:[^`]|``)+`|'(?:[^']|'')+'} \
  {|[[:alpha:]_\u0080-\uffff][\w$\u0080-\uffff]*)}]
# What may stand between CREATE ... or DROP ... and the name
set sql::place "(?:IF\\s+(?:NOT\\s+)?EXISTS\\s+)?(?:$sql::name\\s*\\.\\s*)?"
proc sql::unquote {name} {
  switch -- [string index $name 0] {
    \" - ' - ` {
      set q [string index $name 0]
      return [string map [list $q$q $q] [string range $name 1 end-1]]
    }
    \[ { return [string range $name 1 end-1] }
  }
  return $name
}

# What to do with a statement: {both "" NATIVE WALMAP}, {native REASON} or {neither REASON}.
proc sql::sort {handle sql} {
  variable name
  variable place
  variable reports
  set text [trim $sql]
  set word [first_word $text]
  switch -- $word {
    EXPLAIN { return {native "EXPLAIN"} }
    PRAGMA { return [pragma $handle $text] }
    ATTACH { return [attach $handle $text] }
    VACUUM { if {[regexp -nocase {\mINTO\M} $text]} { return {neither "VACUUM INTO"} } }
    CREATE {
      if {[regexp -nocase {^CREATE\s+(TEMP\s+|TEMPORARY\s+)?TABLE\M} $text] &&
          !([regexp -nocase {\mAS\s+SELECT\M} $text] && [regexp $reports $text])} {
        return [create $text]
      }
    }
    DROP {
      if {[regexp -nocase "^DROP\\s+(?:INDEX|TRIGGER)\\s+$place\($name)" $text -> gone] &&
          [string tolower [unquote $gone]] in $twin::left_out} {
        return {neither "DROP of such an index or trigger"}
      }
    }
    REINDEX { return {neither "REINDEX"} }
  }
  if {[regexp $reports $text]} {
    return [list [expr {$word in {SELECT VALUES} ? "native" : "neither"}] "schema, time, counters of a connection"]
  }
  return [list both "" $sql $sql]
}

proc sql::pragma {handle text} {
  variable pragmas
  variable settings
  if {![regexp -nocase {^PRAGMA\s+(?:\w+\s*\.\s*)?(\w+)\s*(.?)} $text -> pragma sets]} {
    return [list both "" $text $text]
  }
  set pragma [string tolower $pragma]
  if {$pragma in $settings} {
    if {$sets in {= (}} { twin::remember $handle [list eval $text] [list eval $text] }
    return [list both "" $text $text]
  }
  # Without a journal SQLite cannot roll back; walmap can
  if {$pragma eq "journal_mode" && [regexp -nocase {\moff\M} $text]} { return {neither "PRAGMA journal_mode = off"} }
  if {$pragma in $pragmas} { return [list both "" $text $text] }
  set reports {^(table|index|database|collation|function|module|pragma|compile|foreign_key)_}
  if {$sets ne "" && ![regexp $reports $pragma]} {
    return [list neither "PRAGMA $pragma"]
  }
  return [list native "PRAGMA of the schema or of files"]
}

# The two sides have files of their own.
proc sql::attach {handle text} {
  variable name
  set literal {^ATTACH\s+(?:DATABASE\s+)?('(?:[^']|'')*'|"[^"]*")\s+AS\s+}
  if {![regexp -nocase "$literal\($name)(.*)\$" $text -> file schema rest]} {
    twin::leave_out "ATTACH of a name that is computed"
    return {neither "ATTACH of a name that is computed"}
  }
  set file [unquote $file]
  if {[string match file:* $file]} { return {neither "ATTACH of a URI"} }
  foreach side {native walmap} {
    lappend both "ATTACH '[string map {' ''} [twin::place $side $file]]' AS $schema$rest"
  }
  return [list both "" {*}$both]
}

# The parts of the text in parentheses that `text` begins with, between its commas, and what follows it.
proc sql::parts {text} {
  set depth 0
  set part ""
  set parts {}
  set at 0
  set token {'(?:[^']|'')*'|"(?:[^"]|"")*"|\[[^\]]*\]|`[^`]*`|--[^\n]*\n?|/\*.*?\*/|[(),]|[^'"\[`(),/-]+|.}
  foreach token [regexp -all -inline $token $text] {
    incr at [string length $token]
    if {[string match --* $token] || [string match /\\** $token]} { append part " "; continue }
    if {$token eq "(" && [incr depth] == 1} continue
    if {$token eq ")" && [incr depth -1] == 0} {
      return [list [lappend parts [string trim $part]] [string range $text $at end]]
    }
    if {$token eq "," && $depth == 1} {
      lappend parts [string trim $part]
      set part ""
    } else {
      append part $token
    }
  }
  return {}
}

# CREATE TABLE: of exactly two columns it is a walmap table.
proc sql::create {text} {
  variable name
  set both [list both "" $text $text]
  set head {^CREATE\s+(TEMP\s+|TEMPORARY\s+)?TABLE\s+(IF\s+NOT\s+EXISTS\s+)?}
  if {![regexp -nocase "$head\(?:($name)\\s*\\.\\s*)?($name)\\s*(\\(.*)\$" $text -> temp exists schema table body]} {
    return $both
  }
  if {$temp ne "" && $schema ne ""} { return $both }
  lassign [parts $body] parts rest
  set columns {}
  set keyed 0
  foreach part $parts {
    if {[regexp -nocase {^(CONSTRAINT|PRIMARY|UNIQUE|CHECK|FOREIGN)\M} $part]} {
      if {[regexp -nocase "(?:PRIMARY\\s+KEY|UNIQUE)\\s*\\(\\s*($name)\[^,]*\\)\$" $part -> key] &&
          [string equal -nocase [unquote $key] [lindex $columns 0]]} {
        set keyed 1
      }
      continue
    }
    if {![regexp "^($name)(.*)\$" $part -> column type] || [regexp -nocase {\mAS\s*\(} $type]} { return $both }
    if {[llength $columns] == 0 && [regexp -nocase {PRIMARY\s+KEY|UNIQUE} $type]} { set keyed 1 }
    lappend columns [unquote $column]
  }
  lassign $columns first second
  # Shadow tables of FTS and R*Tree, which tests make by hand, are read by blob handles; sqlite_log is reserved
  set others {^sqlite(_|$)|_(content|segments|segdir|docsize|stat|node|rowid|parent|data|idx|config)$}
  if {[llength $columns] != 2 || [string equal -nocase $first $second] || "expires" in [string tolower $columns] ||
      [regexp -nocase $others [unquote $table]]} {
    return $both
  }
  set place [expr {$schema eq "" ? "" : "$schema."}]$table
  set native "CREATE ${temp}TABLE $exists${place}([quote $first] PRIMARY KEY, [quote $second]) WITHOUT ROWID;"
  if {$temp ne "" && $schema eq ""} { set place temp.$table }
  set options [expr {$twin::mode eq "unordered" ? "" : "ordered=1, "}]
  set walmap "CREATE VIRTUAL TABLE $exists$place USING walmap(${options}columns='[encode $first]:[encode $second]');"
  set at [string tolower [unquote $table]]
  if {$keyed} { dict unset twin::unkeyed $at } else { dict set twin::unkeyed $at 1 }
  incr twin::count(tables)
  return [list both "" $native $walmap]
}

# An INSERT that has failed because the first column is a key here, and is none in the test: with OR IGNORE. Or nothing.
proc sql::or_ignore {sql message} {
  variable name
  set text [trim $sql]
  if {[regexp {^(UNIQUE|NOT NULL) constraint failed} $message] &&
      [regexp -nocase "^INSERT(\\s+INTO\\s+(?:$name\\s*\\.\\s*)?($name).*)\$" $text -> rest table] &&
      [dict exists $twin::unkeyed [string tolower [unquote $table]]]} {
    return "INSERT OR IGNORE$rest"
  }
  return ""
}

# What the walmap side's error says that SQLite refuses to virtual tables (ext/SQL.md, "What SQLite refuses to virtual
# tables"), or nothing. The native side then does not run the statement either.
proc sql::refused {sql message} {
  variable refusals
  variable name
  variable place
  foreach {pattern what} $refusals {
    if {![regexp $pattern $message]} continue
    set create {^CREATE\s+(?:TEMP\s+|TEMPORARY\s+|UNIQUE\s+)?(?:INDEX|TRIGGER)\s+}
    if {[regexp -nocase "$create$place\($name)" [trim $sql] -> gone]} {
      lappend twin::left_out [string tolower [unquote $gone]]
    }
    return $what
  }
  return ""
}

# After a statement on both sides: what is to be remembered of it.
proc sql::ran {handle sql ours theirs} {
  variable name
  set text [trim $sql]
  if {[lindex $theirs 0] == 0} {
    if {[regexp -nocase {^ATTACH\M} $text]} {
      lassign [attach $handle $text] - - native walmap
      regexp -nocase "AS\\s+($name)\[^']*\$" $native -> schema
      set schema [string tolower [unquote $schema]]
      dict set twin::handles $handle attached $schema [dict create native $native walmap $walmap]
    } elseif {[regexp -nocase "^DETACH\\s+(?:DATABASE\\s+)?($name)" $text -> schema]} {
      dict with twin::handles $handle { dict unset attached [string tolower [unquote $schema]] }
    }
  }
}
