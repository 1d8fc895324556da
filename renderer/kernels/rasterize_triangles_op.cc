// The rasteriser as TensorFlow ops: argument checks, buffers, threads, shape functions. The work is in the _impl files.

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "rasterize_triangles_impl.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/util/work_sharder.h"

namespace rasterizer {

namespace tf = tensorflow;
using tf::int64;
using tf::OpKernel;
using tf::OpKernelConstruction;
using tf::OpKernelContext;
using tf::Status;
using tf::Tensor;
using tf::TensorShape;
using tf::shape_inference::DimensionHandle;
using tf::shape_inference::InferenceContext;
using tf::shape_inference::ShapeHandle;

namespace {

constexpr int64 kMinBandPixels = 4096;  // Fewer pixels than this are not worth a second walk over the triangles.

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

// Checks that argument `name` has the shape `dims`, where -1 takes any size.
Status CheckShape(const char* op, const char* name, const Tensor& tensor, const std::vector<int64>& dims) {
  bool matches = tensor.dims() == static_cast<int>(dims.size());
  std::string expected = "[";
  for (size_t i = 0; i < dims.size(); ++i) {
    matches = matches && (dims[i] < 0 || tensor.dim_size(i) == dims[i]);
    expected += (i ? "," : "") + (dims[i] < 0 ? std::string("any") : std::to_string(dims[i]));
  }
  if (matches) return Status();
  return tf::errors::InvalidArgument(op, ": ", name, " must have shape ", expected, "], got ",
                                     tensor.shape().DebugString());
}

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

Status CheckIndices(const char* op, const Tensor& triangles, int64 vertex_count) {
  const auto flat = triangles.flat<tf::int32>();
  tf::uint32 largest = 0;  // A negative index becomes a large unsigned one.
  for (int64 i = 0; i < flat.size(); ++i) largest = std::max(largest, static_cast<tf::uint32>(flat(i)));
  if (flat.size() == 0 || largest < vertex_count) return Status();
  int64 i = 0;
  while (static_cast<tf::uint32>(flat(i)) < vertex_count) ++i;
  const int64 count = triangles.dim_size(triangles.dims() - 2);
  const std::string where = triangles.dims() == 3 ? std::to_string(i / 3 / count) + "," : "";
  return tf::errors::InvalidArgument(op, ": triangles[", where, i / 3 % count, ",", i % 3, "] is ", flat(i),
                                     ", but there are ", vertex_count, " vertices: expected 0 to ", vertex_count - 1);
}

// `vertices` may be any tensor [(B,) N, ...] that tells batch and vertex count.
Status CheckGeometry(const char* op, const char* name, const Tensor& vertices, int rank, const Tensor& triangles,
                     Geometry* g) {
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
  return CheckIndices(op, triangles, g->vertex_count);
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

template <typename Work>
void RunSharded(OpKernelContext* context, int64 total, int64 cost, const Work& work) {
  const auto& workers = *context->device()->tensorflow_cpu_worker_threads();
  tf::Shard(workers.num_threads, workers.workers, total, cost, work);
}

const float* Floats(const Tensor& tensor) { return tensor.flat<float>().data(); }

}  // namespace

// ---- kernels

class ProjectVerticesOp : public OpKernel {
 public:
  explicit ProjectVerticesOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "ProjectVertices";
    const Tensor& vertices = context->input(0);
    const Tensor& matrices = context->input(1);
    OP_REQUIRES_OK(context, CheckShape(kOp, "vertices", vertices, {-1, -1, 3}));
    const int64 batch = vertices.dim_size(0), count = vertices.dim_size(1);
    OP_REQUIRES_OK(context, CheckShape(kOp, "projection_matrices", matrices, {batch, 4, 4}));
    Tensor *device, *clip_w;
    OP_REQUIRES_OK(context, context->allocate_output(0, vertices.shape(), &device));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({batch, count}), &clip_w));
    RunSharded(context, batch, 10 * count, [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        ProjectVertices(Floats(vertices) + 3 * i * count, count, Floats(matrices) + 16 * i,
                        device->flat<float>().data() + 3 * i * count, clip_w->flat<float>().data() + i * count);
      }
    });
  }
};

