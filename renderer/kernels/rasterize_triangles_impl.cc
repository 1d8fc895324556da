#include "rasterize_triangles_impl.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace rasterizer {

namespace {

constexpr int kFractionBits = 16;                 // Coverage is decided in 16.16 fixed point.
constexpr int kOne = 1 << kFractionBits;
constexpr int kHalf = kOne / 2;
constexpr float kMaxFastPixel = 16384.0f;         // Up to here edge functions fit 64 bits, beyond they take 128.
constexpr float kMaxPixel = 17592186044416.0f;    // 2^44: up to here they fit 128 bits.
constexpr float kMinW = 1e-6f;                    // Smallest |w|, and smallest sum of weights divided by w.
constexpr float kMinBarycentricSum = 0.9f;        // Of a drawn pixel; it is 1 up to rounding.
constexpr double kMinDoubledArea = 1e-13;

// (p - a) x (b - a): doubled signed area of the triangle p, b, a.
template <typename T>
inline T EdgeFunction(T px, T py, T ax, T ay, T bx, T by) {
  return (px - ax) * (by - ay) - (py - ay) * (bx - ax);
}

// First pixel centre at or after `pixel` and minus the last one at or before, kept within the picture.
inline void BoundCentres(float pixel, int size, int16_t* first, int16_t* minus_last) {
  // One more pixel than the picture on each side keeps "outside" apart; NaN ends as -1 and is rejected later.
  const float kept = std::min(std::max(-1.0f, pixel), static_cast<float>(size) + 1.0f);
  const int fixed = static_cast<int>(kept * kOne);
  *first = static_cast<int16_t>(std::min(std::max((fixed + kHalf - 1) >> kFractionBits, 0), size));
  *minus_last = static_cast<int16_t>(-std::min((fixed - kHalf) >> kFractionBits, size - 1));
}

// CentreBounds as one register: three loads and two minima decide about a triangle, which is most of the time spent.
typedef int16_t FourShorts __attribute__((vector_size(8)));
static_assert(sizeof(FourShorts) == sizeof(CentreBounds), "loaded as they lie in memory");

inline FourShorts Load(const CentreBounds& bounds) {
  FourShorts out;
  std::memcpy(&out, &bounds, sizeof(out));
  return out;
}

inline FourShorts Least(FourShorts a, FourShorts b) {
  const FourShorts is_less = a < b;  // All bits or none.
  return (a & is_less) | (b & ~is_less);
}

// The corners of a triangle as the inner loop wants them.
struct Corners {
  float x[3], y[3], z[3];
  float area;  // Doubled and signed, in pixels.
};

template <typename Wide>
struct FixedCorners {
  Wide x[3], y[3];
};

// Where a pixel's results go.
struct Target {
  float* barycentric;
  int32_t* triangle_ids;
  float* z_buffer;
  int width;
};

struct Box {
  int left, right, bottom, top;  // Inclusive.
};

inline void DrawPixel(const Corners& c, int32_t id, int column, int row, const Target& target) {
  const float px = column + 0.5f;
  const float py = row + 0.5f;
  const float b0 = EdgeFunction(px, py, c.x[1], c.y[1], c.x[2], c.y[2]) / c.area;
  const float b1 = EdgeFunction(px, py, c.x[2], c.y[2], c.x[0], c.y[0]) / c.area;
  const float b2 = 1.0f - b0 - b1;
  const float z = b0 * c.z[0] + b1 * c.z[1] + b2 * c.z[2];
  const int64_t pixel = static_cast<int64_t>(row) * target.width + column;
  // Written so that a z that is not a number fails.
  if (!(z >= -1.0f && z <= 1.0f && z <= target.z_buffer[pixel])) return;
  target.barycentric[3 * pixel] = b0;
  target.barycentric[3 * pixel + 1] = b1;
  target.barycentric[3 * pixel + 2] = b2;
  target.triangle_ids[pixel] = id;
  target.z_buffer[pixel] = z;
}

template <typename Wide>
void DrawTriangle(const Corners& corners, int32_t id, const Box& box, const Target& target) {
  FixedCorners<Wide> f;
  for (int k = 0; k < 3; ++k) {  // Conversion truncates towards zero.
    f.x[k] = static_cast<Wide>(corners.x[k] * static_cast<float>(kOne));
    f.y[k] = static_cast<Wide>(corners.y[k] * static_cast<float>(kOne));
  }
  if (EdgeFunction(f.x[2], f.y[2], f.x[0], f.y[0], f.x[1], f.y[1]) == 0) return;
  for (int row = box.bottom; row <= box.top; ++row) {
    const Wide py = static_cast<Wide>(row) * kOne + kHalf;
    for (int column = box.left; column <= box.right; ++column) {
      const Wide px = static_cast<Wide>(column) * kOne + kHalf;
      const Wide e0 = EdgeFunction(px, py, f.x[1], f.y[1], f.x[2], f.y[2]);
      const Wide e1 = EdgeFunction(px, py, f.x[2], f.y[2], f.x[0], f.y[0]);
      const Wide e2 = EdgeFunction(px, py, f.x[0], f.y[0], f.x[1], f.y[1]);
      if ((e0 >= 0 && e1 >= 0 && e2 >= 0) || (e0 <= 0 && e1 <= 0 && e2 <= 0)) {
        DrawPixel(corners, id, column, row, target);
      }
    }
  }
}

// |w| at least kMinW, keeping its sign.
inline float SafeW(float w) {
  if (std::fabs(w) >= kMinW) return w;
  return w < 0.0f ? -kMinW : kMinW;
}

inline float ToFloat(double x) {
  constexpr double kLimit = std::numeric_limits<float>::max();
  return static_cast<float>(std::min(std::max(x, -kLimit), kLimit));
}

// Perspective-correct weights of one pixel.
struct Weights {
  int64_t vertex[3];
  float per_w[3];   // 1 / w, with w bounded away from 0.
  float p[3];       // Corrected weights.
  float total;      // Sum of b / w.
  float scale;      // What they are divided by: max(total, kMinW).
  float per_scale;  // 1 / scale
  float alpha;
  float doubled;    // Twice the sum of p; alpha is this, clipped to [0, 1].
};

inline bool IsDrawn(const float* b) { return b[0] != 0.0f || b[1] != 0.0f || b[2] != 0.0f; }

inline Weights CorrectWeights(const Interpolation& input, int64_t pixel) {
  Weights out;
  const float* b = input.barycentric + 3 * pixel;
  const int32_t* corner = input.triangles + 3 * static_cast<int64_t>(input.triangle_ids[pixel]);
  for (int k = 0; k < 3; ++k) {
    out.vertex[k] = corner[k];
    out.per_w[k] = 1.0f / SafeW(input.clip_w[corner[k]]);
    out.p[k] = b[k] * out.per_w[k];
  }
  out.total = out.p[0] + out.p[1] + out.p[2];
  out.scale = std::max(out.total, kMinW);
  out.per_scale = 1.0f / out.scale;
  for (int k = 0; k < 3; ++k) out.p[k] *= out.per_scale;
  out.doubled = 2.0f * out.p[0] + 2.0f * out.p[1] + 2.0f * out.p[2];
  out.alpha = std::min(std::max(out.doubled, 0.0f), 1.0f);
  return out;
}

inline bool IsIdValid(const Interpolation& input, int64_t pixel) {
  const int32_t id = input.triangle_ids[pixel];
  return id >= 0 && id < input.triangle_count;
}

// Adds one drawn pixel's share to the gradient; `df_dimage` is the pixel's.
void AddPixelGradient(const Interpolation& input, const Weights& s, const float* df_dimage, float df_dalpha,
                      const InterpolationGradient& gradient, float* df_dbarycentric) {
  const int64_t channels = input.channels;
  const float* a[3];
  for (int k = 0; k < 3; ++k) a[k] = input.attributes + s.vertex[k] * channels;
  float dp[3] = {0.0f, 0.0f, 0.0f};
  float dalpha = df_dalpha;
  for (int64_t c = 0; c < channels; ++c) {
    const float dvalue = s.alpha * df_dimage[c];
    dalpha += df_dimage[c] * (s.p[0] * a[0][c] + s.p[1] * a[1][c] + s.p[2] * a[2][c] - input.background[c]);
    for (int k = 0; k < 3; ++k) {
      dp[k] += dvalue * a[k][c];
      gradient.df_dattributes[s.vertex[k] * channels + c] += s.p[k] * dvalue;
    }
  }
  if (s.doubled >= 0.0f && s.doubled <= 1.0f) {
    for (int k = 0; k < 3; ++k) dp[k] += 2.0f * dalpha;
  }
  const float through_sum = s.total >= kMinW ? dp[0] * s.p[0] + dp[1] * s.p[1] + dp[2] * s.p[2] : 0.0f;
  for (int k = 0; k < 3; ++k) {
    const float df_db = (dp[k] - through_sum) * s.per_scale * s.per_w[k];
    df_dbarycentric[k] = df_db;
    if (std::fabs(input.clip_w[s.vertex[k]]) >= kMinW) gradient.df_dclip_w[s.vertex[k]] -= df_db * s.p[k] * s.scale;
  }
}

}  // namespace

