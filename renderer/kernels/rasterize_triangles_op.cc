// The rasteriser as TensorFlow ops: argument checks, buffers, threads, shape functions. The work is in the _impl files.

#include <atomic>

#include "op_common.h"
#include "rasterize_triangles_impl.h"

namespace rasterizer {

using namespace op_common;

constexpr int64 kMinBandPixels = 4096;  // Fewer pixels than this are not worth a second walk over the triangles.

// ---- argument checks

Status ReadSize(const std::string& op, const char* name, const Tensor& tensor, int* size) {
  TF_RETURN_IF_ERROR(CheckShape(op, name, tensor, {}));
  *size = tensor.scalar<tf::int32>()();
  if (*size > 0 && *size <= kMaxImageSize) return Status();
  return tf::errors::InvalidArgument(op, ": ", name, " must be 1 to ", kMaxImageSize, " pixels, got ", *size);
}

// A batch of meshes of `vertex_count` vertices, and its triangles: [T, 3] shared by all or [B, T, 3].
struct Geometry {
  int64 batch, vertex_count, triangle_count;
  const tf::int32* triangles;
  bool shared;

  Status Read(const std::string& op, const Tensor& tensor, int64 of_batch, int64 vertices) {
    batch = of_batch;
    vertex_count = vertices;
    shared = tensor.dims() != 3;
    TF_RETURN_IF_ERROR(CheckShape(op, "triangles", tensor,
                                  shared ? std::vector<int64>{-1, 3} : std::vector<int64>{batch, -1, 3}));
    triangle_count = tensor.dim_size(tensor.dims() - 2);
    if (vertex_count > tf::kint32max || triangle_count > tf::kint32max) {
      return tf::errors::InvalidArgument(op, ": at most 2^31-1 vertices and triangles, got ", vertex_count, " and ",
                                         triangle_count);
    }
    triangles = Ints(tensor);
    return CheckIndices(op, "triangles", tensor, vertex_count);
  }
  const tf::int32* TrianglesOf(int64 image) const { return triangles + (shared ? 0 : image * triangle_count * 3); }
};

// A batch of drawn pictures: barycentric [B, H, W, 3] and triangle_ids [B, H, W].
struct Pictures {
  Geometry geometry;
  const Tensor* triangle_ids;
  const float* barycentric;
  int64 height, width;

  Status Read(const std::string& op, const Tensor& weights, const Tensor& ids, const Tensor& triangles,
              int64 vertices) {
    TF_RETURN_IF_ERROR(CheckShape(op, "barycentric", weights, {-1, -1, -1, 3}));
    TF_RETURN_IF_ERROR(geometry.Read(op, triangles, weights.dim_size(0), vertices));
    barycentric = Floats(weights);
    triangle_ids = &ids;
    height = weights.dim_size(1);
    width = weights.dim_size(2);
    return CheckShape(op, "triangle_ids", ids, {geometry.batch, height, width});
  }
  int64 Pixels() const { return height * width; }
  Drawn Of(int64 image) const {
    const int64 first = image * Pixels();
    return {barycentric + 3 * first, Ints(*triangle_ids) + first, geometry.TrianglesOf(image),
            geometry.triangle_count, geometry.vertex_count, width, height};
  }
  // `wrong` is the position of an id that is out of range, or -1.
  Status CheckId(const std::string& op, int64 wrong) const {
    if (wrong < 0) return Status();
    return tf::errors::InvalidArgument(op, ": triangle_ids ", triangle_ids->shape().DebugString(), " holds ",
                                       Ints(*triangle_ids)[wrong], " at flat position ", wrong, ", but there are ",
                                       geometry.triangle_count, " triangles: expected 0 to ",
                                       geometry.triangle_count - 1);
  }
};

// ---- projection

// Checked inputs of the two projecting kernels. Only the first `count` of `all` vertices are projected; -1: all.
struct ProjectInputs {
  int64 batch, all, count;

