#include "image_layers_impl.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

// The same source compiled for wider registers, too; the loader chooses. Nothing is contracted, and lanes are channels,
// never pixels: the same bits.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=skylake-avx512", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
#define INLINE inline __attribute__((always_inline))

namespace image_layers {

namespace {

constexpr int64_t kBlockValues = 8192;  // About as many values make a block.

INLINE float Load(float value) { return value; }

INLINE float Load(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

INLINE void Store(float value, float* out) { *out = value; }

// To the nearest, ties to even; NaN stays NaN.
INLINE void Store(float value, uint16_t* out) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  *out = static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

INLINE float Leaky(float u, float alpha) { return u > 0.0f ? u : alpha * u; }

// What a loop over a block's pixels needs.
template <typename T>
struct Block {
  int64_t pixels, offset;  // offset: of the first value, in x.
  const T* __restrict x;
  const float* __restrict noise;
  int64_t channels_at;  // Of the image's first channel, in arrays [images, channels].

  INLINE Block(const Style<T>& style, int64_t image, int64_t block) {
    const Images& size = style.size;
    const int64_t first = block * size.BlockPixels();
    pixels = std::min(size.BlockPixels(), size.pixels - first);
    offset = (image * size.pixels + first) * size.channels;
    x = style.x + offset;
    noise = style.noise + (style.noise_images == 1 ? 0 : image) * size.pixels + first;
    channels_at = image * size.channels;
  }
};

INLINE float* PartsOf(const Images& size, int64_t image, int64_t block, float* parts) {
  return parts + (image * size.Blocks() + block) * 2 * size.channels;
}

INLINE const float* PartsOf(const Images& size, int64_t image, int64_t block, const float* parts) {
  return parts + (image * size.Blocks() + block) * 2 * size.channels;
}

// ---- forward

// Mean, and sum of squared differences from it, of v over the block; relative to its first pixel while adding up.
template <typename T>
INLINE void SumsOfBlock(const Style<T>& style, int64_t image, int64_t block, float* parts) {
  const Block<T> of(style, image, block);
  const int64_t channels = style.size.channels;
  const float *__restrict weight = style.weight, *__restrict bias = style.bias;
  float* __restrict sums = PartsOf(style.size, image, block, parts);
  float* __restrict squares = sums + channels;
  const float alpha = style.alpha;
  std::fill(sums, sums + 2 * channels, 0.0f);
  const T* __restrict start = of.x;
  const float start_noise = of.noise[0];
  int64_t pixel = 0;
  for (; pixel + 4 <= of.pixels; pixel += 4) {
    const T* __restrict x = of.x + pixel * channels;
    const float n0 = of.noise[pixel], n1 = of.noise[pixel + 1], n2 = of.noise[pixel + 2], n3 = of.noise[pixel + 3];
    for (int64_t c = 0; c < channels; ++c) {
      const float w = weight[c], b = bias[c], origin = Leaky(Load(start[c]) + (start_noise * w + b), alpha);
      const float v0 = Leaky(Load(x[c]) + (n0 * w + b), alpha) - origin;
      const float v1 = Leaky(Load(x[c + channels]) + (n1 * w + b), alpha) - origin;
      const float v2 = Leaky(Load(x[c + 2 * channels]) + (n2 * w + b), alpha) - origin;
      const float v3 = Leaky(Load(x[c + 3 * channels]) + (n3 * w + b), alpha) - origin;
      sums[c] += (v0 + v1) + (v2 + v3);
      squares[c] += (v0 * v0 + v1 * v1) + (v2 * v2 + v3 * v3);
    }
  }
  for (; pixel < of.pixels; ++pixel) {
    const T* __restrict x = of.x + pixel * channels;
    const float n = of.noise[pixel];
    for (int64_t c = 0; c < channels; ++c) {
      const float w = weight[c], b = bias[c], origin = Leaky(Load(start[c]) + (start_noise * w + b), alpha);
      const float v = Leaky(Load(x[c]) + (n * w + b), alpha) - origin;
      sums[c] += v;
      squares[c] += v * v;
    }
  }
  const float count = static_cast<float>(of.pixels);
  for (int64_t c = 0; c < channels; ++c) {
    const float origin = Leaky(Load(start[c]) + (start_noise * weight[c] + bias[c]), alpha);
    const float away = sums[c] / count;
    squares[c] = std::max(squares[c] - sums[c] * away, 0.0f);
    sums[c] = origin + away;
  }
}

template <typename T>
INLINE void WriteBlock(const Style<T>& style, int64_t image, int64_t block, T* out) {
  const Block<T> of(style, image, block);
  const int64_t channels = style.size.channels;
  const float *__restrict weight = style.weight, *__restrict bias = style.bias;
  const float *__restrict mean = style.mean + of.channels_at, *__restrict factor = style.factor + of.channels_at;
  const float *__restrict scale = style.scale + of.channels_at, *__restrict shift = style.shift + of.channels_at;
  const float alpha = style.alpha;
  T* __restrict y = out + of.offset;
  for (int64_t pixel = 0; pixel < of.pixels; ++pixel, y += channels) {
    const T* __restrict x = of.x + pixel * channels;
    const float n = of.noise[pixel];
    for (int64_t c = 0; c < channels; ++c) {
      const float f = factor[c] * scale[c];
      const float v = Leaky(Load(x[c]) + (n * weight[c] + bias[c]), alpha);
      Store(v * f + (shift[c] - mean[c] * f), y + c);
    }
  }
}

// ---- backward

// Sums of dy, and of dy * (v - mean).
template <typename T>
INLINE void GradientSumsOfBlock(const Style<T>& style, const StyleGradient<T>& gradient, int64_t image, int64_t block,
                                float* parts) {
  const Block<T> of(style, image, block);
  const int64_t channels = style.size.channels;
  const float *__restrict weight = style.weight, *__restrict bias = style.bias;
  const float* __restrict mean = style.mean + of.channels_at;
  float* __restrict sums = PartsOf(style.size, image, block, parts);
  float* __restrict products = sums + channels;
  const float alpha = style.alpha;
  const T* const all = gradient.dy + of.offset;
  std::fill(sums, sums + 2 * channels, 0.0f);
  int64_t pixel = 0;
  for (; pixel + 2 <= of.pixels; pixel += 2) {
    const T *__restrict x = of.x + pixel * channels, *__restrict dy = all + pixel * channels;
    const float n0 = of.noise[pixel], n1 = of.noise[pixel + 1];
    for (int64_t c = 0; c < channels; ++c) {
      const float w = weight[c], b = bias[c], m = mean[c], d0 = Load(dy[c]), d1 = Load(dy[c + channels]);
      const float v0 = Leaky(Load(x[c]) + (n0 * w + b), alpha) - m;
      const float v1 = Leaky(Load(x[c + channels]) + (n1 * w + b), alpha) - m;
      sums[c] += d0 + d1;
      products[c] += d0 * v0 + d1 * v1;
    }
  }
  for (; pixel < of.pixels; ++pixel) {
    const T *__restrict x = of.x + pixel * channels, *__restrict dy = all + pixel * channels;
    const float n = of.noise[pixel];
    for (int64_t c = 0; c < channels; ++c) {
      sums[c] += Load(dy[c]);
      products[c] += Load(dy[c]) * (Leaky(Load(x[c]) + (n * weight[c] + bias[c]), alpha) - mean[c]);
    }
  }
}

// dx of some pixels; by_channel: [6, channels], see below; sums: [2, channels], of dx * noise and of dx.
template <typename T>
INLINE void GradientWritePixels(int64_t pixels, int64_t channels, const T* __restrict x, const T* __restrict dy,
                                const float* __restrict noise, const float* __restrict by_channel, float alpha,
                                T* __restrict dx, float* __restrict sums) {
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    const float n = noise[pixel];
    for (int64_t c = 0; c < channels; ++c) {
      const float u = Load(x[pixel * channels + c]) + (n * by_channel[c] + by_channel[channels + c]);
      const float away = Leaky(u, alpha) - by_channel[2 * channels + c];
      const float centred = Load(dy[pixel * channels + c]) - by_channel[3 * channels + c];
      const float dv = (centred - away * by_channel[4 * channels + c]) * by_channel[5 * channels + c];
      const float du = u > 0.0f ? dv : alpha * dv;
      Store(du, dx + (pixel * channels + c));
      sums[c] += du * n;
      sums[channels + c] += du;
    }
  }
}

template <typename T>
INLINE void GradientWriteBlock(const Style<T>& style, const StyleGradient<T>& gradient, int64_t image, int64_t block,
                               float* parts) {
  const Block<T> of(style, image, block);
  const int64_t channels = style.size.channels;
  const float share = 1.0f / static_cast<float>(style.size.pixels);
  std::vector<float> by_channel(6 * channels);
  for (int64_t c = 0; c < channels; ++c) {
    const int64_t at = of.channels_at + c;
    by_channel[c] = style.weight[c];
    by_channel[channels + c] = style.bias[c];
    by_channel[2 * channels + c] = style.mean[at];
    by_channel[3 * channels + c] = gradient.dshift[at] * share;
    by_channel[4 * channels + c] = style.factor[at] * gradient.dscale[at] * share;
    by_channel[5 * channels + c] = style.factor[at] * style.scale[at];
  }
  float* const sums = PartsOf(style.size, image, block, parts);
  std::fill(sums, sums + 2 * channels, 0.0f);
  GradientWritePixels(of.pixels, channels, of.x, gradient.dy + of.offset, of.noise, by_channel.data(), style.alpha,
                      gradient.dx + of.offset, sums);
}

// ---- blur, leaky ReLU

template <typename T>
INLINE void Blur(const T* x, int64_t height, int64_t width, int64_t channels, int64_t first, int64_t last,
                 float* __restrict row, T* y) {
  const int64_t size = width * channels;
  for (int64_t number = first; number < last; ++number) {
    const int64_t at = number % height;
    const T* __restrict here = x + number * size;
    T* __restrict out = y + number * size;
    if (at > 0 && at + 1 < height) {
      const T *__restrict above = here - size, *__restrict below = here + size;
      for (int64_t i = 0; i < size; ++i) row[i] = (Load(above[i]) + Load(below[i])) + 2.0f * Load(here[i]);
    } else if (height == 1) {
      for (int64_t i = 0; i < size; ++i) row[i] = 2.0f * Load(here[i]);
    } else {
      const T* __restrict beside = at == 0 ? here + size : here - size;
      for (int64_t i = 0; i < size; ++i) row[i] = Load(beside[i]) + 2.0f * Load(here[i]);
    }
    if (width == 1) {
      for (int64_t i = 0; i < size; ++i) Store(row[i] * 0.125f, out + i);
      continue;
    }
    const int64_t end = size - channels;
    for (int64_t i = 0; i < channels; ++i) Store((row[i + channels] + 2.0f * row[i]) * 0.0625f, out + i);
    for (int64_t i = channels; i < end; ++i) {
      Store(((row[i - channels] + row[i + channels]) + 2.0f * row[i]) * 0.0625f, out + i);
    }
    for (int64_t i = end; i < size; ++i) Store((row[i - channels] + 2.0f * row[i]) * 0.0625f, out + i);
  }
}

template <typename T>
INLINE void Slope(const T* __restrict dy, const T* __restrict y, float alpha, int64_t first, int64_t last,
                  T* __restrict out) {
  for (int64_t i = first; i < last; ++i) {
    const float d = Load(dy[i]);
    Store(Load(y[i]) > 0.0f ? d : alpha * d, out + i);
  }
}

}  // namespace

// ---- for each processor and type

FOR_EACH_PROCESSOR void StyleSums(const Style<float>& style, int64_t image, int64_t block, float* parts) {
  SumsOfBlock(style, image, block, parts);
}
FOR_EACH_PROCESSOR void StyleSums(const Style<uint16_t>& style, int64_t image, int64_t block, float* parts) {
  SumsOfBlock(style, image, block, parts);
}
FOR_EACH_PROCESSOR void StyleWrite(const Style<float>& style, int64_t image, int64_t block, float* y) {
  WriteBlock(style, image, block, y);
}
FOR_EACH_PROCESSOR void StyleWrite(const Style<uint16_t>& style, int64_t image, int64_t block, uint16_t* y) {
  WriteBlock(style, image, block, y);
}
FOR_EACH_PROCESSOR void StyleGradientSums(const Style<float>& style, const StyleGradient<float>& gradient,
                                          int64_t image, int64_t block, float* parts) {
  GradientSumsOfBlock(style, gradient, image, block, parts);
}
FOR_EACH_PROCESSOR void StyleGradientSums(const Style<uint16_t>& style, const StyleGradient<uint16_t>& gradient,
                                          int64_t image, int64_t block, float* parts) {
  GradientSumsOfBlock(style, gradient, image, block, parts);
}
FOR_EACH_PROCESSOR void StyleGradientWrite(const Style<float>& style, const StyleGradient<float>& gradient,
                                           int64_t image, int64_t block, float* parts) {
  GradientWriteBlock(style, gradient, image, block, parts);
}
FOR_EACH_PROCESSOR void StyleGradientWrite(const Style<uint16_t>& style, const StyleGradient<uint16_t>& gradient,
                                           int64_t image, int64_t block, float* parts) {
  GradientWriteBlock(style, gradient, image, block, parts);
}
FOR_EACH_PROCESSOR void BlurRows(const float* x, int64_t height, int64_t width, int64_t channels, int64_t first,
                                 int64_t last, float* row, float* y) {
  Blur(x, height, width, channels, first, last, row, y);
}
FOR_EACH_PROCESSOR void BlurRows(const uint16_t* x, int64_t height, int64_t width, int64_t channels, int64_t first,
                                 int64_t last, float* row, uint16_t* y) {
  Blur(x, height, width, channels, first, last, row, y);
}
FOR_EACH_PROCESSOR void LeakySlope(const float* dy, const float* y, float alpha, int64_t first, int64_t last,
                                   float* out) {
  Slope(dy, y, alpha, first, last, out);
}
FOR_EACH_PROCESSOR void LeakySlope(const uint16_t* dy, const uint16_t* y, float alpha, int64_t first, int64_t last,
                                   uint16_t* out) {
  Slope(dy, y, alpha, first, last, out);
}

// ---- over blocks, in order, in float64

int64_t Images::BlockPixels() const { return std::max<int64_t>(4, kBlockValues / std::max<int64_t>(channels, 1)); }

template <typename T>
void StyleStatistics(const Style<T>& style, int64_t image, const float* parts) {
  const Images& size = style.size;
  const int64_t blocks = size.Blocks(), full = size.BlockPixels();
  const auto count = [&](int64_t block) { return static_cast<double>(std::min(full, size.pixels - block * full)); };
  for (int64_t c = 0; c < size.channels; ++c) {
    double mean = 0.0, squares = 0.0;
    for (int64_t b = 0; b < blocks; ++b) mean += count(b) * PartsOf(size, image, b, parts)[c];
    mean /= static_cast<double>(size.pixels);
    for (int64_t b = 0; b < blocks; ++b) {
      const float* const part = PartsOf(size, image, b, parts);
      const double away = part[c] - mean;
      squares += part[c + size.channels] + count(b) * away * away;
    }
    const double square = squares / static_cast<double>(size.pixels) + style.epsilon;
    style.mean[image * size.channels + c] = static_cast<float>(mean);
    style.factor[image * size.channels + c] = static_cast<float>(1.0 / std::sqrt(square));
  }
}

template <typename T>
void StyleGradientStatistics(const Style<T>& style, const StyleGradient<T>& gradient, int64_t image,
                             const float* parts) {
  const Images& size = style.size;
  for (int64_t c = 0; c < size.channels; ++c) {
    double sum = 0.0, product = 0.0;
    for (int64_t b = 0; b < size.Blocks(); ++b) {
      const float* const part = PartsOf(size, image, b, parts);
      sum += part[c];
      product += part[c + size.channels];
    }
    const int64_t at = image * size.channels + c;
    gradient.dshift[at] = static_cast<float>(sum);
    gradient.dscale[at] = static_cast<float>(product * style.factor[at]);
  }
}

template <typename T>
void StyleGradientTotals(const Style<T>& style, const StyleGradient<T>& gradient, const float* parts) {
  const Images& size = style.size;
  for (int64_t c = 0; c < size.channels; ++c) {
    double weight = 0.0, bias = 0.0;
    for (int64_t i = 0; i < size.images * size.Blocks(); ++i) {
      weight += parts[2 * i * size.channels + c];
      bias += parts[(2 * i + 1) * size.channels + c];
    }
    gradient.dweight[c] = static_cast<float>(weight);
    gradient.dbias[c] = static_cast<float>(bias);
  }
}

template void StyleStatistics(const Style<float>&, int64_t, const float*);
template void StyleStatistics(const Style<uint16_t>&, int64_t, const float*);
template void StyleGradientStatistics(const Style<float>&, const StyleGradient<float>&, int64_t, const float*);
template void StyleGradientStatistics(const Style<uint16_t>&, const StyleGradient<uint16_t>&, int64_t, const float*);
template void StyleGradientTotals(const Style<float>&, const StyleGradient<float>&, const float*);
template void StyleGradientTotals(const Style<uint16_t>&, const StyleGradient<uint16_t>&, const float*);

}  // namespace image_layers
