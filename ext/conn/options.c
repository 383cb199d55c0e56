/*
** options.c - the options of CREATE VIRTUAL TABLE ... USING walmap(...): see options.h
*/
#include "conn/options.h"
#include "codec/codec.h"
#include "codec/expiry.h"
#include <string.h>

SQLITE_EXTENSION_INIT3

#include "conn/quoted.h"

/* A piece of an argument. */
typedef struct span {
  const char *at;
  int size;
} span;

static bool is_option_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static span trim_spaces(const char *at, size_t size) {
  while (size > 0 && is_option_space(*at))
    at++, size--;
  while (size > 0 && is_option_space(at[size - 1]))
    size--;
  return (span){at, (int)size};
}

static int option_error(char **error, char *text) {
  if (text == NULL)
    return SQLITE_NOMEM;
  *error = text;
  return SQLITE_ERROR;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Values                                                                                                             */

/*
** Copies the value without its SQL quotes (sqlite3_malloc). A value that starts with a quote must end with its closing
** quote: otherwise SQLITE_ERROR.
*/
static int unquote_value(span value, char **out) {
  wm_quoted quoted;
  char *to = sqlite3_malloc(value.size + 1);
  if (to == NULL)
    return SQLITE_NOMEM;
  if (!wm_quoted_start(&quoted, value.at, value.at + value.size)) {
    memcpy(to, value.at, (size_t)value.size);
    to[value.size] = 0;
    *out = to;
    return SQLITE_OK;
  }
  int n = 0, c;
  while ((c = wm_quoted_next(&quoted)) >= 0)
    to[n++] = (char)c;
  to[n] = 0;
  if (c != WM_QUOTED_END || quoted.at != quoted.end) {
    sqlite3_free(to);
    return SQLITE_ERROR;
  }
  *out = to;
  return SQLITE_OK;
}

/* Digits only, 0 to max. */
static bool parse_integer(const char *text, uint64_t max, uint64_t *out) {
  uint64_t number = 0;
  if (*text == 0)
    return false;
  for (; *text != 0; text++) {
    if (*text < '0' || *text > '9' || (number = number * 10 + (uint64_t)(*text - '0')) > max)
      return false;
  }
  *out = number;
  return true;
}

static bool set_map(wm_options *options, char **text) {
  size_t size = strlen(*text);
  if (size == 0 || size > WM_MAP_NAME_MAX)
    return false;
  options->map = *text;
  *text = NULL;
  return true;
}

static bool set_shards(wm_options *options, char **text) {
  uint64_t number;
  if (!parse_integer(*text, WALMAP_MAX_SHARDS, &number) || number == 0 || (number & (number - 1)) != 0)
    return false;
  options->core.shards = (uint32_t)number;
  return options->has_shards = true;
}

static bool set_capacity(wm_options *options, char **text) {
  if (!parse_integer(*text, WM_CAPACITY_MAX, &options->core.capacity))
    return false;
  return options->has_capacity = true;
}

static bool set_busy_timeout(wm_options *options, char **text) {
  uint64_t number;
  if (!parse_integer(*text, WM_BUSY_TIMEOUT_MAX, &number))
    return false;
  options->core.busy_timeout = (uint32_t)number;
  return options->has_busy_timeout = true;
}

static bool set_auto_compact(wm_options *options, char **text) {
  uint64_t number;
  if (!parse_integer(*text, 99, &number))
    return false;
  options->core.auto_compact = (uint32_t)number;
  return options->has_auto_compact = true;
}

/* Seconds with up to three decimals, in milliseconds. */
static bool set_ttl(wm_options *options, char **text) {
  uint64_t whole, parts = 0;
  char *point = strchr(*text, '.');
  size_t decimals = point != NULL ? strlen(point + 1) : 0;
  if (point != NULL)
    *point = 0;
  bool good = parse_integer(*text, WM_TTL_MAX, &whole) && decimals <= 3 &&
              (point == NULL || parse_integer(point + 1, 999, &parts));
  for (size_t i = decimals; i < 3; i++)
    parts *= 10;
  if (!good || whole * 1000 + parts == 0)
    return false;
  options->core.ttl = whole * 1000 + parts;
  return options->has_ttl = true;
}

static bool set_max_entries(wm_options *options, char **text) {
  if (!parse_integer(*text, WM_BOUND_MAX, &options->core.max_entries) || options->core.max_entries == 0)
    return false;
  return options->has_max_entries = true;
}

static bool set_max_bytes(wm_options *options, char **text) {
  if (!parse_integer(*text, WM_BOUND_MAX, &options->core.max_bytes) || options->core.max_bytes < WALMAP_LEAST_SHARE)
    return false;
  return options->has_max_bytes = true;
}

static bool set_on_full(wm_options *options, char **text) {
  options->core.error_when_full = sqlite3_stricmp(*text, "error") == 0;
  return options->has_on_full = options->core.error_when_full || sqlite3_stricmp(*text, "evict") == 0;
}

static bool set_durable(wm_options *options, char **text) {
  uint64_t number;
  if (!parse_integer(*text, 1, &number))
    return false;
  options->durable = number == 1;
  return options->has_durable = true;
}

static bool set_ordered(wm_options *options, char **text) {
  uint64_t number;
  if (!parse_integer(*text, 1, &number))
    return false;
  options->core.ordered = number == 1;
  return options->has_ordered = true;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Arguments                                                                                                          */

#define TEXT_OF(number) #number
#define LIMIT(number) TEXT_OF(number)

static const struct option {
  const char *name;
  bool (*set)(wm_options *options, char **text); /* false: not allowed. May take *text, leaving NULL */
  const char *allowed;
} known[] = {
    {"map", set_map, "a name of 1 to " LIMIT(WM_MAP_NAME_MAX) " bytes, as in map='name'"},
    {"shards", set_shards, "a power of two from 1 to " LIMIT(WALMAP_MAX_SHARDS)},
    {"capacity", set_capacity, "a number of entries from 0 to " LIMIT(WM_CAPACITY_MAX)},
    {"busy_timeout", set_busy_timeout, "milliseconds from 0 to " LIMIT(WM_BUSY_TIMEOUT_MAX)},
    {"auto_compact", set_auto_compact, "a percentage from 0 (off) to 99"},
    {"ttl", set_ttl, "seconds from 0.001 to " LIMIT(WM_TTL_MAX) ", as in ttl=60 or ttl=0.25"},
    {"max_entries", set_max_entries, "a number of entries from 1 to " LIMIT(WM_BOUND_MAX)},
    {"max_bytes", set_max_bytes, "a number of bytes from 65536 to " LIMIT(WM_BOUND_MAX)},
    {"on_full", set_on_full, "evict or error"},
    {"durable", set_durable, "0 or 1"},
    {"ordered", set_ordered, "0 or 1"},
};
#define N_KNOWN (sizeof known / sizeof known[0])

static const struct option *find_option(span name) {
  for (size_t i = 0; i < N_KNOWN; i++) {
    if ((size_t)name.size == strlen(known[i].name) && sqlite3_strnicmp(known[i].name, name.at, name.size) == 0)
      return &known[i];
  }
  return NULL;
}

/* `seen` has a bit for each option that was given. */
static int parse_argument(const char *argument, wm_options *options, unsigned *seen, char **error) {
  const char *equals = strchr(argument, '=');
  span name = trim_spaces(argument, equals != NULL ? (size_t)(equals - argument) : strlen(argument));
  const struct option *option = find_option(name);
  if (option == NULL)
    return option_error(error, sqlite3_mprintf("unknown option \"%.*s\"; allowed are map='name', shards=N, capacity=N, "
                                               "busy_timeout=MS, auto_compact=PERCENT, ttl=SECONDS, max_entries=N, "
                                               "max_bytes=N, on_full=evict|error, durable=N and ordered=N",
                                               name.size, name.at));
  if (equals == NULL)
    return option_error(error, sqlite3_mprintf("option %s has no value; allowed is %s", option->name, option->allowed));
  unsigned bit = 1U << (option - known);
  if (*seen & bit)
    return option_error(error, sqlite3_mprintf("option %s is given twice", option->name));
  *seen |= bit;

  span value = trim_spaces(equals + 1, strlen(equals + 1));
  char *text = NULL;
  int rc = unquote_value(value, &text);
  if (rc == SQLITE_NOMEM)
    return rc;
  if (rc != SQLITE_OK || !option->set(options, &text))
    rc = option_error(error, sqlite3_mprintf("option %s=%.*s is not allowed; allowed is %s", option->name, value.size,
                                             value.at, option->allowed));
  sqlite3_free(text);
  return rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* All of them                                                                                                        */

/* Few shards where bounds are small: the shards' parts of them are to be even. */
static void choose_shards(wm_options *options) {
  walmap_options *core = &options->core;
  while (core->shards > 1 && ((core->max_entries != 0 && core->max_entries / core->shards < WM_ENTRIES_A_SHARD) ||
                              (core->max_bytes != 0 && core->max_bytes / core->shards < WM_BYTES_A_SHARD)))
    core->shards /= 2;
}

/* Options that contradict one another. */
static int check_bounds_given(wm_options *options, char **error) {
  const walmap_options *core = &options->core;
  if (!options->has_shards)
    choose_shards(options);
  if (options->has_on_full && !options->has_max_entries && !options->has_max_bytes)
    return option_error(error, sqlite3_mprintf("option on_full is of use with max_entries or max_bytes only"));
  if (!options->has_max_bytes)
    return SQLITE_OK;
  if (core->max_bytes / core->shards < WALMAP_LEAST_SHARE)
    return option_error(
        error, sqlite3_mprintf("option max_bytes=%llu is too little for shards=%u; allowed is %llu or more, or "
                               "fewer shards",
                               core->max_bytes, core->shards, WALMAP_LEAST_SHARE * core->shards));
  if (core->auto_compact == 0)
    return option_error(error, sqlite3_mprintf("option max_bytes needs auto_compact, which is 0; allowed is 1 to 99"));
  return SQLITE_OK;
}

int wm_options_parse(int argc, const char *const *argv, wm_options *options, char **error) {
  unsigned seen = 0;
  memset(options, 0, sizeof *options);
  walmap_options_init(&options->core);
  options->core.hash = wm_codec_hash;
  options->core.sort_key = wm_codec_sort_key;
  options->core.content = WM_CONTENT_SQL;
  options->durable = WM_DURABLE_BY_DEFAULT;
  options->core.busy_timeout = WALMAP_TIMEOUT_OF_SESSION; /* PRAGMA busy_timeout (conn.c) */
  for (int i = 0; i < argc; i++) {
    if (trim_spaces(argv[i], strlen(argv[i])).size == 0)
      continue; /* USING walmap() */
    int rc = parse_argument(argv[i], options, &seen, error);
    if (rc != SQLITE_OK) {
      wm_options_free(options);
      return rc;
    }
  }
  int rc = check_bounds_given(options, error);
  if (rc != SQLITE_OK)
    wm_options_free(options);
  return rc;
}

void wm_options_free(wm_options *options) {
  sqlite3_free(options->map);
  options->map = NULL;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Options beside a map that exists                                                                                   */

typedef struct difference {
  const char *name; /* NULL: there is none */
  uint64_t ours, theirs;
} difference;

static difference first_difference(const wm_options *options, const walmap_options *existing) {
  const walmap_options *ours = &options->core;
  if (options->has_shards && ours->shards != existing->shards)
    return (difference){"shards", ours->shards, existing->shards};
  if (options->has_capacity && ours->capacity != existing->capacity)
    return (difference){"capacity", ours->capacity, existing->capacity};
  if (options->has_busy_timeout && ours->busy_timeout != existing->busy_timeout)
    return (difference){"busy_timeout", ours->busy_timeout, existing->busy_timeout};
  if (options->has_auto_compact && ours->auto_compact != existing->auto_compact)
    return (difference){"auto_compact", ours->auto_compact, existing->auto_compact};
  if (options->has_ttl && ours->ttl != existing->ttl)
    return (difference){"ttl", ours->ttl, existing->ttl};
  if (options->has_max_entries && ours->max_entries != existing->max_entries)
    return (difference){"max_entries", ours->max_entries, existing->max_entries};
  if (options->has_max_bytes && ours->max_bytes != existing->max_bytes)
    return (difference){"max_bytes", ours->max_bytes, existing->max_bytes};
  if (options->has_on_full && ours->error_when_full != existing->error_when_full)
    return (difference){"on_full", ours->error_when_full, existing->error_when_full};
  if (options->has_ordered && ours->ordered != existing->ordered)
    return (difference){"ordered", ours->ordered, existing->ordered};
  return (difference){NULL, 0, 0};
}

/* As it was given: a ttl in seconds. */
static char *text_of(const difference *d, uint64_t number) {
  if (strcmp(d->name, "on_full") == 0)
    return sqlite3_mprintf("%s", number != 0 ? "error" : "evict");
  return strcmp(d->name, "ttl") == 0 ? sqlite3_mprintf("%llu.%03llu", number / 1000, number % 1000)
                                     : sqlite3_mprintf("%llu", number);
}

int wm_options_agree(const wm_options *options, const walmap_options *existing, char **error) {
  difference d = first_difference(options, existing);
  if (d.name == NULL)
    return SQLITE_OK;
  if (d.theirs == WALMAP_TIMEOUT_OF_SESSION)
    return option_error(
        error, sqlite3_mprintf("option busy_timeout=%llu contradicts the map, which exists without one; leave it "
                               "out, and use PRAGMA busy_timeout",
                               (unsigned long long)d.ours));
  char *ours = text_of(&d, d.ours), *theirs = text_of(&d, d.theirs);
  char *text = ours == NULL || theirs == NULL
                   ? NULL
                   : sqlite3_mprintf("option %s=%s contradicts the map, which exists with %s=%s; leave it out or give "
                                     "that",
                                     d.name, ours, d.name, theirs);
  sqlite3_free(ours);
  sqlite3_free(theirs);
  return option_error(error, text);
}

bool wm_options_are_of(const wm_options *options, const walmap_options *existing) {
  return first_difference(options, existing).name == NULL;
}
