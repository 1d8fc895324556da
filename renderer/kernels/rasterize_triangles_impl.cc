#include "rasterize_triangles_impl.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "processors.h"

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

typedef double Doubles __attribute__((vector_size(32)));
typedef int16_t Shorts __attribute__((vector_size(4 * kPictures)));
static_assert(sizeof(CentreBounds) == 2 * sizeof(Shorts), "loaded as they lie in memory");
static_assert(kPictures == 4, "one byte pair of a 64-bit number for each picture");

inline Shorts Load(const int16_t* values) {
  Shorts out;
  std::memcpy(&out, values, sizeof(out));
  return out;
}

inline Shorts Least(Shorts a, Shorts b) {
  const Shorts is_less = a < b;  // All bits or none.
  return (a & is_less) | (b & ~is_less);
}

// Which centres the bounding boxes of a triangle hold.
struct Boxes {
  Shorts first, minus_last;

  Boxes(const CentreBounds& a, const CentreBounds& b, const CentreBounds& c)
      : first(Least(Least(Load(a.first), Load(b.first)), Load(c.first))),
        minus_last(Least(Least(Load(a.minus_last), Load(b.minus_last)), Load(c.minus_last))) {}

  // 16 bits for each picture: 0 where the box holds a centre.
  uint64_t Empty() const {
    const Shorts is_empty = first + minus_last > 0;
    uint64_t halves[2];
    std::memcpy(halves, &is_empty, sizeof(halves));
    return halves[0] | halves[1];
  }
};

// The corners of a triangle for what is computed in floating point.
struct Corners {
  float x[3], y[3], z[3];
  float area;  // Doubled and signed, in pixels.

  Corners(const Picture& picture, const int32_t* v) {
    for (int k = 0; k < 3; ++k) {
      x[k] = picture.screen[v[k]].x;
      y[k] = picture.screen[v[k]].y;
      z[k] = picture.vertices[3 * static_cast<int64_t>(v[k]) + 2];
    }
    area = EdgeFunction(x[2], y[2], x[0], y[0], x[1], y[1]);
  }
};

struct Box {
  int left, right, bottom, top;  // Inclusive.
};

inline void DrawPixel(const Corners& c, int32_t id, int column, int row, int width, const Picture& picture) {
  const float px = column + 0.5f;
  const float py = row + 0.5f;
  const float b0 = EdgeFunction(px, py, c.x[1], c.y[1], c.x[2], c.y[2]) / c.area;
  const float b1 = EdgeFunction(px, py, c.x[2], c.y[2], c.x[0], c.y[0]) / c.area;
  const float b2 = 1.0f - b0 - b1;
  const float z = b0 * c.z[0] + b1 * c.z[1] + b2 * c.z[2];
  const int64_t pixel = static_cast<int64_t>(row) * width + column;
  // Written so that a z that is not a number fails.
  if (!(z >= -1.0f && z <= 1.0f && z <= picture.z_buffer[pixel])) return;
  picture.barycentric[3 * pixel] = b0;
  picture.barycentric[3 * pixel + 1] = b1;
  picture.barycentric[3 * pixel + 2] = b2;
  picture.triangle_ids[pixel] = id;
  picture.z_buffer[pixel] = z;
}

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

// Draws the triangle v whose corners are x, y in fixed point.
template <typename Wide>
inline void DrawInBox(const int32_t* v, int32_t id, const Wide* x, const Wide* y, const Box& box, int width,
                      const Picture& picture) {
  const Wide px = static_cast<Wide>(box.left) * kOne + kHalf, py = static_cast<Wide>(box.bottom) * kOne + kHalf;
  Edge<Wide> e0(px, py, x[1], y[1], x[2], y[2]), e1(px, py, x[2], y[2], x[0], y[0]), e2(px, py, x[0], y[0], x[1], y[1]);
  const Wide area = e0.at + e1.at + e2.at;  // Doubled, wherever the pixel is. A centre is covered if no part of it is
  if (area < 0) {                           // of the other sign.
    e0.Negate();
    e1.Negate();
    e2.Negate();
  }
  if (area == 0) return;
  if (box.left == box.right && box.bottom == box.top) {  // Most boxes of a dense mesh.
    if ((e0.at | e1.at | e2.at) < 0) return;
    const Corners corners(picture, v);
    if (corners.area != 0.0f) DrawPixel(corners, id, box.left, box.bottom, width, picture);
    return;
  }
  const Corners corners(picture, v);
  if (corners.area == 0.0f) return;
  for (int row = box.bottom; row <= box.top; ++row) {
    Wide a = e0.at, b = e1.at, c = e2.at;
    for (int column = box.left; column <= box.right; ++column) {
      if ((a | b | c) >= 0) DrawPixel(corners, id, column, row, width, picture);
      a += e0.per_column;
      b += e1.per_column;
      c += e2.per_column;
    }
    e0.at += e0.per_row;
    e1.at += e1.per_row;
    e2.at += e2.per_row;
  }
}

