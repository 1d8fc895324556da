#include "face_decoder_impl.h"

#include <algorithm>
#include <cmath>
#include <cstring>

// The same source compiled for wider registers, too; the loader chooses. Nothing is contracted: the same bits.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
#define INLINE inline __attribute__((always_inline))

namespace face_decoder {

namespace {

constexpr float kMinSquare = 1e-12f;  // Vectors with a smaller square are not stretched to length 1.
constexpr int kSideFaces = 4;         // Faces that share one reading of a block.
constexpr int kTileColumns = 160;     // Of a gradient: their sums stay in the nearest cache.
constexpr int64_t kChunkVertices = 1024;  // Sums over vertices are made by chunks, then over chunks in float64.

typedef float Run __attribute__((vector_size(32)));  // Half a block's share of a column.

INLINE Run LoadRun(const float* values) {
  Run out;
  std::memcpy(&out, values, sizeof(out));
  return out;
}

// ---- vectors of kLanes faces

INLINE Vector operator+(const Vector& a, const Vector& b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
INLINE Vector operator-(const Vector& a, const Vector& b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
INLINE Vector operator*(const Vector& a, const Lanes& s) { return {a.x * s, a.y * s, a.z * s}; }
INLINE Lanes Dot(const Vector& a, const Vector& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
INLINE Vector Cross(const Vector& a, const Vector& b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

// What makes a vector of that square a unit vector.
INLINE Lanes UnitScale(const Lanes& square) {
  Lanes root;
  for (int i = 0; i < kLanes; ++i) root[i] = std::sqrt(std::max(square[i], kMinSquare));
  return 1.0f / root;
}

INLINE Vector Unit(const Vector& v) { return v * UnitScale(Dot(v, v)); }

// Gradient with respect to v, given that with respect to Unit(v).
INLINE Vector UnitGradient(const Vector& v, const Vector& df) {
  const Lanes square = Dot(v, v), scale = UnitScale(square);
  const Vector unit = v * scale;
  const Lanes along = square > kMinSquare ? Dot(df, unit) : Lanes{};
  return (df - unit * along) * scale;
}

// A vertex of the group's faces, from or to an array [batch, count, 3] whose first face has it at `at`.
struct Faces {
  int lanes;
  int64_t offsets[kLanes];  // Of each lane's face; lanes without a face show the first.

  Faces(int64_t batch, int64_t count, int64_t face)
      : lanes(static_cast<int>(std::min<int64_t>(kLanes, batch - face))) {
    for (int i = 0; i < kLanes; ++i) offsets[i] = i < lanes ? 3 * count * i : 0;
  }

  INLINE Lanes LoadOne(const float* at) const {
    return Lanes{at[offsets[0]], at[offsets[1]], at[offsets[2]], at[offsets[3]]};
  }
  INLINE Vector Load(const float* at) const { return {LoadOne(at), LoadOne(at + 1), LoadOne(at + 2)}; }
  INLINE void Store(const Vector& v, float* at) const {
    for (int i = 0; i < kLanes; ++i) {
      if (i >= lanes) return;
      at[offsets[i]] = v.x[i];
      at[offsets[i] + 1] = v.y[i];
      at[offsets[i] + 2] = v.z[i];
    }
  }
};

// ---- light

INLINE void Monomials(const Vector& n, Lanes* out) {
  const Lanes h[4] = {n.x, n.y, n.z, Lanes{} + 1.0f};
  int k = 0;
  for (int i = 0; i < 4; ++i) {
    for (int j = i; j < 4; ++j) out[k++] = h[i] * h[j];
  }
}

INLINE Lanes LightOf(const Lanes* weights, const Lanes* monomials) {
  Lanes sum = weights[0] * monomials[0];
  for (int k = 1; k < kMonomials; ++k) sum += weights[k] * monomials[k];
  return sum;
}

// Gradient of LightOf with respect to the normal. Weights are those of xx, xy, xz, x, yy, yz, y, zz, z, 1.
INLINE Vector LightGradient(const Lanes* w, const Vector& n) {
  return {2.0f * w[0] * n.x + w[1] * n.y + w[2] * n.z + w[3], w[1] * n.x + 2.0f * w[4] * n.y + w[5] * n.z + w[6],
          w[2] * n.x + w[5] * n.y + 2.0f * w[7] * n.z + w[8]};
}

INLINE Vector SumAround(const Mesh& mesh, const Vector* normals, int64_t vertex) {
  const int32_t* const around = mesh.around + vertex * mesh.around_width;
  Vector sum = normals[around[0]];
  for (int64_t i = 1; i < mesh.around_width; ++i) sum = sum + normals[around[i]];
  return sum;
}

INLINE Vector CrossOf(const Mesh& mesh, const Vector* shape, int64_t triangle) {
  const int32_t* const v = mesh.corners + 3 * triangle;
  return Cross(shape[v[0]] - shape[v[1]], shape[v[1]] - shape[v[2]]);
}

// Columns [begin, end) of the gradient of the faces that start with `face`, the share of blocks [first, last).
INLINE void AddColumns(const Linear& linear, int64_t face, const float* df_dvalues, int64_t begin, int64_t end,
                       int64_t first, int64_t last, float* sums) {
  const int faces = static_cast<int>(std::min<int64_t>(kSideFaces, linear.batch - face));
  Run runs[kTileColumns][kSideFaces] = {};
  float df[kSideFaces][kBlockRows] = {};
  for (int64_t block = first; block < last; ++block) {
    const int64_t row = block * kBlockRows, count = std::min<int64_t>(kBlockRows, linear.rows - row);
    for (int f = 0; f < faces; ++f) {
      std::memcpy(df[f], df_dvalues + (face + f) * linear.rows + row, count * sizeof(float));
      std::fill(df[f] + count, df[f] + kBlockRows, 0.0f);
    }
    const float* line = linear.basis + (block * linear.columns + begin) * kBlockRows;
    for (int64_t k = 0; k < end - begin; ++k, line += kBlockRows) {
      const Run weights[2] = {LoadRun(line), LoadRun(line + kBlockRows / 2)};
      for (int f = 0; f < kSideFaces; ++f) {
        runs[k][f] += weights[0] * LoadRun(df[f]) + weights[1] * LoadRun(df[f] + kBlockRows / 2);
      }
    }
  }
  for (int f = 0; f < faces; ++f) {
    for (int64_t k = begin; k < end; ++k) {
      float sum = 0.0f;
      for (int i = 0; i < kBlockRows / 2; ++i) sum += runs[k - begin][f][i];
      sums[(face + f) * linear.columns + k] = sum;
    }
  }
}

// Gradients of normals and colors -> of texture, light and the normals of triangles, which are added to.
void VerticesGradient(const Mesh& mesh, int64_t batch, int64_t face, const float* texture, const Light& light,
                      const ShadeGradient& gradient, const GroupRows& rows) {
  const Faces lit(batch, mesh.lit, face);
  double totals[3][kMonomials][kLanes] = {};
  for (int64_t start = 0; start < mesh.lit; start += kChunkVertices) {
    Lanes sums[3][kMonomials] = {};
    for (int64_t i = start; i < std::min(start + kChunkVertices, mesh.lit); ++i) {
      const int64_t at = 3 * (face * mesh.lit + i);
      const Vector sum = SumAround(mesh, rows.triangle_normals, i), normal = Unit(sum);
      const Vector skin = lit.Load(texture + at), df_dcolor = lit.Load(gradient.df_dcolors + at);
      const Lanes df_dlight[3] = {skin.x * df_dcolor.x, skin.y * df_dcolor.y, skin.z * df_dcolor.z};
      Lanes monomials[kMonomials];
      Monomials(normal, monomials);
      lit.Store({df_dcolor.x * LightOf(light.weights[0], monomials),
                 df_dcolor.y * LightOf(light.weights[1], monomials),
                 df_dcolor.z * LightOf(light.weights[2], monomials)}, gradient.df_dtexture + at);
      Vector df = lit.Load(gradient.df_dnormals + at);
      for (int c = 0; c < 3; ++c) {
        df = df + LightGradient(light.weights[c], normal) * df_dlight[c];
        for (int k = 0; k < kMonomials; ++k) sums[c][k] += df_dlight[c] * monomials[k];
      }
      const Vector df_dsum = UnitGradient(sum, df);
      for (int64_t k = 0; k < mesh.around_width; ++k) {
        Vector* const to = rows.df_dtriangle_normals + mesh.around[i * mesh.around_width + k];
        *to = *to + df_dsum;
      }
    }
    for (int c = 0; c < 3; ++c) {
      for (int k = 0; k < kMonomials; ++k) {
        for (int lane = 0; lane < kLanes; ++lane) totals[c][k][lane] += sums[c][k][lane];
      }
    }
  }
  for (int lane = 0; lane < lit.lanes; ++lane) {
    for (int c = 0; c < 3; ++c) {
      float* const out = gradient.df_dlight + 16 * (3 * (face + lane) + c);
      int k = 0;
      for (int i = 0; i < 4; ++i) {
        for (int j = i; j < 4; ++j) out[4 * i + j] = out[4 * j + i] = static_cast<float>(totals[c][k++][lane]);
      }
    }
  }
}

// Gradients of the normals of triangles -> of their corners, which are added to.
void TrianglesGradient(const Mesh& mesh, const GroupRows& rows) {
  for (int64_t t = 0; t < mesh.triangles - 1; ++t) {
    const int32_t* const v = mesh.corners + 3 * t;
    const Vector a = rows.shape[v[0]] - rows.shape[v[1]], b = rows.shape[v[1]] - rows.shape[v[2]];
    const Vector df_dcross = UnitGradient(Cross(a, b), rows.df_dtriangle_normals[t]);
    const Vector of_a = Cross(b, df_dcross), of_b = Cross(df_dcross, a);
    rows.df_dshape[v[0]] = rows.df_dshape[v[0]] + of_a;
    rows.df_dshape[v[1]] = rows.df_dshape[v[1]] + (of_b - of_a);
    rows.df_dshape[v[2]] = rows.df_dshape[v[2]] - of_b;
  }
}

}  // namespace

FOR_EACH_PROCESSOR
void LinearBlocks(const Linear& linear, const float* coefficients, int64_t first, int64_t last, float* values) {
  for (int64_t block = first; block < last; ++block) {
    const int64_t row = block * kBlockRows, count = std::min<int64_t>(kBlockRows, linear.rows - row);
    for (int64_t face = 0; face < linear.batch; face += kSideFaces) {
      const float* of[kSideFaces];
      for (int f = 0; f < kSideFaces; ++f) {
        of[f] = coefficients + std::min(face + f, linear.batch - 1) * linear.columns;
      }
      Run sums[kSideFaces][2] = {};
      const float* line = linear.basis + block * linear.columns * kBlockRows;
      for (int64_t k = 0; k < linear.columns; ++k, line += kBlockRows) {
        const Run weights[2] = {LoadRun(line), LoadRun(line + kBlockRows / 2)};
        for (int f = 0; f < kSideFaces; ++f) {
          sums[f][0] += weights[0] * of[f][k];
          sums[f][1] += weights[1] * of[f][k];
        }
      }
      for (int f = 0; f < kSideFaces && face + f < linear.batch; ++f) {
        std::memcpy(values + (face + f) * linear.rows + row, sums[f], count * sizeof(float));
      }
    }
  }
}

FOR_EACH_PROCESSOR
void LinearBlocksGradient(const Linear& linear, const float* df_dvalues, int64_t first, int64_t last, float* sums) {
  for (int64_t face = 0; face < linear.batch; face += kSideFaces) {
    for (int64_t begin = 0; begin < linear.columns; begin += kTileColumns) {
      const int64_t end = std::min<int64_t>(begin + kTileColumns, linear.columns);
      AddColumns(linear, face, df_dvalues, begin, end, first, last, sums);
    }
  }
}

void Pack(const float* faces, int64_t batch, int64_t count, int64_t face, int64_t first, int64_t last, Vector* rows) {
  const Faces group(batch, count, face);
  for (int64_t i = first; i < last; ++i) rows[i] = group.Load(faces + 3 * (face * count + i));
}

void PackLight(const float* matrices, int64_t batch, int64_t face, Light* light) {
  *light = {};
  for (int lane = 0; lane < kLanes && face + lane < batch; ++lane) {
    for (int c = 0; c < 3; ++c) {
      const float* const m = matrices + 16 * (3 * (face + lane) + c);
      int k = 0;
      for (int i = 0; i < 4; ++i) {
        light->weights[c][k++][lane] = m[5 * i];
        for (int j = i + 1; j < 4; ++j) light->weights[c][k++][lane] = m[4 * i + j] + m[4 * j + i];
      }
    }
  }
}

void TriangleNormals(const Mesh& mesh, const Vector* shape, int64_t first, int64_t last, Vector* normals) {
  for (int64_t t = first; t < last; ++t) {
    normals[t] = t < mesh.triangles - 1 ? Unit(CrossOf(mesh, shape, t)) : Vector{};
  }
}

void ShadeVertices(const Mesh& mesh, const Vector* triangle_normals, const Light& light, int64_t batch, int64_t face,
                   int64_t first, int64_t last, const float* texture, float* normals, float* colors) {
  const Faces group(batch, mesh.lit, face);
  for (int64_t i = first; i < last; ++i) {
    const int64_t at = 3 * (face * mesh.lit + i);
    const Vector normal = Unit(SumAround(mesh, triangle_normals, i)), skin = group.Load(texture + at);
    Lanes monomials[kMonomials];
    Monomials(normal, monomials);
    group.Store(normal, normals + at);
    group.Store({skin.x * LightOf(light.weights[0], monomials), skin.y * LightOf(light.weights[1], monomials),
                 skin.z * LightOf(light.weights[2], monomials)}, colors + at);
  }
}

void ShadeGroupGradient(const Mesh& mesh, int64_t batch, int64_t face, const float* shape, const float* texture,
                        const float* light, const ShadeGradient& gradient, const GroupRows& rows) {
  Light packed;
  PackLight(light, batch, face, &packed);
  Pack(shape, batch, mesh.vertices, face, 0, mesh.vertices, rows.shape);
  TriangleNormals(mesh, rows.shape, 0, mesh.triangles, rows.triangle_normals);
  std::fill(rows.df_dtriangle_normals, rows.df_dtriangle_normals + mesh.triangles, Vector{});
  std::fill(rows.df_dshape, rows.df_dshape + mesh.vertices, Vector{});
  VerticesGradient(mesh, batch, face, texture, packed, gradient, rows);
  TrianglesGradient(mesh, rows);
  const Faces whole(batch, mesh.vertices, face);
  for (int64_t i = 0; i < mesh.vertices; ++i) {
    whole.Store(rows.df_dshape[i], gradient.df_dshape + 3 * (face * mesh.vertices + i));
  }
}

}  // namespace face_decoder
