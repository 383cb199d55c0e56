/*
** two_columns.c - an SQLite extension for tests: walmap tables whose two columns have other names
**
** SQLite's own tests name the columns of their tables a and b, or x and y; a walmap table's are called key and value.
** This extension loads walmap (WALMAP_SO in the environment) and stands between it and SQLite, so that
**
**    CREATE VIRTUAL TABLE t USING walmap(ordered=1, columns='61:62')
**
** makes a walmap table with the columns a and b: names in hex, the first is the key. It takes the argument away before
** walmap sees it, and puts the names into the declaration that walmap hands to SQLite. Nothing else of walmap changes.
**
** Functions, which the connection of the native twin has as well (entry point sqlite3_nativetwin_init, without walmap):
**
**    twin_calls()        how often SQLite has called xFilter, and xUpdate, of walmap tables: as "filters updates"
**    twin_autocommit()   whether the connection is outside of a transaction
**    twin_digest(a, b)   aggregate: hash of all rows in the order in which they come, with types and bytes
*/
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT1

#define ARGUMENT "columns='"
#define DECLARED "CREATE TABLE x(key PRIMARY KEY, value"

/* As SQLite 3.44 and later knows it; older ones do not look behind the end of theirs */
typedef struct module {
  sqlite3_module base;
  void *later;
} module;

static sqlite3_api_routines routines; /* SQLite's, but for the two functions below */
static const sqlite3_module *walmap;  /* walmap's own module */
static module between;
static char *names[2]; /* of the table that is being connected; both NULL: its own */
static bool declared;  /* whether the names have come into a declaration */
static int64_t filters, updates;

/* ------------------------------------------------------------------------------------------------------------------ */
/* Names of columns                                                                                                   */

/* The text that `size` hex digits stand for, to be freed; NULL if they are none, or if memory is out. */
static char *decode_hex(const char *hex, size_t size) {
  char *text = sqlite3_malloc64(size / 2 + 1);
  for (size_t i = 0; text != NULL && i < size / 2; i++) {
    char digits[] = {hex[2 * i], hex[2 * i + 1], 0}, *end;
    text[i] = (char)strtol(digits, &end, 16);
    if (*end != 0) {
      sqlite3_free(text);
      return NULL;
    }
  }
  if (text != NULL)
    text[size / 2] = 0;
  return text;
}

static int connect_named(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **out, char **err) {
  char *outer[] = {names[0], names[1]};
  const char **kept = sqlite3_malloc64(sizeof *kept * (size_t)argc);
  int n = 0;
  if (kept == NULL)
    return SQLITE_NOMEM;
  names[0] = names[1] = NULL;
  for (int i = 0; i < argc; i++) {
    if (strncmp(argv[i], ARGUMENT, strlen(ARGUMENT)) != 0) {
      kept[n++] = argv[i];
      continue;
    }
    const char *first = argv[i] + strlen(ARGUMENT);
    size_t size = strcspn(first, ":");
    names[0] = decode_hex(first, size);
    names[1] = first[size] == 0 ? NULL : decode_hex(first + size + 1, strcspn(first + size + 1, "'"));
  }
  int rc;
  if (n < argc && (names[0] == NULL || names[1] == NULL)) {
    *err = sqlite3_mprintf("two_columns: %s is wrong", argv[argc - 1]);
    rc = SQLITE_ERROR;
  } else {
    declared = false;
    rc = walmap->xConnect(db, aux, n, kept, out, err);
    if (rc == SQLITE_OK && names[0] != NULL && !declared)
      abort(); /* the names were not used: DECLARED is not what walmap declares any more */
  }
  for (int i = 0; i < 2; i++) {
    sqlite3_free(names[i]);
    names[i] = outer[i];
  }
  sqlite3_free(kept);
  return rc;
}