  Status Read(const std::string& op, OpKernelContext* context, int64 wanted) {
    const Tensor& vertices = context->input(0);
    TF_RETURN_IF_ERROR(CheckShape(op, "vertices", vertices, {-1, -1, 3}));
    batch = vertices.dim_size(0);
    all = vertices.dim_size(1);
    count = wanted < 0 ? all : wanted;
    TF_RETURN_IF_ERROR(CheckShape(op, "projection_matrices", context->input(1), {batch, 4, 4}));
    if (count <= all) return Status();
    return tf::errors::InvalidArgument(op, ": count is ", count, ", but there are ", all, " vertices");
  }
};

class ProjectVerticesOp : public OpKernel {
 public:
  explicit ProjectVerticesOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("count", &count_));
  }

  void Compute(OpKernelContext* context) override {
    ProjectInputs in;
    OP_REQUIRES_OK(context, in.Read(type_string(), context, count_));
    Tensor *device, *clip_w;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({in.batch, in.count, 3}), &device));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({in.batch, in.count}), &clip_w));
    RunSharded(context, in.batch, 12 * in.count, [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        ProjectVertices(Floats(context->input(0)) + 3 * i * in.all, in.count, Floats(context->input(1)) + 16 * i,
                        Floats(device) + 3 * i * in.count, Floats(clip_w) + i * in.count);
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
    ProjectInputs in;
    OP_REQUIRES_OK(context, in.Read(type_string(), context, count_));
    const Tensor &vertices = context->input(0), &matrices = context->input(1);
    const Tensor &df_ddevice = context->input(2), &df_dclip_w = context->input(3);
    OP_REQUIRES_OK(context, CheckShape(type_string(), "df_ddevice", df_ddevice, {in.batch, in.count, 3}));
    OP_REQUIRES_OK(context, CheckShape(type_string(), "df_dclip_w", df_dclip_w, {in.batch, in.count}));
    Tensor *df_dvertices, *df_dmatrices;
    OP_REQUIRES_OK(context, context->allocate_output(0, vertices.shape(), &df_dvertices));
    OP_REQUIRES_OK(context, context->allocate_output(1, matrices.shape(), &df_dmatrices));
    RunSharded(context, in.batch, 20 * in.count, [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        float* out = Floats(df_dvertices) + 3 * i * in.all;
        ProjectGradient(Floats(vertices) + 3 * i * in.all, in.count, Floats(matrices) + 16 * i,
                        Floats(df_ddevice) + 3 * i * in.count, Floats(df_dclip_w) + i * in.count, out,
                        Floats(df_dmatrices) + 16 * i);
        std::fill(out + 3 * in.count, out + 3 * in.all, 0.0f);
      }
    });
  }

 private:
  int64 count_;
};

// ---- rasteriser

class RasterizeTrianglesOp : public OpKernel {
 public:
  explicit RasterizeTrianglesOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    const Tensor& vertices = context->input(0);
    OP_REQUIRES_OK(context, CheckShape(type_string(), "vertices", vertices, {-1, -1, 3}));
    const int64 batch = vertices.dim_size(0), count = vertices.dim_size(1);
    Geometry geometry;
    OP_REQUIRES_OK(context, geometry.Read(type_string(), context->input(1), batch, count));
    int width, height;
    OP_REQUIRES_OK(context, ReadSize(type_string(), "image_width", context->input(2), &width));
    OP_REQUIRES_OK(context, ReadSize(type_string(), "image_height", context->input(3), &height));
    Tensor *barycentric, *triangle_ids, *z_buffer;
    const TensorShape size({batch, height, width});
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({batch, height, width, 3}), &barycentric));
    OP_REQUIRES_OK(context, context->allocate_output(1, size, &triangle_ids));
    OP_REQUIRES_OK(context, context->allocate_output(2, size, &z_buffer));
    Scratch<ScreenVertex> screen;
    OP_REQUIRES_OK(context, screen.Allocate(context, batch * count));
    RunSharded(context, batch, 20 * count, [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        TransformToScreen(Floats(vertices) + 3 * i * count, count, width, height, screen.data() + i * count);
      }
    });

    // Pictures are cut into bands of rows only where there are more threads than pictures: each band walks over all
    // triangles again. Two for each thread, as some hold more than others. Pixels do not depend on the bands.
    const int64 pixels = static_cast<int64>(width) * height, threads = NumThreads(context);
    const int64 wanted = batch < threads && batch > 0 ? 2 * ((threads + batch - 1) / batch) : 1;
    const int64 bands = std::max<int64>(1, std::min(wanted, std::min<int64>(pixels / kMinBandPixels, height)));
    const int64 cost = 10 * geometry.triangle_count + 20 * pixels / bands;
    RunSharded(context, batch * bands, cost, [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        const int64 image = i / bands, band = i % bands, corner = image * pixels;
        const Picture picture = {screen.data() + image * count, geometry.TrianglesOf(image), geometry.triangle_count,
                                 width, Floats(barycentric) + 3 * corner, Ints(triangle_ids) + corner,
                                 Floats(z_buffer) + corner};
        RasterizeRows(picture, static_cast<int>(height * band / bands), static_cast<int>(height * (band + 1) / bands));
      }
    });
  }
};

