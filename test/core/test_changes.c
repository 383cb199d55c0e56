/*
** test_changes.c - changes that tell too much, too little or too late; that are damaged, and taken
**
** Whether a follower becomes what it follows is test_follow.c's.
*/
#include "../common/changes_kit.h"

/* ------------------------------------------------------------------------------------------------------------------ */
/* One by one                                                                                                         */

static void set(party *p, const char *key, const char *value) {
  MUST_OK(walmap_set(p->map, key, strlen(key), value, strlen(value)));
}

static unsigned count(blob changes, int part) {
  walmap__changes parts;
  walmap_image_reader reader;
  MUST_OK(walmap__changes_open(&parts, changes.data, changes.size, NULL));
  MUST_OK(walmap_image_open(&reader, parts.parts[part], parts.sizes[part], NULL));
  return (unsigned)reader.entries;
}

/* What did not change is not in the changes, as long as nothing was compacted. */
static void test_changes_are_few(void **unused) {
  (void)unused;
  party p = party_new(4, 0, 0);
  blob changes;
  for (int i = 0; i < 1000; i++) {
    char key[16];
    snprintf(key, sizeof key, "%d", i);
    set(&p, key, "value");
  }
  blob since = position_of(&p);
  MUST_OK(changes_since(&p, since, &changes, NULL));
  assert_int_equal(count(changes, PART_SET) + count(changes, PART_REMOVED), 0);
  walmap_image_free(changes.data);
  set(&p, "1", "a");
  set(&p, "1", "b");
  set(&p, "new", "c");
  set(&p, "short-lived", "d");
  MUST_OK(walmap_remove(p.map, "short-lived", 11));
  MUST_OK(walmap_remove(p.map, "2", 1));
  MUST_OK(walmap_remove(p.map, "3", 1));
  set(&p, "3", "again");
  walmap_txn_begin(p.txn);
  MUST_OK(walmap_txn_remove(p.txn, "4", 1));
  walmap_txn_rollback(p.txn);
  MUST_OK(changes_since(&p, since, &changes, NULL));
  assert_int_equal(count(changes, PART_SET), 3);
  assert_int_equal(count(changes, PART_REMOVED), 2);
  walmap_image_free(changes.data);
  walmap_image_free(since.data);
  party_free(&p);
}

/* A key that is set again after the state, and whose tombstone is reclaimed meanwhile, is removed in the state. */
static void test_set_again_later(void **unused) {
  (void)unused;
  party p = party_new(1, 0, 0);
  blob changes;
  walmap_state *older;
  MUST_OK(walmap_state_new(p.map, &older));
  set(&p, "a", "1");
  blob since = position_of(&p);
  MUST_OK(walmap_state_begin(older));
  MUST_OK(walmap_remove(p.map, "a", 1));
  MUST_OK(walmap_compact(p.map, NULL)); /* would reclaim the tombstone, were it not for the older state */
  MUST_OK(walmap_state_begin(p.state));
  set(&p, "a", "2");
  walmap_state_free(older);
  for (int i = 0; i < 5000; i++)
    set(&p, "b", "each write folds some deaths");
  MUST_OK(walmap_state_changes(p.state, since.data, since.size, &changes.data, &changes.size, NULL));
  walmap_state_end(p.state);
  assert_int_equal(count(changes, PART_SET), 0);
  assert_int_equal(count(changes, PART_REMOVED), 1);
  walmap_image_free(changes.data);
  walmap_image_free(since.data);
  party_free(&p);
}

static void assert_gone(party *p, blob since, const char *text) {
  blob changes;
  walmap_why why = {""};
  assert_int_equal(changes_since(p, since, &changes, &why), WALMAP_GONE);
  if (strstr(why.text, text) == NULL)
    fail_msg("%s", why.text);
}

