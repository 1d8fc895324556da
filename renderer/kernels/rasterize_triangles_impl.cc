#include "rasterize_triangles_impl.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace rasterizer {

namespace {

constexpr int kFractionBits = 16;               // Coverage is decided in 16.16 fixed point.
constexpr int kOne = 1 << kFractionBits;
constexpr int kHalf = kOne / 2;
constexpr float kOutside = kMaxImageSize + 16;  // Where fixed places are cut.
constexpr float kMaxFastPixel = 16384.0f;       // Up to here edge functions fit 64 bits, beyond they take 128.
constexpr float kMaxPixel = 17592186044416.0f;  // 2^44: up to here they fit 128 bits.
constexpr float kMinW = 1e-6f;                  // Smallest |w|, and smallest sum of weights divided by w.
constexpr float kMinBarycentricSum = 0.9f;      // Of a drawn pixel; it is 1 up to rounding.
constexpr double kMinDoubledArea = 1e-13;

// (p - a) x (b - a): doubled signed area of the triangle p, b, a.
template <typename T>
inline T EdgeFunction(T px, T py, T ax, T ay, T bx, T by) {
  return (px - ax) * (by - ay) - (py - ay) * (bx - ax);
}

inline float ToFloat(double x) {
  constexpr double kLimit = std::numeric_limits<float>::max();
  return static_cast<float>(std::min(std::max(x, -kLimit), kLimit));
}

// |w| at least kMinW, keeping its sign.
inline float SafeW(float w) {
  if (std::fabs(w) >= kMinW) return w;
  return w < 0.0f ? -kMinW : kMinW;
}

// ---- drawing

struct Box {
  int left, right, bottom, top;  // Inclusive.
};

// An edge function at the centre of a pixel, and what it grows by per column and row.
template <typename Wide>
struct Edge {
  Wide at, per_column, per_row;

  Edge(Wide px, Wide py, Wide ax, Wide ay, Wide bx, Wide by)
      : at(EdgeFunction(px, py, ax, ay, bx, by)), per_column((by - ay) * kOne), per_row((ax - bx) * kOne) {}

