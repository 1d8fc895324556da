// What follows a convolution, in few passes over memory: the generator's noise, bias, leaky ReLU, instance norm and
// style; the blur; the slope of a leaky ReLU. Activations are NHWC, float32 or bfloat16 (as its bits); arithmetic is
// float32. No TensorFlow here.

#ifndef DNNLIB_TFLIB_KERNELS_IMAGE_LAYERS_IMPL_H_
#define DNNLIB_TFLIB_KERNELS_IMAGE_LAYERS_IMPL_H_

#include <cstdint>

namespace image_layers {

// Images [images, pixels, channels]. A block is a run of one image's pixels: sums are made by block, then over blocks
// in order, so that their bits do not depend on the number of threads.
struct Images {
  int64_t images, pixels, channels;

  int64_t BlockPixels() const;
  int64_t Blocks() const { return (pixels + BlockPixels() - 1) / BlockPixels(); }  // Of one image.
};

// y = scale * (v - mean) * factor + shift, where v = leaky(x + noise * weight + bias), factor = 1 / deviation.
template <typename T>
struct Style {
  Images size;
  const T* x;
  const float *noise, *weight, *bias;  // [noise_images, pixels], [channels] twice.
  int64_t noise_images;                // 1, or one for each image.
  float alpha, epsilon;
  const float *scale, *shift;  // [images, channels]; shift: not for a gradient.
  float *mean, *factor;        // [images, channels].
};

// Sums of a block: 2 * channels floats, at parts + (image * blocks + block) * 2 * channels.

void StyleSums(const Style<float>&, int64_t image, int64_t block, float* parts);
void StyleSums(const Style<uint16_t>&, int64_t image, int64_t block, float* parts);

// Sums of all blocks of an image -> its mean and factor.
template <typename T>
void StyleStatistics(const Style<T>&, int64_t image, const float* parts);

void StyleWrite(const Style<float>&, int64_t image, int64_t block, float* y);
void StyleWrite(const Style<uint16_t>&, int64_t image, int64_t block, uint16_t* y);

template <typename T>
struct StyleGradient {
  const T* dy;
  T* dx;
  float *dweight, *dbias, *dscale, *dshift;  // Shapes of weight, bias, scale, shift.
};

void StyleGradientSums(const Style<float>&, const StyleGradient<float>&, int64_t image, int64_t block, float* parts);
void StyleGradientSums(const Style<uint16_t>&, const StyleGradient<uint16_t>&, int64_t image, int64_t block,
                       float* parts);

// Sums of all blocks of an image -> its dscale and dshift.
template <typename T>
void StyleGradientStatistics(const Style<T>&, const StyleGradient<T>&, int64_t image, const float* parts);

// Writes dx of a block, and the block's sums for dweight and dbias in place of those of StyleGradientSums.
void StyleGradientWrite(const Style<float>&, const StyleGradient<float>&, int64_t image, int64_t block, float* parts);
void StyleGradientWrite(const Style<uint16_t>&, const StyleGradient<uint16_t>&, int64_t image, int64_t block,
                        float* parts);

// Sums of all blocks of all images -> dweight and dbias.
template <typename T>
void StyleGradientTotals(const Style<T>&, const StyleGradient<T>&, const float* parts);

// Convolution of each channel with [1, 2, 1] x [1, 2, 1] / 16, zeros outside: rows first to last - 1 of all images
// together, [images * height, width, channels]. row: scratch of width * channels floats.
void BlurRows(const float* x, int64_t height, int64_t width, int64_t channels, int64_t first, int64_t last, float* row,
              float* y);
void BlurRows(const uint16_t* x, int64_t height, int64_t width, int64_t channels, int64_t first, int64_t last,
              float* row, uint16_t* y);

// out = dy where y > 0, else alpha * dy: the gradient of a leaky ReLU by its output y.
void LeakySlope(const float* dy, const float* y, float alpha, int64_t first, int64_t last, float* out);
void LeakySlope(const uint16_t* dy, const uint16_t* y, float alpha, int64_t first, int64_t last, uint16_t* out);

}  // namespace image_layers

#endif  // DNNLIB_TFLIB_KERNELS_IMAGE_LAYERS_IMPL_H_