static void test_gone(void **unused) {
  (void)unused;
  party p = party_new(1, 0, 0), other = party_new(1, 0, 0);
  void *image;
  size_t size;
  set(&p, "a", "1");
  set(&p, "b", "2");
  blob since = position_of(&p), foreign = position_of(&other);
  assert_gone(&p, foreign, "another map");
  MUST_OK(walmap_remove(p.map, "a", 1));
  MUST_OK(walmap_compact(p.map, NULL));
  assert_gone(&p, since, "compaction has passed");
  walmap_image_free(since.data);
  since = position_of(&p);
  MUST_OK(walmap_snapshot(p.map, &image, &size));
  MUST_OK(walmap_restore(p.map, image, size, NULL, NULL));
  assert_gone(&p, since, "restored or cleared since");
  walmap_image_free(since.data);
  since = position_of(&p);
  walmap_txn_begin(p.txn);
  MUST_OK(walmap_txn_clear(p.txn, NULL));
  walmap_txn_commit(p.txn);
  assert_gone(&p, since, "restored or cleared since");
  MUST_OK(walmap_state_begin(p.state));
  set(&p, "c", "3");
  walmap_image_free(since.data);
  walmap_state *newer;
  MUST_OK(walmap_state_new(p.map, &newer));
  MUST_OK(walmap_state_begin(newer));
  MUST_OK(walmap_state_position(newer, &since.data, &since.size));
  walmap_state_free(newer);
  blob changes;
  walmap_why why;
  assert_int_equal(walmap_state_changes(p.state, since.data, since.size, &changes.data, &changes.size, &why),
                   WALMAP_GONE);
  assert_non_null(strstr(why.text, "newer"));
  walmap_image_free(image);
  walmap_image_free(since.data);
  walmap_image_free(foreign.data);
  party_free(&p);
  party_free(&other);
}

