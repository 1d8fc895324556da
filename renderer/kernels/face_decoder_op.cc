// The face decoder's kernels as TensorFlow ops: argument checks, buffers, threads, shape functions. The work is in the
// _impl files.

#include "face_decoder_impl.h"
#include "op_common.h"

namespace face_decoder {

using namespace op_common;

// ---- linear model

// The checked basis; `rows` is the attribute, `batch` that of the other input.
Status ReadLinear(const std::string& op, const Tensor& basis, int64 rows, int64 batch, Linear* linear) {
  linear->rows = rows;
  linear->batch = batch;
  TF_RETURN_IF_ERROR(CheckShape(op, "basis", basis, {linear->Blocks(), -1, kBlockRows}));
  linear->columns = basis.dim_size(1);
  linear->basis = Floats(basis);
  return Status();
}

class FaceLinearOp : public OpKernel {
 public:
  explicit FaceLinearOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("rows", &rows_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& coefficients = context->input(0);
    OP_REQUIRES_OK(context, CheckShape(type_string(), "coefficients", coefficients, {-1, -1}));
    Linear linear;
    OP_REQUIRES_OK(context, ReadLinear(type_string(), context->input(1), rows_, coefficients.dim_size(0), &linear));
    OP_REQUIRES_OK(context, CheckShape(type_string(), "coefficients", coefficients, {-1, linear.columns}));
    Tensor* values;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({linear.batch, linear.rows}), &values));
    RunSharded(context, linear.Blocks(), 2 * linear.columns * linear.batch, [&](int64 first, int64 last) {
      LinearBlocks(linear, Floats(coefficients), first, last, Floats(values));
    });
  }

 private:
  int64 rows_;
};

class FaceLinearGradOp : public OpKernel {
 public:
  explicit FaceLinearGradOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    const Tensor& df_dvalues = context->input(1);
    OP_REQUIRES_OK(context, CheckShape(type_string(), "df_dvalues", df_dvalues, {-1, -1}));
    Linear linear;
    OP_REQUIRES_OK(context, ReadLinear(type_string(), context->input(0), df_dvalues.dim_size(1),
                                       df_dvalues.dim_size(0), &linear));
    Tensor* df_dcoefficients;
    const TensorShape shape({linear.batch, linear.columns});
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &df_dcoefficients));
    // By chunks, whose sums are added in order: the same bits for any number of threads.
    const int64 size = linear.batch * linear.columns, chunks = (linear.Blocks() + kChunkBlocks - 1) / kChunkBlocks;
    Scratch<float> parts;
    OP_REQUIRES_OK(context, parts.Allocate(context, chunks * size));
    RunSharded(context, chunks, 2 * kChunkBlocks * size, [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        const int64 end = std::min<int64>((i + 1) * kChunkBlocks, linear.Blocks());
        LinearBlocksGradient(linear, Floats(df_dvalues), i * kChunkBlocks, end, parts.data() + i * size);
      }
    });
    for (int64 i = 0; i < size; ++i) {
      double sum = 0.0;
      for (int64 chunk = 0; chunk < chunks; ++chunk) sum += parts.data()[chunk * size + i];
      Floats(df_dcoefficients)[i] = static_cast<float>(sum);
    }
  }
};

// ---- shading

// Checked inputs of the two shading kernels.
struct ShadeInputs {
  const Tensor *shape, *texture, *light;
  Mesh mesh;
  int64 batch, groups;

  Status Read(const std::string& op, OpKernelContext* context) {
    shape = &context->input(0);
    texture = &context->input(1);
    light = &context->input(2);
    const Tensor &corners = context->input(3), &around = context->input(4);
    TF_RETURN_IF_ERROR(CheckShape(op, "shape", *shape, {-1, -1, 3}));
    batch = shape->dim_size(0);
    groups = (batch + kLanes - 1) / kLanes;
    TF_RETURN_IF_ERROR(CheckShape(op, "texture", *texture, {batch, -1, 3}));
    TF_RETURN_IF_ERROR(CheckShape(op, "light", *light, {batch, 3, 4, 4}));
    mesh.vertices = shape->dim_size(1);
    mesh.lit = texture->dim_size(1);
    if (mesh.lit > mesh.vertices) {
      return tf::errors::InvalidArgument(op, ": texture has ", mesh.lit, " vertices, but shape only ", mesh.vertices);
    }
    TF_RETURN_IF_ERROR(CheckShape(op, "corners", corners, {-1, 3}));
    mesh.triangles = corners.dim_size(0);
    TF_RETURN_IF_ERROR(CheckShape(op, "around", around, {mesh.lit, -1}));
    mesh.around_width = around.dim_size(1);
    if (mesh.triangles < 1 || mesh.around_width < 1) {
      return tf::errors::InvalidArgument(op, ": corners and around must not be empty");
    }
    TF_RETURN_IF_ERROR(CheckIndices(op, "corners", corners, mesh.vertices));
    TF_RETURN_IF_ERROR(CheckIndices(op, "around", around, mesh.triangles));
    mesh.corners = Ints(corners);
    mesh.around = Ints(around);
    return Status();
  }
};

