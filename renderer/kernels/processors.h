// The same source for processors with 256-bit registers and for all others, chosen when the library is loaded; WIDE
// functions, where HAS_WIDE, are for 512-bit registers and may run only if IsWide(). Without contraction to fused
// multiply-add all give the same bits.

#ifndef RENDERER_KERNELS_PROCESSORS_H_
#define RENDERER_KERNELS_PROCESSORS_H_

#include <cstddef>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
#define HAS_WIDE
#define WIDE __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,prefer-vector-width=512")))
inline bool IsWide() {
  static const bool is_wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                              __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return is_wide;
}
#else
#define FOR_EACH_PROCESSOR
#endif
#define INLINE inline __attribute__((always_inline))

// One vector as another, number by number, as a cast.
template <typename To, typename From>
INLINE To Convert(From from) {
#if defined(__clang__) || __GNUC__ >= 9
  return __builtin_convertvector(from, To);
#else
  To to;
  for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); ++i) to[i] = from[i];
  return to;
#endif
}

#endif  // RENDERER_KERNELS_PROCESSORS_H_
