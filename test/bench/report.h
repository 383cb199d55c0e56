/*
** report.h - samples, their medians, and the report
**
** Every figure is taken in rounds in which walmap and its peers take turns; the first round is thrown away (first touch
** of memory costs what it likes) and the median of the others counts. A row of the report shows walmap's figure, the
** peer's, their ratio, how far walmap's rounds lay apart (the highest to the lowest), and the target. The same rows go,
** tab-separated, to a file of the benchmark's name in the folder named by BENCH_RESULTS.
*/
#ifndef TEST_BENCH_REPORT_H
#define TEST_BENCH_REPORT_H

#include "bench.h"

#include <stdarg.h>
#include <sys/utsname.h>

#define MOST_SAMPLES 64
#define MOST_FIGURES 512

typedef struct figure {
  char what[64], who[24];
  double samples[MOST_SAMPLES];
  int n;
} figure;

typedef struct report {
  const char *bench;
  char title[96];
  figure figures[MOST_FIGURES];
  int n, missed, met;
  FILE *tsv;
} report;

typedef enum target_kind {
  NO_TARGET,
  RATIO_AT_MOST, /* walmap's figure divided by the peer's */
  RATIO_AT_LEAST,
  VALUE_AT_MOST, /* walmap's figure itself */
} target_kind;

/* The first line of a file that begins with this word and a colon, without them; of /sys files, the first line. */
static inline void first_line(const char *file, const char *word, char *text, size_t size) {
  char line[256], *colon;
  FILE *f = fopen(file, "r");
  snprintf(text, size, "unknown");
  while (f && fgets(line, sizeof line, f)) {
    line[strcspn(line, "\n")] = 0;
    colon = *word ? strchr(line, ':') : line;
    if (!colon || strncmp(line, word, strlen(word)))
      continue;
    snprintf(text, size, "%.*s", (int)size - 1, *word ? colon + 2 : line);
    break;
  }
  if (f)
    fclose(f);
}

/* The line that tells where the stats come from; `versions` names the peers. */
static inline report *report_open(const char *bench, const char *versions) {
  report *r = calloc(1, sizeof *r);
  MUST(r);
  struct utsname system;
  char cpu[128], huge[64], load[64], file[512];
  const char *clock = getenv("BENCH_CLOCK"), *folder = getenv("BENCH_RESULTS");
  first_line("/proc/cpuinfo", "model name", cpu, sizeof cpu);
  first_line("/sys/kernel/mm/transparent_hugepage/enabled", "", huge, sizeof huge);
  first_line("/proc/loadavg", "", load, sizeof load);
  load[strcspn(load, " ")] = 0;
  MUST(uname(&system) == 0);
  printf("%s: %s, %ld cores, %s %s, huge pages: %s, load before: %s; %s%s\n", bench, cpu, sysconf(_SC_NPROCESSORS_ONLN),
         system.sysname, system.release, huge, load, versions,
         clock && !strcmp(clock, "cpu") ? "; processor time" : "");
  fflush(stdout);
  r->bench = bench;
  if (folder && *folder) {
    snprintf(file, sizeof file, "%s/%s.tsv", folder, bench);
    MUST(r->tsv = fopen(file, "w"));
    fprintf(r->tsv, "# %s, %ld cores, %s; %s\n", cpu, sysconf(_SC_NPROCESSORS_ONLN), system.release, versions);
    fprintf(r->tsv, "# bench\ttable\twhat\tunit\twalmap\tpeer's name\tpeer\tratio\tspread\ttarget\n");
  }
  return r;
}

/* Begins a table; the samples of the one before are forgotten. */
static inline void report_title(report *r, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(r->title, sizeof r->title, format, arguments);
  va_end(arguments);
  r->n = 0;
  printf("\n%-48s %10s %10s %7s %7s  %s\n", r->title, "walmap", "peer", "ratio", "spread", "target");
  fflush(stdout);
}

static inline figure *report_find(report *r, const char *what, const char *who, bool add) {
  for (int i = 0; i < r->n; i++)
    if (!strcmp(r->figures[i].what, what) && !strcmp(r->figures[i].who, who))
      return &r->figures[i];
  if (!add)
    return NULL;
  MUST(r->n < MOST_FIGURES);
  figure *f = &r->figures[r->n++];
  *f = (figure){.n = 0};
  snprintf(f->what, sizeof f->what, "%s", what);
  snprintf(f->who, sizeof f->who, "%s", who);
  return f;
}

static inline void report_sample(report *r, const char *what, const char *who, double value) {
  figure *f = report_find(r, what, who, true);
  MUST(f->n < MOST_SAMPLES);
  f->samples[f->n++] = value;
}