void ProjectVertices(const float* vertices, int64_t count, const float* matrix, float* device, float* clip_w) {
  const float* m = matrix;
  for (int64_t i = 0; i < count; ++i) {
    const float x = vertices[3 * i], y = vertices[3 * i + 1], z = vertices[3 * i + 2];
    const float w = m[12] * x + m[13] * y + m[14] * z + m[15];
    const float divisor = SafeW(w);
    device[3 * i] = (m[0] * x + m[1] * y + m[2] * z + m[3]) / divisor;
    device[3 * i + 1] = (m[4] * x + m[5] * y + m[6] * z + m[7]) / divisor;
    device[3 * i + 2] = (m[8] * x + m[9] * y + m[10] * z + m[11]) / divisor;
    clip_w[i] = w;
  }
}

void ProjectGradient(const float* vertices, int64_t count, const float* matrix, const float* df_ddevice,
                     const float* df_dclip_w, float* df_dvertices, float* df_dmatrix) {
  double sums[16] = {0.0};
  const float* m = matrix;
  for (int64_t i = 0; i < count; ++i) {
    const float* df = df_ddevice + 3 * i;
    float* out = df_dvertices + 3 * i;
    if (df[0] == 0.0f && df[1] == 0.0f && df[2] == 0.0f && df_dclip_w[i] == 0.0f) {  // Most vertices: not seen.
      out[0] = out[1] = out[2] = 0.0f;
      continue;
    }
    const float point[4] = {vertices[3 * i], vertices[3 * i + 1], vertices[3 * i + 2], 1.0f};
    float clip[4], df_dclip[4];
    for (int r = 0; r < 4; ++r) {
      clip[r] = m[4 * r] * point[0] + m[4 * r + 1] * point[1] + m[4 * r + 2] * point[2] + m[4 * r + 3];
    }
    const float divisor = SafeW(clip[3]);
    df_dclip[3] = df_dclip_w[i];
    for (int r = 0; r < 3; ++r) {
      df_dclip[r] = df[r] / divisor;
      if (divisor == clip[3]) df_dclip[3] -= df_dclip[r] * (clip[r] / divisor);
    }
    for (int k = 0; k < 3; ++k) {
      out[k] = m[k] * df_dclip[0] + m[4 + k] * df_dclip[1] + m[8 + k] * df_dclip[2] + m[12 + k] * df_dclip[3];
    }
    for (int r = 0; r < 4; ++r) {
      for (int k = 0; k < 4; ++k) sums[4 * r + k] += static_cast<double>(df_dclip[r]) * point[k];
    }
  }
  for (int k = 0; k < 16; ++k) df_dmatrix[k] = ToFloat(sums[k]);
}