  void Negate() {
    at = -at;
    per_column = -per_column;
    per_row = -per_row;
  }
};

inline void DrawPixel(const Picture& picture, const ScreenVertex* const v[3], float area, int32_t id, int column,
                      int row) {
  const float px = column + 0.5f;
  const float py = row + 0.5f;
  const float b0 = EdgeFunction(px, py, v[1]->x, v[1]->y, v[2]->x, v[2]->y) / area;
  const float b1 = EdgeFunction(px, py, v[2]->x, v[2]->y, v[0]->x, v[0]->y) / area;
  const float b2 = 1.0f - b0 - b1;
  const float z = b0 * v[0]->z + b1 * v[1]->z + b2 * v[2]->z;
  const int64_t pixel = static_cast<int64_t>(row) * picture.width + column;
  // Written so that a z that is not a number fails.
  if (!((z >= -1.0f) & (z <= 1.0f) & (z <= picture.z_buffer[pixel]))) return;
  picture.barycentric[3 * pixel] = b0;
  picture.barycentric[3 * pixel + 1] = b1;
  picture.barycentric[3 * pixel + 2] = b2;
  picture.triangle_ids[pixel] = id;
  picture.z_buffer[pixel] = z;
}

// Draws the pixels of a box whose centres the triangle covers, exactly, in integers of type Wide.
template <typename Wide>
void DrawTriangle(const Picture& picture, const ScreenVertex* const v[3], int32_t id, const Box& box) {
  Wide x[3], y[3];
  for (int k = 0; k < 3; ++k) {  // In fixed point, cut towards zero.
    x[k] = static_cast<Wide>(v[k]->x * static_cast<float>(kOne));
    y[k] = static_cast<Wide>(v[k]->y * static_cast<float>(kOne));
  }
  const Wide px = static_cast<Wide>(box.left) * kOne + kHalf, py = static_cast<Wide>(box.bottom) * kOne + kHalf;
  Edge<Wide> e0(px, py, x[1], y[1], x[2], y[2]), e1(px, py, x[2], y[2], x[0], y[0]);
  Edge<Wide> e2(px, py, x[0], y[0], x[1], y[1]);
  const Wide fixed_area = e0.at + e1.at + e2.at;  // Doubled, wherever the pixel is.
  const float area = EdgeFunction(v[2]->x, v[2]->y, v[0]->x, v[0]->y, v[1]->x, v[1]->y);
  if (fixed_area == 0 || area == 0.0f) return;
  if (fixed_area < 0) {  // A centre is covered if no edge function is of the other sign than the area.
    e0.Negate();
    e1.Negate();
    e2.Negate();
  }
  for (int row = box.bottom; row <= box.top; ++row) {
    Wide a = e0.at, b = e1.at, c = e2.at;
    for (int column = box.left; column <= box.right; ++column) {
      if ((a | b | c) >= 0) DrawPixel(picture, v, area, id, column, row);
      a += e0.per_column;
      b += e1.per_column;
      c += e2.per_column;
    }
    e0.at += e0.per_row;
    e1.at += e1.per_row;
    e2.at += e2.per_row;
  }
}

// Largest coordinate of three corners; written so that what is not a number is larger than all.
inline float LargestCoordinate(const ScreenVertex* const v[3]) {
  float largest = 0.0f;
  for (int k = 0; k < 3; ++k) {
    for (const float value : {v[k]->x, v[k]->y}) {
      if (!(std::fabs(value) <= largest)) largest = std::fabs(value);
      if (!(largest <= kMaxPixel)) return largest;
    }
  }
  return largest;
}

// First and last pixel whose centre lies between the least and the most of three fixed places.
inline int FirstCentre(int a, int b, int c) { return (std::min(std::min(a, b), c) + (kHalf - 1)) >> kFractionBits; }
inline int LastCentre(int a, int b, int c) { return (std::max(std::max(a, b), c) - kHalf) >> kFractionBits; }

// ---- interpolation

inline bool IsDrawn(const float* b) { return (b[0] != 0.0f) | (b[1] != 0.0f) | (b[2] != 0.0f); }

inline bool IsIdValid(const Drawn& drawn, int64_t pixel) {
  return drawn.triangle_ids[pixel] >= 0 && drawn.triangle_ids[pixel] < drawn.triangle_count;
}

// Perspective-correct weights of one pixel.
struct Weights {
  const int32_t* vertex;  // The three corners.
  float per_w[3];         // 1 / w, with w bounded away from 0.
  float p[3];             // Corrected weights.
  float total;            // Sum of b / w.
  float scale;            // What they are divided by: max(total, kMinW).
  float doubled;          // Twice the sum of p.
  float alpha;            // This, clipped to [0, 1].