class ProjectVerticesGradOp : public OpKernel {
 public:
  explicit ProjectVerticesGradOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "ProjectVerticesGrad";
    const Tensor& vertices = context->input(0);
    const Tensor& matrices = context->input(1);
    const Tensor& df_ddevice = context->input(2);
    const Tensor& df_dclip_w = context->input(3);
    OP_REQUIRES_OK(context, CheckShape(kOp, "vertices", vertices, {-1, -1, 3}));
    const int64 batch = vertices.dim_size(0), count = vertices.dim_size(1);
    OP_REQUIRES_OK(context, CheckShape(kOp, "projection_matrices", matrices, {batch, 4, 4}));
    OP_REQUIRES_OK(context, CheckShape(kOp, "df_ddevice", df_ddevice, {batch, count, 3}));
    OP_REQUIRES_OK(context, CheckShape(kOp, "df_dclip_w", df_dclip_w, {batch, count}));
    Tensor *df_dvertices, *df_dmatrices;
    OP_REQUIRES_OK(context, context->allocate_output(0, vertices.shape(), &df_dvertices));
    OP_REQUIRES_OK(context, context->allocate_output(1, matrices.shape(), &df_dmatrices));
    RunSharded(context, batch, 10 * count, [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        ProjectGradient(Floats(vertices) + 3 * i * count, count, Floats(matrices) + 16 * i,
                        Floats(df_ddevice) + 3 * i * count, Floats(df_dclip_w) + i * count,
                        df_dvertices->flat<float>().data() + 3 * i * count,
                        df_dmatrices->flat<float>().data() + 16 * i);
      }
    });
  }
};

class RasterizeTrianglesOp : public OpKernel {
 public:
  explicit RasterizeTrianglesOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "RasterizeTriangles";
    const Tensor& vertices = context->input(0);
    const Tensor& triangles = context->input(1);
    Geometry g;
    int width, height;
    OP_REQUIRES_OK(context, CheckGeometry(kOp, "vertices", vertices, 2, triangles, &g));
    OP_REQUIRES_OK(context, CheckShape(kOp, "vertices", vertices, g.Dims({-1, 3})));
    OP_REQUIRES_OK(context, ReadSize(kOp, "image_width", context->input(2), &width));
    OP_REQUIRES_OK(context, ReadSize(kOp, "image_height", context->input(3), &height));
    Tensor *barycentric, *triangle_ids, *z_buffer;
    OP_REQUIRES_OK(context, context->allocate_output(0, g.Shape({height, width, 3}), &barycentric));
    OP_REQUIRES_OK(context, context->allocate_output(1, g.Shape({height, width}), &triangle_ids));
    OP_REQUIRES_OK(context, context->allocate_output(2, g.Shape({height, width}), &z_buffer));

    const int64 all = g.batch * g.vertex_count;
    std::unique_ptr<ScreenVertex[]> screen(new ScreenVertex[all]);
    std::unique_ptr<CentreBounds[]> bounds(new CentreBounds[all]);
    RunSharded(context, all, 20, [&](int64 first, int64 last) {
      TransformToScreen(Floats(vertices) + 3 * first, last - first, width, height, &screen[first], &bounds[first]);
    });