/* Every bit flipped, every cut, bytes behind the end: an error, the map untouched. */
static void test_damage(void **unused) {
  (void)unused;
  party p = party_new(2, 0, 7), other = party_new(2, 0, 7), strange = party_new(2, 0, 8);
  blob since = position_of(&p), good, ignored;
  walmap_why why;
  set(&p, "a", "1");
  set(&p, "b", "2");
  MUST_OK(walmap_remove(p.map, "b", 1));
  MUST_OK(changes_since(&p, since, &good, NULL));
  assert_int_equal(apply(&strange, good, NULL, &why), WALMAP_CORRUPT);
  uint8_t *bytes = malloc(good.size + 1);
  MUST(bytes != NULL);
  memcpy(bytes, good.data, good.size);
  bytes[good.size] = 0;
  for (size_t bit = 0; bit < 8 * good.size; bit++) {
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    assert_int_equal(apply(&other, (blob){bytes, good.size}, NULL, &why), WALMAP_CORRUPT);
    if (bit < 8 * (CHANGES_HEAD_BYTES + POSITION_BYTES(2)))
      assert_int_not_equal(changes_since(&p, (blob){bytes, good.size}, &ignored, &why), WALMAP_OK);
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  for (size_t size = 0; size < good.size; size++)
    assert_int_equal(apply(&other, (blob){bytes, size}, NULL, &why), WALMAP_CORRUPT);
  assert_int_equal(apply(&other, (blob){bytes, good.size + 1}, NULL, &why), WALMAP_CORRUPT);
  for (size_t bit = 0; bit < 8 * since.size; bit++) {
    memcpy(bytes, since.data, since.size);
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    assert_int_equal(changes_since(&p, (blob){bytes, since.size}, &ignored, &why), WALMAP_CORRUPT);
  }
  for (size_t size = 0; size < since.size; size++)
    assert_int_equal(changes_since(&p, (blob){since.data, size}, &ignored, &why), WALMAP_CORRUPT);
  assert_int_equal(walmap_len(other.map), 0);
  MUST_OK(apply(&other, good, NULL, NULL));
  assert_true(are_equal(&p, &other));
  free(bytes);
  walmap_image_free(good.data);
  walmap_image_free(since.data);
  party_free(&p);
  party_free(&other);
  party_free(&strange);
}

/*
** Changes with these keys set, and these removed (one character each), which another party wrote. The images are put
** together as changes.c does it, checks and all.
*/
static blob forged_changes(blob position, const char *set, const char *removed) {
  const char *const keys[PARTS] = {[PART_SET] = set, [PART_REMOVED] = removed};
  blob parts[PARTS] = {position}, whole = {NULL, CHANGES_HEAD_BYTES};
  for (int part = PART_SET; part < PARTS; part++) {
    walmap__image_writer *writer;
    MUST_OK(walmap__image_writer_new(0, NULL, NULL, 0, &writer));
    for (const char *key = keys[part]; *key; key++) {
      walmap_entry entry = {.key = key, .key_len = 1, .value = "v", .value_len = part == PART_SET};
      MUST_OK(walmap__image_writer_add(writer, &entry));
    }
    MUST_OK(walmap__image_writer_finish(writer, &parts[part].data, &parts[part].size));
  }
  for (int part = 0; part < PARTS; part++)
    whole.size += parts[part].size;
  uint8_t *head = whole.data = malloc(whole.size), *at = head + CHANGES_HEAD_BYTES;
  MUST(head != NULL);
  memset(head, 0, CHANGES_HEAD_BYTES);
  memcpy(head, CHANGES_MAGIC, 8);
  head[CHANGES_VERSION_AT] = CHANGES_FORMAT_VERSION;
  for (int part = 0; part < PARTS; part++) {
    memcpy(at, parts[part].data, parts[part].size);
    at += parts[part].size;
    walmap__store64(head + CHANGES_SIZES_AT + 8 * part, parts[part].size);
    walmap__store64(head + CHANGES_CHECKS_AT + 8 * part, walmap__load64(at - 8));
    if (part != PART_POSITION)
      walmap_image_free(parts[part].data);
  }
  walmap__store64(head + CHANGES_CHECK_AT, XXH3_64bits(head, CHANGES_CHECK_AT));
  return whole;
}

/* FORMAT.md: a key is set once, and in one of the two images only. */
static void test_keys_that_occur_again(void **unused) {
  (void)unused;
  static const struct {
    const char *set, *removed, *wrong;
  } cases[] = {
      {"abc", "de", NULL},
      {"abc", "dd", NULL},
      {"aba", "", "a key that is set twice"},
      {"aa", "", "a key that is set twice"},
      {"abc", "b", "a key that is both set and removed"},
      {"abcdefghijklmnopqrstuvwxyza", "", "a key that is set twice"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    party p = party_new(4, 0, 0);
    set(&p, "b", "before");
    blob position = position_of(&p), changes = forged_changes(position, cases[i].set, cases[i].removed);
    walmap_why why = {""};
    int result = apply(&p, changes, NULL, &why);
    if (cases[i].wrong == NULL) {
      assert_int_equal(result, WALMAP_OK);
      assert_int_equal(walmap_len(p.map), 3);
    } else {
      assert_int_equal(result, WALMAP_CORRUPT);
      assert_non_null(strstr(why.text, cases[i].wrong));
      assert_int_equal(walmap_len(p.map), 1);
    }
    walmap_image_free(position.data);
    free(changes.data);
    party_free(&p);
  }
}

/* A position whose check is right and whose commit points are lies reads nothing that is no record. */
static void test_lying_position(void **unused) {
  (void)unused;
  party p = party_new(1, 0, 0);
  for (int i = 0; i < 200; i++) {
    char key[16];
    snprintf(key, sizeof key, "%d", i);
    set(&p, key, "some value");
  }
  blob since = position_of(&p), changes;
  uint8_t *bytes = since.data;
  uint64_t end = walmap__load64(bytes + POSITION_POINTS_AT);
  for (uint64_t tail = 0; tail < end + 3; tail++) {
    walmap__store64(bytes + POSITION_POINTS_AT, tail);
    walmap__store64(bytes + since.size - 8, XXH3_64bits(bytes, since.size - 8));
    int result = changes_since(&p, since, &changes, NULL);
    assert_int_equal(result, tail == 0 || tail > end ? WALMAP_GONE : WALMAP_OK);
    if (result == WALMAP_OK)
      walmap_image_free(changes.data);
  }
  walmap_image_free(since.data);
  party_free(&p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_changes_are_few),
      cmocka_unit_test(test_set_again_later),
      cmocka_unit_test(test_gone),
      cmocka_unit_test(test_damage),
      cmocka_unit_test(test_lying_position),
      cmocka_unit_test(test_keys_that_occur_again),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
