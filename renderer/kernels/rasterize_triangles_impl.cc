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

typedef double Doubles __attribute__((vector_size(8 * kPictures)));
typedef int64_t Longs __attribute__((vector_size(8 * kPictures)));
typedef float Floats __attribute__((vector_size(4 * kPictures)));
typedef int32_t Ints __attribute__((vector_size(4 * kPictures)));
typedef float Floats2 __attribute__((vector_size(8 * kPictures)));  // x in all pictures, then y
typedef int32_t Ints2 __attribute__((vector_size(8 * kPictures)));

INLINE Doubles ToDoubles(const int32_t* values) {
  Ints out;
  std::memcpy(&out, values, sizeof(out));
  return Convert<Doubles>(out);
}

INLINE Ints2 Load(const FixedPlaces& places) {
  Ints2 out;
  std::memcpy(&out, &places, sizeof(out));
  return out;
}

INLINE Ints2 Least(Ints2 a, Ints2 b) { return a < b ? a : b; }
INLINE Ints2 Most(Ints2 a, Ints2 b) { return a > b ? a : b; }

// One bit for each picture: whether the condition holds for x and for y.
INLINE unsigned ForBoth(Ints2 condition) {
  Ints halves[2];
  std::memcpy(halves, &condition, sizeof(halves));
  halves[0] &= halves[1];
  uint64_t bits[2];
  std::memcpy(bits, halves, sizeof(bits));
  const uint64_t all = (bits[0] & 0x200000001) | (bits[1] & 0x800000004);
  return static_cast<unsigned>(all | all >> 32) & 15;
}

INLINE bool AnyOf(Ints2 condition) {
  uint64_t parts[4];
  std::memcpy(parts, &condition, sizeof(parts));
  return (parts[0] | parts[1] | parts[2] | parts[3]) != 0;
}

// First and last column (row) whose centre the bounding boxes of a triangle hold.
struct Boxes {
  Ints2 first, last;

  INLINE Boxes(const FixedPlaces& a, const FixedPlaces& b, const FixedPlaces& c) {
    const Ints2 places[3] = {Load(a), Load(b), Load(c)};
    first = (Least(Least(places[0], places[1]), places[2]) + (kHalf - 1)) >> kFractionBits;
    last = (Most(Most(places[0], places[1]), places[2]) - kHalf) >> kFractionBits;
  }
};

// The corners of a triangle for what is computed in floating point.
struct Corners {
  float x[3], y[3], z[3];
  float area;  // Doubled and signed, in pixels.

  INLINE Corners(const Picture& picture, const int32_t* v) {
    for (int k = 0; k < 3; ++k) {
      const ScreenVertex& corner = picture.screen[v[k]];
      x[k] = corner.x;
      y[k] = corner.y;
      z[k] = corner.z;
    }
    area = EdgeFunction(x[2], y[2], x[0], y[0], x[1], y[1]);
  }
};

struct Box {
  int left, right, bottom, top;  // Inclusive.
};

INLINE void DrawPixel(const Corners& c, int32_t id, int column, int row, int width, const Picture& picture) {
  const float px = column + 0.5f;
  const float py = row + 0.5f;
  const float b0 = EdgeFunction(px, py, c.x[1], c.y[1], c.x[2], c.y[2]) / c.area;
  const float b1 = EdgeFunction(px, py, c.x[2], c.y[2], c.x[0], c.y[0]) / c.area;
  const float b2 = 1.0f - b0 - b1;
  const float z = b0 * c.z[0] + b1 * c.z[1] + b2 * c.z[2];
  const int64_t pixel = static_cast<int64_t>(row) * width + column;
  // Written so that a z that is not a number fails.
  if (!((z >= -1.0f) & (z <= 1.0f) & (z <= picture.z_buffer[pixel]))) return;
  picture.barycentric[3 * pixel] = b0;
  picture.barycentric[3 * pixel + 1] = b1;
  picture.barycentric[3 * pixel + 2] = b2;
  picture.triangle_ids[pixel] = id;
  picture.z_buffer[pixel] = z;
}

