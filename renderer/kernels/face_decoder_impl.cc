#include "face_decoder_impl.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include "processors.h"

namespace face_decoder {

namespace {

// As many floats as lie side by side, in registers and anywhere in memory.
template <int kWidth>
struct Side;
template <>
struct Side<4> {
  typedef float Lanes __attribute__((vector_size(16)));
  typedef float Stored __attribute__((vector_size(16), aligned(4), may_alias));
};
template <>
struct Side<8> {
  typedef float Lanes __attribute__((vector_size(32)));
  typedef float Stored __attribute__((vector_size(32), aligned(4), may_alias));
  typedef int32_t Integers __attribute__((vector_size(32)));
  typedef uint32_t Bits __attribute__((vector_size(32), aligned(4), may_alias));
};
template <>
struct Side<16> {
  typedef float Lanes __attribute__((vector_size(64)));
  typedef float Stored __attribute__((vector_size(64), aligned(4), may_alias));
  typedef int32_t Integers __attribute__((vector_size(64)));
  typedef uint32_t Bits __attribute__((vector_size(64), aligned(4), may_alias));
};

constexpr float kMinSquare = 1e-12f;  // Vectors with a smaller square are not stretched to length 1.
constexpr float kMaxScale = 1e6f;     // 1 / sqrt(kMinSquare)
constexpr int kTileRows = 3 * kTileVertices;
constexpr int kTileColumns = 80;  // Of a gradient: their sums stay in the nearest cache.

// ---- between [face, vertex, 3] and rows of lanes

// One array [face, vertex, 3] of a group's faces.
template <typename T>
struct Planes {
  T* first;        // of the group's first face
  int64_t stride;  // from face to face
  int lanes;
};

template <typename T>
INLINE Planes<T> PlanesOf(T* array, int64_t vertices, const Group& group) {
  return {array + group.first_face * 3 * vertices, 3 * vertices, group.lanes};
}

// out[j * out_stride + i] = in[i * in_stride + j] for i, j = 0 to 3.
INLINE void Transpose(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
#ifdef __SSE__
  __m128 v[4];
  for (int i = 0; i < 4; ++i) v[i] = _mm_loadu_ps(in + i * in_stride);
  _MM_TRANSPOSE4_PS(v[0], v[1], v[2], v[3]);
  for (int i = 0; i < 4; ++i) _mm_storeu_ps(out + i * out_stride, v[i]);
#else
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) out[j * out_stride + i] = in[i * in_stride + j];
  }
#endif
}

// in [height, width] -> out [width, height], by the strides of their rows.
INLINE void TransposeAll(const float* in, int64_t in_stride, int64_t height, int64_t width, float* out,
                         int64_t out_stride) {
  for (int64_t i = 0; i < height; i += 4) {
    for (int64_t j = 0; j < width; j += 4) {
      if (i + 4 <= height && j + 4 <= width) {
        Transpose(in + i * in_stride + j, in_stride, out + j * out_stride + i, out_stride);
        continue;
      }
      for (int64_t k = i; k < std::min(i + 4, height); ++k) {
        for (int64_t l = j; l < std::min(j + 4, width); ++l) out[l * out_stride + k] = in[k * in_stride + l];
      }
    }
  }
}

// Vertices of the tile that starts with vertex `start`.
INLINE int TileSize(int64_t start, int64_t vertices) {
  return static_cast<int>(std::min<int64_t>(kTileVertices, vertices - start));
}

// ---- the linear model, with kWidth rows side by side: a part of a line, or half of it

template <int kWidth>
struct Model {
  typedef typename Side<kWidth>::Lanes Lanes;
  typedef typename Side<kWidth>::Stored StoredLanes;
  typedef typename Side<kWidth>::Integers Integers;
  typedef typename Side<kWidth>::Bits Bits;

  static INLINE Lanes Load(const float* row) { return *reinterpret_cast<const StoredLanes*>(row); }
  static INLINE void Store(float* row, const Lanes& value) { *reinterpret_cast<StoredLanes*>(row) = value; }

  // Numbers of one part of a line. `line` may start at its middle, for the second half of them.
  static INLINE Lanes WeightsOf(const int32_t* line, int part) {
    const Bits first = *reinterpret_cast<const Bits*>(line), second = *reinterpret_cast<const Bits*>(line + kPartRows);
    const Bits bits = part == 0 ? first : part == 1 ? second : first << 21 | second << 21 >> 11;
    return Convert<Lanes>(reinterpret_cast<Integers>(bits));
  }

