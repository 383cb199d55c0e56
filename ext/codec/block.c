/*
** block.c - the blocks of a durable table's log: see block.h
*/
#include "codec/block.h"
#include "codec/codec.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

static const uint8_t magic[4] = {'w', 'l', 'o', 'g'};

static void store(uint8_t *to, uint64_t number, int bytes) {
  for (int i = 0; i < bytes; i++)
    to[i] = (uint8_t)(number >> 8 * i);
}

static uint64_t load(const uint8_t *from, int bytes) {
  uint64_t number = 0;
  for (int i = 0; i < bytes; i++)
    number |= (uint64_t)from[i] << 8 * i;
  return number;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Lengths: 7 bits a byte, the low ones first; bit 7 says that another byte follows                                   */

static size_t length_size(uint64_t length) {
  size_t size = 1;
  while ((length >>= 7) != 0)
    size++;
  return size;
}

static uint8_t *write_length(uint8_t *to, uint64_t length) {
  for (; length > 127; length >>= 7)
    *to++ = (uint8_t)(length | 128);
  *to++ = (uint8_t)length;
  return to;
}

/* Moves *at past it. False when it does not end before `end`, is too great, or is not written in the shortest way. */
static bool read_length(const uint8_t **at, const uint8_t *end, size_t *out) {
  uint64_t length = 0;
  for (int shift = 0; shift < 35 && *at < end; shift += 7) {
    uint8_t byte = *(*at)++;
    length |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) {
      *out = (size_t)length;
      return (byte != 0 || shift == 0) && length <= WALMAP_MAX_LENGTH;
    }
  }
  return false;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Writing                                                                                                            */

enum { PUT_EXPIRING = 4, EXPIRES = 8 }; /* a put with 8 bytes of expiry behind its lengths */

size_t wm_record_size(wm_change change, size_t key_len, size_t value_len, uint64_t expires) {
  size_t size = 1 + (change == WM_CHANGE_PUT && expires != 0 ? EXPIRES : 0);
  if (change != WM_CHANGE_CLEAR)
    size += length_size(key_len) + key_len;
  if (change == WM_CHANGE_PUT)
    size += length_size(value_len) + value_len;
  return size;
}

uint8_t *wm_record_write(uint8_t *to, wm_change change, const void *key, size_t key_len, size_t value_len,
                         uint64_t expires) {
  bool is_expiring = change == WM_CHANGE_PUT && expires != 0;
  *to++ = (uint8_t)(is_expiring ? PUT_EXPIRING : (int)change);
  if (change == WM_CHANGE_CLEAR)
    return to;
  to = write_length(to, key_len);
  if (change == WM_CHANGE_PUT)
    to = write_length(to, value_len);
  if (is_expiring) {
    store(to, expires, EXPIRES);
    to += EXPIRES;
  }
  memcpy(to, key, key_len);
  return to + key_len;
}

void wm_block_write_head(uint8_t *to, const wm_block_head *head, size_t size) {
  memcpy(to, magic, sizeof magic);
  store(to + 4, WM_BLOCK_VERSION, 2);
  store(to + 6, head->more ? WM_BLOCK_MORE : 0, 2);
  store(to + 8, head->first, 8);
  store(to + 16, head->previous, 8);
  store(to + 24, head->bytes, 8);
  store(to + 32, size, 4);
  store(to + 36, head->index, 4);
}

uint64_t wm_block_chain(uint64_t seq, const void *block, size_t size) { return walmap_xxh3(block, size, seq); }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Pages                                                                                                              */

enum { PAGE = 4096, LEAF = 4088, LEAST_LOCAL = 489, MOST_LOCAL = 4061, OVERFLOW_PAGE = 4092 };

/* What a row takes: bytes of its leaf, and overflow pages. */
typedef struct row_pages {
  uint64_t in_leaf, overflow;
} row_pages;

/*
** A payload has the block, the chain and four numbers: its header's length and the columns' types. In the leaf are also
** its length, seq, and 2 bytes of the cell's place. Of a payload that does not fit into a leaf, what a number of
** overflow pages leaves over is there, if that much is allowed, and LEAST_LOCAL otherwise.
*/
static row_pages pages_of_row(uint64_t seq, size_t size) {
  enum { CHAIN = 8, ONE_BYTE_NUMBERS = 3, PLACE = 2 };
  uint64_t payload = (uint64_t)size + CHAIN + ONE_BYTE_NUMBERS + length_size(2 * (uint64_t)size + 12), local = payload;
  if (payload > MOST_LOCAL)
    local = LEAST_LOCAL + (payload - LEAST_LOCAL) % OVERFLOW_PAGE;
  if (local > MOST_LOCAL)
    local = LEAST_LOCAL;
  return (row_pages){local + length_size(payload) + length_size(seq) + PLACE,
                     (payload - local + OVERFLOW_PAGE - 1) / OVERFLOW_PAGE};
}

uint64_t wm_block_append(uint64_t bytes, uint64_t seq, size_t size) {
  row_pages row = pages_of_row(seq, size);
  uint64_t pages = bytes / PAGE + row.overflow, fill = bytes % PAGE;
  bool fits = fill + row.in_leaf <= LEAF;
  return (pages + !fits) * PAGE + (fits ? fill : 0) + row.in_leaf;
}

uint64_t wm_block_pages(uint64_t bytes, uint64_t seq, size_t size) {
  row_pages row = pages_of_row(seq, size);
  return row.overflow + (bytes % PAGE == row.in_leaf);
}

uint64_t wm_block_without(uint64_t bytes, uint64_t pages) {
  return pages < bytes / PAGE ? bytes - pages * PAGE : bytes % PAGE;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reading                                                                                                            */

const char *wm_block_open(wm_block *block, uint64_t seq, uint64_t chain, const void *bytes, size_t size) {
  const uint8_t *at = bytes;
  if (size < WM_BLOCK_HEAD)
    return "the block is too short";
  if (memcmp(at, magic, sizeof magic) != 0)
    return "the block does not begin with \"wlog\"";
  if (load(at + 4, 2) != WM_BLOCK_VERSION)
    return "the block is of a format version that this library does not know";
  if (wm_block_chain(seq, bytes, size) != chain)
    return "the block's checksum is wrong";
  uint64_t flags = load(at + 6, 2);
  block->head = (wm_block_head){(flags & WM_BLOCK_MORE) != 0, load(at + 8, 8), load(at + 16, 8), load(at + 24, 8),
                                (uint32_t)load(at + 36, 4)};
  if ((flags & ~(uint64_t)WM_BLOCK_MORE) != 0)
    return "the block has flags that this library does not know";
  if (load(at + 32, 4) != size - WM_BLOCK_HEAD)
    return "the block has another size than its head says";
  if (block->head.first == 0 || block->head.first > seq || (seq == 1 && block->head.previous != 0) ||
      block->head.index >= seq)
    return "the block's head contradicts its row";
  block->at = at + WM_BLOCK_HEAD;
  block->end = at + size;
  return NULL;
}

/* Moves *at past the record. False when it is not well-formed. */
static bool read_record(const uint8_t **at, const uint8_t *end, wm_record *record) {
  const uint8_t *p = *at;
  size_t key_len = 0, value_len = 0;
  uint64_t expires = 0;
  bool is_expiring = *p == PUT_EXPIRING;
  record->change = is_expiring ? WM_CHANGE_PUT : (wm_change)*p;
  p++;
  if (record->change < WM_CHANGE_PUT || record->change > WM_CHANGE_CLEAR)
    return false;
  if (record->change != WM_CHANGE_CLEAR && !read_length(&p, end, &key_len))
    return false;
  if (record->change == WM_CHANGE_PUT && !read_length(&p, end, &value_len))
    return false;
  if (is_expiring) {
    if (end - p < EXPIRES || (expires = load(p, EXPIRES)) == 0 || expires > WALMAP_MAX_TIME)
      return false;
    p += EXPIRES;
  }
  if (key_len > (size_t)(end - p) || value_len > (size_t)(end - p) - key_len)
    return false;
  record->entry = (walmap_entry){p, key_len, p + key_len, value_len, expires};
  *at = p + key_len + value_len;
  return true;
}

const char *wm_block_next(wm_block *block, wm_record *record, bool *more) {
  *more = block->at < block->end;
  if (!*more)
    return NULL;
  if (!read_record(&block->at, block->end, record))
    return "the block has a record that is not well-formed";
  switch (record->change) {
  case WM_CHANGE_PUT:
    return wm_codec_check(NULL, &record->entry);
  case WM_CHANGE_REMOVE:
    return wm_codec_check_key(record->entry.key, record->entry.key_len);
  default:
    return NULL;
  }
}

/* What is cut was written by wm_record_write. */
size_t wm_block_cut(const uint8_t *at, const uint8_t *end, size_t limit) {
  const uint8_t *next = at;
  wm_record record;
  size_t size = 0;
  if ((size_t)(end - at) + WM_BLOCK_HEAD <= limit)
    return (size_t)(end - at);
  while (next < end && read_record(&next, end, &record)) {
    if (size > 0 && (size_t)(next - at) + WM_BLOCK_HEAD > limit)
      break;
    size = (size_t)(next - at);
  }
  return size;
}