class RasterizeTrianglesGradOp : public OpKernel {
 public:
  explicit RasterizeTrianglesGradOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    const Tensor &vertices = context->input(0), &df_dbarycentric = context->input(4);
    OP_REQUIRES_OK(context, CheckShape(type_string(), "vertices", vertices, {-1, -1, 3}));
    const int64 batch = vertices.dim_size(0), count = vertices.dim_size(1);
    Pictures in;
    OP_REQUIRES_OK(context, in.Read(type_string(), context->input(2), context->input(3), context->input(1), count));
    OP_REQUIRES_OK(context, CheckShape(type_string(), "vertices", vertices, {in.geometry.batch, -1, 3}));
    OP_REQUIRES_OK(context, CheckShape(type_string(), "df_dbarycentric", df_dbarycentric,
                                       {batch, in.height, in.width, 3}));
    Tensor* df_dvertices;
    OP_REQUIRES_OK(context, context->allocate_output(0, vertices.shape(), &df_dvertices));
    Scratch<double> sums;
    OP_REQUIRES_OK(context, sums.Allocate(context, 2 * batch * count));
    // One picture per thread: the order of additions, so every bit of the sum, is the same for any number of threads.
    const int64 pixels = in.Pixels();
    std::atomic<int64> wrong(-1);
    RunSharded(context, batch, 10 * pixels + 2 * count, [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        const int64 bad = RasterizeGradient(in.Of(i), Floats(vertices) + 3 * i * count,
                                            Floats(df_dbarycentric) + 3 * i * pixels, sums.data() + 2 * i * count,
                                            Floats(df_dvertices) + 3 * i * count);
        if (bad >= 0) wrong = i * pixels + bad;
      }
    });
    OP_REQUIRES_OK(context, in.CheckId(type_string(), wrong));
  }
};

// ---- interpolation

// Checked inputs of the two interpolating kernels.
struct InterpolationInputs {
  Pictures pictures;
  Attributes attributes;  // of the first picture

  // What does not change from call to call.
  Status Configure(OpKernelConstruction* context) {
    TF_RETURN_IF_ERROR(context->GetAttr("rows_down", &attributes.rows_down));
    return context->GetAttr("clip_to", &attributes.clip_to);
  }

  Status Read(const std::string& op, OpKernelContext* context) {
    const Tensor &clip_w = context->input(3), &values = context->input(4), &background = context->input(5);
    TF_RETURN_IF_ERROR(CheckShape(op, "attributes", values, {-1, -1, -1}));
    TF_RETURN_IF_ERROR(pictures.Read(op, context->input(0), context->input(1), context->input(2),
                                     values.dim_size(1)));
    TF_RETURN_IF_ERROR(CheckShape(op, "attributes", values, {Batch(), -1, -1}));
    TF_RETURN_IF_ERROR(CheckShape(op, "clip_w", clip_w, {Batch(), values.dim_size(1)}));
    TF_RETURN_IF_ERROR(CheckShape(op, "background", background, {values.dim_size(2)}));
    attributes.channels = values.dim_size(2);
    attributes.clip_w = Floats(clip_w);
    attributes.values = Floats(values);
    attributes.background = Floats(background);
    return Status();
  }

  int64 Batch() const { return pictures.geometry.batch; }
  Attributes Of(int64 image) const {
    Attributes of = attributes;
    of.clip_w += image * pictures.geometry.vertex_count;
    of.values += image * pictures.geometry.vertex_count * of.channels;
    return of;
  }
};