  // Parts [kPart, kPart + kParts) of one block: coefficients [columns, kFaces] -> values of each.
  template <int kFaces, int kPart, int kParts>
  static INLINE void MultiplyParts(const Linear& linear, const int32_t* line, const float* coefficients,
                                   float (*values)[kBlockRows]) {
    Lanes sums[kFaces][kParts] = {};
    const int64_t ahead = 2 * linear.columns * kLine;
    for (int64_t k = 0; k < linear.columns; ++k, line += kLine, coefficients += kFaces) {
      if (kPart == 0) __builtin_prefetch(line + ahead, 0, 2);
      if (kPart + kParts == 3) __builtin_prefetch(line + kPartRows + ahead, 0, 2);
      Lanes weights[kParts];
      for (int r = 0; r < kParts; ++r) weights[r] = WeightsOf(line, kPart + r);
      for (int f = 0; f < kFaces; ++f) {
        for (int r = 0; r < kParts; ++r) sums[f][r] += weights[r] * coefficients[f];
      }
    }
    for (int f = 0; f < kFaces; ++f) {
      for (int r = 0; r < kParts; ++r) Store(values[f] + (kPart + r) * kPartRows, sums[f][r]);
    }
  }

  // values [faces, linear.rows] of one block: coefficients [columns, kFaces].
  template <int kFaces>
  static INLINE void MultiplyBlock(const Linear& linear, int64_t block, const float* coefficients, int faces,
                                   float* values) {
    alignas(64) float products[kFaces][kBlockRows];
    for (int half = 0; half < kPartRows; half += kWidth) {
      const int32_t* const line = linear.basis + block * linear.columns * kLine + half;
      float (*const here)[kBlockRows] = reinterpret_cast<float (*)[kBlockRows]>(products[0] + half);
      if (kFaces == 8 && kWidth == 8) {  // As many sums at once as registers hold.
        MultiplyParts<kFaces, 0, 1>(linear, line, coefficients, here);
        MultiplyParts<kFaces, 1, 1>(linear, line, coefficients, here);
        MultiplyParts<kFaces, 2, 1>(linear, line, coefficients, here);
      } else {
        MultiplyParts<kFaces, 0, 3>(linear, line, coefficients, here);
      }
    }
    const int64_t row = block * kBlockRows, there = std::min<int64_t>(kBlockRows, linear.rows - row);
    for (int f = 0; f < faces; ++f) {
      float* const out = values + f * linear.rows + row;
      if (there == kBlockRows) {
        for (int i = 0; i < kBlockRows; i += kWidth) Store(out + i, Load(products[f] + i) + Load(linear.mean + row + i));
      } else {
        for (int i = 0; i < there; ++i) out[i] = products[f][i] + linear.mean[row + i];
      }
    }
  }

  // The gradient of a block's rows, ready for its integers: [kFaces, kBlockRows], of which `faces` are there.
  static INLINE void LoadBlock(const Linear& linear, int64_t block, const float* df_dvalues, int faces, float* df) {
    const int64_t row = block * kBlockRows, there = std::min<int64_t>(kBlockRows, linear.rows - row);
    for (int f = 0; f < faces; ++f, df += kBlockRows) {
      const float* const from = df_dvalues + f * linear.rows + row;
      if (there == kBlockRows) {
        for (int i = 0; i < kBlockRows; i += kWidth) Store(df + i, Load(from + i) * (1.0f / kIntegers));
      } else {
        for (int i = 0; i < kBlockRows; ++i) df[i] = i < there ? from[i] * (1.0f / kIntegers) : 0.0f;
      }
    }
  }

  // sums [kColumns, kFaces, kPartRows] += the share of as many lines.
  template <int kFaces, int kColumns>
  static INLINE void AddLines(const int32_t* line, const float* df, float* sums) {
    Lanes weights[kColumns][3];
    for (int k = 0; k < kColumns; ++k) {
      for (int r = 0; r < 3; ++r) weights[k][r] = WeightsOf(line + k * kLine, r);
    }
    for (int f = 0; f < kFaces; ++f) {
      const float* const at = df + f * kBlockRows;
      const Lanes of[3] = {Load(at), Load(at + kPartRows), Load(at + 2 * kPartRows)};
      for (int k = 0; k < kColumns; ++k) {
        float* const sum = sums + (k * kFaces + f) * kPartRows;
        Store(sum, Load(sum) + (weights[k][0] * of[0] + weights[k][1] * of[1] + weights[k][2] * of[2]));
      }
    }
  }

