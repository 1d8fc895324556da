// The rasteriser as TensorFlow ops: argument checks, buffers, threads, shape functions. The work is in the _impl files.

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "op_common.h"
#include "rasterize_triangles_impl.h"

namespace rasterizer {

using namespace op_common;

namespace {

constexpr int64 kMinBandPixels = 4096;  // Fewer pixels than this are not worth a second walk over the triangles.
constexpr int64 kBlockVertices = 512;   // Vertices that one thread transforms at a time.

// ---- shapes

// [batch..., count, width] where batch is nothing or one dimension.
Status MatchMatrices(InferenceContext* c, int input, int64 width, ShapeHandle* shape) {
  TF_RETURN_IF_ERROR(c->WithRankAtLeast(c->input(input), 2, shape));
  TF_RETURN_IF_ERROR(c->WithRankAtMost(*shape, 3, shape));
  DimensionHandle unused;
  return width < 0 || !c->RankKnown(*shape) ? Status() : c->WithValue(c->Dim(*shape, -1), width, &unused);
}

Status RasterizeShape(InferenceContext* c) {
  ShapeHandle vertices, triangles, size;
  TF_RETURN_IF_ERROR(MatchMatrices(c, 0, 3, &vertices));
  TF_RETURN_IF_ERROR(MatchMatrices(c, 1, 3, &triangles));
  DimensionHandle width, height;
  TF_RETURN_IF_ERROR(c->MakeDimForScalarInput(2, &width));
  TF_RETURN_IF_ERROR(c->MakeDimForScalarInput(3, &height));
  if (!c->RankKnown(vertices)) {
    for (int i = 0; i < 3; ++i) c->set_output(i, c->UnknownShape());
    return Status();
  }
  std::vector<DimensionHandle> dims = {height, width};
  if (c->Rank(vertices) == 3) dims.insert(dims.begin(), c->Dim(vertices, 0));
  size = c->MakeShape(dims);
  c->set_output(1, size);
  c->set_output(2, size);
  ShapeHandle barycentric;
  TF_RETURN_IF_ERROR(c->Concatenate(size, c->Vector(3), &barycentric));
  c->set_output(0, barycentric);
  return Status();
}

Status InterpolateShape(InferenceContext* c) {
  ShapeHandle barycentric, size, attributes, image, alphas;
  TF_RETURN_IF_ERROR(c->WithRankAtLeast(c->input(0), 3, &barycentric));
  TF_RETURN_IF_ERROR(c->Subshape(barycentric, 0, -1, &size));
  TF_RETURN_IF_ERROR(MatchMatrices(c, 4, -1, &attributes));
  const DimensionHandle channels = c->RankKnown(attributes) ? c->Dim(attributes, -1) : c->UnknownDim();
  TF_RETURN_IF_ERROR(c->Concatenate(size, c->Vector(channels), &image));
  TF_RETURN_IF_ERROR(c->Concatenate(size, c->Vector(1), &alphas));
  c->set_output(0, image);
  c->set_output(1, alphas);
  return Status();
}

Status InterpolateGradShape(InferenceContext* c) {
  c->set_output(0, c->input(0));
  c->set_output(1, c->input(3));
  c->set_output(2, c->input(4));
  c->set_output(3, c->input(5));
  return Status();
}

// ---- argument checks

// One mesh or a batch of them: vertices [N, 3] or [B, N, 3], triangles [T, 3] shared by all or [B, T, 3].
struct Geometry {
  bool batched;
  int64 batch, vertex_count, triangle_count;
  bool shared_triangles;

