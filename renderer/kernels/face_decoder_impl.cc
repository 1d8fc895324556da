#include "face_decoder_impl.h"

#include <algorithm>
#include <cmath>

#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include "processors.h"

namespace face_decoder {

namespace {

typedef float Lanes __attribute__((vector_size(4 * kLanes)));
typedef float StoredLanes __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

constexpr float kMinSquare = 1e-12f;  // Vectors with a smaller square are not stretched to length 1.
constexpr float kMaxScale = 1e6f;     // 1 / sqrt(kMinSquare)
constexpr int kTileRows = 3 * kTileVertices;

INLINE Lanes Load(const float* row) { return *reinterpret_cast<const StoredLanes*>(row); }
INLINE void Store(float* row, const Lanes& value) { *reinterpret_cast<StoredLanes*>(row) = value; }

struct Vector {
  Lanes x, y, z;
};

INLINE Vector LoadVector(const float* rows) {
  return {Load(rows), Load(rows + kLanes), Load(rows + 2 * kLanes)};
}
INLINE void StoreVector(float* rows, const Vector& v) {
  Store(rows, v.x);
  Store(rows + kLanes, v.y);
  Store(rows + 2 * kLanes, v.z);
}
INLINE Vector operator+(const Vector& a, const Vector& b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
INLINE Vector operator-(const Vector& a, const Vector& b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
INLINE Vector operator*(const Vector& a, const Lanes& s) { return {a.x * s, a.y * s, a.z * s}; }
INLINE Lanes Dot(const Vector& a, const Vector& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
INLINE Vector Cross(const Vector& a, const Vector& b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

INLINE Lanes SquareRoot(const Lanes& x) {
  Lanes root = x;
  for (int lane = 0; lane < kLanes; ++lane) root[lane] = std::sqrt(root[lane]);  // One instruction or two in the end.
  return root;
}

// What makes a vector of that square a unit vector; at most kMaxScale.
INLINE Lanes UnitScale(const Lanes& square) {
  const Lanes least = square - square + kMinSquare;
  const Lanes one = {1, 1, 1, 1, 1, 1, 1, 1};
  return one / SquareRoot(square > kMinSquare ? square : least);
}

INLINE void StoreUnit(float* rows, const Vector& v, const Lanes& scale) {
  StoreVector(rows, v * scale);
  Store(rows + 3 * kLanes, scale);
}

// Gradient with respect to v of unit = v * UnitScale(v . v), stored by StoreUnit, given that with respect to unit.
INLINE Vector UnitGradient(const float* rows, const Vector& df) {
  const Vector unit = LoadVector(rows);
  const Lanes scale = Load(rows + 3 * kLanes);
  const Lanes along = scale < kMaxScale ? Dot(df, unit) : scale - scale;
  return (df - unit * along) * scale;
}

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

// `count` numbers of each face from place `start` on -> rows [count, kLanes]. Lanes without a face are not touched.
INLINE void LoadRows(const Planes<const float>& planes, int64_t start, int64_t count, float* rows) {
  TransposeAll(planes.first + start, planes.stride, planes.lanes, count, rows, kLanes);
}

INLINE void StoreRows(const float* rows, int64_t start, int64_t count, const Planes<float>& planes) {
  TransposeAll(rows, kLanes, count, planes.lanes, planes.first + start, planes.stride);
}

// Rows of one tile; starts as zeros.
struct Tile {
  float rows[kTileRows * kLanes] = {0.0f};

  float* Of(int vertex) { return rows + 3 * vertex * kLanes; }
};

// Vertices of the tile that starts with vertex `start`.
INLINE int TileSize(int64_t start, int64_t vertices) {
  return static_cast<int>(std::min<int64_t>(kTileVertices, vertices - start));
}

// ---- the linear model

// The sum of eight numbers: of four faces at once where processors can, else of each, always in this order.
INLINE void SumLanes(const float* lanes, int faces, float* sums) {
  int f = 0;
#ifdef __SSE__
  for (; f + 4 <= faces; f += 4) {
    __m128 half[4];
    for (int i = 0; i < 4; ++i) {
      const float* face = lanes + (f + i) * kLanes;
      half[i] = _mm_add_ps(_mm_loadu_ps(face), _mm_loadu_ps(face + 4));
    }
    _MM_TRANSPOSE4_PS(half[0], half[1], half[2], half[3]);
    _mm_storeu_ps(sums + f, _mm_add_ps(_mm_add_ps(half[0], half[1]), _mm_add_ps(half[2], half[3])));
  }
#endif
  for (; f < faces; ++f) {
    const float* v = lanes + f * kLanes;
    sums[f] = ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
  }
}

// One row of the basis times the coefficients [kFaces, columns] -> products [kFaces].
template <int kFaces>
INLINE void MultiplyRow(const float* row, int64_t columns, const float* coefficients, float* products) {
  Lanes sums[kFaces];
  for (int f = 0; f < kFaces; ++f) sums[f] = Lanes{};
  for (int64_t k = 0; k < columns; k += kLanes) {
    const Lanes weights = Load(row + k);
    __builtin_prefetch(row + 4 * columns + k);  // The processor itself does not look beyond a page.
    for (int f = 0; f < kFaces; ++f) sums[f] += weights * Load(coefficients + f * columns + k);
  }
  float lanes[kFaces * kLanes];
  for (int f = 0; f < kFaces; ++f) Store(lanes + f * kLanes, sums[f]);
  SumLanes(lanes, kFaces, products);
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

template <int kFaces>
INLINE void MultiplyGroup(const Linear& linear, int64_t row, const float* coefficients, int faces, float* values) {
  float products[kFaces];
  MultiplyRow<kFaces>(linear.basis + row * linear.columns, linear.columns, coefficients, products);
  for (int f = 0; f < faces; ++f) values[f * linear.rows + row] = products[f] + linear.mean[row];
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

// ---- light

struct Monomials {
  Lanes values[kMonomials];
};

INLINE Monomials MonomialsOf(const Vector& n) {
  const Lanes one = {1, 1, 1, 1, 1, 1, 1, 1};
  return {{one, n.x, n.y, n.z, n.x * n.x, n.y * n.y, n.z * n.z, n.x * n.y, n.y * n.z, n.z * n.x}};
}

INLINE Lanes LightOf(const Monomials& monomials, const float* weights) {
  Lanes sum = Load(weights);
  for (int k = 1; k < kMonomials; ++k) sum += Load(weights + k * kLanes) * monomials.values[k];
  return sum;
}

// Gradient of LightOf with respect to the normal.
INLINE Vector LightGradient(const Vector& n, const float* weights) {
  Lanes w[kMonomials];
  for (int k = 1; k < kMonomials; ++k) w[k] = Load(weights + k * kLanes);
  return {w[1] + 2.0f * w[4] * n.x + w[7] * n.y + w[9] * n.z, w[2] + 2.0f * w[5] * n.y + w[8] * n.z + w[7] * n.x,
          w[3] + 2.0f * w[6] * n.z + w[9] * n.x + w[8] * n.y};
}

// Sum of rows [3] at `width` places of an array whose entries have `entry` rows.
INLINE Vector SumOf(const float* rows, int64_t entry, const int32_t* places, int64_t width) {
  Vector sum = LoadVector(rows + places[0] * entry * kLanes);
  for (int64_t i = 1; i < width; ++i) sum = sum + LoadVector(rows + places[i] * entry * kLanes);
  return sum;
}

}  // namespace

void PackRows(Faces faces, const float* values, int64_t count, float* rows) {
  std::fill(rows, rows + faces.Groups() * count * kLanes, 0.0f);
  for (int64_t face = 0; face < faces.batch; ++face) {
    float* out = rows + face / kLanes * count * kLanes + face % kLanes;
    for (int64_t i = 0; i < count; ++i) out[i * kLanes] = values[face * count + i];
  }
}

FOR_EACH_PROCESSOR
void LinearRows(const Linear& linear, Faces faces, const float* coefficients, int64_t first, int64_t last,
                float* values) {
  for (int64_t row = first; row < last; ++row) {
    for (int64_t g = 0; g < faces.Groups(); ++g) {
      const float* of_group = coefficients + g * kLanes * linear.columns;
      float* out = values + g * kLanes * linear.rows;
      const int lanes = faces.Lanes(g);
      if (lanes == 1) {
        MultiplyGroup<1>(linear, row, of_group, lanes, out);
      } else if (lanes <= 4) {
        MultiplyGroup<4>(linear, row, of_group, lanes, out);
      } else {
        MultiplyGroup<kLanes>(linear, row, of_group, lanes, out);
      }
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

void PackShape(const Mesh& mesh, const float* shape, int64_t first, int64_t last, const Group& group) {
  float* rows = group.shape + 3 * first * kLanes;
  if (group.lanes < kLanes) std::fill(rows, group.shape + 3 * last * kLanes, 0.0f);
  const Planes<const float> in = PlanesOf(shape, mesh.vertices, group);
  for (int64_t v = first; v < last; v += kTileVertices) {  // By tiles: the lanes of one place are met soon again.
    LoadRows(in, 3 * v, 3 * std::min<int64_t>(kTileVertices, last - v), group.shape + 3 * v * kLanes);
  }
}

FOR_EACH_PROCESSOR
void TriangleNormals(const Mesh& mesh, int64_t first, int64_t last, const Group& group) {
  for (int64_t t = first; t < last; ++t) {
    Vector v[3];
    for (int k = 0; k < 3; ++k) {
      v[k] = LoadVector(group.shape + 3 * static_cast<int64_t>(mesh.corners[k * mesh.triangles + t]) * kLanes);
    }
    const Vector cross = Cross(v[0] - v[1], v[1] - v[2]);
    StoreUnit(group.triangle_normals + 4 * t * kLanes, cross, UnitScale(Dot(cross, cross)));
  }
}

FOR_EACH_PROCESSOR
void ShadeTiles(const Mesh& mesh, const float* texture, int64_t first, int64_t last, const Group& group,
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
      StoreUnit(group.vertex_normals + 4 * (start + i) * kLanes, sum, scale);
      StoreVector(units.Of(i), normal);
      const Monomials monomials = MonomialsOf(normal);
      for (int c = 0; c < 3; ++c) {
        const Lanes light = LightOf(monomials, group.light + c * kMonomials * kLanes);
        Store(lit_colors.Of(i) + c * kLanes, Load(textures.Of(i) + c * kLanes) * light);
      }
    }
    if (normals != nullptr) StoreRows(units.rows, 3 * start, 3 * size, PlanesOf(normals, mesh.lit, group));
    StoreRows(lit_colors.rows, 3 * start, 3 * size, PlanesOf(colors, mesh.lit, group));
  }
}

FOR_EACH_PROCESSOR
void ShadeTilesGradient(const ShadeGradient& gradient, int64_t lit, int64_t first, int64_t last, const Group& group,
                        float* df_dsums, float* df_dlight) {
  std::fill(df_dlight, df_dlight + kLightRows * kLanes, 0.0f);
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
      const float* unit = group.vertex_normals + 4 * (start + i) * kLanes;
      const Vector normal = LoadVector(unit);
      const Monomials monomials = MonomialsOf(normal);
      Vector df = LoadVector(df_normals.Of(i));
      for (int c = 0; c < 3; ++c) {
        const float* weights = group.light + c * kMonomials * kLanes;
        const Lanes df_color = Load(df_colors.Of(i) + c * kLanes);
        const Lanes df_light = df_color * Load(textures.Of(i) + c * kLanes);
        Store(df_textures.Of(i) + c * kLanes, df_color * LightOf(monomials, weights));
        df = df + LightGradient(normal, weights) * df_light;
        float* sums = df_dlight + c * kMonomials * kLanes;
        for (int k = 0; k < kMonomials; ++k) {
          Store(sums + k * kLanes, Load(sums + k * kLanes) + df_light * monomials.values[k]);
        }
      }
      StoreVector(df_dsums + 3 * (start + i) * kLanes, UnitGradient(unit, df));
    }
    StoreRows(df_textures.rows, 3 * start, 3 * size, PlanesOf(gradient.df_dtexture, lit, group));
  }
}

FOR_EACH_PROCESSOR
void TriangleNormalsGradient(const Mesh& mesh, const float* df_dsums, int64_t first, int64_t last, const Group& group,
                             float* df_dcorners) {
  const int64_t plane = 3 * mesh.triangles * kLanes;
  for (int64_t t = first; t < last; ++t) {
    const Vector df = SumOf(df_dsums, 3, mesh.around_back + t * mesh.around_back_width, mesh.around_back_width);
    const Vector df_dcross = UnitGradient(group.triangle_normals + 4 * t * kLanes, df);
    Vector v[3];
    for (int k = 0; k < 3; ++k) {
      v[k] = LoadVector(group.shape + 3 * static_cast<int64_t>(mesh.corners[k * mesh.triangles + t]) * kLanes);
    }
    const Vector of_a = Cross(v[1] - v[2], df_dcross), of_b = Cross(df_dcross, v[0] - v[1]);
    float* out = df_dcorners + 3 * t * kLanes;
    StoreVector(out, of_a);
    StoreVector(out + plane, of_b - of_a);
    StoreVector(out + 2 * plane, Vector{-of_b.x, -of_b.y, -of_b.z});
  }
}

FOR_EACH_PROCESSOR
void ShapeGradientTiles(const Mesh& mesh, const float* df_dcorners, int64_t first, int64_t last, const Group& group,
                        float* df_dshape) {
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

}  // namespace face_decoder