static inline int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* All rounds but the first, in order of size; the only one where there is no other. Their number. */
static inline int report_sorted(report *r, const char *what, const char *who, double sorted[MOST_SAMPLES]) {
  const figure *f = report_find(r, what, who, false);
  if (!f || !f->n)
    return 0;
  int skip = f->n > 1, n = f->n - skip;
  memcpy(sorted, f->samples + skip, (size_t)n * sizeof *sorted);
  qsort(sorted, (size_t)n, sizeof *sorted, compare_doubles);
  return n;
}

/* NAN where there is none. */
static inline double report_median(report *r, const char *what, const char *who) {
  double sorted[MOST_SAMPLES];
  int n = report_sorted(r, what, who, sorted);
  if (n == 0)
    return NAN;
  return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* The highest to the lowest. */
static inline double report_spread(report *r, const char *what, const char *who) {
  double sorted[MOST_SAMPLES];
  int n = report_sorted(r, what, who, sorted);
  return n < 2 ? NAN : sorted[n - 1] / sorted[0];
}

static inline void format_figure(char *text, size_t size, double value) {
  if (!isfinite(value))
    snprintf(text, size, "-");
  else
    snprintf(text, size, value >= 1000 ? "%.0f" : value >= 10 ? "%.1f" : "%.2f", value);
}

static inline void report_print(report *r, const char *what, const char *unit, double ours, double spread,
                                const char *peer, double theirs, target_kind kind, double target) {
  double ratio = ours / theirs, judged = kind == VALUE_AT_MOST ? ours : ratio;
  char name[160], a[32], b[32], c[32], d[32], e[64] = "";
  snprintf(name, sizeof name, "%s%s%s%s%s%s", what, *unit ? ", " : "", unit, peer ? " (" : "", peer ? peer : "",
           peer ? ")" : "");
  format_figure(a, sizeof a, ours);
  format_figure(b, sizeof b, theirs);
  format_figure(c, sizeof c, ratio);
  format_figure(d, sizeof d, spread);
  if (kind != NO_TARGET && !isnan(judged)) {
    bool met = kind == RATIO_AT_LEAST ? judged >= target : judged <= target;
    snprintf(e, sizeof e, "%s %g%s %s", kind == RATIO_AT_LEAST ? ">=" : "<=", target, kind == VALUE_AT_MOST ? "" : "x",
             met ? "met" : "MISSED");
    *(met ? &r->met : &r->missed) += 1;
  }
  printf("%-48s %10s %10s %7s %7s  %s\n", name, a, b, c, d, e);
  fflush(stdout);
  if (r->tsv) {
    fprintf(r->tsv, "%s\t%s\t%s\t%s\t%.6g\t%s\t%.6g\t%.4g\t%.3g\t%s\n", r->bench, r->title, what, unit, ours,
            peer ? peer : "", theirs, ratio, spread, e);
    fflush(r->tsv);
  }
}

/* One row with these two stats, however they came about. */
static inline void report_values(report *r, const char *what, const char *unit, double ours, const char *peer,
                                 double theirs, target_kind kind, double target) {
  report_print(r, what, unit, ours, NAN, peer, theirs, kind, target);
}

/* One row from the medians of walmap and of a peer, which may be NULL. */
static inline void report_row(report *r, const char *what, const char *unit, const char *peer, target_kind kind,
                              double target) {
  double ours = report_median(r, what, "walmap");
  if (isnan(ours))
    return;
  report_print(r, what, unit, ours, report_spread(r, what, "walmap"), peer, peer ? report_median(r, what, peer) : NAN,
               kind, target);
}

/* The names over rows of several columns. */
static inline void report_columns(const char *const *names, int n) {
  printf("%-36s", "");
  for (int i = 0; i < n; i++)
    printf(" %16s", names[i]);
  printf("\n");
}

/* One row with the medians of several ways, a column for each; in the file each is a peer of the first. */
static inline void report_ways(report *r, const char *what, const char *unit, const char *const *names, int n) {
  char text[128];
  double first = report_median(r, what, names[0]);
  snprintf(text, sizeof text, "%s%s%s", what, *unit ? ", " : "", unit);
  printf("%-36s", text);
  for (int i = 0; i < n; i++) {
    double value = report_median(r, what, names[i]);
    format_figure(text, sizeof text, value);
    printf(" %16s", text);
    if (r->tsv)
      fprintf(r->tsv, "%s\t%s\t%s\t%s\t%.6g\t%s\t%.6g\t%.4g\t%.3g\t\n", r->bench, r->title, what, unit, first, names[i],
              value, first / value, report_spread(r, what, names[0]));
  }
  printf("\n");
  fflush(stdout);
}

static inline void report_close(report *r) {
  printf("\n%s: %d targets met, %d missed\n", r->bench, r->met, r->missed);
  if (r->tsv)
    MUST(fclose(r->tsv) == 0);
  free(r);
}

#endif