// ---- small triangles: which of two by two centres they cover, in all pictures at once

// An edge function in all pictures: at the lower left centre, and what it grows by per column and row.
struct Edges {
  Doubles at, per_column, per_row;

  // From corner a along (dx, dy), both times the sign of the triangle's area.
  INLINE Edges(Doubles px, Doubles py, Doubles ax, Doubles ay, Doubles dx, Doubles dy)
      : at((px - ax) * dy - (py - ay) * dx), per_column(dy * static_cast<double>(kOne)),
        per_row(-dx * static_cast<double>(kOne)) {}
};

INLINE Longs IsCovered(Doubles a, Doubles b, Doubles c) { return (a >= 0.0) & (b >= 0.0) & (c >= 0.0); }

// Four bits for each picture, from the lowest: lower left, lower right, upper left, upper right centre of its box is
// covered. Exact: in small boxes all numbers are far below 2^53.
INLINE unsigned CoveredCentres(const FixedPlaces& a, const FixedPlaces& b, const FixedPlaces& c, const Boxes& boxes) {
  const Doubles x0 = ToDoubles(a.x), x1 = ToDoubles(b.x), x2 = ToDoubles(c.x);
  const Doubles y0 = ToDoubles(a.y), y1 = ToDoubles(b.y), y2 = ToDoubles(c.y);
  const Ints2 centre = boxes.first * kOne + kHalf;
  int32_t centres[2 * kPictures];
  std::memcpy(centres, &centre, sizeof(centre));
  const Doubles px = ToDoubles(centres), py = ToDoubles(centres + kPictures);
  const Doubles area = (x2 - x0) * (y1 - y0) - (y2 - y0) * (x1 - x0);
  const Doubles one = {1.0, 1.0, 1.0, 1.0};
  const Doubles sign = area < 0.0 ? -one : one;
  const Edges e0(px, py, x1, y1, (x2 - x1) * sign, (y2 - y1) * sign);
  const Edges e1(px, py, x2, y2, (x0 - x2) * sign, (y0 - y2) * sign);
  const Edges e2(px, py, x0, y0, (x1 - x0) * sign, (y1 - y0) * sign);
  Longs bits = IsCovered(e0.at, e1.at, e2.at) & 1;
  const Ints2 is_two = boxes.first < boxes.last;
  if (AnyOf(is_two)) {
    Ints two[2];
    std::memcpy(two, &is_two, sizeof(two));
    const Longs two_columns = Convert<Longs>(two[0]), two_rows = Convert<Longs>(two[1]);
    const Doubles r0 = e0.at + e0.per_column, r1 = e1.at + e1.per_column, r2 = e2.at + e2.per_column;
    bits |= IsCovered(r0, r1, r2) & two_columns & 2;
    bits |= IsCovered(e0.at + e0.per_row, e1.at + e1.per_row, e2.at + e2.per_row) & two_rows & 4;
    bits |= IsCovered(r0 + e0.per_row, r1 + e1.per_row, r2 + e2.per_row) & two_columns & two_rows & 8;
  }
  bits &= area != 0.0;
  return static_cast<unsigned>(bits[0] | bits[1] << 4 | bits[2] << 8 | bits[3] << 12);
}

// ---- all others, picture by picture

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

