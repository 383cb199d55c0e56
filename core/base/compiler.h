/* compiler.h - hints to the compiler about frequent and rare paths */
#ifndef WALMAP_COMPILER_H
#define WALMAP_COMPILER_H

#if defined(__GNUC__)
/* For the steps of a lookup: they are so short that calls would take half their time to save registers. */
#define WALMAP__ALWAYS_INLINE inline __attribute__((always_inline))
/* For rare paths: inlined, they would make the frequent path save registers. */
#define WALMAP__NOINLINE __attribute__((noinline))
/* Inlines every function that this function calls. */
#define WALMAP__FLATTEN __attribute__((flatten))
/*
** Makes the compiler calculate one term of a sum by itself, before the other terms are known. It might otherwise add
** the terms in an order in which all wait for the last.
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

/* Has the compiler check the arguments of a function that formats as printf does: C's, not that of msvcrt.dll. */
#if defined(__MINGW32__)
#define WALMAP__PRINTF(format_at, first_at) __attribute__((format(gnu_printf, format_at, first_at)))
#elif defined(__GNUC__)
#define WALMAP__PRINTF(format_at, first_at) __attribute__((format(printf, format_at, first_at)))
#else
#define WALMAP__PRINTF(format_at, first_at)
#endif

/* Defined for the thread sanitizer, which must see each word that is read or written, one by one. */
#if defined(__SANITIZE_THREAD__)
#define WALMAP__TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WALMAP__TSAN 1
#endif
#endif

#endif