  // `dims` with the batch in front where there is one.
  std::vector<int64> Dims(std::vector<int64> dims) const {
    if (batched) dims.insert(dims.begin(), batch);
    return dims;
  }
  TensorShape Shape(const std::vector<int64>& dims) const {
    TensorShape shape;
    for (const int64 size : Dims(dims)) shape.AddDim(size);
    return shape;
  }
  const tf::int32* TrianglesOf(const Tensor& triangles, int64 image) const {
    return triangles.flat<tf::int32>().data() + (shared_triangles ? 0 : image * triangle_count * 3);
  }
};

Status CheckIndices(const char* op, OpKernelContext* context, const Tensor& triangles, int64 vertex_count) {
  const int64 i = FirstBadIndex(context, triangles, vertex_count);
  if (i < 0) return Status();
  const int64 count = triangles.dim_size(triangles.dims() - 2);
  const std::string where = triangles.dims() == 3 ? std::to_string(i / 3 / count) + "," : "";
  return tf::errors::InvalidArgument(op, ": triangles[", where, i / 3 % count, ",", i % 3, "] is ",
                                     triangles.flat<tf::int32>()(i), ", but there are ", vertex_count,
                                     " vertices: expected 0 to ", vertex_count - 1);
}

// `vertices` may be any tensor [(B,) N, ...] that tells batch and vertex count.
Status CheckGeometry(const char* op, OpKernelContext* context, const char* name, const Tensor& vertices, int rank,
                     const Tensor& triangles, Geometry* g) {
  const bool batched = vertices.dims() == rank + 1;
  if (vertices.dims() != rank && !batched) {
    return tf::errors::InvalidArgument(op, ": ", name, " must have ", rank, " dimensions (one mesh) or ", rank + 1,
                                       " (a batch), got ", vertices.shape().DebugString());
  }
  g->batched = batched;
  g->batch = batched ? vertices.dim_size(0) : 1;
  g->vertex_count = vertices.dim_size(batched ? 1 : 0);
  g->shared_triangles = triangles.dims() != 3;
  if (g->shared_triangles || !batched) {
    TF_RETURN_IF_ERROR(CheckShape(op, "triangles", triangles, {-1, 3}));
  } else {
    TF_RETURN_IF_ERROR(CheckShape(op, "triangles", triangles, {g->batch, -1, 3}));
  }
  g->triangle_count = triangles.dim_size(triangles.dims() - 2);
  if (g->vertex_count > tf::kint32max || g->triangle_count > tf::kint32max) {
    return tf::errors::InvalidArgument(op, ": at most 2^31-1 vertices and triangles, got ", g->vertex_count, " and ",
                                       g->triangle_count);
  }
  return CheckIndices(op, context, triangles, g->vertex_count);
}

Status ReadSize(const char* op, const char* name, const Tensor& tensor, int* size) {
  TF_RETURN_IF_ERROR(CheckShape(op, name, tensor, {}));
  *size = tensor.scalar<tf::int32>()();
  if (*size > 0 && *size <= kMaxImageSize) return Status();
  return tf::errors::InvalidArgument(op, ": ", name, " must be 1 to ", kMaxImageSize, " pixels, got ", *size);
}

// `wrong` is the position of an id that is out of range, or -1.
Status CheckId(const char* op, const Tensor& triangle_ids, int64 wrong, int64 triangle_count) {
  if (wrong < 0) return Status();
  return tf::errors::InvalidArgument(op, ": triangle_ids ", triangle_ids.shape().DebugString(), " holds ",
                                     triangle_ids.flat<tf::int32>()(wrong), " at flat position ", wrong,
                                     ", but there are ", triangle_count, " triangles: expected 0 to ",
                                     triangle_count - 1);
}

}  // namespace

// ---- kernels

// How many of `all` vertices an op with the attribute `count` is about: -1 stands for all.
Status ReadCount(const char* op, int64 count, int64 all, int64* wanted) {
  *wanted = count < 0 ? all : count;
  if (*wanted <= all) return Status();
  return tf::errors::InvalidArgument(op, ": count is ", count, ", but there are ", all, " vertices");
}

class ProjectVerticesOp : public OpKernel {
 public:
  explicit ProjectVerticesOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("count", &count_));
  }

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "ProjectVertices";
    const Tensor& vertices = context->input(0);
    const Tensor& matrices = context->input(1);
    OP_REQUIRES_OK(context, CheckShape(kOp, "vertices", vertices, {-1, -1, 3}));
    const int64 batch = vertices.dim_size(0), all = vertices.dim_size(1);
    int64 count;
    OP_REQUIRES_OK(context, ReadCount(kOp, count_, all, &count));
    OP_REQUIRES_OK(context, CheckShape(kOp, "projection_matrices", matrices, {batch, 4, 4}));
    Tensor *device, *clip_w;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({batch, count, 3}), &device));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({batch, count}), &clip_w));
    RunSharded(context, batch, 12 * count, [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        ProjectVertices(Floats(vertices) + 3 * i * all, count, Floats(matrices) + 16 * i,
                        Floats(device) + 3 * i * count, Floats(clip_w) + i * count);
      }
    });
  }

 private:
  int64 count_;
};