// A triangle with a corner that is too far away for 64 bits, or is not finite.
__attribute__((noinline)) void DrawLargeInBox(const int32_t* v, int32_t id, const Box& box, int width,
                                              const Picture& picture) {
  __int128 x[3], y[3];
  for (int k = 0; k < 3; ++k) {
    const ScreenVertex& corner = picture.screen[v[k]];
    // Written so that what is not a number fails.
    if (!(std::fabs(corner.x) <= kMaxPixel && std::fabs(corner.y) <= kMaxPixel)) return;
    x[k] = static_cast<__int128>(corner.x * static_cast<float>(kOne));  // Conversion truncates towards zero.
    y[k] = static_cast<__int128>(corner.y * static_cast<float>(kOne));
  }
  DrawInBox<__int128>(v, id, x, y, box, width, picture);
}

inline void Draw(const int32_t* v, int32_t id, const Box& box, int width, const Picture& picture) {
  int64_t x[3], y[3];
  for (int k = 0; k < 3; ++k) {
    const ScreenVertex& corner = picture.screen[v[k]];
    if (corner.fixed_x == kFarAway) return DrawLargeInBox(v, id, box, width, picture);
    x[k] = corner.fixed_x;
    y[k] = corner.fixed_y;
  }
  DrawInBox<int64_t>(v, id, x, y, box, width, picture);
}

// A triangle to be drawn. Some are gathered first, so that their corners are on the way from memory meanwhile.
struct Found {
  int32_t id;
  int picture;
  Box box;
};
constexpr int kMaxFound = 32;

