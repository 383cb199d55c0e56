/* verify_log.c - the segments of a shard's log, and the records in them (verify.h has the order) */
#include "verify/verify.h"

static walmap__segment *first_of(const walmap__log *log) { return atomic_load(&log->first); }
static walmap__segment *next_segment_of(const walmap__segment *s) { return atomic_load(&s->next); }

static bool fault_at(const walmap__inspection *in, const walmap__segment *s, size_t offset, const char *what) {
  return walmap__fault(in, "segment %u, byte %zu: %s", (unsigned)s->id, offset, what);
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Segments                                                                                                           */

static bool check_segment(const walmap__inspection *in, const walmap__segment *s, uint64_t from) {
  const walmap__log *log = &in->g->log;
  const walmap__segment_table *table = atomic_load(&log->table);
  size_t used = walmap__segment_used(s);
  if (!table || s->id == 0 || s->id >= table->capacity || s->log != log)
    return walmap__fault(in, "segment %u has an id that is not allowed", (unsigned)s->id);
  const walmap__segment_entry *entry = &table->entries[s->id];
  if (entry->segment != s || entry->base != s->base || entry->first_lsn != s->first_lsn)
    return walmap__fault(in, "segment %u is not what the table of ids holds", (unsigned)s->id);
  if (used > s->capacity || used % 4 != 0)
    return fault_at(in, s, used, "that is no end of a segment");
  if (s->first_lsn < from || s->first_lsn + (used >> 2) > log->end)
    return walmap__fault(in, "segment %u has LSNs that are not its own", (unsigned)s->id);
  return true;
}

static bool check_list(const walmap__inspection *in) {
  const walmap__log *log = &in->g->log;
  const walmap__segment *before = NULL;
  uint64_t from = in->g->start + 1;
  uint64_t capacity = 0;
  uint32_t n = 0;
  for (const walmap__segment *s = first_of(log); s; before = s, s = next_segment_of(s), n++) {
    if (s->previous != before)
      return walmap__fault(in, "segment %u is linked wrongly", (unsigned)s->id);
    if (!check_segment(in, s, from))
      return false;
    from = s->first_lsn + (walmap__segment_used(s) >> 2);
    capacity += s->capacity;
  }
  if (capacity != log->capacity)
    return walmap__fault(in, "the log counts its segments' capacity wrongly");
  if (log->last != before || (log->active && (log->active != log->last || from != log->end)))
    return walmap__fault(in, "the log ends with another segment than its last");
  return n == log->n_segments || walmap__fault(in, "the log counts its segments wrongly");
}

/* Counts the ids of segments in the list, of a job, and retired but not yet freed. */
static bool check_ids(const walmap__inspection *in) {
  const walmap__segment_table *table = atomic_load(&in->g->log.table);
  uint32_t n = 0;
  for (uint32_t id = 0; table && id < table->capacity; id++)
    n += table->entries[id].segment != NULL;
  return n == in->g->log.n_ids || walmap__fault(in, "the log counts its ids wrongly");
}

/* Checks that the run lies in the list, in order, and that the copy covers the same LSNs. */
static bool check_job(const walmap__inspection *in) {
  const walmap__job *job = &in->g->job;
  if (!job->first)
    return true;
  const walmap__segment *s = first_of(&in->g->log);
  while (s && s != job->first)
    s = next_segment_of(s);
  while (s && s != job->at && s != job->last)
    s = next_segment_of(s);
  if (s != job->at)
    return walmap__fault(in, "compaction is at a segment outside of its run");
  while (s && s != job->last)
    s = next_segment_of(s);
  if (!s || s == in->g->log.active || job->offset > walmap__segment_used(job->at))
    return walmap__fault(in, "compaction has a run that is not of the log");
  if (job->copy &&
      (!check_segment(in, job->copy, job->first->first_lsn) || job->copy->first_lsn != job->first->first_lsn))
    return walmap__fault(in, "compaction copies into segment %u", (unsigned)job->copy->id);
  return true;
}

bool walmap__verify_segments(walmap__inspection *in) { return check_list(in) && check_ids(in) && check_job(in); }

/* ------------------------------------------------------------------------------------------------------------------ */
/* Addresses                                                                                                          */

/* Whether the used bytes have a whole record at the offset. The record's lengths are checked before they are used. */
static bool is_record(const walmap__segment *s, size_t offset, uint32_t *meta) {
  size_t used = walmap__segment_used(s), room = used - offset;
  if (offset > used || room < WALMAP__RECORD_HEAD)
    return false;
  const walmap__record *record = walmap__segment_record(s, offset);
  *meta = walmap__record_meta(record);
  if (walmap__meta_extended(*meta)) {
    const uint8_t *lengths = (const uint8_t *)record + WALMAP__RECORD_HEAD;
    if (room < WALMAP__EXTENDED_HEAD || walmap__load64(lengths) > room || walmap__load64(lengths + 8) > room)
      return false;
  }
  return walmap__record_size(record, *meta) <= room;
}

const walmap__record *walmap__inspect_address(const walmap__inspection *in, uint32_t address, uint32_t *meta) {
  const walmap__segment_table *table = atomic_load(&in->g->log.table);
  uint32_t id = address >> WALMAP__OFFSET_BITS;
  size_t offset = walmap__address_offset(address);
  if (address == 0 || !table || id >= table->capacity || !table->entries[id].segment)
    return NULL;
  const walmap__segment *s = table->entries[id].segment;
  return is_record(s, offset, meta) ? walmap__segment_record(s, offset) : NULL;
}

/* ------------------------------------------------------------------------------------------------------------------ */
/* Records                                                                                                            */

typedef struct visit {
  const walmap__segment *segment;
  size_t offset;
  const walmap__record *record;
  uint32_t meta, next;
  size_t size;
  bool passed; /* the present job of compaction has passed the record */
} visit;

static bool fault_here(const walmap__inspection *in, const visit *v, const char *what) {
  return fault_at(in, v->segment, v->offset, what);
}

static bool is_same(const walmap__record *a, uint32_t a_meta, const walmap__record *b, uint32_t b_meta, bool value) {
  walmap_entry x, y;
  walmap__record_entry(a, a_meta, &x);
  walmap__record_entry(b, b_meta, &y);
  return walmap__record_has_key(a, a_meta, y.key, y.key_len) &&
         (!value ||
          (x.value_len == y.value_len && memcmp(x.value, y.value, x.value_len) == 0 && x.expires == y.expires));
}

/* Checks a live record that compaction has copied: `next` is the copy. */
static bool check_moved(walmap__inspection *in, const visit *v) {
  uint32_t meta;
  const walmap__record *copy = walmap__inspect_address(in, v->next, &meta);
  if (!v->passed || v->meta & WALMAP__TOMB)
    return fault_here(in, v, "a record counts as moved where nothing is moved");
  if (!copy || walmap__log_entry(&in->g->log, v->next)->segment != in->g->job.copy ||
      !is_same(v->record, v->meta, copy, meta, true))
    return fault_here(in, v, "a moved record and its copy differ");
  in->recount.dead += v->meta & WALMAP__PREV ? 4 : 0;
  return true;
}

/* Checks a record that is not the newest of its key and waits to be reclaimed. A dead successor waits too. */
static bool check_superseded(walmap__inspection *in, const visit *v) {
  const walmap__log *log = &in->g->log;
  uint32_t address = walmap__address(v->segment, v->offset), meta;
  const walmap__record *next = walmap__inspect_address(in, v->next, &meta);
  if (!next || meta & (WALMAP__DEAD | WALMAP__MOVED) || !is_same(v->record, v->meta, next, meta, false))
    return fault_here(in, v, "the record's successor is none");
  if (walmap__log_lsn(log, v->next) <= walmap__log_lsn(log, address))
    return fault_here(in, v, "the record's successor is older");
  if (walmap__record_prev(next, meta) != address)
    return fault_here(in, v, "the record's successor does not lead back to it");
  in->recount.waiting++;
  in->recount.dead += v->size;
  return true;
}

static bool check_newest(walmap__inspection *in, const visit *v) {
  const walmap__index *index = &in->g->index;
  walmap_entry e;
  walmap__record_entry(v->record, v->meta, &e);
  walmap__slot_ref slot;
  uint64_t hash = index->hash(e.key, e.key_len, index->seed);
  walmap__version newest = walmap__index_find(index, hash, e.key, e.key_len, false, &slot);
  if (newest.record != v->record)
    return fault_here(in, v, "the record is not found by its key");
  bool tomb = v->meta & WALMAP__TOMB, swept = e.expires != 0 && e.expires <= in->g->expiry.swept;
  size_t prev = v->meta & WALMAP__PREV ? 4 : 0;
  in->recount.newest++;
  in->recount.live += !tomb && !swept;
  in->recount.waiting += tomb;
  in->recount.dead += tomb || swept ? v->size : prev;
  in->recount.expired += swept ? v->size - prev : 0;
  if (e.expires == 0 || swept)
    return true;
  if (!walmap__segment_may_be_expired(v->segment, e.expires))
    return fault_here(in, v, "the record expires before its segment says");
  in->recount.expiring++;
  in->recount.expiring_bytes += v->size - prev;
  return true;
}

/* The padding goes into images as it is, where padding that is not zero counts as damage. */
static bool is_padded(const visit *v) {
  walmap_entry e;
  walmap__record_entry(v->record, v->meta, &e);
  const uint8_t *at = (const uint8_t *)e.value + e.value_len;
  const uint8_t *end = (const uint8_t *)v->record + v->size - walmap__tail_bytes(v->meta);
  while (at < end && *at == 0)
    at++;
  return at == end;
}

static bool check_record(walmap__inspection *in, const visit *v) {
  bool clean = !atomic_load(&v->segment->dirty) && !atomic_load(&v->segment->tagged);
  const uint32_t no_image = WALMAP__TAGGED | WALMAP__PREV | WALMAP__TOMB | WALMAP__MOVED | WALMAP__DEAD;
  if (clean && (v->next != 0 || v->meta & no_image))
    return fault_here(in, v, "the record is in a segment that counts as an image");
  if (v->passed && !(v->meta & (WALMAP__DEAD | WALMAP__MOVED)))
    return fault_here(in, v, "compaction has left the record behind");
  if (v->meta & WALMAP__DEAD) {
    in->recount.dead += v->size;
    return true;
  }
  if (!is_padded(v))
    return fault_here(in, v, "the record's padding is not zero");
  if (v->meta & WALMAP__MOVED)
    return check_moved(in, v);
  return v->next != 0 ? check_superseded(in, v) : check_newest(in, v);
}

static bool is_dead_to_segment(const visit *v) {
  return v->meta & (WALMAP__TOMB | WALMAP__DEAD) || (v->next != 0 && !(v->meta & WALMAP__MOVED));
}

/* Checks all records of a segment. Compaction has passed those before `passed`. */
static bool check_records(walmap__inspection *in, const walmap__segment *s, size_t passed) {
  size_t used = walmap__segment_used(s);
  uint64_t records = 0, dead_bytes = 0;
  visit v = {.segment = s};
  for (; v.offset < used; v.offset += v.size) {
    if (!is_record(s, v.offset, &v.meta))
      return fault_here(in, &v, "the record does not end in its segment");
    v.record = walmap__segment_record(s, v.offset);
    v.next = walmap__record_next(v.record);
    v.size = walmap__record_size(v.record, v.meta);
    v.passed = v.offset < passed;
    if (!check_record(in, &v))
      return false;
    records++;
    dead_bytes += is_dead_to_segment(&v) ? v.size : 0;
  }
  if (records != atomic_load(&s->records))
    return walmap__fault(in, "segment %u: %lu records, but %llu were counted", (unsigned)s->id,
                         (unsigned long)atomic_load(&s->records), (unsigned long long)records);
  if (dead_bytes != s->dead_bytes)
    return walmap__fault(in, "segment %u: %llu dead bytes, but %llu were counted", (unsigned)s->id,
                         (unsigned long long)s->dead_bytes, (unsigned long long)dead_bytes);
  return true;
}

/* The hand of eviction stands at a record, or at a segment's end. The records are checked already. */
static bool check_hand(const walmap__inspection *in) {
  const walmap__hand *hand = &in->g->hand;
  if (!hand->segment)
    return true;
  const walmap__segment *s = first_of(&in->g->log);
  while (s && s != hand->segment)
    s = next_segment_of(s);
  if (!s)
    return walmap__fault(in, "the hand of eviction stands in no segment of the log");
  size_t offset = 0, used = walmap__segment_used(s);
  while (offset < hand->offset && offset < used) {
    const walmap__record *record = walmap__segment_record(s, offset);
    offset += walmap__record_size(record, walmap__record_meta(record));
  }
  return offset == hand->offset || fault_at(in, s, hand->offset, "the hand of eviction stands at no record");
}

bool walmap__verify_records(walmap__inspection *in) {
  const walmap__job *job = &in->g->job;
  bool in_run = false;
  for (const walmap__segment *s = first_of(&in->g->log); s; s = next_segment_of(s)) {
    in_run |= s == job->first;
    size_t passed = !in_run ? 0 : s == job->at ? job->offset : SIZE_MAX;
    in_run &= s != job->at;
    if (!check_records(in, s, passed))
      return false;
    in->recount.bytes += walmap__segment_used(s);
  }
  return (!job->copy || check_records(in, job->copy, 0)) && check_hand(in);
}