class ProjectVerticesGradOp : public OpKernel {
 public:
  explicit ProjectVerticesGradOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("count", &count_));
  }

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "ProjectVerticesGrad";
    const Tensor& vertices = context->input(0);
    const Tensor& matrices = context->input(1);
    const Tensor& df_ddevice = context->input(2);
    const Tensor& df_dclip_w = context->input(3);
    OP_REQUIRES_OK(context, CheckShape(kOp, "vertices", vertices, {-1, -1, 3}));
    const int64 batch = vertices.dim_size(0), all = vertices.dim_size(1);
    int64 count;
    OP_REQUIRES_OK(context, ReadCount(kOp, count_, all, &count));
    OP_REQUIRES_OK(context, CheckShape(kOp, "projection_matrices", matrices, {batch, 4, 4}));
    OP_REQUIRES_OK(context, CheckShape(kOp, "df_ddevice", df_ddevice, {batch, count, 3}));
    OP_REQUIRES_OK(context, CheckShape(kOp, "df_dclip_w", df_dclip_w, {batch, count}));
    Tensor *df_dvertices, *df_dmatrices;
    OP_REQUIRES_OK(context, context->allocate_output(0, vertices.shape(), &df_dvertices));
    OP_REQUIRES_OK(context, context->allocate_output(1, matrices.shape(), &df_dmatrices));
    RunSharded(context, batch, 20 * count, [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        float* out = Floats(df_dvertices) + 3 * i * all;
        ProjectGradient(Floats(vertices) + 3 * i * all, count, Floats(matrices) + 16 * i,
                        Floats(df_ddevice) + 3 * i * count, Floats(df_dclip_w) + i * count, out,
                        Floats(df_dmatrices) + 16 * i);
        std::fill(out + 3 * count, out + 3 * all, 0.0f);
      }
    });
  }

 private:
  int64 count_;
};

// How the pictures of a batch are put together to be drawn side by side.
struct Groups {
  int64 pictures;  // in a group, the last may have fewer
  int64 count;

  int64 First(int64 group) const { return group * pictures; }
  int Pictures(const Geometry& g, int64 group) const {
    return static_cast<int>(std::min(pictures, g.batch - First(group)));
  }
  int64 Blocks(const Geometry& g) const { return (g.vertex_count + kBlockVertices - 1) / kBlockVertices; }
};

// Full groups, if there are as many with their bands as threads, else as many groups as threads. Pictures that have
// triangles of their own stay alone.
Groups GroupsOf(const Geometry& g, int64 threads, int64 most_bands) {
  const int64 most = g.shared_triangles ? kPictures : 1;
  const bool is_enough = (g.batch + most - 1) / most * most_bands >= threads;
  const int64 pictures = is_enough ? most : std::max<int64>(1, std::min(most, (g.batch + threads - 1) / threads));
  return {pictures, (g.batch + pictures - 1) / pictures};
}

