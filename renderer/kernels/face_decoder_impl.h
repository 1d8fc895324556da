// Linear face model, vertex normals and spherical-harmonic light on plain arrays: no TensorFlow here.
//
// Inside, 4 or 8 faces lie side by side: "rows" arrays are [rows, width], so that one triangle serves all of them at
// once; lanes without a face hold 0. Outside, arrays are [face, vertex, 3], as in TensorFlow.
// Every sum has its fixed order: results are the same bits for any number of threads and on any machine.
// Nothing here locks or allocates: callers may work on different ranges at the same time.

#ifndef RENDERER_KERNELS_FACE_DECODER_IMPL_H_
#define RENDERER_KERNELS_FACE_DECODER_IMPL_H_

#include <cstdint>

namespace face_decoder {

constexpr int kLanes = 8;  // Numbers that are worked on side by side.
constexpr int kTileVertices = 32;    // Vertices that are worked on together: runs of some cache lines in each face.
constexpr int64_t kChunkTiles = 32;  // Sums over vertices are made by chunks of this many tiles, then over chunks.
constexpr int kMonomials = 10;       // 1, x, y, z, xx, yy, zz, xy, yz, zx
constexpr int kLightRows = 3 * kMonomials;

// How `batch` faces lie in groups, side by side.
struct Faces {
  int64_t batch;

