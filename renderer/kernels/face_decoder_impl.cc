#include "face_decoder_impl.h"

#include <algorithm>
#include <cmath>

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
};
typedef Side<kLanes>::Lanes Lanes;
typedef Side<kLanes>::Stored StoredLanes;

constexpr float kMinSquare = 1e-12f;  // Vectors with a smaller square are not stretched to length 1.
constexpr float kMaxScale = 1e6f;     // 1 / sqrt(kMinSquare)
constexpr int kTileRows = 3 * kTileVertices;

INLINE Lanes Load(const float* row) { return *reinterpret_cast<const StoredLanes*>(row); }
INLINE void Store(float* row, const Lanes& value) { *reinterpret_cast<StoredLanes*>(row) = value; }

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

// ---- the linear model

// The sum of eight numbers of each of `count`: four at once where processors can, always in this order.
INLINE void SumLanes(const float* lanes, int count, float* sums) {
  int i = 0;
#ifdef __SSE__
  for (; i + 4 <= count; i += 4) {
    __m128 half[4];
    for (int j = 0; j < 4; ++j) {
      const float* at = lanes + (i + j) * kLanes;
      half[j] = _mm_add_ps(_mm_loadu_ps(at), _mm_loadu_ps(at + 4));
    }
    _MM_TRANSPOSE4_PS(half[0], half[1], half[2], half[3]);
    _mm_storeu_ps(sums + i, _mm_add_ps(_mm_add_ps(half[0], half[1]), _mm_add_ps(half[2], half[3])));
  }
#endif
  for (; i < count; ++i) {
    const float* v = lanes + i * kLanes;
    sums[i] = ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
  }
}

// The rows of one vertex, [3, columns], times the coefficients [kFaces, columns] -> products [kFaces, 3]. As many faces
// as registers hold.
template <int kFaces>
INLINE void MultiplyVertex(const float* rows, int64_t columns, const float* coefficients, float* products) {
  Lanes sums[kFaces][3];
  for (int f = 0; f < kFaces; ++f) {
    for (int r = 0; r < 3; ++r) sums[f][r] = Lanes{};
  }
  for (int64_t k = 0; k < columns; k += kLanes) {
    // The processor itself does not look beyond a page.
    for (int r = 0; r < 3; ++r) __builtin_prefetch(rows + 6 * columns + 3 * k + r * kLanes);
    const Lanes weights[3] = {Load(rows + k), Load(rows + columns + k), Load(rows + 2 * columns + k)};
    for (int f = 0; f < kFaces; ++f) {
      const Lanes coefficient = Load(coefficients + f * columns + k);
      for (int r = 0; r < 3; ++r) sums[f][r] += weights[r] * coefficient;
    }
  }
  float lanes[kFaces * 3 * kLanes];
  for (int f = 0; f < kFaces; ++f) {
    for (int r = 0; r < 3; ++r) Store(lanes + (3 * f + r) * kLanes, sums[f][r]);
  }
  SumLanes(lanes, 3 * kFaces, products);
}

// sums [kFaces, columns] += rows [kRows, columns], each times the gradient of its value for that face;
// `df` [kRows, kFaces, kLanes] holds each of these numbers in all lanes.
template <int kRows, int kFaces>
INLINE void AddRows(const float* rows, int64_t columns, const float* df, float* sums) {
  for (int64_t k = 0; k < columns; k += kLanes) {
    // Processors do not foresee rows read side by side: the rows after next, in the order of their places.
    for (int i = 0; i < kRows; i += 2) __builtin_prefetch(rows + 2 * kRows * columns + k * kRows + i * kLanes);
    Lanes weights[kRows];
    for (int r = 0; r < kRows; ++r) weights[r] = Load(rows + r * columns + k);
    for (int f = 0; f < kFaces; ++f) {
      Lanes sum = Load(sums + f * columns + k);
      for (int r = 0; r < kRows; ++r) sum += weights[r] * Load(df + (r * kFaces + f) * kLanes);
      Store(sums + f * columns + k, sum);
    }
  }
}

// For some of the faces: coefficients [kFaces, columns], beyond `faces` 0.
template <int kFaces>
INLINE void MultiplyFaces(const Linear& linear, int64_t row, const float* coefficients, int faces, float* values) {
  float products[kFaces * 3];
  MultiplyVertex<kFaces>(linear.basis + row * linear.columns, linear.columns, coefficients, products);
  for (int f = 0; f < std::min(faces, kFaces); ++f) {
    for (int r = 0; r < 3; ++r) values[f * linear.rows + row + r] = products[3 * f + r] + linear.mean[row + r];
  }
}

template <int kRows, int kFaces>
INLINE void AddGroup(const Linear& linear, int64_t row, const float* df_dvalues, int faces, float* sums) {
  float df[kRows * kFaces * kLanes];
  for (int r = 0; r < kRows; ++r) {
    for (int f = 0; f < kFaces; ++f) {
      const float value = f < faces ? df_dvalues[f * linear.rows + row + r] : 0.0f;
      for (int lane = 0; lane < kLanes; ++lane) df[(r * kFaces + f) * kLanes + lane] = value;
    }
  }
  AddRows<kRows, kFaces>(linear.basis + row * linear.columns, linear.columns, df, sums);
}

template <int kRows>
INLINE void AddGroups(const Linear& linear, Faces faces, int64_t row, const float* df_dvalues, float* sums) {
  for (int64_t g = 0; g < faces.Groups(); ++g) {  // The rows stay in the nearest cache.
    const float* df = df_dvalues + g * kLanes * linear.rows;
    float* group = sums + g * kLanes * linear.columns;
    const int lanes = faces.Lanes(g);
    if (lanes == 1) {
      AddGroup<kRows, 1>(linear, row, df, lanes, group);
    } else if (lanes <= 4) {
      AddGroup<kRows, 4>(linear, row, df, lanes, group);
    } else {
      AddGroup<kRows, kLanes>(linear, row, df, lanes, group);
    }
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

FOR_EACH_PROCESSOR
void LinearRows(const Linear& linear, Faces faces, const float* coefficients, int64_t first, int64_t last,
                float* values) {
  for (int64_t row = first; row < last; row += 3) {
    if (faces.batch == 1) {
      MultiplyFaces<1>(linear, row, coefficients, 1, values);
      continue;
    }
    for (int64_t f = 0; f < faces.batch; f += 4) {  // The rows stay in the nearest cache.
      MultiplyFaces<4>(linear, row, coefficients + f * linear.columns, static_cast<int>(faces.batch - f),
                       values + f * linear.rows);
    }
  }
}

FOR_EACH_PROCESSOR
void LinearRowsGradient(const Linear& linear, Faces faces, const float* df_dvalues, int64_t first, int64_t last,
                        float* sums) {
  std::fill(sums, sums + faces.Groups() * kLanes * linear.columns, 0.0f);
  int64_t row = first;
  for (; row + 4 <= last; row += 4) AddGroups<4>(linear, faces, row, df_dvalues, sums);
  for (; row < last; ++row) AddGroups<1>(linear, faces, row, df_dvalues, sums);
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