class RasterizeTrianglesOp : public OpKernel {
 public:
  explicit RasterizeTrianglesOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "RasterizeTriangles";
    const Tensor& vertices = context->input(0);
    const Tensor& triangles = context->input(1);
    Geometry g;
    int width, height;
    OP_REQUIRES_OK(context, CheckGeometry(kOp, context, "vertices", vertices, 2, triangles, &g));
    OP_REQUIRES_OK(context, CheckShape(kOp, "vertices", vertices, g.Dims({-1, 3})));
    OP_REQUIRES_OK(context, ReadSize(kOp, "image_width", context->input(2), &width));
    OP_REQUIRES_OK(context, ReadSize(kOp, "image_height", context->input(3), &height));
    Tensor *barycentric, *triangle_ids, *z_buffer;
    OP_REQUIRES_OK(context, context->allocate_output(0, g.Shape({height, width, 3}), &barycentric));
    OP_REQUIRES_OK(context, context->allocate_output(1, g.Shape({height, width}), &triangle_ids));
    OP_REQUIRES_OK(context, context->allocate_output(2, g.Shape({height, width}), &z_buffer));

    const int64 pixels = static_cast<int64>(width) * height;
    const int64 most_bands = std::max<int64>(1, std::min<int64>(pixels / kMinBandPixels, height));
    const Groups groups = GroupsOf(g, NumThreads(context), most_bands);
    const std::unique_ptr<ScreenVertex[]> screen(new ScreenVertex[g.batch * g.vertex_count]);
    const std::unique_ptr<FixedPlaces[]> fixed(new FixedPlaces[groups.count * g.vertex_count]);
    RunSharded(context, groups.count * groups.Blocks(g), 20 * groups.pictures * kBlockVertices,
               [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        const int64 group = i / groups.Blocks(g), start = i % groups.Blocks(g) * kBlockVertices;
        const float* of[kPictures];
        ScreenVertex* to[kPictures];
        for (int p = 0; p < groups.Pictures(g, group); ++p) {
          const int64 at = (groups.First(group) + p) * g.vertex_count;
          of[p] = Floats(vertices) + 3 * at;
          to[p] = &screen[at];
        }
        TransformToScreen(of, groups.Pictures(g, group), start, std::min(start + kBlockVertices, g.vertex_count), width,
                          height, to, &fixed[group * g.vertex_count]);
      }
    });

    // Pictures are cut into bands of rows only where there are more threads than groups: each band walks over all
    // triangles again. Two for each thread, as some hold more than others. Pixels depend neither on the bands nor on
    // the groups.
    const int64 wanted = groups.count > 0 ? (NumThreads(context) + groups.count - 1) / groups.count : 1;
    const int64 bands = std::max<int64>(1, std::min(wanted > 1 ? 2 * wanted : 1, most_bands));
    const int64 cost = 10 * g.triangle_count + 20 * groups.pictures * pixels / bands;
    RunSharded(context, groups.count * bands, cost, [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        const int64 group = i / bands, band = i % bands, image = groups.First(group);
        Picture pictures[kPictures];
        for (int p = 0; p < groups.Pictures(g, group); ++p) {
          const int64 start = (image + p) * g.vertex_count, corner = (image + p) * pixels;
          pictures[p] = {&screen[start], Floats(barycentric) + 3 * corner,
                         triangle_ids->flat<tf::int32>().data() + corner, Floats(z_buffer) + corner};
        }
        RasterizeRows(g.TrianglesOf(triangles, image), g.triangle_count, &fixed[group * g.vertex_count], pictures,
                      groups.Pictures(g, group), width, static_cast<int>(height * band / bands),
                      static_cast<int>(height * (band + 1) / bands));
      }
    });
  }
};

class RasterizeTrianglesGradOp : public OpKernel {
 public:
  explicit RasterizeTrianglesGradOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "RasterizeTrianglesGrad";
    const Tensor& vertices = context->input(0);
    const Tensor& triangles = context->input(1);
    const Tensor& barycentric = context->input(2);
    const Tensor& triangle_ids = context->input(3);
    const Tensor& df_dbarycentric = context->input(4);
    Geometry g;
    OP_REQUIRES_OK(context, CheckGeometry(kOp, context, "vertices", vertices, 2, triangles, &g));
    OP_REQUIRES_OK(context, CheckShape(kOp, "vertices", vertices, g.Dims({-1, 3})));
    OP_REQUIRES_OK(context, CheckShape(kOp, "barycentric", barycentric, g.Dims({-1, -1, 3})));
    const int64 height = barycentric.dim_size(g.batched), width = barycentric.dim_size(g.batched + 1);
    OP_REQUIRES_OK(context, CheckShape(kOp, "triangle_ids", triangle_ids, g.Dims({height, width})));
    OP_REQUIRES_OK(context, CheckShape(kOp, "df_dbarycentric", df_dbarycentric, g.Dims({height, width, 3})));
    Tensor* df_dvertices;
    OP_REQUIRES_OK(context, context->allocate_output(0, vertices.shape(), &df_dvertices));

