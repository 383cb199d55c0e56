/*
** creation.c - whether SQLite makes a table or connects one that exists: see creation.h
**
** A module has a table without CREATE only if its xCreate and xConnect are one function, and SQLite does not tell that
** function which of the two a call means. But only one statement calls xCreate: CREATE VIRTUAL TABLE with the table's
** schema, name and module. While that statement runs, no other can ask for the table: before the call the table is not
** there, during the call SQLite refuses ("vtable constructor called recursively"), after the call it is connected.
**
** A running CREATE VIRTUAL TABLE may be that of another table: an FTS4 table reads the table that it indexes, which may
** be a walmap table. And a busy statement need not be running: a CREATE that found the file locked and was not reset
** stays busy, while another connection makes the table. But it has no write transaction.
*/
#include "schema/creation.h"

#include "conn/quoted.h"

SQLITE_EXTENSION_INIT3

static bool is_sql_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Whether SQLite's tokenizer takes the character for part of a word. */
static bool is_of_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
         (unsigned char)c >= 0x80;
}

/* Skips white space and comments. */
static const char *skip_blank(const char *sql) {
  for (;;) {
    if (is_sql_space(*sql)) {
      sql++;
    } else if (sql[0] == '-' && sql[1] == '-') {
      sql += strcspn(sql, "\n");
    } else if (sql[0] == '/' && sql[1] == '*') {
      const char *end = strstr(sql + 2, "*/");
      sql = end == NULL ? sql + strlen(sql) : end + 2;
    } else if (strncmp(sql, "\xef\xbb\xbf", 3) == 0) {
      sql += 3; /* a byte order mark counts as space */
    } else {
      return sql;
    }
  }
}

/* Skips what may come before the first word: white space, comments, empty statements. */
static const char *skip_to_first(const char *sql) {
  while (*(sql = skip_blank(sql)) == ';')
    sql++;
  return sql;
}

/* Whether `word`, without quotes, comes next. If so, moves past it. */
static bool take_word(const char **sql, const char *word) {
  const char *at = skip_blank(*sql);
  size_t size = strlen(word);
  if (sqlite3_strnicmp(at, word, (int)size) != 0 || is_of_word(at[size]))
    return false;
  *sql = at + size;
  return true;
}

static bool same_char(char a, char b) { return sqlite3_strnicmp(&a, &b, 1) == 0; }

/* Moves past a name in quotes or without, and tells whether it is `name`. */
static bool take_name(const char **sql, const char *name) {
  const char *at = skip_blank(*sql);
  wm_quoted quoted;
  bool is_quoted = wm_quoted_start(&quoted, at, at + strlen(at)), equal = true;
  for (;;) {
    int c = is_quoted ? wm_quoted_next(&quoted) : is_of_word(*quoted.at) ? (unsigned char)*quoted.at++ : WM_QUOTED_END;
    if (c < 0)
      break;
    equal = equal && *name != 0 && same_char((char)c, *name);
    name += equal;
  }
  *sql = quoted.at;
  return equal && *name == 0;
}

/* The main database is always called "main" too. */
static bool take_schema(const char **sql, const char *schema, bool is_main) {
  const char *again = *sql;
  bool equal = take_name(sql, schema);
  return equal || (is_main && take_name(&again, "main"));
}

/* CREATE VIRTUAL TABLE [IF NOT EXISTS] [schema.]table USING module..., which SQLite has found to be well-formed. */
static bool creates_table(const char *sql, const char *module, const char *schema, const char *table, bool is_main) {
  sql = skip_to_first(sql);
  if (!take_word(&sql, "CREATE") || !take_word(&sql, "VIRTUAL") || !take_word(&sql, "TABLE"))
    return false;
  if (take_word(&sql, "IF") && !(take_word(&sql, "NOT") && take_word(&sql, "EXISTS")))
    return false;
  const char *first = sql;
  bool equal = take_name(&sql, table);
  const char *next = skip_blank(sql);
  if (*next == '.') {
    sql = next + 1;
    equal = take_schema(&first, schema, is_main) && take_name(&sql, table);
  } else if (!is_main) {
    return false;
  }
  return equal && take_word(&sql, "USING") && take_name(&sql, module);
}

bool wm_creation_is_of(sqlite3 *db, const char *const *argv) {
  bool is_main = sqlite3_stricmp(argv[1], sqlite3_db_name(db, 0)) == 0;
  if (sqlite3_txn_state(db, argv[1]) != SQLITE_TXN_WRITE)
    return false;
  for (sqlite3_stmt *s = sqlite3_next_stmt(db, NULL); s != NULL; s = sqlite3_next_stmt(db, s)) {
    const char *sql = sqlite3_stmt_busy(s) ? sqlite3_sql(s) : NULL;
    if (sql != NULL && creates_table(sql, argv[0], argv[1], argv[2], is_main))
      return true;
  }
  return false;
}