    // A picture is cut into bands of rows only where there are more threads than pictures: each band walks over all
    // triangles again. Pixels do not depend on the cut.
    const int64 threads = context->device()->tensorflow_cpu_worker_threads()->num_threads;
    const int64 pixels = static_cast<int64>(width) * height;
    const int64 wanted = g.batch > 0 ? (threads + g.batch - 1) / g.batch : 1;
    const int64 bands = std::max<int64>(1, std::min<int64>({wanted, pixels / kMinBandPixels, height}));
    const int64 cost = 4 * g.triangle_count + 10 * pixels / bands;
    RunSharded(context, g.batch * bands, cost, [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        const int64 image = i / bands, band = i % bands, start = image * g.vertex_count;
        const Mesh mesh = {Floats(vertices) + 3 * start, g.TrianglesOf(triangles, image), g.vertex_count,
                           g.triangle_count};
        RasterizeRows(mesh, &screen[start], &bounds[start], width, static_cast<int>(height * band / bands),
                      static_cast<int>(height * (band + 1) / bands),
                      barycentric->flat<float>().data() + 3 * image * pixels,
                      triangle_ids->flat<tf::int32>().data() + image * pixels,
                      z_buffer->flat<float>().data() + image * pixels);
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
    OP_REQUIRES_OK(context, CheckGeometry(kOp, "vertices", vertices, 2, triangles, &g));
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

  Status Read(const char* op, OpKernelContext* context) {
    barycentric = &context->input(0);
    triangle_ids = &context->input(1);
    triangles = &context->input(2);
    clip_w = &context->input(3);
    attributes = &context->input(4);
    background = &context->input(5);
    TF_RETURN_IF_ERROR(CheckGeometry(op, "attributes", *attributes, 2, *triangles, &g));
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
    return input;
  }
};

class InterpolateAttributesOp : public OpKernel {
 public:
  explicit InterpolateAttributesOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "InterpolateAttributes";
    InterpolationInputs in;
    OP_REQUIRES_OK(context, in.Read(kOp, context));
    Tensor *image, *alphas;
    OP_REQUIRES_OK(context, context->allocate_output(0, in.g.Shape({in.height, in.width, in.channels}), &image));
    OP_REQUIRES_OK(context, context->allocate_output(1, in.g.Shape({in.height, in.width, 1}), &alphas));
    const int64 pixels = in.Pixels();
    float* const out = image->flat<float>().data();
    float* const alpha_out = alphas->flat<float>().data();
    std::atomic<int64> wrong(-1);
    RunSharded(context, in.g.batch * in.height, in.width * (10 + 2 * in.channels), [&](int64 first, int64 last) {
      for (int64 row = first; row < last; ++row) {
        const int64 i = row / in.height, begin = row % in.height * in.width;
        const int64 bad = InterpolatePixels(in.Of(i), begin, begin + in.width, out + i * pixels * in.channels,
                                            alpha_out + i * pixels);
        if (bad >= 0) wrong = i * pixels + bad;
      }
    });
    OP_REQUIRES_OK(context, CheckId(kOp, *in.triangle_ids, wrong, in.g.triangle_count));
  }
};

class InterpolateAttributesGradOp : public OpKernel {
 public:
  explicit InterpolateAttributesGradOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "InterpolateAttributesGrad";
    InterpolationInputs in;
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
    RunSharded(context, in.g.batch, pixels * (20 + 5 * channels) + count * channels, [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        InterpolationGradient gradient;
        gradient.df_dimage = Floats(df_dimage) + i * pixels * channels;
        gradient.df_dalphas = Floats(df_dalphas) + i * pixels;
        gradient.df_dbarycentric = out[0]->flat<float>().data() + 3 * i * pixels;
        gradient.df_dclip_w = out[1]->flat<float>().data() + i * count;
        gradient.df_dattributes = out[2]->flat<float>().data() + i * count * channels;
        gradient.df_dbackground = background.data() + i * channels;
        const int64 bad = InterpolateGradient(in.Of(i), pixels, gradient);
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
};

// ---- registration

REGISTER_OP("ProjectVertices")
    .Input("vertices: float32")
    .Input("projection_matrices: float32")
    .Output("device_coordinates: float32")
    .Output("clip_w: float32")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle vertices, clip_w;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 3, &vertices));
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