  int Width() const { return batch <= 4 ? 4 : kLanes; }
  int64_t Groups() const { return (batch + Width() - 1) / Width(); }
  int Lanes(int64_t group) const { return batch - group * Width() < Width() ? batch - group * Width() : Width(); }
};

inline int64_t Tiles(int64_t vertices) { return (vertices + kTileVertices - 1) / kTileVertices; }
inline int64_t Chunks(int64_t vertices) { return (Tiles(vertices) + kChunkTiles - 1) / kChunkTiles; }

// values [batch, count] -> rows [groups, count, width].
void PackRows(Faces faces, const float* values, int64_t count, float* rows);

// A linear model of `rows` numbers. Its basis is kept compact, as three numbers of 21 bits in each 64 bits: that is two
// thirds of float32's bytes, and bytes are what it costs. A block is kBlockRows rows, padded with zeros; its share of a
// column is one line, the integers first[16] and second[16]. Together they hold three parts of 16 rows:
//   rows i and 16 + i: first[i] and second[i] as they are; their 11 low bits are noise, less than their rounding
//   row 32 + i:        the 11 low bits of first[i], then those of second[i], as the 22 high bits of an integer
// All are multiplied by scale[column].
constexpr int kPartRows = 16;
constexpr int kBlockRows = 3 * kPartRows;
constexpr int kLine = 2 * kPartRows;
constexpr float kIntegers = 1u << 31;  // All are smaller.

struct Linear {
  const int32_t* basis;  // [Blocks(rows), columns, kLine]
  const float* mean;     // [rows]
  int64_t rows;
  int64_t columns;
};

inline int64_t Blocks(int64_t rows) { return (rows + kBlockRows - 1) / kBlockRows; }
// mean + basis * coefficients for blocks [first, last): coefficients times the scale, beyond the batch 0, as rows
// [groups, columns, width] (width 1 for one face) -> values [batch, rows]. Reads the basis once.
void LinearBlocks(const Linear& linear, Faces faces, const float* coefficients, int64_t first, int64_t last,
                  float* values);

// Gradient with respect to the coefficients, the share of blocks [first, last), whose values have gradient `df_dvalues`
// [batch, rows]: `sums` [batch, columns], still to be multiplied by scale and kIntegers. Reads the basis once.
void LinearBlocksGradient(const Linear& linear, Faces faces, const float* df_dvalues, int64_t first, int64_t last,
                          float* sums);

// ---- pose: a few numbers of each face, in float64

// Where things begin in a face's coefficients, and what turns them into light and pictures.
struct PoseModel {
  int64_t angles, lighting, translation;
  const float* harmonics;  // [kHarmonics, kTerms] c, l (3), Q (3x3, symmetric): of a unit vector N, c + l.N + N Q N
  const float* camera;     // [4, 4] world to clip space, for column vectors
  float ambient;           // added to the first harmonic of each channel
};
constexpr int kHarmonics = 9;
constexpr int kTerms = 13;

// The turn of row vectors by three angles [3, 3], and its derivatives by them, or nullptr.
void Turn(const float* angles, double* rotation, double (*derivatives)[9]);

// One face: rotation [3, 3], light [3 channels, kMonomials] and projection [4, 4], from its points before the pose.
void Pose(const PoseModel& model, const float* coefficients, float* rotation, float* light, float* projection);

// Gradient of Pose, added to df_dcoefficients.
void PoseGradient(const PoseModel& model, const float* coefficients, const float* df_drotation, const float* df_dlight,
                  const float* df_dprojection, float* df_dcoefficients);

// One face: points [count, 3] turned and moved.
void Place(const float* points, int64_t count, const float* angles, const float* translation, float* placed);

// Gradient of Place: df_dpoints [count, 3]; angles and translation [3] each are added to.
void PlaceGradient(const float* points, int64_t count, const float* angles, const float* df_dplaced, float* df_dpoints,
                   float* df_dangles, float* df_dtranslation);

// The sum of `chunks` arrays of `count` numbers.
void SumChunks(const float* values, int64_t chunks, int64_t count, double* sums);

// Who touches whom. Indices are checked by the caller. The last triangle is (0, 0, 0): without area, its normal is 0.
struct Mesh {
  const int32_t* corners;       // [3, triangles] vertices of first, second, third corners
  const int32_t* around;        // [lit + 1, around_width] triangles around each lit vertex
  const int32_t* around_back;   // [triangles, around_back_width] rows of `around` that name the triangle; pad: lit
  const int32_t* corners_back;  // [vertices, corners_back_width] places in the flat `corners` that name the vertex
  int64_t vertices;             // of the shape, the lit ones first
  int64_t lit;
  int64_t triangles;
  int64_t around_width, around_back_width, corners_back_width;
};

// One group of faces at work. Rows of "unit" arrays are x, y, z of a unit vector and what its length was multiplied by.
struct Group {
  int64_t first_face;
  int lanes;
  int width;
  float* shape;             // rows [vertices, 3]
  float* triangle_normals;  // rows [triangles, 4], unit
  float* vertex_normals;    // rows [lit, 4], unit
  const float* light;       // rows [3 channels, kMonomials]: light is the product with the monomials of the normal
};

// shape [batch, vertices, 3] -> group.shape, for vertices [first, last).
void PackShape(const Mesh& mesh, const float* shape, int64_t first, int64_t last, const Group& group);

// group.shape -> group.triangle_normals, for triangles [first, last).
void TriangleNormals(const Mesh& mesh, int64_t first, int64_t last, const Group& group);

// group.triangle_normals -> group.vertex_normals, normals and colors = texture * light [batch, lit, 3]; tiles
// [first, last) of lit vertices. normals: nullptr where nobody wants them.
void ShadeTiles(const Mesh& mesh, const float* texture, int64_t first, int64_t last, const Group& group,
                float* normals, float* colors);

// Gradients [batch, lit, 3] of a loss.
struct ShadeGradient {
  const float* texture;
  const float* df_dnormals;  // or nullptr: 0
  const float* df_dcolors;
  float* df_dtexture;
};

// First step back: tiles [first, last) of lit vertices -> df_dtexture, gradient of the sums of triangle normals
// df_dsums rows [lit + 1, 3] (the last row is the caller's: 0), and these tiles' share of the gradient of the light,
// df_dlight rows [3, kMonomials].
void ShadeTilesGradient(const ShadeGradient& gradient, int64_t lit, int64_t first, int64_t last, const Group& group,
                        float* df_dsums, float* df_dlight);

// Second: triangles [first, last) -> gradient of their corners, df_dcorners rows [3, triangles, 3].
void TriangleNormalsGradient(const Mesh& mesh, const float* df_dsums, int64_t first, int64_t last, const Group& group,
                             float* df_dcorners);

// Third: tiles [first, last) of all vertices -> df_dshape [batch, vertices, 3].
void ShapeGradientTiles(const Mesh& mesh, const float* df_dcorners, int64_t first, int64_t last, const Group& group,
                        float* df_dshape);

}  // namespace face_decoder

#endif  // RENDERER_KERNELS_FACE_DECODER_IMPL_H_