// Draws the triangle v.
template <typename Wide>
__attribute__((noinline)) void DrawInBox(const int32_t* v, int32_t id, const Box& box, int width,
                                         const Picture& picture) {
  Wide x[3], y[3];
  for (int k = 0; k < 3; ++k) {  // In fixed point, cut towards zero.
    x[k] = static_cast<Wide>(picture.screen[v[k]].x * static_cast<float>(kOne));
    y[k] = static_cast<Wide>(picture.screen[v[k]].y * static_cast<float>(kOne));
  }
  const Wide px = static_cast<Wide>(box.left) * kOne + kHalf, py = static_cast<Wide>(box.bottom) * kOne + kHalf;
  Edge<Wide> e0(px, py, x[1], y[1], x[2], y[2]), e1(px, py, x[2], y[2], x[0], y[0]), e2(px, py, x[0], y[0], x[1], y[1]);
  const Wide area = e0.at + e1.at + e2.at;  // Doubled, wherever the pixel is. A centre is covered if no part of it is
  if (area < 0) {                           // of the other sign.
    e0.Negate();
    e1.Negate();
    e2.Negate();
  }
  if (area == 0) return;
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

// Largest coordinate of three corners; written so that what is not a number is larger than all.
INLINE float LargestCoordinate(const Picture& picture, const int32_t* v) {
  float largest = 0.0f;
  for (int k = 0; k < 3; ++k) {
    for (const float value : {picture.screen[v[k]].x, picture.screen[v[k]].y}) {
      if (!(std::fabs(value) <= largest)) largest = std::fabs(value);
      if (!(largest <= kMaxPixel)) return largest;
    }
  }
  return largest;
}

INLINE void DrawLarge(const int32_t* v, int32_t id, const Box& box, int width, const Picture& picture) {
  const float largest = LargestCoordinate(picture, v);
  if (largest <= kMaxFastPixel) {
    DrawInBox<int64_t>(v, id, box, width, picture);
  } else if (largest <= kMaxPixel) {
    DrawInBox<__int128>(v, id, box, width, picture);
  }
}

// A triangle to be drawn. Some are gathered first, so that their corners are on the way from memory meanwhile.
struct Found {
  int32_t id;
  int16_t picture;
  int16_t left, right, bottom, top;  // Right is less than left: the pixel (bottom, left) is known to be covered.
};
constexpr int kMaxFound = 64;

INLINE void DrawAll(const Found* found, int count, const int32_t* triangles, int width, const Picture* pictures) {
  for (int i = 0; i < count; ++i) {
    const Found& f = found[i];
    const int32_t* v = triangles + 3 * static_cast<int64_t>(f.id);
    const Picture& picture = pictures[f.picture];
    if (f.right < f.left) {
      const Corners corners(picture, v);
      if (corners.area != 0.0f) DrawPixel(corners, f.id, f.left, f.bottom, width, picture);
    } else {
      DrawLarge(v, f.id, {f.left, f.right, f.bottom, f.top}, width, picture);
    }
  }
}

// ---- four numbers at once: of a point, a colour, or a triangle's corners

typedef float Four __attribute__((vector_size(16)));

INLINE Four LoadThree(const float* values) { return Four{values[0], values[1], values[2], 0.0f}; }
INLINE void StoreThree(float* out, Four value) {
  for (int k = 0; k < 3; ++k) out[k] = value[k];
}
INLINE Four Repeat(float value) { return Four{value, value, value, value}; }
// In this order, as everywhere.
INLINE float SumOfThree(Four value) { return value[0] + value[1] + value[2]; }

// |w| at least kMinW, keeping its sign.
INLINE float SafeW(float w) {
  if (std::fabs(w) >= kMinW) return w;
  return w < 0.0f ? -kMinW : kMinW;
}

inline float ToFloat(double x) {
  constexpr double kLimit = std::numeric_limits<float>::max();
  return static_cast<float>(std::min(std::max(x, -kLimit), kLimit));
}

// Perspective-correct weights of one pixel, of the three corners of its triangle.
struct Weights {
  const int32_t* vertex;
  Four per_w;       // 1 / w, with w bounded away from 0.
  Four p;           // Corrected weights.
  float total;      // Sum of b / w.
  float scale;      // What they are divided by: max(total, kMinW).
  float per_scale;  // 1 / scale
  float alpha;
  float doubled;    // Twice the sum of p; alpha is this, clipped to [0, 1].
};

INLINE bool IsDrawn(const float* b) { return (b[0] != 0.0f) | (b[1] != 0.0f) | (b[2] != 0.0f); }

INLINE Weights CorrectWeights(const Interpolation& input, int64_t pixel) {
  Weights out;
  const int32_t* const v = input.triangles + 3 * static_cast<int64_t>(input.triangle_ids[pixel]);
  out.vertex = v;
  out.per_w = 1.0f / Four{SafeW(input.clip_w[v[0]]), SafeW(input.clip_w[v[1]]), SafeW(input.clip_w[v[2]]), 1.0f};
  const Four p = LoadThree(input.barycentric + 3 * pixel) * out.per_w;
  out.total = SumOfThree(p);
  out.scale = std::max(out.total, kMinW);
  out.per_scale = 1.0f / out.scale;
  out.p = p * out.per_scale;
  out.doubled = SumOfThree(2.0f * out.p);
  out.alpha = std::min(std::max(out.doubled, 0.0f), 1.0f);
  return out;
}

INLINE bool IsIdValid(const Interpolation& input, int64_t pixel) {
  const int32_t id = input.triangle_ids[pixel];
  return id >= 0 && id < input.triangle_count;
}

// Asks for what pixels further on will need: dense meshes are read in scattered places.
INLINE void Prefetch(const Interpolation& input, int64_t pixel) {
  constexpr int64_t kFar = 16, kNear = 8;
  const int64_t pixels = input.width * input.height;
  if (pixel + kFar >= pixels) return;
  if (IsIdValid(input, pixel + kFar)) {
    __builtin_prefetch(input.triangles + 3 * static_cast<int64_t>(input.triangle_ids[pixel + kFar]));
  }
  if (!IsIdValid(input, pixel + kNear)) return;
  const int32_t* const v = input.triangles + 3 * static_cast<int64_t>(input.triangle_ids[pixel + kNear]);
  for (int k = 0; k < 3; ++k) {
    __builtin_prefetch(input.attributes + v[k] * input.channels);
    __builtin_prefetch(input.clip_w + v[k]);
  }
}

// Up to three channels from `first` on: where they are, what the background holds there, and the image's bound.
template <int kCount>
struct Channels {
  int64_t first;
  Four background;
  float clip_to;

  INLINE Channels(const Interpolation& input, int64_t first)
      : first(first), background(first < input.channels ? Load(input.background + first) : Repeat(0.0f)),
        clip_to(input.clip_to) {}

  static INLINE Four Load(const float* values) {
    return kCount == 3 ? LoadThree(values) : Four{values[0], 0.0f, 0.0f, 0.0f};
  }
  static INLINE void Store(float* out, Four value) {
    for (int c = 0; c < kCount; ++c) out[c] = value[c];
  }
  // Attributes of corner k.
  INLINE Four Of(const Interpolation& input, const Weights& s, int k) const {
    return Load(input.attributes + s.vertex[k] * input.channels + first);
  }
  // What `shown` becomes in the image, and where it is not changed.
  INLINE Four Clip(Four shown) const {
    if (clip_to == 0.0f) return shown;
    const Four above = shown > 0.0f ? shown : Repeat(0.0f);
    return above < clip_to ? above : Repeat(clip_to);
  }
  INLINE Four Pass(Four shown, Four df) const {
    if (clip_to == 0.0f) return df;
    const Four lower = shown >= 0.0f ? df : Repeat(0.0f);
    return shown <= clip_to ? lower : Repeat(0.0f);
  }
};

template <int kCount>
INLINE void InterpolateDrawn(const Interpolation& input, const Weights& s, const Channels<kCount>& channels,
                             float* out) {
  const Four value = s.p[0] * channels.Of(input, s, 0) + s.p[1] * channels.Of(input, s, 1) +
                     s.p[2] * channels.Of(input, s, 2);
  channels.Store(out + channels.first, channels.Clip(s.alpha * value + (1.0f - s.alpha) * channels.background));
}

template <int kCount>
INLINE void InterpolateNothing(const Channels<kCount>& channels, float* out) {
  channels.Store(out + channels.first, channels.Clip(channels.background));
}

// Any number of channels.
INLINE void InterpolateDrawn(const Interpolation& input, const Weights& s, const Channels<1>&, float* out) {
  int64_t c = 0;
  for (; c + 3 <= input.channels; c += 3) InterpolateDrawn<3>(input, s, Channels<3>(input, c), out);
  for (; c < input.channels; ++c) InterpolateDrawn<1>(input, s, Channels<1>(input, c), out);
}
INLINE void InterpolateNothing(const Interpolation& input, const Channels<1>&, float* out) {
  for (int64_t c = 0; c < input.channels; ++c) InterpolateNothing<1>(Channels<1>(input, c), out);
}
INLINE void InterpolateNothing(const Interpolation&, const Channels<3>& three, float* out) {
  InterpolateNothing<3>(three, out);
}

// kCount: 3 for three channels, 1 for any number.
template <int kCount>
INLINE int64_t InterpolateChannels(const Interpolation& input, int64_t first, int64_t last, float* image,
                                   float* alphas) {
  const Channels<kCount> channels(input, 0);
  for (int64_t row = first; row < last; ++row) {
    int64_t place = input.Start(row);
    for (int64_t pixel = row * input.width; pixel < (row + 1) * input.width; ++pixel, ++place) {
      float* const out = image + place * input.channels;
      Prefetch(input, pixel);
      if (IsDrawn(input.barycentric + 3 * pixel)) {
        if (!IsIdValid(input, pixel)) return pixel;
        const Weights s = CorrectWeights(input, pixel);
        alphas[place] = s.alpha;
        InterpolateDrawn(input, s, channels, out);
      } else {
        alphas[place] = 0.0f;
        InterpolateNothing(input, channels, out);
      }
    }
  }
  return -1;
}

// Adds the share of kCount channels to what a drawn pixel passes on: to its corrected weights, `dp`, and its alpha.
// `dvalue`: gradient of the interpolated attributes.
template <int kCount>
INLINE void AddChannels(const Interpolation& input, const Weights& s, const float* df_dimage,
                        const Channels<kCount>& channels, const InterpolationGradient& gradient, Four* dp,
                        float* dalpha, Four* dvalue) {
  const Four values[3] = {channels.Of(input, s, 0), channels.Of(input, s, 1), channels.Of(input, s, 2)};
  const Four value = s.p[0] * values[0] + s.p[1] * values[1] + s.p[2] * values[2];
  const Four shown = s.alpha * value + (1.0f - s.alpha) * channels.background;
  const Four df = channels.Pass(shown, channels.Load(df_dimage + channels.first));
  *dvalue = s.alpha * df;
  const Four through_alpha = df * (value - channels.background);
  for (int c = 0; c < kCount; ++c) {
    *dalpha += through_alpha[c];
    *dp += (*dvalue)[c] * Four{values[0][c], values[1][c], values[2][c], 0.0f};
    if (s.alpha != 1.0f) gradient.df_dbackground[channels.first + c] += (1.0f - s.alpha) * df[c];
  }
}

// The last step of a drawn pixel: what its barycentric weights get; returns that of the fourth clip coordinates.
INLINE Four AddWeights(const Weights& s, Four dp, float dalpha, float* df_dbarycentric) {
  if (s.doubled >= 0.0f && s.doubled <= 1.0f) dp += 2.0f * dalpha;
  const float through_sum = s.total >= kMinW ? SumOfThree(dp * s.p) : 0.0f;
  const Four df_db = (dp - through_sum) * s.per_scale * s.per_w;
  StoreThree(df_dbarycentric, df_db);
  return df_db * s.p * s.scale;
}

INLINE bool IsFree(float w) { return std::fabs(w) >= kMinW; }

// One drawn pixel of three channels. gradient.sums [vertex_count, 4]: of the three channels and the clip coordinate.
INLINE void AddPixel(const Interpolation& input, const Weights& s, const float* df_dimage, float dalpha,
                     const Channels<3>& channels, const InterpolationGradient& gradient, float* df_dbarycentric) {
  Four dp = Repeat(0.0f), dvalue;
  AddChannels(input, s, df_dimage, channels, gradient, &dp, &dalpha, &dvalue);
  const Four dw = AddWeights(s, dp, dalpha, df_dbarycentric);
  for (int k = 0; k < 3; ++k) {
    const Four share = s.p[k] * dvalue;
    const float of_w = IsFree(input.clip_w[s.vertex[k]]) ? -dw[k] : 0.0f;
    Four sum;
    float* const at = gradient.sums + 4 * static_cast<int64_t>(s.vertex[k]);
    std::memcpy(&sum, at, sizeof(sum));
    sum += Four{share[0], share[1], share[2], of_w};
    std::memcpy(at, &sum, sizeof(sum));
  }
}

template <int kCount>
INLINE void AddAttributes(const Interpolation& input, const Weights& s, const float* df_dimage, int64_t first,
                          const InterpolationGradient& gradient, Four* dp, float* dalpha) {
  Four dvalue;
  AddChannels(input, s, df_dimage, Channels<kCount>(input, first), gradient, dp, dalpha, &dvalue);
  for (int k = 0; k < 3; ++k) {
    float* const out = gradient.df_dattributes + s.vertex[k] * input.channels + first;
    for (int c = 0; c < kCount; ++c) out[c] += s.p[k] * dvalue[c];
  }
}

// One drawn pixel of any number of channels.
INLINE void AddPixel(const Interpolation& input, const Weights& s, const float* df_dimage, float dalpha,
                     const Channels<1>&, const InterpolationGradient& gradient, float* df_dbarycentric) {
  Four dp = Repeat(0.0f);
  int64_t c = 0;
  for (; c + 3 <= input.channels; c += 3) AddAttributes<3>(input, s, df_dimage, c, gradient, &dp, &dalpha);
  for (; c < input.channels; ++c) AddAttributes<1>(input, s, df_dimage, c, gradient, &dp, &dalpha);
  const Four dw = AddWeights(s, dp, dalpha, df_dbarycentric);
  for (int k = 0; k < 3; ++k) {
    if (IsFree(input.clip_w[s.vertex[k]])) gradient.df_dclip_w[s.vertex[k]] -= dw[k];
  }
}

// A pixel where nothing is drawn.
inline void AddBackgroundGradient(const Interpolation& input, const float* df_dimage, double* df_dbackground) {
  for (int64_t c = 0; c < input.channels; ++c) {
    const float shown = input.background[c];
    if (input.clip_to == 0.0f || (shown >= 0.0f && shown <= input.clip_to)) df_dbackground[c] += df_dimage[c];
  }
}

template <int kCount>
INLINE int64_t PixelsGradient(const Interpolation& input, const InterpolationGradient& gradient) {
  const Channels<kCount> channels(input, 0);
  for (int64_t row = 0; row < input.height; ++row) {
    int64_t place = input.Start(row);
    for (int64_t pixel = row * input.width; pixel < (row + 1) * input.width; ++pixel, ++place) {
      const float* df_dimage = gradient.df_dimage + place * input.channels;
      float* const df_dbarycentric = gradient.df_dbarycentric + 3 * pixel;
      Prefetch(input, pixel);
      if (!IsDrawn(input.barycentric + 3 * pixel)) {
        AddBackgroundGradient(input, df_dimage, gradient.df_dbackground);
        StoreThree(df_dbarycentric, Repeat(0.0f));
        continue;
      }
      if (!IsIdValid(input, pixel)) return pixel;
      const Weights s = CorrectWeights(input, pixel);
      AddPixel(input, s, df_dimage, gradient.df_dalphas[place], channels, gradient, df_dbarycentric);
    }
  }
  return -1;
}

// A row-major 4x4 matrix for column vectors, taken apart.
struct Matrix {
  Four columns[4], rows[4];

  INLINE explicit Matrix(const float* m) {
    for (int i = 0; i < 4; ++i) {
      columns[i] = Four{m[i], m[4 + i], m[8 + i], m[12 + i]};
      rows[i] = Four{m[4 * i], m[4 * i + 1], m[4 * i + 2], m[4 * i + 3]};
    }
  }
  INLINE Four Clip(const float* point) const {
    return columns[0] * point[0] + columns[1] * point[1] + columns[2] * point[2] + columns[3];
  }
};

}  // namespace

