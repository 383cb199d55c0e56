/*
** quoted.h - text in SQL's quotes: '...', "...", `...`, [...]
**
** A closing quote inside is written twice, except in [...], which cannot contain one.
*/
#ifndef WM_QUOTED_H
#define WM_QUOTED_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef struct wm_quoted {
  const char *at, *end; /* the text that is left */
  char close;           /* the closing quote */
} wm_quoted;

/* Starts behind the opening quote at `at`. False when `at` is no opening quote; then q->at is `at`. */
static inline bool wm_quoted_start(wm_quoted *q, const char *at, const char *end) {
  static const char opening[] = "'\"`[", closing[] = "'\"`]";
  const char *kind = at != end && *at != 0 ? strchr(opening, *at) : NULL;
  *q = (wm_quoted){kind != NULL ? at + 1 : at, end, kind != NULL ? closing[kind - opening] : 0};
  return kind != NULL;
}

/* The next character of the quoted text; WM_QUOTED_END behind the closing quote; WM_QUOTED_OPEN if there is none. */
enum { WM_QUOTED_END = -1, WM_QUOTED_OPEN = -2 };
static inline int wm_quoted_next(wm_quoted *q) {
  if (q->at == q->end)
    return WM_QUOTED_OPEN;
  char c = *q->at++;
  if (c == q->close) {
    if (c == ']' || q->at == q->end || *q->at != c)
      return WM_QUOTED_END;
    q->at++;
  }
  return (unsigned char)c;
}

#endif
