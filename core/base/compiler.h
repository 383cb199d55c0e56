/* compiler.h - what the compiler is told where it cannot see which path is taken a hundred million times */
#ifndef WALMAP_COMPILER_H
#define WALMAP_COMPILER_H

#if defined(__GNUC__)
/* For the steps of a lookup, which are short and follow each other: as calls they would be half register saving. */
#define WALMAP__ALWAYS_INLINE inline __attribute__((always_inline))
/* For rare paths, which would make the frequent one save registers. */
#define WALMAP__NOINLINE __attribute__((noinline))
/* Inlines all that the function calls. */
#define WALMAP__FLATTEN __attribute__((flatten))
/*
** Has a term of a sum calculated by itself, while others are not known yet: a longer sum may end up in the wrong order.
*/
#define WALMAP__MEANWHILE(term) __asm__("" : "+r"(term))
#define WALMAP__LIKELY(x) __builtin_expect(!!(x), 1)
#define WALMAP__UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define WALMAP__ALWAYS_INLINE inline
#define WALMAP__NOINLINE
#define WALMAP__FLATTEN
#define WALMAP__MEANWHILE(term) ((void)0)
#define WALMAP__LIKELY(x) (x)
#define WALMAP__UNLIKELY(x) (x)
#endif

/* Defined where the thread sanitizer watches: it must see each word that is read and written, one by one. */
#if defined(__SANITIZE_THREAD__)
#define WALMAP__TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WALMAP__TSAN 1
#endif
#endif

#endif