FOR_EACH_PROCESSOR
void ProjectVertices(const float* vertices, int64_t count, const float* matrix, float* device, float* clip_w) {
  const Matrix m(matrix);
  for (int64_t i = 0; i < count; ++i) {
    const Four clip = m.Clip(vertices + 3 * i);
    StoreThree(device + 3 * i, clip / SafeW(clip[3]));
    clip_w[i] = clip[3];
  }
}

FOR_EACH_PROCESSOR
void ProjectGradient(const float* vertices, int64_t count, const float* matrix, const float* df_ddevice,
                     const float* df_dclip_w, float* df_dvertices, float* df_dmatrix) {
  Doubles sums[4] = {};
  const Matrix m(matrix);
  for (int64_t i = 0; i < count; ++i) {
    const float* df = df_ddevice + 3 * i;
    float* out = df_dvertices + 3 * i;
    if ((df[0] == 0.0f) & (df[1] == 0.0f) & (df[2] == 0.0f) & (df_dclip_w[i] == 0.0f)) {  // Most vertices: not seen.
      out[0] = out[1] = out[2] = 0.0f;
      continue;
    }
    const float* const point = vertices + 3 * i;
    const Four clip = m.Clip(point);
    const float divisor = SafeW(clip[3]);
    Four df_dclip = LoadThree(df) / divisor;
    const Four through_w = df_dclip * (clip / divisor);
    float df_dw = df_dclip_w[i];
    if (divisor == clip[3]) df_dw = df_dw - through_w[0] - through_w[1] - through_w[2];
    df_dclip[3] = df_dw;
    StoreThree(out, m.rows[0] * df_dclip[0] + m.rows[1] * df_dclip[1] + m.rows[2] * df_dclip[2] + m.rows[3] * df_dw);
    const Doubles place = {point[0], point[1], point[2], 1.0};
    for (int r = 0; r < 4; ++r) sums[r] += static_cast<double>(df_dclip[r]) * place;
  }
  for (int k = 0; k < 16; ++k) df_dmatrix[k] = ToFloat(sums[k / 4][k % 4]);
}