    // One picture per thread: the order of additions, so every bit of the sum, is the same for any number of threads.
    const int64 pixels = height * width;
    std::atomic<int64> wrong(-1);
    RunSharded(context, g.batch, 10 * pixels + 2 * g.vertex_count, [&](int64 first, int64 last) {
      std::unique_ptr<double[]> sums(new double[2 * g.vertex_count]);
      for (int64 i = first; i < last; ++i) {
        const int64 start = 3 * i * g.vertex_count;
        const Mesh mesh = {Floats(vertices) + start, g.TrianglesOf(triangles, i), g.vertex_count, g.triangle_count};
        const int64 bad = RasterizeGradient(mesh, Floats(barycentric) + 3 * i * pixels,
                                            triangle_ids.flat<tf::int32>().data() + i * pixels,
                                            Floats(df_dbarycentric) + 3 * i * pixels, pixels, sums.get(),
                                            df_dvertices->flat<float>().data() + start);
        if (bad >= 0) wrong = i * pixels + bad;
      }
    });
    OP_REQUIRES_OK(context, CheckId(kOp, triangle_ids, wrong, g.triangle_count));
  }
};

// Checked inputs of the two interpolation kernels.
struct InterpolationInputs {
  const Tensor *barycentric, *triangle_ids, *triangles, *clip_w, *attributes, *background;
  Geometry g;
  int64 height, width, channels;
  bool rows_down;
  float clip_to;

  // The attributes, read once.
  Status Configure(OpKernelConstruction* context) {
    TF_RETURN_IF_ERROR(context->GetAttr("rows_down", &rows_down));
    return context->GetAttr("clip_to", &clip_to);
  }

  Status Read(const char* op, OpKernelContext* context) {
    barycentric = &context->input(0);
    triangle_ids = &context->input(1);
    triangles = &context->input(2);
    clip_w = &context->input(3);
    attributes = &context->input(4);
    background = &context->input(5);
    TF_RETURN_IF_ERROR(CheckGeometry(op, context, "attributes", *attributes, 2, *triangles, &g));
    channels = attributes->dim_size(g.batched + 1);
    TF_RETURN_IF_ERROR(CheckShape(op, "clip_w", *clip_w, g.Dims({g.vertex_count})));
    TF_RETURN_IF_ERROR(CheckShape(op, "barycentric", *barycentric, g.Dims({-1, -1, 3})));
    height = barycentric->dim_size(g.batched);
    width = barycentric->dim_size(g.batched + 1);
    TF_RETURN_IF_ERROR(CheckShape(op, "triangle_ids", *triangle_ids, g.Dims({height, width})));
    return CheckShape(op, "background", *background, {channels});
  }

  int64 Pixels() const { return height * width; }

  Interpolation Of(int64 image) const {
    Interpolation input;
    input.barycentric = Floats(*barycentric) + 3 * image * Pixels();
    input.triangle_ids = triangle_ids->flat<tf::int32>().data() + image * Pixels();
    input.triangles = g.TrianglesOf(*triangles, image);
    input.clip_w = Floats(*clip_w) + image * g.vertex_count;
    input.attributes = Floats(*attributes) + image * g.vertex_count * channels;
    input.background = Floats(*background);
    input.vertex_count = g.vertex_count;
    input.triangle_count = g.triangle_count;
    input.channels = channels;
    input.width = width;
    input.height = height;
    input.rows_down = rows_down;
    input.clip_to = clip_to;
    return input;
  }
};

