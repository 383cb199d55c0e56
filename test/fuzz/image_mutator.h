/*
** image_mutator.h - what the fuzzers of images and changes share: mutation that knows where an image has its numbers
**
** An input is one byte, the mode, and what is to be read. The mutator starts from what the library makes.
*/
#ifndef TEST_FUZZ_IMAGE_MUTATOR_H
#define TEST_FUZZ_IMAGE_MUTATOR_H

#include "../common/image_kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

/* Makes an image, or changes, that no mutation has touched. */
typedef bytes (*fresh_fn)(uint64_t *random);

/* An input afresh; 0 when it has no room. */
static inline size_t mutate_anew(uint8_t *data, size_t max_size, uint64_t *random, fresh_fn fresh) {
  bytes made = fresh(random);
  size_t size = made.size + 1 <= max_size ? made.size + 1 : 0;
  if (size > 0) {
    memcpy(data + 1, made.data, made.size);
    data[0] = (uint8_t)random_next(random);
  }
  free(made.data);
  return size;
}

/* Sets one number, at a place where an image may have one, to one that may be trouble. */
static inline void mutate_number(uint8_t *image, size_t size, uint64_t *random) {
  static const uint64_t numbers[] = {0,  1,  2,    3,    4,    7,      8,       31,
                                     32, 33, 1022, 1023, 1024, 0xffff, 0x10000, WALMAP__EXPIRES};
  size_t at = random_below(random, (uint32_t)(size / 4)) * 4;
  uint64_t number = numbers[random_below(random, sizeof numbers / sizeof *numbers)];
  switch (random_below(random, 6)) {
  case 0:
    number = (uint64_t)1 << random_below(random, 64);
    break;
  case 1:
    number = ~number;
    break;
  case 2:
    number = image_load32(image + at) + number;
    break;
  case 3:
    number = image_load32(image + at) - number;
    break;
  case 4:
    number = (uint64_t)WALMAP__KEY_EXTENDED << WALMAP__VALUE_BITS | (random_below(random, 2) ? WALMAP__EXPIRES : 0);
    break;
  default:
    break;
  }
  if (random_below(random, 2) == 0 && at + 8 <= size)
    walmap__store64(image + at, number);
  else
    image_store32(image + at, (uint32_t)number);
}

static inline size_t mutate_image(uint8_t *data, size_t size, size_t max_size, unsigned int seed, fresh_fn fresh) {
  uint64_t random = seed;
  if (size <= 2 * IMAGE_BLOCK || random_below(&random, 50) == 0) {
    size_t anew = mutate_anew(data, max_size, &random, fresh);
    if (anew > 0)
      return anew;
  }
  if (size > IMAGE_BLOCK && random_below(&random, 2) == 0) {
    mutate_number(data + 1, size - 1, &random);
    return size;
  }
  return LLVMFuzzerMutate(data, size, max_size);
}

/* The input's bytes without the mode, in a block of their exact size, so that a sanitizer sees what lies beyond. */
static inline bytes exact_input(const uint8_t *data, size_t size) {
  bytes input = {malloc(size - 1), size - 1};
  MUST(input.data != NULL || size == 1);
  if (size > 1)
    memcpy(input.data, data + 1, size - 1);
  return input;
}

#endif
