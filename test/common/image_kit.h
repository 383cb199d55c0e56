/*
** image_kit.h - what the tests and the fuzzer of images share: images from hex, images with chosen chunks, sources that
** read in odd pieces, repair of checksums, and the exhaustive list of small damages
*/
#ifndef TEST_CORE_IMAGE_KIT_H
#define TEST_CORE_IMAGE_KIT_H

#include "support.h"

#include "image/format.h"

typedef struct bytes {
  uint8_t *data;
  size_t size;
} bytes;

static inline bytes bytes_copy(const void *data, size_t size) {
  bytes copy = {malloc(size + 1), size};
  MUST(copy.data != NULL);
  if (size > 0)
    memcpy(copy.data, data, size);
  return copy;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Hex                                                                                                                */

/*
** Reads bytes from text. A line counts if it is: spaces, the offset of its first byte in decimal, two spaces, hex pairs
** with one space between them. Two spaces begin a comment. `from` (may be NULL) is text to skip to first.
*/
static inline bytes bytes_from_hex(const char *path, const char *from) {
  FILE *file = fopen(path, "r");
  if (file == NULL) {
    fprintf(stderr, "%s: not found: run the tests from the top folder\n", path);
    abort();
  }
  char line[512];
  bool on = from == NULL;
  bytes all = bytes_copy(NULL, 0);
  while (fgets(line, sizeof line, file) != NULL) {
    if (!on && strstr(line, from) != NULL)
      on = true;
    char *at;
    size_t offset = strtoul(line, &at, 10);
    if (!on || at == line || strncmp(at, "  ", 2) != 0)
      continue;
    MUST(offset == all.size);
    unsigned byte;
    for (at += 2; sscanf(at, "%2x", &byte) == 1; at += 3) {
      all.data = realloc(all.data, all.size + 2);
      MUST(all.data != NULL);
      all.data[all.size++] = (uint8_t)byte;
      if (at[2] != ' ' || at[3] == ' ')
        break;
    }
  }
  fclose(file);
  return all;
}

static inline void print_hex(bytes all) {
  for (size_t i = 0; i < all.size; i++) {
    if (i % 16 == 0)
      printf("%5zu ", i);
    printf(" %02x%s", all.data[i], i % 16 == 15 || i + 1 == all.size ? "\n" : "");
  }
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Entries and images                                                                                                 */

/* Key and value of entry i of a made-up content, of all lengths that matter up to `longest`. */
static inline walmap_entry made_entry(uint32_t i, size_t longest) {
  static const size_t lengths[] = {0, 1, 2, 3, 4, 5, 255, 1022, 1023, 1024, 65535, 65536, 300000};
  static uint8_t pool[1 << 20];
  if (pool[0] == 0) {
    for (size_t k = 0; k < sizeof pool; k++)
      pool[k] = (uint8_t)(k * 2654435761u >> 11 | 1);
  }
  size_t n = 0;
  while (n < sizeof lengths / sizeof *lengths && lengths[n] <= longest)
    n++;
  uint64_t expires = i % 5 == 3 ? UINT64_C(1) << i % 62 : 0; /* some expire, at all kinds of times */
  walmap_entry entry = {pool + 4096 + i, lengths[i % n], pool + 65536 + i, lengths[i / n % n], expires};
  return entry;
}

/* Makes the writer's next record begin a new chunk. */
static inline void cut_chunk(walmap__image_writer *writer) {
  uint8_t *room;
  MUST_OK(walmap__image_writer_reserve(writer, WALMAP__IMAGE_CHUNK, &room));
}

static inline bytes finish(walmap__image_writer *writer) {
  void *image;
  size_t size;
  MUST_OK(walmap__image_writer_finish(writer, &image, &size));
  bytes copy = bytes_copy(image, size);
  walmap_image_free(image);
  return copy;
}

/* An image of the first n made-up entries, `per_chunk` of them in each chunk; 0: as the writer likes. */
static inline bytes made_image(uint32_t content, uint32_t n, size_t longest, uint32_t per_chunk) {
  walmap__image_writer *writer;
  MUST_OK(walmap__image_writer_new(content, NULL, NULL, 0, &writer));
  for (uint32_t i = 0; i < n; i++) {
    walmap_entry entry = made_entry(i, longest);
    if (per_chunk > 0 && i % per_chunk == 0)
      cut_chunk(writer);
    MUST_OK(walmap__image_writer_add(writer, &entry));
  }
  return finish(writer);
}

/* A clock for maps in which nothing expires, whatever an entry says. */
static inline uint64_t no_time(void *unused) {
  (void)unused;
  return 0;
}

static inline bool same_entry(const walmap_entry *a, const walmap_entry *b) {
  return a->key_len == b->key_len && a->value_len == b->value_len && a->expires == b->expires &&
         memcmp(a->key, b->key, a->key_len) == 0 && memcmp(a->value, b->value, a->value_len) == 0;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* A source of short reads                                                                                            */

typedef struct source {
  bytes all;
  size_t at;
  size_t piece;    /* bytes per read at most; 0: a random number each time */
  size_t fail_at;  /* reads fail from this byte on, */
  ptrdiff_t fails; /* with this result; 0: never */
  uint64_t random;
} source;

static inline ptrdiff_t read_source(void *ctx, void *to, size_t size) {
  source *s = ctx;
  if (s->fails != 0 && s->at >= s->fail_at)
    return s->fails < 0 ? s->fails : (ptrdiff_t)size + s->fails;
  size_t n = s->piece > 0 ? s->piece : 1 + random_below(&s->random, 100);
  size_t left = (s->fails != 0 ? s->fail_at : s->all.size) - s->at;
  if (n > left)
    n = left;
  if (n > size)
    n = size;
  if (n > 0)
    memcpy(to, s->all.data + s->at, n);
  s->at += n;
  return (ptrdiff_t)n;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Reading all of an image, the ways that need no map; OK, or the first error                                         */

static inline int read_in_place(bytes image, uint64_t *entries, walmap_why *why) {
  walmap_image_reader reader;
  walmap_entry entry;
  *entries = 0;
  int rc = walmap_image_open(&reader, image.data, image.size, why);
  while (rc == WALMAP_OK && (rc = walmap_image_next(&reader, &entry, why)) == WALMAP_OK)
    ++*entries;
  return rc == WALMAP_NOTFOUND ? WALMAP_OK : rc;
}

static inline int read_stream_of(source *from, uint64_t *entries, walmap_why *why) {
  walmap__image_decoder decoder;
  walmap__image_chunk chunk;
  walmap__image_record record;
  *entries = 0;
  walmap__image_decoder_start_read(&decoder, read_source, from);
  int rc = walmap__image_decoder_header(&decoder, why);
  while (rc == WALMAP_OK && (rc = walmap__image_decoder_next(&decoder, &chunk, why)) == WALMAP_OK) {
    while ((rc = walmap__image_record_next(&chunk, &record, why)) == WALMAP_OK)
      ++*entries;
    if (rc == WALMAP_NOTFOUND)
      rc = WALMAP_OK;
  }
  walmap__image_decoder_stop(&decoder);
  return rc == WALMAP_NOTFOUND ? WALMAP_OK : rc;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Damage                                                                                                             */

/* Makes all checksums right, as far as one block leads to the next, as a forger would. */
static inline void repair(bytes image) {
  uint64_t check = 0;
  size_t at = 0;
  while (image.size - at >= IMAGE_BLOCK) {
    uint8_t *block = image.data + at;
    size_t left = image.size - at - IMAGE_BLOCK, payload = 0;
    bool frame = at > 0 && image_load32(block + FRAME_TAG) == FRAME_TAG_VALUE;
    bool fits = !frame || walmap__load64(block + FRAME_SIZE) <= left;
    if (frame && fits) {
      payload = (size_t)walmap__load64(block + FRAME_SIZE);
      walmap__store64(block + FRAME_CHECKSUM, XXH3_64bits(block + IMAGE_BLOCK, payload));
    }
    check = image_check(block, check);
    walmap__store64(block + IMAGE_CHECK, check);
    if (at > 0 && !(frame && fits))
      return;
    at += IMAGE_BLOCK + payload;
  }
}

/* Called with each damaged image, which must be refused. `what` and `where` are for messages. */
typedef void (*damage_fn)(void *ctx, bytes damaged, const char *what, size_t where);

static inline void each_flipped_bit(bytes image, damage_fn damage, void *ctx) {
  for (size_t bit = 0; bit < image.size * 8; bit++) {
    image.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    damage(ctx, image, "flipped bit", bit);
    image.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
}

/* Cuts the image in a block of the exact size, so that a sanitizer sees any read behind the cut. */
static inline void each_cut(bytes image, damage_fn damage, void *ctx) {
  for (size_t size = 0; size < image.size; size++) {
    bytes cut = {malloc(size), size};
    if (size > 0)
      memcpy(cut.data, image.data, size);
    damage(ctx, cut, "cut", size);
    free(cut.data);
  }
}

static inline void each_appended_byte(bytes image, damage_fn damage, void *ctx) {
  bytes longer = bytes_copy(image.data, image.size);
  longer.size++;
  for (int byte = 0; byte < 256; byte++) {
    longer.data[image.size] = (uint8_t)byte;
    damage(ctx, longer, "appended byte", (size_t)byte);
  }
  free(longer.data);
}

/* Stores where each block begins. Returns the number of blocks. */
static inline size_t find_blocks(bytes image, size_t *at, size_t max) {
  size_t n = 0;
  for (size_t offset = 0; offset < image.size && n < max; n++) {
    at[n] = offset;
    bool frame = n > 0 && image_load32(image.data + offset + FRAME_TAG) == FRAME_TAG_VALUE;
    offset += IMAGE_BLOCK + (frame ? (size_t)walmap__load64(image.data + offset + FRAME_SIZE) : 0);
  }
  return n;
}

/* Each chunk dropped, doubled, or swapped with another; at most 16 chunks. */
static inline void each_shuffled_chunk(bytes image, damage_fn damage, void *ctx) {
  size_t at[18], n = find_blocks(image, at, 18);
  bytes other = {malloc(image.size * 2), 0};
  MUST(other.data != NULL && n >= 3);
  for (size_t a = 1; a + 1 < n; a++) {
    for (size_t b = 0; b + 1 < n; b++) {
      /* b = 0 drops a, b = a doubles it, any other is swapped with it. */
      if (b != 0 && b < a)
        continue;
      other.size = 0;
      for (size_t i = 0; i < n; i++) {
        size_t take = b > a && i == a ? b : b > a && i == b ? a : i;
        size_t length = (take + 1 < n ? at[take + 1] : image.size) - at[take];
        size_t times = i != a ? 1 : b == 0 ? 0 : b == a ? 2 : 1;
        for (; times > 0; times--) {
          memcpy(other.data + other.size, image.data + at[take], length);
          other.size += length;
        }
      }
      damage(ctx, other, b == 0 ? "dropped chunk" : b == a ? "doubled chunk" : "swapped chunks", a * 100 + b);
    }
  }
  free(other.data);
}

#endif