FOR_EACH_PROCESSOR
void TransformToScreen(const float* const* vertices, int picture_count, int64_t first, int64_t last, int width,
                       int height, ScreenVertex* const* screen, FixedPlaces* fixed) {
  const double half[2] = {0.5 * width, 0.5 * height};
  const float* v[kPictures];
  Ints2 is_there;
  for (int p = 0; p < kPictures; ++p) {
    v[p] = vertices[p < picture_count ? p : 0];
    is_there[p] = is_there[kPictures + p] = p < picture_count ? -1 : 0;
  }
  const float e = kOutside;
  const Floats2 limit = {e, e, e, e, e, e, e, e};
  for (int64_t i = first; i < last; ++i) {
    Floats pixel[3];
    for (int axis = 0; axis < 3; ++axis) {
      const int64_t at = 3 * i + axis;
      pixel[axis] = Floats{v[0][at], v[1][at], v[2][at], v[3][at]};
      if (axis < 2) pixel[axis] = Convert<Floats>((Convert<Doubles>(pixel[axis]) + 1.0) * half[axis]);
    }
    Floats2 both;
    std::memcpy(&both, pixel, sizeof(both));
    const Floats2 above = both > -limit ? both : -limit;  // Also where it is not a number.
    const Floats2 kept = is_there ? (above < limit ? above : limit) : limit;
    const Ints2 places = Convert<Ints2>(kept * static_cast<float>(kOne));
    std::memcpy(&fixed[i], &places, sizeof(places));
    for (int p = 0; p < picture_count; ++p) screen[p][i] = {pixel[0][p], pixel[1][p], pixel[2][p], 0.0f};
  }
}

