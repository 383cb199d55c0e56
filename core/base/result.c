/* result.c - result codes in words, the text of a failure, and the version */
#include "base/why.h"

#include <stdarg.h>
#include <stdio.h>

const char *walmap_result_text(int result) {
  switch (result) {
  case WALMAP_OK:
    return "no error";
  case WALMAP_NOTFOUND:
    return "the key is absent";
  case WALMAP_NOMEM:
    return "out of memory";
  case WALMAP_BUSY:
    return "another transaction holds this part of the map";
  case WALMAP_DEADLOCK:
    return "deadlock: another transaction waits for this one";
  case WALMAP_INTERRUPT:
    return "interrupted while waiting";
  case WALMAP_TOOBIG:
    return "key, value or log is too big";
  case WALMAP_CORRUPT:
    return "the image is damaged";
  case WALMAP_IO:
    return "the read or write callback failed";
  case WALMAP_INVALID:
    return "an option's value is not allowed";
  case WALMAP_GONE:
    return "the changes since that position are not known";
  case WALMAP_EXISTS:
    return "the key is there already";
  case WALMAP_FULL:
    return "the map's bound leaves no room";
  default:
    return "unknown result code";
  }
}

int walmap__explain(walmap_why *why, int result, const char *format, ...) {
  if (!why)
    return result;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(why->text, sizeof why->text, format, arguments);
  va_end(arguments);
  return result;
}

const char *walmap_version(void) { return WALMAP_VERSION; }