/* Takes the place of sqlite3_declare_vtab, which walmap also calls for its other modules, while it connects a table. */
static int declare_named(sqlite3 *db, const char *sql) {
  if (names[0] == NULL || strncmp(sql, DECLARED, strlen(DECLARED)) != 0)
    return sqlite3_declare_vtab(db, sql);
  declared = true;
  char *renamed =
      sqlite3_mprintf("CREATE TABLE x(\"%w\" PRIMARY KEY, \"%w\"%s", names[0], names[1], sql + strlen(DECLARED));
  int rc = renamed == NULL ? SQLITE_NOMEM : sqlite3_declare_vtab(db, renamed);
  sqlite3_free(renamed);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* The module between SQLite and walmap                                                                               */

static int count_filter(sqlite3_vtab_cursor *cursor, int number, const char *text, int argc, sqlite3_value **argv) {
  filters++;
  return walmap->xFilter(cursor, number, text, argc, argv);
}

static int count_update(sqlite3_vtab *table, int argc, sqlite3_value **argv, sqlite3_int64 *rowid) {
  updates++;
  return walmap->xUpdate(table, argc, argv, rowid);
}

static int create_module(sqlite3 *db, const char *name, const sqlite3_module *m, void *aux, void (*destroy)(void *)) {
  if (strcmp(name, "walmap") == 0) {
    walmap = m;
    memcpy(&between, m, m->iVersion >= 4 ? sizeof between : sizeof between.base);
    between.base.xCreate = between.base.xConnect = connect_named;
    between.base.xFilter = count_filter;
    between.base.xUpdate = count_update;
    m = &between.base;
  }
  return sqlite3_create_module_v2(db, name, m, aux, destroy);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Functions                                                                                                          */

static void calls(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc, (void)argv;
  char *text = sqlite3_mprintf("%lld %lld", (long long)filters, (long long)updates);
  sqlite3_result_text(context, text, -1, sqlite3_free);
}

static void autocommit(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc, (void)argv;
  sqlite3_result_int(context, sqlite3_get_autocommit(sqlite3_context_db_handle(context)));
}

/* FNV-1a */
static uint64_t hash(uint64_t h, const void *data, size_t size) {
  const unsigned char *at = data;
  for (size_t i = 0; i < size; i++)
    h = (h ^ at[i]) * 0x100000001b3;
  return h;
}

static void digest_step(sqlite3_context *context, int argc, sqlite3_value **argv) {
  uint64_t *h = sqlite3_aggregate_context(context, sizeof *h);
  for (int i = 0; h != NULL && i < argc; i++) {
    int type = sqlite3_value_type(argv[i]);
    sqlite3_int64 integer = sqlite3_value_int64(argv[i]);
    double real = sqlite3_value_double(argv[i]);
    *h = hash(*h + 1, &type, sizeof type);
    if (type == SQLITE_INTEGER)
      *h = hash(*h, &integer, sizeof integer);
    else if (type == SQLITE_FLOAT)
      *h = hash(*h, &real, sizeof real);
    else if (type != SQLITE_NULL) {
      const void *bytes = type == SQLITE_TEXT ? sqlite3_value_text(argv[i]) : sqlite3_value_blob(argv[i]);
      *h = hash(*h, bytes, (size_t)sqlite3_value_bytes(argv[i]));
    }
  }
}

static void digest_end(sqlite3_context *context) {
  uint64_t *h = sqlite3_aggregate_context(context, 0);
  sqlite3_result_int64(context, h == NULL ? 0 : (sqlite3_int64)*h);
}

static int add_functions(sqlite3 *db) {
  const int flags = SQLITE_UTF8 | SQLITE_INNOCUOUS;
  int rc = sqlite3_create_function(db, "twin_calls", 0, flags, NULL, calls, NULL, NULL);
  if (rc == SQLITE_OK)
    rc = sqlite3_create_function(db, "twin_autocommit", 0, flags, NULL, autocommit, NULL, NULL);
  if (rc == SQLITE_OK)
    rc = sqlite3_create_function(db, "twin_digest", 2, flags, NULL, NULL, digest_step, digest_end);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Entry points                                                                                                       */

int sqlite3_nativetwin_init(sqlite3 *db, char **err, const sqlite3_api_routines *api) {
  (void)err;
  SQLITE_EXTENSION_INIT2(api);
  int rc = add_functions(db);
  return rc == SQLITE_OK ? SQLITE_OK_LOAD_PERMANENTLY : rc;
}

int sqlite3_walmaptwin_init(sqlite3 *db, char **err, const sqlite3_api_routines *api) {
  typedef int init_function(sqlite3 *, char **, const sqlite3_api_routines *);
  static init_function *init;
  SQLITE_EXTENSION_INIT2(api);
  if (init == NULL) {
    const char *path = getenv("WALMAP_SO");
    void *library = dlopen(path == NULL ? "./walmap.so" : path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL || (init = (init_function *)dlsym(library, "sqlite3_walmap_init")) == NULL) {
      *err = sqlite3_mprintf("two_columns: %s", dlerror());
      return SQLITE_ERROR;
    }
    /* The whole of a newer library's is not known here, nor needed: walmap is compiled with the same header */
    routines = *api;
    routines.declare_vtab = declare_named;
    routines.create_module_v2 = create_module;
  }
  int rc = init(db, err, &routines);
  if (rc == SQLITE_OK || rc == SQLITE_OK_LOAD_PERMANENTLY)
    rc = add_functions(db);
  return rc == SQLITE_OK ? SQLITE_OK_LOAD_PERMANENTLY : rc;
}