  // Columns [begin, end) of the gradient, for blocks [first, last) and up to kFaces faces: sums [faces, columns].
  template <int kFaces>
  static INLINE void GradientOfColumns(const Linear& linear, int64_t begin, int64_t end, int64_t first, int64_t last,
                                       const float* df_dvalues, int faces, float* sums) {
    alignas(64) float lanes[kTileColumns * kFaces * kPartRows];
    std::fill(lanes, lanes + (end - begin) * kFaces * kPartRows, 0.0f);
    alignas(64) float df[kFaces * kBlockRows] = {0.0f};
    const int64_t ahead = 2 * linear.columns * kLine;
    for (int64_t block = first; block < last; ++block) {
      LoadBlock(linear, block, df_dvalues, faces, df);
      for (int half = 0; half < kPartRows; half += kWidth) {
        const int32_t* line = linear.basis + (block * linear.columns + begin) * kLine + half;
        float* sum = lanes + half;
        int64_t k = begin;
        for (; k + 2 <= end; k += 2, line += 2 * kLine, sum += 2 * kFaces * kPartRows) {
          for (int i = 0; i < 4; ++i) __builtin_prefetch(line + ahead + i * kPartRows, 0, 2);
          AddLines<kFaces, 2>(line, df + half, sum);
        }
        if (k < end) AddLines<kFaces, 1>(line, df + half, sum);
      }
    }
    for (int64_t k = begin; k < end; ++k) {
      for (int f = 0; f < faces; ++f) {
        const float* const v = lanes + ((k - begin) * kFaces + f) * kPartRows;
        float sum = 0.0f;
        for (int i = 0; i < kPartRows; ++i) sum += v[i];
        sums[f * linear.columns + k] = sum;
      }
    }
  }

  static INLINE void Blocks(const Linear& linear, Faces faces, const float* coefficients, int64_t first, int64_t last,
                            float* values) {
    const int width = faces.batch == 1 ? 1 : faces.Width();
    for (int64_t block = first; block < last; ++block) {
      for (int64_t g = 0; g < faces.Groups(); ++g) {  // The block stays in the nearest cache.
        const float* const of = coefficients + g * linear.columns * width;
        float* const out = values + g * width * linear.rows;
        if (width == 1) {
          MultiplyBlock<1>(linear, block, of, 1, out);
        } else if (width == 4) {
          MultiplyBlock<4>(linear, block, of, faces.Lanes(g), out);
        } else {
          MultiplyBlock<8>(linear, block, of, faces.Lanes(g), out);
        }
      }
    }
  }

  static INLINE void Gradient(const Linear& linear, Faces faces, const float* df_dvalues, int64_t first, int64_t last,
                              float* sums) {
    for (int64_t begin = 0; begin < linear.columns; begin += kTileColumns) {
      const int64_t end = std::min<int64_t>(begin + kTileColumns, linear.columns);
      for (int64_t g = 0; g < faces.Groups(); ++g) {
        const float* const df = df_dvalues + g * faces.Width() * linear.rows;
        float* const out = sums + g * faces.Width() * linear.columns;
        if (faces.batch == 1) {
          GradientOfColumns<1>(linear, begin, end, first, last, df, 1, out);
        } else if (faces.Width() == 4) {
          GradientOfColumns<4>(linear, begin, end, first, last, df, faces.Lanes(g), out);
        } else {
          GradientOfColumns<8>(linear, begin, end, first, last, df, faces.Lanes(g), out);
        }
      }
    }
  }
};

// ---- pose

// Three by three.
INLINE void Multiply(const double* a, const double* b, double* out) {
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) out[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
  }
}
INLINE void Transposed(const double* a, double* out) {
  for (int i = 0; i < 9; ++i) out[i] = a[i % 3 * 3 + i / 3];
}

// The turn of row vectors about one axis; its derivative: along = 0, sine for cosine.
INLINE void TurnAbout(int axis, double along, double sine, double cosine, double* out) {
  const int j = (axis + 1) % 3, k = (axis + 2) % 3;
  std::fill(out, out + 9, 0.0);
  out[4 * axis] = along;
  out[4 * j] = out[4 * k] = cosine;
  out[3 * j + k] = sine;
  out[3 * k + j] = -sine;
}

// The light of one channel before the pose: kTerms numbers.
INLINE void TermsOf(const PoseModel& model, const float* lighting, double* terms) {
  std::fill(terms, terms + kTerms, 0.0);
  for (int h = 0; h < kHarmonics; ++h) {
    const double weight = static_cast<double>(lighting[h]) + (h == 0 ? model.ambient : 0.0);
    for (int i = 0; i < kTerms; ++i) terms[i] += weight * model.harmonics[h * kTerms + i];
  }
}

// ---- shading, with kWidth faces side by side

template <int kWidth>
struct Shading {
  typedef typename Side<kWidth>::Lanes Lanes;
  typedef typename Side<kWidth>::Stored StoredLanes;