inline void DrawAll(const Found* found, int count, const int32_t* triangles, int width, const Picture* pictures) {
  for (int i = 0; i < count; ++i) {
    const Found& f = found[i];
    Draw(triangles + 3 * static_cast<int64_t>(f.id), f.id, f.box, width, pictures[f.picture]);
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

inline float Clip(float value, float to) { return std::min(std::max(value, 0.0f), to); }

// What a drawn pixel passes on: to its corrected weights and to its alpha.
struct PixelGradient {
  float dp[3];
  float dalpha;
};

// Adds the share of kCount channels from `first` on; `df_dimage` is the pixel's.
template <int kCount>
inline void AddChannels(const Interpolation& input, const Weights& s, const float* df_dimage, int64_t first,
                        const InterpolationGradient& gradient, PixelGradient* sums) {
  float values[3][kCount], dvalues[kCount];  // All is read before anything is written.
  for (int k = 0; k < 3; ++k) {
    for (int c = 0; c < kCount; ++c) values[k][c] = input.attributes[s.vertex[k] * input.channels + first + c];
  }
  for (int c = 0; c < kCount; ++c) {
    const float background = input.background[first + c];
    const float value = s.p[0] * values[0][c] + s.p[1] * values[1][c] + s.p[2] * values[2][c];
    const float shown = s.alpha * value + (1.0f - s.alpha) * background;
    const bool passes = (input.clip_to == 0.0f) | ((shown >= 0.0f) & (shown <= input.clip_to));
    const float df = passes ? df_dimage[first + c] : 0.0f;
    dvalues[c] = s.alpha * df;
    sums->dalpha += df * (value - background);
    for (int k = 0; k < 3; ++k) sums->dp[k] += dvalues[c] * values[k][c];
    if (s.alpha != 1.0f) gradient.df_dbackground[first + c] += (1.0f - s.alpha) * df;
  }
  for (int k = 0; k < 3; ++k) {
    float* out = gradient.df_dattributes + s.vertex[k] * input.channels + first;
    for (int c = 0; c < kCount; ++c) out[c] += s.p[k] * dvalues[c];
  }
}

// Adds one drawn pixel's share to the gradient; `df_dimage` is the pixel's. kChannels: known when compiled, or 0.
template <int kChannels>
inline void AddPixelGradient(const Interpolation& input, const Weights& s, const float* df_dimage, float df_dalpha,
                             const InterpolationGradient& gradient, float* df_dbarycentric) {
  PixelGradient sums = {{0.0f, 0.0f, 0.0f}, df_dalpha};
  if (kChannels) {
    AddChannels<kChannels ? kChannels : 1>(input, s, df_dimage, 0, gradient, &sums);
  } else {
    for (int64_t c = 0; c < input.channels; ++c) AddChannels<1>(input, s, df_dimage, c, gradient, &sums);
  }
  float* const dp = sums.dp;
  if (s.doubled >= 0.0f && s.doubled <= 1.0f) {
    for (int k = 0; k < 3; ++k) dp[k] += 2.0f * sums.dalpha;
  }
  const float through_sum = s.total >= kMinW ? dp[0] * s.p[0] + dp[1] * s.p[1] + dp[2] * s.p[2] : 0.0f;
  for (int k = 0; k < 3; ++k) {
    const float df_db = (dp[k] - through_sum) * s.per_scale * s.per_w[k];
    df_dbarycentric[k] = df_db;
    if (std::fabs(input.clip_w[s.vertex[k]]) >= kMinW) gradient.df_dclip_w[s.vertex[k]] -= df_db * s.p[k] * s.scale;
  }
}

// Returns whether the triangle id is in range.
template <int kChannels>
inline bool InterpolatePixel(const Interpolation& input, int64_t pixel, float* out, float* alpha) {
  const int64_t channels = kChannels ? kChannels : input.channels;
  if (IsDrawn(input.barycentric + 3 * pixel)) {
    if (!IsIdValid(input, pixel)) return false;
    const Weights s = CorrectWeights(input, pixel);
    const float* a[3];
    for (int k = 0; k < 3; ++k) a[k] = input.attributes + s.vertex[k] * channels;
    *alpha = s.alpha;
    for (int64_t c = 0; c < channels; ++c) {
      const float value = s.p[0] * a[0][c] + s.p[1] * a[1][c] + s.p[2] * a[2][c];
      out[c] = s.alpha * value + (1.0f - s.alpha) * input.background[c];
    }
  } else {
    *alpha = 0.0f;
    for (int64_t c = 0; c < channels; ++c) out[c] = input.background[c];
  }
  if (input.clip_to == 0.0f) return true;
  for (int64_t c = 0; c < channels; ++c) out[c] = Clip(out[c], input.clip_to);
  return true;
}

template <int kChannels>
int64_t InterpolateChannels(const Interpolation& input, int64_t first, int64_t last, float* image, float* alphas) {
  const int64_t channels = kChannels ? kChannels : input.channels;
  for (int64_t row = first; row < last; ++row) {
    int64_t place = input.Start(row);
    for (int64_t pixel = row * input.width; pixel < (row + 1) * input.width; ++pixel, ++place) {
      if (!InterpolatePixel<kChannels>(input, pixel, image + place * channels, alphas + place)) return pixel;
    }
  }
  return -1;
}

// A pixel where nothing is drawn.
inline void AddBackgroundGradient(const Interpolation& input, const float* df_dimage, double* df_dbackground) {
  for (int64_t c = 0; c < input.channels; ++c) {
    const float shown = input.background[c];
    if (input.clip_to == 0.0f || (shown >= 0.0f && shown <= input.clip_to)) df_dbackground[c] += df_dimage[c];
  }
}

template <int kChannels>
int64_t ChannelsGradient(const Interpolation& input, const InterpolationGradient& gradient) {
  const int64_t channels = kChannels ? kChannels : input.channels;
  for (int64_t row = 0; row < input.height; ++row) {
    int64_t place = input.Start(row);
    for (int64_t pixel = row * input.width; pixel < (row + 1) * input.width; ++pixel, ++place) {
      const float* df_dimage = gradient.df_dimage + place * channels;
      if (!IsDrawn(input.barycentric + 3 * pixel)) {
        AddBackgroundGradient(input, df_dimage, gradient.df_dbackground);
        continue;
      }
      if (!IsIdValid(input, pixel)) return pixel;
      const Weights s = CorrectWeights(input, pixel);
      AddPixelGradient<kChannels>(input, s, df_dimage, gradient.df_dalphas[place], gradient,
                                  gradient.df_dbarycentric + 3 * pixel);
    }
  }
  return -1;
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

FOR_EACH_PROCESSOR
void ProjectGradient(const float* vertices, int64_t count, const float* matrix, const float* df_ddevice,
                     const float* df_dclip_w, float* df_dvertices, float* df_dmatrix) {
  Doubles sums[4] = {};
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
    const Doubles place = {point[0], point[1], point[2], 1.0};
    for (int r = 0; r < 4; ++r) sums[r] += static_cast<double>(df_dclip[r]) * place;
  }
  for (int k = 0; k < 16; ++k) df_dmatrix[k] = ToFloat(sums[k / 4][k % 4]);
}

void TransformToScreen(const float* vertices, int64_t count, int width, int height, int picture, ScreenVertex* screen,
                       CentreBounds* bounds) {
  const double half_width = 0.5 * width;
  const double half_height = 0.5 * height;
  const int x_place = picture, y_place = kPictures + picture;
  for (int64_t i = 0; i < count; ++i) {
    const float x = static_cast<float>((vertices[3 * i] + 1.0) * half_width);
    const float y = static_cast<float>((vertices[3 * i + 1] + 1.0) * half_height);
    const bool is_near = std::fabs(x) <= kMaxFastPixel && std::fabs(y) <= kMaxFastPixel;
    screen[i] = {x, y, is_near ? static_cast<int32_t>(x * static_cast<float>(kOne)) : kFarAway,
                 is_near ? static_cast<int32_t>(y * static_cast<float>(kOne)) : 0};
    BoundCentres(x, width, &bounds[i].first[x_place], &bounds[i].minus_last[x_place]);
    BoundCentres(y, height, &bounds[i].first[y_place], &bounds[i].minus_last[y_place]);
  }
}

void LeaveOut(int64_t count, int picture, CentreBounds* bounds) {
  for (int64_t i = 0; i < count; ++i) {
    for (const int place : {picture, kPictures + picture}) bounds[i].first[place] = bounds[i].minus_last[place] = 1;
  }
}

void RasterizeRows(const int32_t* triangles, int64_t triangle_count, const CentreBounds* bounds,
                   const Picture* pictures, int picture_count, int width, int first_row, int last_row) {
  const int64_t begin = static_cast<int64_t>(first_row) * width;
  const int64_t end = static_cast<int64_t>(last_row) * width;
  for (int p = 0; p < picture_count; ++p) {
    std::fill(pictures[p].barycentric + 3 * begin, pictures[p].barycentric + 3 * end, 0.0f);
    std::fill(pictures[p].triangle_ids + begin, pictures[p].triangle_ids + end, 0);
    std::fill(pictures[p].z_buffer + begin, pictures[p].z_buffer + end, 1.0f);
  }
  Found found[kMaxFound];
  int count = 0;
  for (int64_t t = 0; t < triangle_count; ++t) {
    const int32_t* v = triangles + 3 * t;
    const Boxes boxes(bounds[v[0]], bounds[v[1]], bounds[v[2]]);
    // Most triangles of a dense mesh lie between pixel centres in all pictures and end here.
    const uint64_t empty = boxes.Empty();
    if (empty == ~static_cast<uint64_t>(0)) continue;
    for (int p = 0; p < picture_count; ++p) {
      if (empty >> (16 * p) & 1) continue;
      const Box box = {boxes.first[p], -boxes.minus_last[p], std::max<int>(boxes.first[kPictures + p], first_row),
                       std::min<int>(-boxes.minus_last[kPictures + p], last_row - 1)};
      if (box.bottom > box.top) continue;
      for (int k = 0; k < 3; ++k) __builtin_prefetch(&pictures[p].screen[v[k]]);
      found[count++] = {static_cast<int32_t>(t), p, box};
    }
    if (count <= kMaxFound - kPictures) continue;
    DrawAll(found, count, triangles, width, pictures);
    count = 0;
  }
  DrawAll(found, count, triangles, width, pictures);
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

int64_t InterpolateRows(const Interpolation& input, int64_t first, int64_t last, float* image, float* alphas) {
  return input.channels == 3 ? InterpolateChannels<3>(input, first, last, image, alphas)
                             : InterpolateChannels<0>(input, first, last, image, alphas);
}

int64_t InterpolateGradient(const Interpolation& input, const InterpolationGradient& gradient) {
  const int64_t channels = input.channels;
  std::fill(gradient.df_dbarycentric, gradient.df_dbarycentric + 3 * input.width * input.height, 0.0f);
  std::fill(gradient.df_dclip_w, gradient.df_dclip_w + input.vertex_count, 0.0f);
  std::fill(gradient.df_dattributes, gradient.df_dattributes + channels * input.vertex_count, 0.0f);
  std::fill(gradient.df_dbackground, gradient.df_dbackground + channels, 0.0);
  return channels == 3 ? ChannelsGradient<3>(input, gradient) : ChannelsGradient<0>(input, gradient);
}

}  // namespace rasterizer