class InterpolateAttributesOp : public OpKernel {
 public:
  explicit InterpolateAttributesOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, inputs_.Configure(context));
  }

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "InterpolateAttributes";
    InterpolationInputs in = inputs_;
    OP_REQUIRES_OK(context, in.Read(kOp, context));
    Tensor *image, *alphas;
    OP_REQUIRES_OK(context, context->allocate_output(0, in.g.Shape({in.height, in.width, in.channels}), &image));
    OP_REQUIRES_OK(context, context->allocate_output(1, in.g.Shape({in.height, in.width, 1}), &alphas));
    const int64 pixels = in.Pixels();
    std::atomic<int64> wrong(-1);
    RunSharded(context, in.g.batch * in.height, in.width * (20 + 5 * in.channels), [&](int64 first, int64 last) {
      while (first < last) {  // To the end of a picture.
        const int64 i = first / in.height, row = first % in.height, end = std::min(in.height, row + last - first);
        const int64 bad = InterpolateRows(in.Of(i), row, end, Floats(image) + i * pixels * in.channels,
                                          Floats(alphas) + i * pixels);
        if (bad >= 0) wrong = i * pixels + bad;
        first += end - row;
      }
    });
    OP_REQUIRES_OK(context, CheckId(kOp, *in.triangle_ids, wrong, in.g.triangle_count));
  }

 private:
  InterpolationInputs inputs_;
};

class InterpolateAttributesGradOp : public OpKernel {
 public:
  explicit InterpolateAttributesGradOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, inputs_.Configure(context));
  }

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "InterpolateAttributesGrad";
    InterpolationInputs in = inputs_;
    OP_REQUIRES_OK(context, in.Read(kOp, context));
    const Tensor& df_dimage = context->input(6);
    const Tensor& df_dalphas = context->input(7);
    OP_REQUIRES_OK(context, CheckShape(kOp, "df_dimage", df_dimage, in.g.Dims({in.height, in.width, in.channels})));
    OP_REQUIRES_OK(context, CheckShape(kOp, "df_dalphas", df_dalphas, in.g.Dims({in.height, in.width, 1})));
    Tensor* out[4];
    const Tensor* like[4] = {in.barycentric, in.clip_w, in.attributes, in.background};
    for (int k = 0; k < 4; ++k) OP_REQUIRES_OK(context, context->allocate_output(k, like[k]->shape(), &out[k]));

    const int64 pixels = in.Pixels(), channels = in.channels, count = in.g.vertex_count;
    std::vector<double> background(in.g.batch * channels);
    std::atomic<int64> wrong(-1);
    // One picture per thread, and backgrounds added in order: the same bits for any number of threads.
    RunSharded(context, in.g.batch, pixels * (40 + 10 * channels) + count * channels, [&](int64 first, int64 last) {
      const std::unique_ptr<float[]> sums(new float[4 * count]);
      for (int64 i = first; i < last; ++i) {
        InterpolationGradient gradient;
        gradient.sums = sums.get();
        gradient.df_dimage = Floats(df_dimage) + i * pixels * channels;
        gradient.df_dalphas = Floats(df_dalphas) + i * pixels;
        gradient.df_dbarycentric = out[0]->flat<float>().data() + 3 * i * pixels;
        gradient.df_dclip_w = out[1]->flat<float>().data() + i * count;
        gradient.df_dattributes = out[2]->flat<float>().data() + i * count * channels;
        gradient.df_dbackground = background.data() + i * channels;
        const int64 bad = InterpolateGradient(in.Of(i), gradient);
        if (bad >= 0) wrong = i * pixels + bad;
      }
    });
    OP_REQUIRES_OK(context, CheckId(kOp, *in.triangle_ids, wrong, in.g.triangle_count));
    for (int64 c = 0; c < channels; ++c) {
      double sum = 0.0;
      for (int64 i = 0; i < in.g.batch; ++i) sum += background[i * channels + c];
      out[3]->flat<float>()(c) = static_cast<float>(sum);
    }
  }

 private:
  InterpolationInputs inputs_;
};