class InterpolateAttributesOp : public OpKernel {
 public:
  explicit InterpolateAttributesOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, inputs_.Configure(context));
  }

  void Compute(OpKernelContext* context) override {
    InterpolationInputs in = inputs_;
    OP_REQUIRES_OK(context, in.Read(type_string(), context));
    const int64 batch = in.Batch(), height = in.pictures.height, width = in.pictures.width;
    const int64 pixels = in.pictures.Pixels(), channels = in.attributes.channels;
    Tensor *image, *alphas;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({batch, height, width, channels}), &image));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({batch, height, width, 1}), &alphas));
    std::atomic<int64> wrong(-1);
    RunSharded(context, batch * height, width * (20 + 5 * channels), [&](int64 first, int64 last) {
      while (first < last) {  // To the end of a picture.
        const int64 i = first / height, row = first % height, end = std::min(height, row + last - first);
        const int64 bad = InterpolateRows(in.pictures.Of(i), in.Of(i), row, end,
                                          Floats(image) + i * pixels * channels, Floats(alphas) + i * pixels);
        if (bad >= 0) wrong = i * pixels + bad;
        first += end - row;
      }
    });
    OP_REQUIRES_OK(context, in.pictures.CheckId(type_string(), wrong));
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
    InterpolationInputs in = inputs_;
    OP_REQUIRES_OK(context, in.Read(type_string(), context));
    const Tensor &df_dimage = context->input(6), &df_dalphas = context->input(7);
    const int64 batch = in.Batch(), height = in.pictures.height, width = in.pictures.width;
    const int64 pixels = in.pictures.Pixels(), channels = in.attributes.channels;
    const int64 count = in.pictures.geometry.vertex_count;
    OP_REQUIRES_OK(context, CheckShape(type_string(), "df_dimage", df_dimage, {batch, height, width, channels}));
    OP_REQUIRES_OK(context, CheckShape(type_string(), "df_dalphas", df_dalphas, {batch, height, width, 1}));
    Tensor* out[4];
    const int like[4] = {0, 3, 4, 5};
    for (int k = 0; k < 4; ++k) {
      OP_REQUIRES_OK(context, context->allocate_output(k, context->input(like[k]).shape(), &out[k]));
    }
    Scratch<double> background;
    OP_REQUIRES_OK(context, background.Allocate(context, batch * channels));
    std::atomic<int64> wrong(-1);
    // One picture per thread, and backgrounds added in order: the same bits for any number of threads.
    RunSharded(context, batch, pixels * (40 + 10 * channels) + count * channels, [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        const InterpolationGradient gradient = {
            Floats(df_dimage) + i * pixels * channels, Floats(df_dalphas) + i * pixels,
            Floats(out[0]) + 3 * i * pixels, Floats(out[1]) + i * count, Floats(out[2]) + i * count * channels,
            background.data() + i * channels};
        const int64 bad = InterpolateGradient(in.pictures.Of(i), in.Of(i), gradient);
        if (bad >= 0) wrong = i * pixels + bad;
      }
    });
    OP_REQUIRES_OK(context, in.pictures.CheckId(type_string(), wrong));
    for (int64 c = 0; c < channels; ++c) {
      double sum = 0.0;
      for (int64 i = 0; i < batch; ++i) sum += background.data()[i * channels + c];
      Floats(out[3])[c] = static_cast<float>(sum);
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
    .SetShapeFn(LikeInputs<0, 1>);

REGISTER_OP("RasterizeTriangles")
    .Input("vertices: float32")
    .Input("triangles: int32")
    .Input("image_width: int32")
    .Input("image_height: int32")
    .Output("barycentric: float32")
    .Output("triangle_ids: int32")
    .Output("z_buffer: float32")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle vertices;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 3, &vertices));
      tf::shape_inference::DimensionHandle width, height, batch = c->Dim(vertices, 0);
      TF_RETURN_IF_ERROR(c->MakeDimForScalarInput(2, &width));
      TF_RETURN_IF_ERROR(c->MakeDimForScalarInput(3, &height));
      c->set_output(0, c->MakeShape({batch, height, width, c->MakeDim(3)}));
      c->set_output(1, c->MakeShape({batch, height, width}));
      c->set_output(2, c->MakeShape({batch, height, width}));
      return Status();
    });

REGISTER_OP("RasterizeTrianglesGrad")
    .Input("vertices: float32")
    .Input("triangles: int32")
    .Input("barycentric: float32")
    .Input("triangle_ids: int32")
    .Input("df_dbarycentric: float32")
    .Output("df_dvertices: float32")
    .SetShapeFn(LikeInputs<0>);

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
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle barycentric, attributes, image, alphas;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &barycentric));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(4), 3, &attributes));
      TF_RETURN_IF_ERROR(c->ReplaceDim(barycentric, 3, c->Dim(attributes, 2), &image));
      TF_RETURN_IF_ERROR(c->ReplaceDim(barycentric, 3, c->MakeDim(1), &alphas));
      c->set_output(0, image);
      c->set_output(1, alphas);
      return Status();
    });

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
    .SetShapeFn(LikeInputs<0, 3, 4, 5>);

REGISTER_KERNEL_BUILDER(Name("ProjectVertices").Device(tf::DEVICE_CPU), ProjectVerticesOp);
REGISTER_KERNEL_BUILDER(Name("ProjectVerticesGrad").Device(tf::DEVICE_CPU), ProjectVerticesGradOp);
REGISTER_KERNEL_BUILDER(Name("RasterizeTriangles").Device(tf::DEVICE_CPU), RasterizeTrianglesOp);
REGISTER_KERNEL_BUILDER(Name("RasterizeTrianglesGrad").Device(tf::DEVICE_CPU), RasterizeTrianglesGradOp);
REGISTER_KERNEL_BUILDER(Name("InterpolateAttributes").Device(tf::DEVICE_CPU), InterpolateAttributesOp);
REGISTER_KERNEL_BUILDER(Name("InterpolateAttributesGrad").Device(tf::DEVICE_CPU), InterpolateAttributesGradOp);

}  // namespace rasterizer
