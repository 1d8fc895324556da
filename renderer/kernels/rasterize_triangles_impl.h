// Triangle rasteriser and perspective-correct interpolation on plain arrays: no TensorFlow here.
// Maths of the rasteriser after Genova et al. 2018, "Unsupervised Training for 3D Morphable Model Regression".
//
// Vertices are in normalised device coordinates: x right, y up, z away from the viewer, the picture is -1..1.
// Row 0 of every picture is at its bottom (y = -1). Pixel (row, column) has its centre at (row + 0.5, column + 0.5).
// Nothing here locks or allocates: callers may work on different pictures or rows at the same time.

#ifndef RENDERER_KERNELS_RASTERIZE_TRIANGLES_IMPL_H_
#define RENDERER_KERNELS_RASTERIZE_TRIANGLES_IMPL_H_

#include <cstdint>

namespace rasterizer {

constexpr int kMaxImageSize = 16384;  // Largest width and height.

// Projects vertices [count, 3] in world space by a row-major 4x4 matrix for column vectors.
//   device [count, 3]: the first three clip coordinates divided by the fourth, kept at least 1e-6 from 0
//   clip_w [count]: the fourth
void ProjectVertices(const float* vertices, int64_t count, const float* matrix, float* device, float* clip_w);

// Gradient of ProjectVertices with respect to vertices [count, 3] and the matrix [4, 4].
void ProjectGradient(const float* vertices, int64_t count, const float* matrix, const float* df_ddevice,
                     const float* df_dclip_w, float* df_dvertices, float* df_dmatrix);

// A vertex in pixels from the lower left corner of the picture, rounded once to float32, with its depth; and its place
// in 16.16 fixed point, cut towards zero, and cut outside of the largest picture.
struct ScreenVertex {
  float x, y, z;
  int32_t fixed_x, fixed_y;
};

// Viewport transform: vertices [count, 3] in normalised device coordinates -> screen [count].
void TransformToScreen(const float* vertices, int64_t count, int width, int height, ScreenVertex* screen);

// A picture [height, width] and what is drawn on it.
struct Picture {
  const ScreenVertex* screen;
  const int32_t* triangles;  // [triangle_count, 3] indices into `screen`, checked by the caller
  int64_t triangle_count;
  int width;
  float* barycentric;     // weights of the three vertices in the picture plane, not perspective-corrected
  int32_t* triangle_ids;  // the triangle seen; 0 where there is none (and for triangle 0)
  float* z_buffer;        // its depth, 1 where there is none
};

// Draws rows [first_row, last_row). A centre on an edge is covered. Both windings are drawn. Of equal depths the later
// triangle wins. Depths beyond [-1, 1] are not drawn. Triangles of zero area, or with a vertex that is not finite or
// more than 2^44 pixels away, are skipped.
void RasterizeRows(const Picture& picture, int first_row, int last_row);

// What was drawn of one mesh, as input of the functions below.
struct Drawn {
  const float* barycentric;     // [pixels, 3]
  const int32_t* triangle_ids;  // [pixels]
  const int32_t* triangles;     // [triangle_count, 3], checked
  int64_t triangle_count;
  int64_t vertex_count;
  int64_t width;
  int64_t height;
};

// Gradient of a loss with respect to the vertices [vertex_count, 3], given that with respect to `barycentric`.
// x and y only, through the barycentric weights at fixed coverage; z gets 0. Pixels whose weights sum to less than 0.9
// and triangles whose doubled area in device coordinates is below 1e-13 give none. sums: [vertex_count, 2] scratch.
// Returns the first pixel whose triangle id is out of range, or -1.
int64_t RasterizeGradient(const Drawn& drawn, const float* vertices, const float* df_dbarycentric, double* sums,
                          float* df_dvertices);

// Vertex attributes of one mesh.
struct Attributes {
  const float* clip_w;      // [vertex_count] fourth clip coordinate
  const float* values;      // [vertex_count, channels]
  const float* background;  // [channels]
  int64_t channels;
  bool rows_down;  // Pictures made here have row 0 on top.
  float clip_to;   // Their values are kept within 0 and this; 0: they are not.
};

// Perspective-correct attributes of rows [first, last): image [pixels, channels], alphas [pixels].
// Returns the first pixel whose triangle id is out of range, or -1.
int64_t InterpolateRows(const Drawn& drawn, const Attributes& attributes, int64_t first, int64_t last, float* image,
                        float* alphas);

struct InterpolationGradient {
  const float* df_dimage;   // [pixels, channels]
  const float* df_dalphas;  // [pixels]
  float* df_dbarycentric;   // [pixels, 3]; 0 where nothing is drawn
  float* df_dclip_w;        // [vertex_count]
  float* df_dattributes;    // [vertex_count, channels]
  double* df_dbackground;   // [channels], this picture's share
};

// Gradient of InterpolateRows over one whole picture.
// Returns the first pixel whose triangle id is out of range, or -1.
int64_t InterpolateGradient(const Drawn& drawn, const Attributes& attributes, const InterpolationGradient& gradient);

}  // namespace rasterizer

#endif  // RENDERER_KERNELS_RASTERIZE_TRIANGLES_IMPL_H_