// ---- registration

REGISTER_OP("ProjectVertices")
    .Input("vertices: float32")
    .Input("projection_matrices: float32")
    .Attr("count: int = -1")
    .Output("device_coordinates: float32")
    .Output("clip_w: float32")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle vertices, clip_w;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 3, &vertices));
      int64 count;
      TF_RETURN_IF_ERROR(c->GetAttr("count", &count));
      if (count >= 0) TF_RETURN_IF_ERROR(c->ReplaceDim(vertices, 1, c->MakeDim(count), &vertices));
      TF_RETURN_IF_ERROR(c->Subshape(vertices, 0, 2, &clip_w));
      c->set_output(0, vertices);
      c->set_output(1, clip_w);
      return Status();
    });

REGISTER_OP("ProjectVerticesGrad")
    .Input("vertices: float32")
    .Input("projection_matrices: float32")
    .Input("df_ddevice: float32")
    .Input("df_dclip_w: float32")
    .Attr("count: int = -1")
    .Output("df_dvertices: float32")
    .Output("df_dmatrices: float32")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(0));
      c->set_output(1, c->input(1));
      return Status();
    });

REGISTER_OP("RasterizeTriangles")
    .Input("vertices: float32")
    .Input("triangles: int32")
    .Input("image_width: int32")
    .Input("image_height: int32")
    .Output("barycentric: float32")
    .Output("triangle_ids: int32")
    .Output("z_buffer: float32")
    .SetShapeFn(RasterizeShape);

REGISTER_OP("RasterizeTrianglesGrad")
    .Input("vertices: float32")
    .Input("triangles: int32")
    .Input("barycentric: float32")
    .Input("triangle_ids: int32")
    .Input("df_dbarycentric: float32")
    .Output("df_dvertices: float32")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(0));
      return Status();
    });

REGISTER_OP("InterpolateAttributes")
    .Input("barycentric: float32")
    .Input("triangle_ids: int32")
    .Input("triangles: int32")
    .Input("clip_w: float32")
    .Input("attributes: float32")
    .Input("background: float32")
    .Attr("rows_down: bool = false")
    .Attr("clip_to: float = 0")
    .Output("image: float32")
    .Output("alphas: float32")
    .SetShapeFn(InterpolateShape);

REGISTER_OP("InterpolateAttributesGrad")
    .Input("barycentric: float32")
    .Input("triangle_ids: int32")
    .Input("triangles: int32")
    .Input("clip_w: float32")
    .Input("attributes: float32")
    .Input("background: float32")
    .Input("df_dimage: float32")
    .Input("df_dalphas: float32")
    .Attr("rows_down: bool = false")
    .Attr("clip_to: float = 0")
    .Output("df_dbarycentric: float32")
    .Output("df_dclip_w: float32")
    .Output("df_dattributes: float32")
    .Output("df_dbackground: float32")
    .SetShapeFn(InterpolateGradShape);

REGISTER_KERNEL_BUILDER(Name("ProjectVertices").Device(tf::DEVICE_CPU), ProjectVerticesOp);
REGISTER_KERNEL_BUILDER(Name("ProjectVerticesGrad").Device(tf::DEVICE_CPU), ProjectVerticesGradOp);
REGISTER_KERNEL_BUILDER(Name("RasterizeTriangles").Device(tf::DEVICE_CPU), RasterizeTrianglesOp);
REGISTER_KERNEL_BUILDER(Name("RasterizeTrianglesGrad").Device(tf::DEVICE_CPU), RasterizeTrianglesGradOp);
REGISTER_KERNEL_BUILDER(Name("InterpolateAttributes").Device(tf::DEVICE_CPU), InterpolateAttributesOp);
REGISTER_KERNEL_BUILDER(Name("InterpolateAttributesGrad").Device(tf::DEVICE_CPU), InterpolateAttributesGradOp);

}  // namespace rasterizer