void TransformToScreen(const float* vertices, int64_t count, int width, int height, ScreenVertex* screen,
                       CentreBounds* bounds) {
  const double half_width = 0.5 * width;
  const double half_height = 0.5 * height;
  for (int64_t i = 0; i < count; ++i) {
    const float x = static_cast<float>((vertices[3 * i] + 1.0) * half_width);
    const float y = static_cast<float>((vertices[3 * i + 1] + 1.0) * half_height);
    screen[i].x = x;
    screen[i].y = y;
    BoundCentres(x, width, &bounds[i].first_x, &bounds[i].minus_last_x);
    BoundCentres(y, height, &bounds[i].first_y, &bounds[i].minus_last_y);
  }
}

void RasterizeRows(const Mesh& mesh, const ScreenVertex* screen, const CentreBounds* bounds, int width,
                   int first_row, int last_row, float* barycentric, int32_t* triangle_ids, float* z_buffer) {
  const int64_t begin = static_cast<int64_t>(first_row) * width;
  const int64_t end = static_cast<int64_t>(last_row) * width;
  std::fill(barycentric + 3 * begin, barycentric + 3 * end, 0.0f);
  std::fill(triangle_ids + begin, triangle_ids + end, 0);
  std::fill(z_buffer + begin, z_buffer + end, 1.0f);

  const Target target = {barycentric, triangle_ids, z_buffer, width};
  for (int64_t t = 0; t < mesh.triangle_count; ++t) {
    const int32_t* v = mesh.triangles + 3 * t;
    const FourShorts least = Least(Least(Load(bounds[v[0]]), Load(bounds[v[1]])), Load(bounds[v[2]]));
    Box box = {least[0], -least[2], least[1], -least[3]};
    // Most triangles of a dense mesh lie between pixel centres and end here. '&': one branch, not two.
    if ((box.left > box.right) | (box.bottom > box.top)) continue;
    box.bottom = std::max(box.bottom, first_row);
    box.top = std::min(box.top, last_row - 1);
    if (box.bottom > box.top) continue;

    Corners corners;
    float largest = 0.0f;
    bool is_finite = true;
    for (int k = 0; k < 3; ++k) {
      corners.x[k] = screen[v[k]].x;
      corners.y[k] = screen[v[k]].y;
      corners.z[k] = mesh.vertices[3 * static_cast<int64_t>(v[k]) + 2];
      largest = std::max(largest, std::max(std::fabs(corners.x[k]), std::fabs(corners.y[k])));
      is_finite = is_finite && std::isfinite(corners.x[k]) && std::isfinite(corners.y[k]);
    }
    if (!is_finite || largest > kMaxPixel) continue;
    corners.area = EdgeFunction(corners.x[2], corners.y[2], corners.x[0], corners.y[0], corners.x[1], corners.y[1]);
    if (corners.area == 0.0f) continue;
    if (largest <= kMaxFastPixel) {
      DrawTriangle<int64_t>(corners, static_cast<int32_t>(t), box, target);
    } else {
      DrawTriangle<__int128>(corners, static_cast<int32_t>(t), box, target);
    }
  }
}

