/* verify_index.c - a shard's index: directory, subtables, slots (verify.h has the order) */
#include "verify/verify.h"

/* Whether a search for the key's hash comes to this slot for this address. */
static bool leads_to(const walmap__index *index, uint64_t hash, uint32_t address, const walmap__bucket *bucket,
                     unsigned slot) {
  walmap__slot_ref ref;
  uint32_t found;
  walmap__index_seek(index, hash, &ref);
  while ((found = walmap__index_next(&ref, hash)) != 0) {
    if (found == address)
      return ref.bucket == bucket && ref.slot == slot;
  }
  return false;
}

/* Adds to *passed how many buckets the entry has passed on its way from its home bucket. */
static bool check_slot(const walmap__inspection *in, const walmap__subtable *t, uint32_t b, unsigned slot,
                       uint64_t *passed) {
  const walmap__index *index = &in->g->index;
  const walmap__bucket *bucket = &t->buckets[b];
  uint32_t mask = (1u << t->bits) - 1, address = atomic_load(&bucket->address[slot]), meta;
  const walmap__record *record = walmap__inspect_address(in, address, &meta);
  if (!record)
    return walmap__fault(in, "the index leads to address %08lx, where no record is", (unsigned long)address);
  if (meta & (WALMAP__DEAD | WALMAP__MOVED) || walmap__record_next(record) != 0)
    return walmap__fault(in, "the index leads to address %08lx, whose record is not the newest",
                         (unsigned long)address);
  uint64_t hash = walmap__index_hash_of(index, record, meta);
  if (walmap__shard_of(in->map, hash) != in->shard || atomic_load(&bucket->tag[slot]) != walmap__tag(hash) ||
      !leads_to(index, hash, address, bucket, slot))
    return walmap__fault(in, "the key at address %08lx does not lead to its slot of the index", (unsigned long)address);
  *passed += (b - (uint32_t)(hash >> 8)) & mask;
  return true;
}

static bool check_subtable(walmap__inspection *in, const walmap__subtable *t) {
  uint32_t n = 1u << t->bits, count = 0;
  uint64_t passed = 0, noted = 0;
  bool known = true; /* passed sticks at its greatest number */
  for (uint32_t b = 0; b < n; b++) {
    for (unsigned slot = 0; slot < WALMAP__BUCKET_SLOTS; slot++) {
      if (atomic_load(&t->buckets[b].tag[slot]) == 0)
        continue;
      if (!check_slot(in, t, b, slot, &passed))
        return false;
      count++;
    }
    noted += atomic_load(&t->buckets[b].passed);
    known &= atomic_load(&t->buckets[b].passed) != UINT16_MAX;
    if (atomic_load(&t->buckets[b].visited) >> WALMAP__BUCKET_SLOTS != 0 ||
        (atomic_load(&t->buckets[b].visited) != 0 && !in->g->index.keeps_visits))
      return walmap__fault(in, "bucket %lu of a subtable notes visits of slots that there are not", (unsigned long)b);
  }
  if (count != t->count)
    return walmap__fault(in, "a subtable of the index has %lu entries, but %lu were counted", (unsigned long)t->count,
                         (unsigned long)count);
  if (known && passed != noted)
    return walmap__fault(in, "entries of the index have passed %llu buckets, but %llu were noted",
                         (unsigned long long)passed, (unsigned long long)noted);
  in->recount.slots += count;
  return true;
}

/* A subtable of depth k has all words whose first k bits are its own; these words are neighbours. */
static bool check_words(const walmap__inspection *in, const walmap__directory *d, size_t first) {
  const walmap__subtable *t = d->subtables[first];
  size_t n = t && t->depth <= d->depth ? (size_t)1 << (d->depth - t->depth) : 0;
  if (n == 0 || first % n != 0)
    return walmap__fault(in, "word %zu of the index's directory leads to no subtable", first);
  for (size_t i = first; i < first + n; i++) {
    if (d->subtables[i] != t || atomic_load(&d->words[i]) != ((uintptr_t)t->buckets | t->bits))
      return walmap__fault(in, "word %zu of the index's directory leads to another subtable", i);
  }
  return true;
}

bool walmap__verify_index(walmap__inspection *in) {
  const walmap__directory *d = atomic_load(&in->g->index.directory);
  size_t words = (size_t)1 << d->depth, subtables = 0;
  for (size_t first = 0; first < words; first += (size_t)1 << (d->depth - d->subtables[first]->depth)) {
    if (!check_words(in, d, first))
      return false;
    subtables++;
  }
  for (size_t first = 0; first < words; first += (size_t)1 << (d->depth - d->subtables[first]->depth)) {
    if (!check_subtable(in, d->subtables[first]))
      return false;
  }
  return subtables == in->g->index.n_subtables || walmap__fault(in, "the index counts its subtables wrongly");
}