class FaceShadeOp : public OpKernel {
 public:
  explicit FaceShadeOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    ShadeInputs in;
    OP_REQUIRES_OK(context, in.Read(type_string(), context));
    const Mesh& mesh = in.mesh;
    Tensor *normals, *colors;
    OP_REQUIRES_OK(context, context->allocate_output(0, in.texture->shape(), &normals));
    OP_REQUIRES_OK(context, context->allocate_output(1, in.texture->shape(), &colors));
    Scratch<Vector> shape, triangle_normals;
    OP_REQUIRES_OK(context, shape.Allocate(context, mesh.vertices));
    OP_REQUIRES_OK(context, triangle_normals.Allocate(context, mesh.triangles));
    for (int64 face = 0; face < in.batch; face += kLanes) {
      Light light;
      PackLight(Floats(*in.light), in.batch, face, &light);
      RunSharded(context, mesh.vertices, 20, [&](int64 first, int64 last) {
        Pack(Floats(*in.shape), in.batch, mesh.vertices, face, first, last, shape.data());
      });
      RunSharded(context, mesh.triangles, 40, [&](int64 first, int64 last) {
        TriangleNormals(mesh, shape.data(), first, last, triangle_normals.data());
      });
      RunSharded(context, mesh.lit, 120, [&](int64 first, int64 last) {
        ShadeVertices(mesh, triangle_normals.data(), light, in.batch, face, first, last, Floats(*in.texture),
                      Floats(normals), Floats(colors));
      });
    }
  }
};

class FaceShadeGradOp : public OpKernel {
 public:
  explicit FaceShadeGradOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    ShadeInputs in;
    OP_REQUIRES_OK(context, in.Read(type_string(), context));
    const Mesh& mesh = in.mesh;
    OP_REQUIRES_OK(context, CheckShape(type_string(), "df_dnormals", context->input(5), {in.batch, mesh.lit, 3}));
    OP_REQUIRES_OK(context, CheckShape(type_string(), "df_dcolors", context->input(6), {in.batch, mesh.lit, 3}));
    Tensor* out[3];
    const Tensor* like[3] = {in.shape, in.texture, in.light};
    for (int i = 0; i < 3; ++i) OP_REQUIRES_OK(context, context->allocate_output(i, like[i]->shape(), &out[i]));
    const ShadeGradient gradient = {Floats(context->input(5)), Floats(context->input(6)), Floats(out[0]),
                                    Floats(out[1]), Floats(out[2])};
    const int64 size = 2 * (mesh.vertices + mesh.triangles);
    Scratch<Vector> rows;
    OP_REQUIRES_OK(context, rows.Allocate(context, in.groups * size));
    // One group per thread: many things are added to one place, always in the same order.
    RunSharded(context, in.groups, 300 * mesh.lit, [&](int64 first, int64 last) {
      for (int64 g = first; g < last; ++g) {
        Vector* const start = rows.data() + g * size;
        const GroupRows of = {start, start + mesh.vertices, start + 2 * mesh.vertices,
                              start + 2 * mesh.vertices + mesh.triangles};
        ShadeGroupGradient(mesh, in.batch, g * kLanes, Floats(*in.shape), Floats(*in.texture), Floats(*in.light),
                           gradient, of);
      }
    });
  }
};

// ---- registration

REGISTER_OP("FaceLinear")
    .Input("coefficients: float32")
    .Input("basis: float32")
    .Attr("rows: int")
    .Output("values: float32")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle coefficients;
      int64 rows;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &coefficients));
      TF_RETURN_IF_ERROR(c->GetAttr("rows", &rows));
      c->set_output(0, c->MakeShape({c->Dim(coefficients, 0), c->MakeDim(rows)}));
      return Status();
    });

REGISTER_OP("FaceLinearGrad")
    .Input("basis: float32")
    .Input("df_dvalues: float32")
    .Output("df_dcoefficients: float32")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle basis, df_dvalues;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 3, &basis));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &df_dvalues));
      c->set_output(0, c->MakeShape({c->Dim(df_dvalues, 0), c->Dim(basis, 1)}));
      return Status();
    });

REGISTER_OP("FaceShade")
    .Input("shape: float32")
    .Input("texture: float32")
    .Input("light: float32")
    .Input("corners: int32")
    .Input("around: int32")
    .Output("normals: float32")
    .Output("colors: float32")
    .SetShapeFn(LikeInputs<1, 1>);

REGISTER_OP("FaceShadeGrad")
    .Input("shape: float32")
    .Input("texture: float32")
    .Input("light: float32")
    .Input("corners: int32")
    .Input("around: int32")
    .Input("df_dnormals: float32")
    .Input("df_dcolors: float32")
    .Output("df_dshape: float32")
    .Output("df_dtexture: float32")
    .Output("df_dlight: float32")
    .SetShapeFn(LikeInputs<0, 1, 2>);

REGISTER_KERNEL_BUILDER(Name("FaceLinear").Device(tf::DEVICE_CPU), FaceLinearOp);
REGISTER_KERNEL_BUILDER(Name("FaceLinearGrad").Device(tf::DEVICE_CPU), FaceLinearGradOp);
REGISTER_KERNEL_BUILDER(Name("FaceShade").Device(tf::DEVICE_CPU), FaceShadeOp);
REGISTER_KERNEL_BUILDER(Name("FaceShadeGrad").Device(tf::DEVICE_CPU), FaceShadeGradOp);

}  // namespace face_decoder
