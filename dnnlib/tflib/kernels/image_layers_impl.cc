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

// Where a block begins in arrays of pixels.
template <typename T>
struct Block {
  int64_t pixels, offset;  // offset: of the first value in x.
  const T* x;
  const float* noise;
  int64_t channels_at;  // Of the image's first channel, in arrays [images, channels].

  Block(const Style<T>& style, int64_t image, int64_t block) {
    const Images& size = style.size;
    const int64_t first = block * size.BlockPixels();
    pixels = std::min(size.BlockPixels(), size.pixels - first);
    offset = (image * size.pixels + first) * size.channels;
    x = style.x + offset;
    noise = style.noise + (style.noise_images == 1 ? 0 : image) * size.pixels + first;
    channels_at = image * size.channels;
  }
};

template <typename Float>
INLINE Float* PartsOf(const Images& size, int64_t image, int64_t block, Float* parts) {
  return parts + (image * size.Blocks() + block) * 2 * size.channels;
}

// Loops over pixels know of channels by one array [rows, channels], which begins with weight and bias: compilers
// vectorise what has few pointers.

constexpr int kAtOnce = 4;  // Pixels that share one access to what belongs to channels.

template <typename T>
std::vector<float> ByChannel(const Style<T>& style, int rows) {
  std::vector<float> by_channel(rows * style.size.channels);
  std::copy(style.weight, style.weight + style.size.channels, by_channel.begin());
  std::copy(style.bias, style.bias + style.size.channels, by_channel.begin() + style.size.channels);
  return by_channel;
}

template <typename T>
INLINE float BeforeLeaky(T x, float noise, const float* by_channel, int64_t channels, int64_t c) {
  return Load(x) + (noise * by_channel[c] + by_channel[channels + c]);
}

// ---- forward

// Adds v - origin and its square; by_channel: weight, bias, origin.
template <int kPixels, typename T>
INLINE void AddPixels(int64_t channels, const T* __restrict x, const float* noise, const float* __restrict by_channel,
                      float alpha, float* __restrict sums) {
  for (int64_t c = 0; c < channels; ++c) {
    float sum = 0.0f, square = 0.0f;
    for (int k = 0; k < kPixels; ++k) {
      const float u = BeforeLeaky(x[k * channels + c], noise[k], by_channel, channels, c);
      const float v = Leaky(u, alpha) - by_channel[2 * channels + c];
      sum += v;
      square += v * v;
    }
    sums[c] += sum;
    sums[channels + c] += square;
  }
}

// Mean, and sum of squared differences from it, of v over the block; relative to its first pixel while adding up.
template <typename T>
INLINE void SumsOfBlock(const Style<T>& style, int64_t image, int64_t block, float* parts) {
  const Block<T> of(style, image, block);
  const int64_t channels = style.size.channels;
  std::vector<float> by_channel = ByChannel(style, 3);
  float* const origin = by_channel.data() + 2 * channels;
  for (int64_t c = 0; c < channels; ++c) {
    origin[c] = Leaky(BeforeLeaky(of.x[c], of.noise[0], by_channel.data(), channels, c), style.alpha);
  }
  float* const sums = PartsOf(style.size, image, block, parts);
  std::fill(sums, sums + 2 * channels, 0.0f);
  int64_t pixel = 0;
  for (; pixel + kAtOnce <= of.pixels; pixel += kAtOnce) {
    AddPixels<kAtOnce>(channels, of.x + pixel * channels, of.noise + pixel, by_channel.data(), style.alpha, sums);
  }
  for (; pixel < of.pixels; ++pixel) {
    AddPixels<1>(channels, of.x + pixel * channels, of.noise + pixel, by_channel.data(), style.alpha, sums);
  }
  for (int64_t c = 0; c < channels; ++c) {
    const float away = sums[c] / static_cast<float>(of.pixels);
    sums[channels + c] = std::max(sums[channels + c] - sums[c] * away, 0.0f);
    sums[c] = origin[c] + away;
  }
}

// by_channel: weight, bias, then y = v * row 2 + row 3.
template <typename T>
INLINE void WritePixel(int64_t channels, const T* __restrict x, float noise, const float* __restrict by_channel,
                       float alpha, T* __restrict y) {
  for (int64_t c = 0; c < channels; ++c) {
    const float v = Leaky(BeforeLeaky(x[c], noise, by_channel, channels, c), alpha);
    Store(v * by_channel[2 * channels + c] + by_channel[3 * channels + c], y + c);
  }
}

template <typename T>
INLINE void WriteBlock(const Style<T>& style, int64_t image, int64_t block, T* y) {
  const Block<T> of(style, image, block);
  const int64_t channels = style.size.channels;
  std::vector<float> by_channel = ByChannel(style, 4);
  for (int64_t c = 0; c < channels; ++c) {
    const int64_t at = of.channels_at + c;
    const float factor = style.factor[at] * style.scale[at];
    by_channel[2 * channels + c] = factor;
    by_channel[3 * channels + c] = style.shift[at] - style.mean[at] * factor;
  }
  for (int64_t pixel = 0; pixel < of.pixels; ++pixel) {
    WritePixel(channels, of.x + pixel * channels, of.noise[pixel], by_channel.data(), style.alpha,
               y + of.offset + pixel * channels);
  }
}