  Weights(const Drawn& drawn, const float* clip_w, int64_t pixel) {
    vertex = drawn.triangles + 3 * static_cast<int64_t>(drawn.triangle_ids[pixel]);
    for (int k = 0; k < 3; ++k) {
      per_w[k] = 1.0f / SafeW(clip_w[vertex[k]]);
      p[k] = drawn.barycentric[3 * pixel + k] * per_w[k];
    }
    total = p[0] + p[1] + p[2];
    scale = std::max(total, kMinW);
    const float per_scale = 1.0f / scale;
    for (int k = 0; k < 3; ++k) p[k] *= per_scale;
    doubled = 2.0f * p[0] + 2.0f * p[1] + 2.0f * p[2];
    alpha = std::min(std::max(doubled, 0.0f), 1.0f);
  }
};

inline float Clip(float value, float clip_to) {
  return clip_to == 0.0f ? value : std::min(std::max(value, 0.0f), clip_to);
}
inline bool IsWithin(float value, float clip_to) { return clip_to == 0.0f || (value >= 0.0f && value <= clip_to); }

// First pixel of the row made here that shows `row` of the barycentric picture.
inline int64_t Start(const Drawn& drawn, const Attributes& attributes, int64_t row) {
  return (attributes.rows_down ? drawn.height - 1 - row : row) * drawn.width;
}

// kChannels: the number of channels where it is known beforehand, else 0.
template <int kChannels>
int64_t InterpolateChannels(const Drawn& drawn, const Attributes& attributes, int64_t first, int64_t last,
                            float* image, float* alphas) {
  const int64_t channels = kChannels > 0 ? kChannels : attributes.channels;
  for (int64_t row = first; row < last; ++row) {
    int64_t place = Start(drawn, attributes, row);
    for (int64_t pixel = row * drawn.width; pixel < (row + 1) * drawn.width; ++pixel, ++place) {
      float* const out = image + place * channels;
      if (!IsDrawn(drawn.barycentric + 3 * pixel)) {
        alphas[place] = 0.0f;
        for (int64_t c = 0; c < channels; ++c) out[c] = Clip(attributes.background[c], attributes.clip_to);
        continue;
      }
      if (!IsIdValid(drawn, pixel)) return pixel;
      const Weights w(drawn, attributes.clip_w, pixel);
      alphas[place] = w.alpha;
      for (int64_t c = 0; c < channels; ++c) {
        float value = 0.0f;
        for (int k = 0; k < 3; ++k) value += w.p[k] * attributes.values[w.vertex[k] * channels + c];
        out[c] = Clip(w.alpha * value + (1.0f - w.alpha) * attributes.background[c], attributes.clip_to);
      }
    }
  }
  return -1;
}

// The way back through one drawn pixel, whose image and alpha lie at `place`.
template <int kChannels>
void PixelGradient(const Drawn& drawn, const Attributes& in, const InterpolationGradient& gradient, int64_t pixel,
                   int64_t place) {
  const int64_t channels = kChannels > 0 ? kChannels : in.channels;
  const Weights w(drawn, in.clip_w, pixel);
  float dp[3] = {0.0f, 0.0f, 0.0f}, dalpha = gradient.df_dalphas[place];
  for (int64_t c = 0; c < channels; ++c) {
    float a[3], value = 0.0f;
    for (int k = 0; k < 3; ++k) {
      a[k] = in.values[w.vertex[k] * channels + c];
      value += w.p[k] * a[k];
    }
    const float shown = w.alpha * value + (1.0f - w.alpha) * in.background[c];
    if (!IsWithin(shown, in.clip_to)) continue;
    const float df = gradient.df_dimage[place * channels + c], dvalue = w.alpha * df;
    dalpha += df * (value - in.background[c]);
    gradient.df_dbackground[c] += (1.0f - w.alpha) * df;
    for (int k = 0; k < 3; ++k) {
      dp[k] += dvalue * a[k];
      gradient.df_dattributes[w.vertex[k] * channels + c] += w.p[k] * dvalue;
    }
  }
  const bool passes = w.doubled >= 0.0f && w.doubled <= 1.0f;
  for (int k = 0; k < 3; ++k) dp[k] += passes ? 2.0f * dalpha : 0.0f;
  const float through_sum = w.total >= kMinW ? dp[0] * w.p[0] + dp[1] * w.p[1] + dp[2] * w.p[2] : 0.0f;
  for (int k = 0; k < 3; ++k) {
    const float df_db = (dp[k] - through_sum) / w.scale * w.per_w[k];
    gradient.df_dbarycentric[3 * pixel + k] = df_db;
    if (std::fabs(in.clip_w[w.vertex[k]]) >= kMinW) gradient.df_dclip_w[w.vertex[k]] -= df_db * w.p[k] * w.scale;
  }
}

// One clip coordinate of a point.
inline float ClipCoordinate(const float* matrix, const float* point, int row) {
  const float* const m = matrix + 4 * row;
  return m[0] * point[0] + m[1] * point[1] + m[2] * point[2] + m[3];
}

}  // namespace

void ProjectVertices(const float* vertices, int64_t count, const float* matrix, float* device, float* clip_w) {
  float m[16];
  std::copy(matrix, matrix + 16, m);
  for (int64_t i = 0; i < count; ++i) {
    const float* const point = vertices + 3 * i;
    const float w = ClipCoordinate(m, point, 3), divisor = SafeW(w);
    for (int r = 0; r < 3; ++r) device[3 * i + r] = ClipCoordinate(m, point, r) / divisor;
    clip_w[i] = w;
  }
}