FOR_EACH_PROCESSOR
void RasterizeRows(const int32_t* triangles, int64_t triangle_count, const FixedPlaces* fixed,
                   const Picture* pictures, int picture_count, int width, int first_row, int last_row) {
  const int64_t begin = static_cast<int64_t>(first_row) * width;
  const int64_t end = static_cast<int64_t>(last_row) * width;
  const int w = width - 1, bottom = first_row, top = last_row - 1;
  const Ints2 least = {0, 0, 0, 0, bottom, bottom, bottom, bottom}, most = {w, w, w, w, top, top, top, top};
  for (int p = 0; p < picture_count; ++p) {
    std::fill(pictures[p].barycentric + 3 * begin, pictures[p].barycentric + 3 * end, 0.0f);
    std::fill(pictures[p].triangle_ids + begin, pictures[p].triangle_ids + end, 0);
    std::fill(pictures[p].z_buffer + begin, pictures[p].z_buffer + end, 1.0f);
  }
  Found found[kMaxFound];
  int count = 0;
  for (int64_t t = 0; t < triangle_count; ++t) {
    const int32_t* v = triangles + 3 * t;
    Boxes boxes(fixed[v[0]], fixed[v[1]], fixed[v[2]]);
    const Ints2 is_small = boxes.last - boxes.first < 2;
    boxes.first = Most(boxes.first, least);
    boxes.last = Least(boxes.last, most);
    // Most triangles of a dense mesh lie between pixel centres in all pictures and end here.
    const unsigned wanted = ForBoth(boxes.first <= boxes.last);
    if (wanted == 0) continue;
    const unsigned small = ForBoth(is_small) & wanted;
    if (small != 0) {
      unsigned covered = CoveredCentres(fixed[v[0]], fixed[v[1]], fixed[v[2]], boxes);
      while (covered != 0) {
        const int bit = __builtin_ctz(covered), p = bit >> 2;
        covered &= covered - 1;
        if (!(small >> p & 1)) continue;
        const int16_t left = boxes.first[p] + (bit & 1), bottom = boxes.first[kPictures + p] + (bit >> 1 & 1);
        for (int k = 0; k < 3; ++k) __builtin_prefetch(&pictures[p].screen[v[k]]);
        found[count++] = {static_cast<int32_t>(t), static_cast<int16_t>(p), left, -1, bottom, bottom};
      }
    }
    for (unsigned large = wanted & ~small; large != 0; large &= large - 1) {
      const int p = __builtin_ctz(large), q = kPictures + p;
      found[count++] = {static_cast<int32_t>(t), static_cast<int16_t>(p), static_cast<int16_t>(boxes.first[p]),
                        static_cast<int16_t>(boxes.last[p]), static_cast<int16_t>(boxes.first[q]),
                        static_cast<int16_t>(boxes.last[q])};
    }
    if (count <= kMaxFound - 4 * kPictures) continue;
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

FOR_EACH_PROCESSOR
int64_t InterpolateRows(const Interpolation& input, int64_t first, int64_t last, float* image, float* alphas) {
  return input.channels == 3 ? InterpolateChannels<3>(input, first, last, image, alphas)
                             : InterpolateChannels<1>(input, first, last, image, alphas);
}

FOR_EACH_PROCESSOR
int64_t InterpolateGradient(const Interpolation& input, const InterpolationGradient& gradient) {
  const int64_t count = input.vertex_count;
  std::fill(gradient.df_dbackground, gradient.df_dbackground + input.channels, 0.0);
  if (input.channels != 3) {
    std::fill(gradient.df_dclip_w, gradient.df_dclip_w + count, 0.0f);
    std::fill(gradient.df_dattributes, gradient.df_dattributes + input.channels * count, 0.0f);
    return PixelsGradient<1>(input, gradient);
  }
  std::fill(gradient.sums, gradient.sums + 4 * count, 0.0f);
  const int64_t wrong = PixelsGradient<3>(input, gradient);
  for (int64_t i = 0; i < count; ++i) {
    Four sum;
    std::memcpy(&sum, gradient.sums + 4 * i, sizeof(sum));
    StoreThree(gradient.df_dattributes + 3 * i, sum);
    gradient.df_dclip_w[i] = sum[3];
  }
  return wrong;
}

}  // namespace rasterizer
