// Triangle rasteriser and perspective-correct interpolation on plain arrays: no TensorFlow here.
// Maths of the rasteriser after Genova et al. 2018, "Unsupervised Training for 3D Morphable Model Regression".
//
// Vertices are in normalised device coordinates: x right, y up, z away from the viewer, the picture is -1..1.
// Row 0 of every picture is at its bottom (y = -1). Pixel (row, column) has its centre at (row + 0.5, column + 0.5).
// Nothing here locks or allocates shared state: callers may work on different pictures or rows at the same time.

#ifndef RENDERER_KERNELS_RASTERIZE_TRIANGLES_IMPL_H_
#define RENDERER_KERNELS_RASTERIZE_TRIANGLES_IMPL_H_

#include <cstdint>

namespace rasterizer {

// Largest width and height. Within it and up to kMaxFastPixel no 64-bit product of fixed-point numbers overflows.
constexpr int kMaxImageSize = 16384;

// A vertex in pixels from the lower left corner of the picture, rounded once to float32, with its depth.
struct ScreenVertex {
  float x, y, z, unused;
};

// Pictures of one mesh that are drawn side by side, so that one look at a triangle serves all of them.
constexpr int kPictures = 4;

// A vertex in each of the pictures, in pixels in 16.16 fixed point, cut towards zero, and cut at kOutside.
struct FixedPlaces {
  int32_t x[kPictures], y[kPictures];
};
constexpr float kOutside = kMaxImageSize + 16;

struct Mesh {
  const float* vertices;     // [vertex_count, 3] normalised device coordinates.
  const int32_t* triangles;  // [triangle_count, 3] indices into vertices, checked by the caller.
  int64_t vertex_count;
  int64_t triangle_count;
};

// One of the pictures drawn side by side.
struct Picture {
  const ScreenVertex* screen;  // [vertex_count]
  float* barycentric;          // [height, width, 3]
  int32_t* triangle_ids;       // [height, width]
  float* z_buffer;             // [height, width]
};

// Projects vertices [count, 3] in world space by a row-major 4x4 matrix for column vectors.
//   device [count, 3]: the first three clip coordinates divided by the fourth, kept at least 1e-6 from 0
//   clip_w [count]: the fourth
void ProjectVertices(const float* vertices, int64_t count, const float* matrix, float* device, float* clip_w);

// Gradient of ProjectVertices with respect to vertices [count, 3] and the matrix [4, 4].
void ProjectGradient(const float* vertices, int64_t count, const float* matrix, const float* df_ddevice,
                     const float* df_dclip_w, float* df_dvertices, float* df_dmatrix);

// Viewport transform of vertices [first, last) of up to kPictures pictures: `vertices`, arrays [vertex_count, 3] in
// normalised device coordinates, -> `screen`, arrays [vertex_count], and `fixed` [vertex_count]. Pictures that are not
// there lie outside.
void TransformToScreen(const float* const* vertices, int picture_count, int64_t first, int64_t last, int width,
                       int height, ScreenVertex* const* screen, FixedPlaces* fixed);

// Draws rows [first_row, last_row) of `picture_count` pictures of the same triangles.
//   barycentric  : weights of the three vertices in the picture plane, not perspective-corrected
//   triangle_ids : the triangle seen; 0 where there is none (and for triangle 0)
//   z_buffer     : its depth, 1 where there is none
// A centre on an edge is covered. Both windings are drawn. Of equal depths the later triangle wins. Depths beyond
// [-1, 1] are not drawn. Triangles of zero area, or with a vertex that is not finite or more than 2^44 pixels away,
// are skipped.
void RasterizeRows(const int32_t* triangles, int64_t triangle_count, const FixedPlaces* fixed,
                   const Picture* pictures, int picture_count, int width, int first_row, int last_row);

// Gradient of a loss with respect to the vertices, given that with respect to `barycentric`; one whole picture.
// x and y only, through the barycentric weights at fixed coverage; z gets 0. Pixels whose weights sum to less than 0.9
// and triangles whose doubled area in device coordinates is below 1e-13 give none.
//   sums        [vertex_count, 2] scratch
//   df_dvertices [vertex_count, 3]
// Returns the first pixel whose triangle id is out of range, or -1.
int64_t RasterizeGradient(const Mesh& mesh, const float* barycentric, const int32_t* triangle_ids,
                          const float* df_dbarycentric, int64_t pixel_count, double* sums, float* df_dvertices);

// Vertex attributes of one mesh and what is seen of it.
struct Interpolation {
  const float* barycentric;     // [pixel_count, 3]
  const int32_t* triangle_ids;  // [pixel_count]
  const int32_t* triangles;     // [triangle_count, 3], checked
  const float* clip_w;          // [vertex_count] fourth clip coordinate
  const float* attributes;      // [vertex_count, channels]
  const float* background;      // [channels]
  int64_t vertex_count;
  int64_t triangle_count;
  int64_t channels;
  int64_t width;
  int64_t height;
  bool rows_down;    // Pictures made here have row 0 on top.
  float clip_to;     // Their values are kept within 0 and this; 0: they are not.

  // First pixel of the row made here that shows `row` of the barycentric picture.
  int64_t Start(int64_t row) const { return (rows_down ? height - 1 - row : row) * width; }
};

// Perspective-correct attributes of rows [first, last): image [pixel_count, channels], alphas [pixel_count].
// Returns the first pixel whose triangle id is out of range, or -1.
int64_t InterpolateRows(const Interpolation& input, int64_t first, int64_t last, float* image, float* alphas);

struct InterpolationGradient {
  const float* df_dimage;    // [pixel_count, channels]
  const float* df_dalphas;   // [pixel_count]
  float* df_dbarycentric;    // [pixel_count, 3]; 0 where nothing is drawn
  float* df_dclip_w;         // [vertex_count]
  float* df_dattributes;     // [vertex_count, channels]
  float* sums;               // [vertex_count, 4] scratch, for three channels
  double* df_dbackground;    // [channels], this picture's share
};

// Gradient of InterpolateRows over one whole picture.
// Returns the first pixel whose triangle id is out of range, or -1.
int64_t InterpolateGradient(const Interpolation& input, const InterpolationGradient& gradient);

}  // namespace rasterizer

#endif  // RENDERER_KERNELS_RASTERIZE_TRIANGLES_IMPL_H_