void ProjectGradient(const float* vertices, int64_t count, const float* matrix, const float* df_ddevice,
                     const float* df_dclip_w, float* df_dvertices, float* df_dmatrix) {
  double sums[4][4] = {};
  for (int64_t i = 0; i < count; ++i) {
    const float *df = df_ddevice + 3 * i, *point = vertices + 3 * i;
    float* const out = df_dvertices + 3 * i;
    out[0] = out[1] = out[2] = 0.0f;
    if (df[0] == 0.0f && df[1] == 0.0f && df[2] == 0.0f && df_dclip_w[i] == 0.0f) continue;  // Not seen: most are not.
    const float w = ClipCoordinate(matrix, point, 3), divisor = SafeW(w);
    float df_dclip[4] = {0.0f, 0.0f, 0.0f, df_dclip_w[i]};
    for (int r = 0; r < 3; ++r) {
      df_dclip[r] = df[r] / divisor;
      if (divisor == w) df_dclip[3] -= df_dclip[r] * (ClipCoordinate(matrix, point, r) / divisor);
    }
    for (int r = 0; r < 4; ++r) {
      for (int k = 0; k < 3; ++k) {
        out[k] += matrix[4 * r + k] * df_dclip[r];
        sums[r][k] += static_cast<double>(df_dclip[r]) * point[k];
      }
      sums[r][3] += df_dclip[r];
    }
  }
  for (int k = 0; k < 16; ++k) df_dmatrix[k] = ToFloat(sums[k / 4][k % 4]);
}

void TransformToScreen(const float* vertices, int64_t count, int width, int height, ScreenVertex* screen) {
  const double half_width = 0.5 * width, half_height = 0.5 * height;
  for (int64_t i = 0; i < count; ++i, vertices += 3) {
    const float x = static_cast<float>((vertices[0] + 1.0) * half_width);
    const float y = static_cast<float>((vertices[1] + 1.0) * half_height);
    // Written so that what is not a number is outside, too.
    const float inside_x = x > -kOutside ? std::min(x, kOutside) : -kOutside;
    const float inside_y = y > -kOutside ? std::min(y, kOutside) : -kOutside;
    screen[i] = {x, y, vertices[2], static_cast<int32_t>(inside_x * kOne), static_cast<int32_t>(inside_y * kOne)};
  }
}

void RasterizeRows(const Picture& picture, int first_row, int last_row) {
  const int64_t begin = static_cast<int64_t>(first_row) * picture.width;
  const int64_t end = static_cast<int64_t>(last_row) * picture.width;
  std::fill(picture.barycentric + 3 * begin, picture.barycentric + 3 * end, 0.0f);
  std::fill(picture.triangle_ids + begin, picture.triangle_ids + end, 0);
  std::fill(picture.z_buffer + begin, picture.z_buffer + end, 1.0f);
  for (int64_t t = 0; t < picture.triangle_count; ++t) {
    const int32_t* const corners = picture.triangles + 3 * t;
    const ScreenVertex* const v[3] = {picture.screen + corners[0], picture.screen + corners[1],
                                      picture.screen + corners[2]};
    Box box;
    box.left = std::max(FirstCentre(v[0]->fixed_x, v[1]->fixed_x, v[2]->fixed_x), 0);
    box.right = std::min(LastCentre(v[0]->fixed_x, v[1]->fixed_x, v[2]->fixed_x), picture.width - 1);
    box.bottom = std::max(FirstCentre(v[0]->fixed_y, v[1]->fixed_y, v[2]->fixed_y), first_row);
    box.top = std::min(LastCentre(v[0]->fixed_y, v[1]->fixed_y, v[2]->fixed_y), last_row - 1);
    // Most triangles of a dense mesh lie between pixel centres and end here.
    if ((box.left > box.right) | (box.bottom > box.top)) continue;
    const float largest = LargestCoordinate(v);
    if (largest <= kMaxFastPixel) {
      DrawTriangle<int64_t>(picture, v, static_cast<int32_t>(t), box);
    } else if (largest <= kMaxPixel) {
      DrawTriangle<__int128>(picture, v, static_cast<int32_t>(t), box);
    }
  }
}

