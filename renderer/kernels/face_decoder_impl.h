// Linear face model, vertex normals and spherical-harmonic light on plain arrays: no TensorFlow here.
//
// Arrays of faces are [face, vertex, 3], as in TensorFlow. For the shading, kLanes faces lie side by side, so that one
// look at a triangle serves all of them. Every sum has its fixed order: results are the same bits for any number of
// threads and on any machine. Nothing here locks or allocates.

#ifndef RENDERER_KERNELS_FACE_DECODER_IMPL_H_
#define RENDERER_KERNELS_FACE_DECODER_IMPL_H_

#include <cstdint>

namespace face_decoder {

// ---- linear model: values = basis * coefficients

constexpr int kBlockRows = 16;    // Rows of a basis that lie together: a column's share is one line of the cache.
constexpr int kChunkBlocks = 64;  // Blocks whose share of a gradient is summed at once.

struct Linear {
  const float* basis;  // [Blocks(), columns, kBlockRows], padded with zeros
  int64_t rows;
  int64_t columns;
  int64_t batch;

  int64_t Blocks() const { return (rows + kBlockRows - 1) / kBlockRows; }
};

// Blocks [first, last) of the values: coefficients [batch, columns] -> values [batch, rows].
void LinearBlocks(const Linear& linear, const float* coefficients, int64_t first, int64_t last, float* values);

// Gradient with respect to the coefficients [batch, columns], the share of blocks [first, last): df_dvalues
// [batch, rows] -> sums [batch, columns].
void LinearBlocksGradient(const Linear& linear, const float* df_dvalues, int64_t first, int64_t last, float* sums);

// ---- shading: normals and light

constexpr int kLanes = 4;  // Faces side by side, a group; lanes without a face are not stored.

typedef float Lanes __attribute__((vector_size(4 * kLanes)));

struct Vector {
  Lanes x, y, z;
};

constexpr int kMonomials = 10;  // Products of two of (x, y, z, 1).

struct Light {
  Lanes weights[3][kMonomials];  // Of each channel: the light is the product with the monomials of the normal.
};

// Who touches whom. Indices are checked by the caller. The last triangle is padding: its normal is 0.
struct Mesh {
  const int32_t* corners;  // [triangles, 3] vertices
  const int32_t* around;   // [lit, around_width] triangles around each lit vertex
  int64_t vertices;        // of the shape, the lit ones first
  int64_t lit;
  int64_t triangles;
  int64_t around_width;
};

// faces [batch, count, 3] -> rows [count] of the group that starts with face `face`, of vertices [first, last).
void Pack(const float* faces, int64_t batch, int64_t count, int64_t face, int64_t first, int64_t last, Vector* rows);

// matrices [batch, 3 channels, 4, 4] -> light of the group: that of a normal n is h M h with h = (n, 1).
void PackLight(const float* matrices, int64_t batch, int64_t face, Light* light);

// Unit normals of triangles [first, last).
void TriangleNormals(const Mesh& mesh, const Vector* shape, int64_t first, int64_t last, Vector* normals);

// Lit vertices [first, last) of the group that starts with face `face` -> normals, and colors = texture * light.
// texture, normals, colors: [batch, lit, 3].
void ShadeVertices(const Mesh& mesh, const Vector* triangle_normals, const Light& light, int64_t batch, int64_t face,
                   int64_t first, int64_t last, const float* texture, float* normals, float* colors);

// Gradients of a loss [batch, ...]: given those of normals and colors, all others.
struct ShadeGradient {
  const float *df_dnormals, *df_dcolors;
  float *df_dshape, *df_dtexture, *df_dlight;
};

// Scratch of one group at work in ShadeGroupGradient.
struct GroupRows {
  Vector *shape, *df_dshape;                        // [vertices]
  Vector *triangle_normals, *df_dtriangle_normals;  // [triangles]
};

// The whole way back for the group that starts with face `face`. shape, texture, light: of all faces.
void ShadeGroupGradient(const Mesh& mesh, int64_t batch, int64_t face, const float* shape, const float* texture,
                        const float* light, const ShadeGradient& gradient, const GroupRows& rows);

}  // namespace face_decoder

#endif  // RENDERER_KERNELS_FACE_DECODER_IMPL_H_