// ---- backward

// Adds dy, and dy * (v - mean); by_channel: weight, bias, mean.
template <int kPixels, typename T>
INLINE void AddGradients(int64_t channels, const T* __restrict x, const T* __restrict dy, const float* noise,
                         const float* __restrict by_channel, float alpha, float* __restrict sums) {
  for (int64_t c = 0; c < channels; ++c) {
    float sum = 0.0f, product = 0.0f;
    for (int k = 0; k < kPixels; ++k) {
      const float u = BeforeLeaky(x[k * channels + c], noise[k], by_channel, channels, c);
      const float d = Load(dy[k * channels + c]);
      sum += d;
      product += d * (Leaky(u, alpha) - by_channel[2 * channels + c]);
    }
    sums[c] += sum;
    sums[channels + c] += product;
  }
}

template <typename T>
INLINE void GradientSumsOfBlock(const Style<T>& style, const StyleGradient<T>& gradient, int64_t image, int64_t block,
                                float* parts) {
  const Block<T> of(style, image, block);
  const int64_t channels = style.size.channels;
  std::vector<float> by_channel = ByChannel(style, 3);
  const float* const mean = style.mean + of.channels_at;
  std::copy(mean, mean + channels, by_channel.begin() + 2 * channels);
  const T* const dy = gradient.dy + of.offset;
  float* const sums = PartsOf(style.size, image, block, parts);
  std::fill(sums, sums + 2 * channels, 0.0f);
  int64_t pixel = 0;
  for (; pixel + kAtOnce <= of.pixels; pixel += kAtOnce) {
    const int64_t at = pixel * channels;
    AddGradients<kAtOnce>(channels, of.x + at, dy + at, of.noise + pixel, by_channel.data(), style.alpha, sums);
  }
  for (; pixel < of.pixels; ++pixel) {
    const int64_t at = pixel * channels;
    AddGradients<1>(channels, of.x + at, dy + at, of.noise + pixel, by_channel.data(), style.alpha, sums);
  }
}

// Writes dx, adds dx * noise and dx; by_channel: weight, bias, mean, then dv = (dy - row 3 - (v - mean) * row 4) *
// row 5.
template <int kPixels, typename T>
INLINE void WriteGradients(int64_t channels, const T* __restrict x, const T* __restrict dy, const float* noise,
                           const float* __restrict by_channel, float alpha, T* __restrict dx, float* __restrict sums) {
  for (int64_t c = 0; c < channels; ++c) {
    float weighted = 0.0f, sum = 0.0f;
    for (int k = 0; k < kPixels; ++k) {
      const float u = BeforeLeaky(x[k * channels + c], noise[k], by_channel, channels, c);
      const float away = Leaky(u, alpha) - by_channel[2 * channels + c];
      const float centred = Load(dy[k * channels + c]) - by_channel[3 * channels + c];
      const float dv = (centred - away * by_channel[4 * channels + c]) * by_channel[5 * channels + c];
      const float du = u > 0.0f ? dv : alpha * dv;
      Store(du, dx + (k * channels + c));
      weighted += du * noise[k];
      sum += du;
    }
    sums[c] += weighted;
    sums[channels + c] += sum;
  }
}

template <typename T>
INLINE void GradientWriteBlock(const Style<T>& style, const StyleGradient<T>& gradient, int64_t image, int64_t block,
                               float* parts) {
  const Block<T> of(style, image, block);
  const int64_t channels = style.size.channels;
  const float share = 1.0f / static_cast<float>(style.size.pixels);
  std::vector<float> by_channel = ByChannel(style, 6);
  for (int64_t c = 0; c < channels; ++c) {
    const int64_t at = of.channels_at + c;
    by_channel[2 * channels + c] = style.mean[at];
    by_channel[3 * channels + c] = gradient.dshift[at] * share;
    by_channel[4 * channels + c] = style.factor[at] * gradient.dscale[at] * share;
    by_channel[5 * channels + c] = style.factor[at] * style.scale[at];
  }
  const T* const dy = gradient.dy + of.offset;
  T* const dx = gradient.dx + of.offset;
  float* const sums = PartsOf(style.size, image, block, parts);
  std::fill(sums, sums + 2 * channels, 0.0f);
  int64_t pixel = 0;
  for (; pixel + kAtOnce <= of.pixels; pixel += kAtOnce) {
    const int64_t at = pixel * channels;
    WriteGradients<kAtOnce>(channels, of.x + at, dy + at, of.noise + pixel, by_channel.data(), style.alpha, dx + at,
                            sums);
  }
  for (; pixel < of.pixels; ++pixel) {
    const int64_t at = pixel * channels;
    WriteGradients<1>(channels, of.x + at, dy + at, of.noise + pixel, by_channel.data(), style.alpha, dx + at, sums);
  }
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
