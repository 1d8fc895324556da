// The same source for processors with 256-bit registers and for all others, chosen when the library is loaded. Without
// contraction to fused multiply-add both give the same bits.

#ifndef RENDERER_KERNELS_PROCESSORS_H_
#define RENDERER_KERNELS_PROCESSORS_H_

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
#define INLINE inline __attribute__((always_inline))

#endif  // RENDERER_KERNELS_PROCESSORS_H_