  static INLINE Lanes Load(const float* row) { return *reinterpret_cast<const StoredLanes*>(row); }
  static INLINE void Store(float* row, const Lanes& value) { *reinterpret_cast<StoredLanes*>(row) = value; }

  struct Vector {
    Lanes x, y, z;

    friend INLINE Vector operator+(const Vector& a, const Vector& b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
    friend INLINE Vector operator-(const Vector& a, const Vector& b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
    friend INLINE Vector operator*(const Vector& a, const Lanes& s) { return {a.x * s, a.y * s, a.z * s}; }
  };

  static INLINE Vector LoadVector(const float* rows) {
    return {Load(rows), Load(rows + kWidth), Load(rows + 2 * kWidth)};
  }
  static INLINE void StoreVector(float* rows, const Vector& v) {
    Store(rows, v.x);
    Store(rows + kWidth, v.y);
    Store(rows + 2 * kWidth, v.z);
  }
  static INLINE Lanes Dot(const Vector& a, const Vector& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
  static INLINE Vector Cross(const Vector& a, const Vector& b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
  }

  static INLINE Lanes SquareRoot(const Lanes& x) {
    Lanes root = x;
    for (int lane = 0; lane < kWidth; ++lane) root[lane] = std::sqrt(root[lane]);  // One instruction or two in the end.
    return root;
  }

  // What makes a vector of that square a unit vector; at most kMaxScale.
  static INLINE Lanes UnitScale(const Lanes& square) {
    const Lanes least = square - square + kMinSquare;
    return 1.0f / SquareRoot(square > kMinSquare ? square : least);
  }

  static INLINE void StoreUnit(float* rows, const Vector& v, const Lanes& scale) {
    StoreVector(rows, v * scale);
    Store(rows + 3 * kWidth, scale);
  }

  // Gradient with respect to v of unit = v * UnitScale(v . v), stored by StoreUnit, given that with respect to unit.
  static INLINE Vector UnitGradient(const float* rows, const Vector& df) {
    const Vector unit = LoadVector(rows);
    const Lanes scale = Load(rows + 3 * kWidth);
    const Lanes along = scale < kMaxScale ? Dot(df, unit) : scale - scale;
    return (df - unit * along) * scale;
  }

  // `count` numbers of each face from place `start` on -> rows [count, kWidth]. Lanes without a face are not touched.
  static INLINE void LoadRows(const Planes<const float>& planes, int64_t start, int64_t count, float* rows) {
    TransposeAll(planes.first + start, planes.stride, planes.lanes, count, rows, kWidth);
  }

  static INLINE void StoreRows(const float* rows, int64_t start, int64_t count, const Planes<float>& planes) {
    TransposeAll(rows, kWidth, count, planes.lanes, planes.first + start, planes.stride);
  }

  // Rows of one tile; starts as zeros.
  struct Tile {
    float rows[kTileRows * kWidth] = {0.0f};

    float* Of(int vertex) { return rows + 3 * vertex * kWidth; }
  };

  // ---- light

  struct Monomials {
    Lanes values[kMonomials];
  };

  static INLINE Monomials MonomialsOf(const Vector& n) {
    return {{Lanes{} + 1.0f, n.x, n.y, n.z, n.x * n.x, n.y * n.y, n.z * n.z, n.x * n.y, n.y * n.z, n.z * n.x}};
  }

  static INLINE Lanes LightOf(const Monomials& monomials, const float* weights) {
    Lanes sum = Load(weights);
    for (int k = 1; k < kMonomials; ++k) sum += Load(weights + k * kWidth) * monomials.values[k];
    return sum;
  }

  // Gradient of LightOf with respect to the normal.
  static INLINE Vector LightGradient(const Vector& n, const float* weights) {
    Lanes w[kMonomials];
    for (int k = 1; k < kMonomials; ++k) w[k] = Load(weights + k * kWidth);
    return {w[1] + 2.0f * w[4] * n.x + w[7] * n.y + w[9] * n.z, w[2] + 2.0f * w[5] * n.y + w[8] * n.z + w[7] * n.x,
            w[3] + 2.0f * w[6] * n.z + w[9] * n.x + w[8] * n.y};
  }

  // Sum of rows [3] at `width` places of an array whose entries have `entry` rows.
  static INLINE Vector SumOf(const float* rows, int64_t entry, const int32_t* places, int64_t width) {
    Vector sum = LoadVector(rows + places[0] * entry * kWidth);
    for (int64_t i = 1; i < width; ++i) sum = sum + LoadVector(rows + places[i] * entry * kWidth);
    return sum;
  }

  // ---- the steps

  static INLINE void PackShape(const Mesh& mesh, const float* shape, int64_t first, int64_t last, const Group& group) {
    float* rows = group.shape + 3 * first * kWidth;
    if (group.lanes < kWidth) std::fill(rows, group.shape + 3 * last * kWidth, 0.0f);
    const Planes<const float> in = PlanesOf(shape, mesh.vertices, group);
    for (int64_t v = first; v < last; v += kTileVertices) {  // By tiles: the lanes of one place are met soon again.
      LoadRows(in, 3 * v, 3 * std::min<int64_t>(kTileVertices, last - v), group.shape + 3 * v * kWidth);
    }
  }

  static INLINE void TriangleNormals(const Mesh& mesh, int64_t first, int64_t last, const Group& group) {
    for (int64_t t = first; t < last; ++t) {
      Vector v[3];
      for (int k = 0; k < 3; ++k) {
        v[k] = LoadVector(group.shape + 3 * static_cast<int64_t>(mesh.corners[k * mesh.triangles + t]) * kWidth);
      }
      const Vector cross = Cross(v[0] - v[1], v[1] - v[2]);
      StoreUnit(group.triangle_normals + 4 * t * kWidth, cross, UnitScale(Dot(cross, cross)));
    }
  }

  static INLINE void ShadeTiles(const Mesh& mesh, const float* texture, int64_t first, int64_t last, const Group& group,
                  float* normals, float* colors) {
    Tile textures, units, lit_colors;
    for (int64_t t = first; t < last; ++t) {
      const int64_t start = t * kTileVertices;
      const int size = TileSize(start, mesh.lit);
      LoadRows(PlanesOf(texture, mesh.lit, group), 3 * start, 3 * size, textures.rows);
      for (int i = 0; i < size; ++i) {
        const Vector sum = SumOf(group.triangle_normals, 4, mesh.around + (start + i) * mesh.around_width,
                                 mesh.around_width);
        const Lanes scale = UnitScale(Dot(sum, sum));
        const Vector normal = sum * scale;
        StoreUnit(group.vertex_normals + 4 * (start + i) * kWidth, sum, scale);
        StoreVector(units.Of(i), normal);
        const Monomials monomials = MonomialsOf(normal);
        for (int c = 0; c < 3; ++c) {
          const Lanes light = LightOf(monomials, group.light + c * kMonomials * kWidth);
          Store(lit_colors.Of(i) + c * kWidth, Load(textures.Of(i) + c * kWidth) * light);
        }
      }
      if (normals != nullptr) StoreRows(units.rows, 3 * start, 3 * size, PlanesOf(normals, mesh.lit, group));
      StoreRows(lit_colors.rows, 3 * start, 3 * size, PlanesOf(colors, mesh.lit, group));
    }
  }

  static INLINE void ShadeTilesGradient(const ShadeGradient& gradient, int64_t lit, int64_t first, int64_t last,
                                        const Group& group, float* df_dsums, float* df_dlight) {
    std::fill(df_dlight, df_dlight + kLightRows * kWidth, 0.0f);
    Tile textures, df_normals, df_colors, df_textures;
    for (int64_t t = first; t < last; ++t) {
      const int64_t start = t * kTileVertices;
      const int size = TileSize(start, lit);
      LoadRows(PlanesOf(gradient.texture, lit, group), 3 * start, 3 * size, textures.rows);
      if (gradient.df_dnormals != nullptr) {
        LoadRows(PlanesOf(gradient.df_dnormals, lit, group), 3 * start, 3 * size, df_normals.rows);
      }
      LoadRows(PlanesOf(gradient.df_dcolors, lit, group), 3 * start, 3 * size, df_colors.rows);
      for (int i = 0; i < size; ++i) {
        const float* unit = group.vertex_normals + 4 * (start + i) * kWidth;
        const Vector normal = LoadVector(unit);
        const Monomials monomials = MonomialsOf(normal);
        Vector df = LoadVector(df_normals.Of(i));
        for (int c = 0; c < 3; ++c) {
          const float* weights = group.light + c * kMonomials * kWidth;
          const Lanes df_color = Load(df_colors.Of(i) + c * kWidth);
          const Lanes df_light = df_color * Load(textures.Of(i) + c * kWidth);
          Store(df_textures.Of(i) + c * kWidth, df_color * LightOf(monomials, weights));
          df = df + LightGradient(normal, weights) * df_light;
          float* sums = df_dlight + c * kMonomials * kWidth;
          for (int k = 0; k < kMonomials; ++k) {
            Store(sums + k * kWidth, Load(sums + k * kWidth) + df_light * monomials.values[k]);
          }
        }
        StoreVector(df_dsums + 3 * (start + i) * kWidth, UnitGradient(unit, df));
      }
      StoreRows(df_textures.rows, 3 * start, 3 * size, PlanesOf(gradient.df_dtexture, lit, group));
    }
  }

  static INLINE void TriangleNormalsGradient(const Mesh& mesh, const float* df_dsums, int64_t first, int64_t last,
                                             const Group& group, float* df_dcorners) {
    const int64_t plane = 3 * mesh.triangles * kWidth;
    for (int64_t t = first; t < last; ++t) {
      const Vector df = SumOf(df_dsums, 3, mesh.around_back + t * mesh.around_back_width, mesh.around_back_width);
      const Vector df_dcross = UnitGradient(group.triangle_normals + 4 * t * kWidth, df);
      Vector v[3];
      for (int k = 0; k < 3; ++k) {
        v[k] = LoadVector(group.shape + 3 * static_cast<int64_t>(mesh.corners[k * mesh.triangles + t]) * kWidth);
      }
      const Vector of_a = Cross(v[1] - v[2], df_dcross), of_b = Cross(df_dcross, v[0] - v[1]);
      float* out = df_dcorners + 3 * t * kWidth;
      StoreVector(out, of_a);
      StoreVector(out + plane, of_b - of_a);
      StoreVector(out + 2 * plane, Vector{-of_b.x, -of_b.y, -of_b.z});
    }
  }

  static INLINE void ShapeGradientTiles(const Mesh& mesh, const float* df_dcorners, int64_t first, int64_t last,
                                        const Group& group, float* df_dshape) {
    Tile tile;
    for (int64_t t = first; t < last; ++t) {
      const int64_t start = t * kTileVertices;
      const int size = TileSize(start, mesh.vertices);
      for (int i = 0; i < size; ++i) {
        StoreVector(tile.Of(i), SumOf(df_dcorners, 3, mesh.corners_back + (start + i) * mesh.corners_back_width,
                                      mesh.corners_back_width));
      }
      StoreRows(tile.rows, 3 * start, 3 * size, PlanesOf(df_dshape, mesh.vertices, group));
    }
  }
};

}  // namespace

void PackRows(Faces faces, const float* values, int64_t count, float* rows) {
  const int64_t width = faces.Width();
  std::fill(rows, rows + faces.Groups() * count * width, 0.0f);
  for (int64_t face = 0; face < faces.batch; ++face) {
    float* out = rows + face / width * count * width + face % width;
    for (int64_t i = 0; i < count; ++i) out[i * width] = values[face * count + i];
  }
}

// With 512-bit registers, where there are any: the same bits.
#ifdef HAS_WIDE
WIDE static void WideBlocks(const Linear& linear, Faces faces, const float* coefficients, int64_t first, int64_t last,
                            float* values) {
  Model<16>::Blocks(linear, faces, coefficients, first, last, values);
}
WIDE static void WideGradient(const Linear& linear, Faces faces, const float* df_dvalues, int64_t first, int64_t last,
                              float* sums) {
  Model<16>::Gradient(linear, faces, df_dvalues, first, last, sums);
}
#endif

FOR_EACH_PROCESSOR
static void NarrowBlocks(const Linear& linear, Faces faces, const float* coefficients, int64_t first, int64_t last,
                         float* values) {
  Model<8>::Blocks(linear, faces, coefficients, first, last, values);
}
FOR_EACH_PROCESSOR
static void NarrowGradient(const Linear& linear, Faces faces, const float* df_dvalues, int64_t first, int64_t last,
                           float* sums) {
  Model<8>::Gradient(linear, faces, df_dvalues, first, last, sums);
}

void LinearBlocks(const Linear& linear, Faces faces, const float* coefficients, int64_t first, int64_t last,
                  float* values) {
#ifdef HAS_WIDE
  if (IsWide()) return WideBlocks(linear, faces, coefficients, first, last, values);
#endif
  NarrowBlocks(linear, faces, coefficients, first, last, values);
}

void LinearBlocksGradient(const Linear& linear, Faces faces, const float* df_dvalues, int64_t first, int64_t last,
                          float* sums) {
#ifdef HAS_WIDE
  if (IsWide()) return WideGradient(linear, faces, df_dvalues, first, last, sums);
#endif
  NarrowGradient(linear, faces, df_dvalues, first, last, sums);
}

void Turn(const float* angles, double* rotation, double (*derivatives)[9]) {
  double turns[3][9], product[9];
  for (int axis = 0; axis < 3; ++axis) {
    const double angle = angles[axis];
    TurnAbout(axis, 1.0, std::sin(angle), std::cos(angle), turns[axis]);
  }
  Multiply(turns[0], turns[1], product);
  Multiply(product, turns[2], rotation);
  if (derivatives == nullptr) return;
  for (int axis = 0; axis < 3; ++axis) {
    const double angle = angles[axis];
    double changed[9];
    TurnAbout(axis, 0.0, std::cos(angle), -std::sin(angle), changed);
    const double* const of[3] = {axis == 0 ? changed : turns[0], axis == 1 ? changed : turns[1],
                                 axis == 2 ? changed : turns[2]};
    Multiply(of[0], of[1], product);
    Multiply(product, of[2], derivatives[axis]);
  }
}

void Pose(const PoseModel& model, const float* coefficients, float* rotation, float* light, float* projection) {
  double turn[9], back[9];
  Turn(coefficients + model.angles, turn, nullptr);
  Transposed(turn, back);
  std::copy(turn, turn + 9, rotation);
  // The pose turns the few coefficients of the light back, not the many normals.
  for (int c = 0; c < 3; ++c, light += kMonomials) {
    double terms[kTerms], half[9], square[9];
    TermsOf(model, coefficients + model.lighting + c * kHarmonics, terms);
    Multiply(turn, terms + 4, half);
    Multiply(half, back, square);
    light[0] = terms[0];
    for (int i = 0; i < 3; ++i) {
      light[1 + i] = turn[3 * i] * terms[1] + turn[3 * i + 1] * terms[2] + turn[3 * i + 2] * terms[3];
      light[4 + i] = square[4 * i];
      light[7 + i] = 2.0 * square[3 * i + (i + 1) % 3];
    }
  }
  const float* const move = coefficients + model.translation;
  for (int i = 0; i < 4; ++i) {
    const float* const row = model.camera + 4 * i;
    for (int j = 0; j < 3; ++j) {
      projection[4 * i + j] = row[0] * turn[3 * j] + row[1] * turn[3 * j + 1] + row[2] * turn[3 * j + 2];
    }
    projection[4 * i + 3] = static_cast<double>(row[0]) * move[0] + static_cast<double>(row[1]) * move[1] +
                            static_cast<double>(row[2]) * move[2] + row[3];
  }
}

void PoseGradient(const PoseModel& model, const float* coefficients, const float* df_drotation, const float* df_dlight,
                  const float* df_dprojection, float* df_dcoefficients) {
  double turn[9], back[9], derivatives[3][9], df_dturn[9];
  Turn(coefficients + model.angles, turn, derivatives);
  Transposed(turn, back);
  std::copy(df_drotation, df_drotation + 9, df_dturn);
  for (int c = 0; c < 3; ++c, df_dlight += kMonomials) {
    double terms[kTerms], df_dterms[kTerms], df_dsquare[9] = {0.0}, both[9], half[9], product[9];
    TermsOf(model, coefficients + model.lighting + c * kHarmonics, terms);
    for (int i = 0; i < 3; ++i) {
      df_dsquare[4 * i] = df_dlight[4 + i];
      df_dsquare[3 * i + (i + 1) % 3] = 2.0 * df_dlight[7 + i];
    }
    for (int i = 0; i < 9; ++i) both[i] = df_dsquare[i] + df_dsquare[i % 3 * 3 + i / 3];
    Multiply(both, turn, half);
    Multiply(half, terms + 4, product);
    for (int i = 0; i < 9; ++i) df_dturn[i] += product[i] + df_dlight[1 + i / 3] * terms[1 + i % 3];
    df_dterms[0] = df_dlight[0];
    for (int i = 0; i < 3; ++i) {
      df_dterms[1 + i] = back[3 * i] * df_dlight[1] + back[3 * i + 1] * df_dlight[2] + back[3 * i + 2] * df_dlight[3];
    }
    Multiply(back, df_dsquare, half);
    Multiply(half, turn, df_dterms + 4);
    for (int h = 0; h < kHarmonics; ++h) {
      double sum = 0.0;
      for (int i = 0; i < kTerms; ++i) sum += df_dterms[i] * model.harmonics[h * kTerms + i];
      df_dcoefficients[model.lighting + c * kHarmonics + h] += sum;
    }
  }
  for (int k = 0; k < 3; ++k) {
    for (int j = 0; j < 4; ++j) {
      double sum = 0.0;
      for (int i = 0; i < 4; ++i) sum += static_cast<double>(model.camera[4 * i + k]) * df_dprojection[4 * i + j];
      if (j < 3) {
        df_dturn[3 * j + k] += sum;
      } else {
        df_dcoefficients[model.translation + k] += sum;
      }
    }
  }
  for (int axis = 0; axis < 3; ++axis) {
    double sum = 0.0;
    for (int i = 0; i < 9; ++i) sum += df_dturn[i] * derivatives[axis][i];
    df_dcoefficients[model.angles + axis] += sum;
  }
}

void Place(const float* points, int64_t count, const float* angles, const float* translation, float* placed) {
  double exact[9];
  Turn(angles, exact, nullptr);
  float turn[9];
  std::copy(exact, exact + 9, turn);
  for (int64_t i = 0; i < 3 * count; i += 3) {
    for (int j = 0; j < 3; ++j) {
      placed[i + j] = points[i] * turn[j] + points[i + 1] * turn[3 + j] + points[i + 2] * turn[6 + j] + translation[j];
    }
  }
}

void PlaceGradient(const float* points, int64_t count, const float* angles, const float* df_dplaced, float* df_dpoints,
                   float* df_dangles, float* df_dtranslation) {
  double exact[9], derivatives[3][9], df_dturn[9] = {0.0}, df_dmove[3] = {0.0};
  Turn(angles, exact, derivatives);
  float turn[9];
  std::copy(exact, exact + 9, turn);
  for (int64_t i = 0; i < 3 * count; i += 3) {
    const float* const df = df_dplaced + i;
    for (int j = 0; j < 3; ++j) {
      df_dpoints[i + j] = df[0] * turn[3 * j] + df[1] * turn[3 * j + 1] + df[2] * turn[3 * j + 2];
      df_dmove[j] += df[j];
      for (int k = 0; k < 3; ++k) df_dturn[3 * j + k] += static_cast<double>(points[i + j]) * df[k];
    }
  }
  for (int axis = 0; axis < 3; ++axis) {
    double sum = 0.0;
    for (int i = 0; i < 9; ++i) sum += df_dturn[i] * derivatives[axis][i];
    df_dangles[axis] += sum;
    df_dtranslation[axis] += df_dmove[axis];
  }
}

void SumChunks(const float* values, int64_t chunks, int64_t count, double* sums) {
  std::fill(sums, sums + count, 0.0);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    for (int64_t i = 0; i < count; ++i) sums[i] += values[chunk * count + i];
  }
}

FOR_EACH_PROCESSOR
void PackShape(const Mesh& mesh, const float* shape, int64_t first, int64_t last, const Group& group) {
  if (group.width == 4) return Shading<4>::PackShape(mesh, shape, first, last, group);
  Shading<8>::PackShape(mesh, shape, first, last, group);
}

FOR_EACH_PROCESSOR
void TriangleNormals(const Mesh& mesh, int64_t first, int64_t last, const Group& group) {
  if (group.width == 4) return Shading<4>::TriangleNormals(mesh, first, last, group);
  Shading<8>::TriangleNormals(mesh, first, last, group);
}

FOR_EACH_PROCESSOR
void ShadeTiles(const Mesh& mesh, const float* texture, int64_t first, int64_t last, const Group& group,
                float* normals, float* colors) {
  if (group.width == 4) return Shading<4>::ShadeTiles(mesh, texture, first, last, group, normals, colors);
  Shading<8>::ShadeTiles(mesh, texture, first, last, group, normals, colors);
}

FOR_EACH_PROCESSOR
void ShadeTilesGradient(const ShadeGradient& gradient, int64_t lit, int64_t first, int64_t last, const Group& group,
                        float* df_dsums, float* df_dlight) {
  if (group.width == 4) return Shading<4>::ShadeTilesGradient(gradient, lit, first, last, group, df_dsums, df_dlight);
  Shading<8>::ShadeTilesGradient(gradient, lit, first, last, group, df_dsums, df_dlight);
}

FOR_EACH_PROCESSOR
void TriangleNormalsGradient(const Mesh& mesh, const float* df_dsums, int64_t first, int64_t last, const Group& group,
                             float* df_dcorners) {
  if (group.width == 4) return Shading<4>::TriangleNormalsGradient(mesh, df_dsums, first, last, group, df_dcorners);
  Shading<8>::TriangleNormalsGradient(mesh, df_dsums, first, last, group, df_dcorners);
}

FOR_EACH_PROCESSOR
void ShapeGradientTiles(const Mesh& mesh, const float* df_dcorners, int64_t first, int64_t last, const Group& group,
                        float* df_dshape) {
  if (group.width == 4) return Shading<4>::ShapeGradientTiles(mesh, df_dcorners, first, last, group, df_dshape);
  Shading<8>::ShapeGradientTiles(mesh, df_dcorners, first, last, group, df_dshape);
}

}  // namespace face_decoder