int64_t RasterizeGradient(const Mesh& mesh, const float* barycentric, const int32_t* triangle_ids,
                          const float* df_dbarycentric, int64_t pixel_count, double* sums, float* df_dvertices) {
  std::fill(sums, sums + 2 * mesh.vertex_count, 0.0);
  for (int64_t pixel = 0; pixel < pixel_count; ++pixel) {
    const float* b = barycentric + 3 * pixel;
    if (!(b[0] + b[1] + b[2] >= kMinBarycentricSum)) continue;
    const int32_t id = triangle_ids[pixel];
    if (id < 0 || id >= mesh.triangle_count) return pixel;
    const int32_t* v = mesh.triangles + 3 * static_cast<int64_t>(id);
    double x[3], y[3];
    for (int k = 0; k < 3; ++k) {
      x[k] = mesh.vertices[3 * static_cast<int64_t>(v[k])];
      y[k] = mesh.vertices[3 * static_cast<int64_t>(v[k]) + 1];
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
  for (int64_t i = 0; i < mesh.vertex_count; ++i) {
    df_dvertices[3 * i] = ToFloat(sums[2 * i]);
    df_dvertices[3 * i + 1] = ToFloat(sums[2 * i + 1]);
    df_dvertices[3 * i + 2] = 0.0f;
  }
  return -1;
}

int64_t InterpolatePixels(const Interpolation& input, int64_t first, int64_t last, float* image, float* alphas) {
  const int64_t channels = input.channels;
  for (int64_t pixel = first; pixel < last; ++pixel) {
    float* out = image + pixel * channels;
    if (!IsDrawn(input.barycentric + 3 * pixel)) {
      std::copy(input.background, input.background + channels, out);
      alphas[pixel] = 0.0f;
      continue;
    }
    if (!IsIdValid(input, pixel)) return pixel;
    const Weights s = CorrectWeights(input, pixel);
    const float* a0 = input.attributes + s.vertex[0] * channels;
    const float* a1 = input.attributes + s.vertex[1] * channels;
    const float* a2 = input.attributes + s.vertex[2] * channels;
    alphas[pixel] = s.alpha;
    for (int64_t c = 0; c < channels; ++c) {
      const float value = s.p[0] * a0[c] + s.p[1] * a1[c] + s.p[2] * a2[c];
      out[c] = s.alpha * value + (1.0f - s.alpha) * input.background[c];
    }
  }
  return -1;
}

int64_t InterpolateGradient(const Interpolation& input, int64_t pixel_count, const InterpolationGradient& gradient) {
  const int64_t channels = input.channels;
  std::fill(gradient.df_dbarycentric, gradient.df_dbarycentric + 3 * pixel_count, 0.0f);
  std::fill(gradient.df_dclip_w, gradient.df_dclip_w + input.vertex_count, 0.0f);
  std::fill(gradient.df_dattributes, gradient.df_dattributes + channels * input.vertex_count, 0.0f);
  std::fill(gradient.df_dbackground, gradient.df_dbackground + channels, 0.0);
  for (int64_t pixel = 0; pixel < pixel_count; ++pixel) {
    const float* df_dimage = gradient.df_dimage + pixel * channels;
    float background_share = 1.0f;
    if (IsDrawn(input.barycentric + 3 * pixel)) {
      if (!IsIdValid(input, pixel)) return pixel;
      const Weights s = CorrectWeights(input, pixel);
      AddPixelGradient(input, s, df_dimage, gradient.df_dalphas[pixel], gradient,
                       gradient.df_dbarycentric + 3 * pixel);
      background_share = 1.0f - s.alpha;
    }
    if (background_share == 0.0f) continue;
    for (int64_t c = 0; c < channels; ++c) gradient.df_dbackground[c] += background_share * df_dimage[c];
  }
  return -1;
}

}  // namespace rasterizer