int64_t RasterizeGradient(const Drawn& drawn, const float* vertices, const float* df_dbarycentric, double* sums,
                          float* df_dvertices) {
  std::fill(sums, sums + 2 * drawn.vertex_count, 0.0);
  for (int64_t pixel = 0; pixel < drawn.width * drawn.height; ++pixel) {
    const float* b = drawn.barycentric + 3 * pixel;
    if (!(b[0] + b[1] + b[2] >= kMinBarycentricSum)) continue;
    if (!IsIdValid(drawn, pixel)) return pixel;
    const int32_t* v = drawn.triangles + 3 * static_cast<int64_t>(drawn.triangle_ids[pixel]);
    double x[3], y[3];
    for (int k = 0; k < 3; ++k) {
      x[k] = vertices[3 * static_cast<int64_t>(v[k])];
      y[k] = vertices[3 * static_cast<int64_t>(v[k]) + 1];
    }
    const double area = EdgeFunction(x[2], y[2], x[0], y[0], x[1], y[1]);
    if (!(std::fabs(area) >= kMinDoubledArea)) continue;
    // b is linear in the pixel's place p: moving vertex k by d changes b_i(p) by -b_k(p) * (grad b_i . d).
    const float* df = df_dbarycentric + 3 * pixel;
    const double gx = (df[0] * (y[2] - y[1]) + df[1] * (y[0] - y[2]) + df[2] * (y[1] - y[0])) / area;
    const double gy = (df[0] * (x[1] - x[2]) + df[1] * (x[2] - x[0]) + df[2] * (x[0] - x[1])) / area;
    for (int k = 0; k < 3; ++k) {
      sums[2 * static_cast<int64_t>(v[k])] -= b[k] * gx;
      sums[2 * static_cast<int64_t>(v[k]) + 1] -= b[k] * gy;
    }
  }
  for (int64_t i = 0; i < drawn.vertex_count; ++i) {
    df_dvertices[3 * i] = ToFloat(sums[2 * i]);
    df_dvertices[3 * i + 1] = ToFloat(sums[2 * i + 1]);
    df_dvertices[3 * i + 2] = 0.0f;
  }
  return -1;
}

int64_t InterpolateRows(const Drawn& drawn, const Attributes& attributes, int64_t first, int64_t last, float* image,
                        float* alphas) {
  return attributes.channels == 3 ? InterpolateChannels<3>(drawn, attributes, first, last, image, alphas)
                                  : InterpolateChannels<0>(drawn, attributes, first, last, image, alphas);
}

int64_t InterpolateGradient(const Drawn& drawn, const Attributes& attributes, const InterpolationGradient& gradient) {
  const int64_t channels = attributes.channels;
  std::fill(gradient.df_dbackground, gradient.df_dbackground + channels, 0.0);
  std::fill(gradient.df_dclip_w, gradient.df_dclip_w + drawn.vertex_count, 0.0f);
  std::fill(gradient.df_dattributes, gradient.df_dattributes + channels * drawn.vertex_count, 0.0f);
  std::fill(gradient.df_dbarycentric, gradient.df_dbarycentric + 3 * drawn.width * drawn.height, 0.0f);
  for (int64_t row = 0; row < drawn.height; ++row) {
    int64_t place = Start(drawn, attributes, row);
    for (int64_t pixel = row * drawn.width; pixel < (row + 1) * drawn.width; ++pixel, ++place) {
      if (IsDrawn(drawn.barycentric + 3 * pixel)) {
        if (!IsIdValid(drawn, pixel)) return pixel;
        (channels == 3 ? PixelGradient<3> : PixelGradient<0>)(drawn, attributes, gradient, pixel, place);
        continue;
      }
      for (int64_t c = 0; c < channels; ++c) {
        const bool passes = IsWithin(attributes.background[c], attributes.clip_to);
        if (passes) gradient.df_dbackground[c] += gradient.df_dimage[place * channels + c];
      }
    }
  }
  return -1;
}

}  // namespace rasterizer
