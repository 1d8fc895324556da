// The face decoder's kernels as TensorFlow ops: argument checks, buffers, threads, shape functions. The work is in the
// _impl files.

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "face_decoder_impl.h"
#include "op_common.h"

namespace face_decoder {

using namespace op_common;

namespace {

constexpr int64 kChunkBlocks = 64;     // Blocks of a basis whose gradient is summed by one thread.
constexpr int64 kBlockTriangles = 256;  // Triangles that one thread takes at a time.

// ---- argument checks

Status CheckIndices(const char* op, OpKernelContext* context, const char* name, const Tensor& indices, int64 count) {
  const int64 i = FirstBadIndex(context, indices, count);
  if (i < 0) return Status();
  return tf::errors::InvalidArgument(op, ": ", name, " ", indices.shape().DebugString(), " holds ",
                                     indices.flat<tf::int32>()(i), " at flat position ", i, ": expected 0 to ",
                                     count - 1);
}

// work(first, last) over `total` things, cut at multiples of `block`.
template <typename Work>
void RunInBlocks(OpKernelContext* context, int64 total, int64 block, int64 cost, const Work& work) {
  RunSharded(context, (total + block - 1) / block, cost * block, [&](int64 first, int64 last) {
    work(first * block, std::min<int64>(last * block, total));
  });
}

// A buffer of this op alone.
Status Scratch(OpKernelContext* context, int64 size, Tensor* tensor) {
  return context->allocate_temp(tf::DT_FLOAT, TensorShape({size}), tensor);
}

// Asks the system, once, to keep a constant in large pages, where it is read up to half as fast again: the table of
// small ones does not fit the processor. Where that is not possible, nothing changes.
class LargePages {
 public:
  void AskFor(const Tensor& tensor) {
#ifdef __linux__
    if (asked_.exchange(true)) return;
    constexpr uintptr_t kSize = 1 << 21;
    const auto bytes = tensor.tensor_data();
    const uintptr_t start = reinterpret_cast<uintptr_t>(bytes.data());
    const uintptr_t first = (start + kSize - 1) / kSize * kSize, last = (start + bytes.size()) / kSize * kSize;
    if (first >= last) return;
    void* const pages = reinterpret_cast<void*>(first);
    constexpr int kCollapse = 25;  // MADV_COLLAPSE: now, from Linux 6.1 on; before, and without it, in the background.
    if (madvise(pages, last - first, MADV_HUGEPAGE) == 0) madvise(pages, last - first, kCollapse);
#endif
  }

 private:
  std::atomic<bool> asked_{false};
};

// Adds up `chunks` arrays of `count` numbers -> doubles.
std::vector<double> SumOfChunks(const Tensor& values, int64 chunks, int64 count) {
  std::vector<double> sums(count);
  SumChunks(Floats(values), chunks, count, sums.data());
  return sums;
}

// ---- shape functions

Status LinearShape(InferenceContext* c) {
  ShapeHandle coefficients, mean;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &coefficients));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(3), 2, &mean));
  c->set_output(0, c->MakeShape({c->Dim(coefficients, 0), c->Dim(mean, 0), c->MakeDim(3)}));
  return Status();
}

Status LikeFirstInput(InferenceContext* c) {
  c->set_output(0, c->input(0));
  return Status();
}

Status ShadeShape(InferenceContext* c) {
  bool with_normals;
  TF_RETURN_IF_ERROR(c->GetAttr("with_normals", &with_normals));
  c->set_output(0, with_normals ? c->input(1) : c->MakeShape({0, 0, 3}));
  c->set_output(1, c->input(1));
  for (int i = 2; i < 5; ++i) c->set_output(i, c->UnknownShapeOfRank(1));
  return Status();
}

Status ShadeGradShape(InferenceContext* c) {
  for (int i = 0; i < 3; ++i) c->set_output(i, c->input(i));
  return Status();
}

}  // namespace

// ---- kernels

// Checked inputs of the two linear kernels. Columns of the basis, in order, belong to runs of coefficients; `runs`
// holds first and past-the-last place of each.
struct LinearInputs {
  std::vector<tf::int32> runs;
  Linear linear;
  Faces faces;
  int64 width;

  Status Configure(OpKernelConstruction* context) { return context->GetAttr("runs", &runs); }

  Status Read(const char* op, OpKernelContext* context, int64 vertices) {
    const Tensor& coefficients = context->input(0);
    const Tensor& basis = context->input(1);
    const Tensor& scale = context->input(2);
    linear.rows = 3 * vertices;
    TF_RETURN_IF_ERROR(CheckShape(op, "basis", basis, {Blocks(linear.rows), -1, kLine}));
    linear.columns = basis.dim_size(1);
    linear.basis = basis.flat<tf::int32>().data();
    TF_RETURN_IF_ERROR(CheckShape(op, "scale", scale, {linear.columns}));
    TF_RETURN_IF_ERROR(CheckShape(op, "coefficients", coefficients, {-1, -1}));
    faces.batch = coefficients.dim_size(0);
    width = coefficients.dim_size(1);
    int64 count = 0;
    bool is_good = runs.size() % 2 == 0;
    for (size_t i = 0; is_good && i < runs.size(); i += 2) {
      is_good = 0 <= runs[i] && runs[i] <= runs[i + 1] && runs[i + 1] <= width;
      count += runs[i + 1] - runs[i];
    }
    if (is_good && count == linear.columns) return Status();
    return tf::errors::InvalidArgument(op, ": runs must name ", linear.columns, " of the ", width, " coefficients");
  }

  // visit(column, place): where the coefficient of each column stands.
  template <typename Visit>
  void ForEachColumn(const Visit& visit) const {
    int64 column = 0;
    for (size_t i = 0; i < runs.size(); i += 2) {
      for (int64 place = runs[i]; place < runs[i + 1]; ++place) visit(column++, place);
    }
  }
};

class FaceLinearOp : public OpKernel {
 public:
  explicit FaceLinearOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, inputs_.Configure(context));
  }

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "FaceLinear";
    const Tensor& mean = context->input(3);
    OP_REQUIRES_OK(context, CheckShape(kOp, "mean", mean, {-1, 3}));
    LinearInputs in = inputs_;
    OP_REQUIRES_OK(context, in.Read(kOp, context, mean.dim_size(0)));
    in.linear.mean = Floats(mean);
    Tensor* points;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({in.faces.batch, mean.dim_size(0), 3}), &points));

    const int64 columns = in.linear.columns;
    const float *coefficients = Floats(context->input(0)), *scale = Floats(context->input(2));
    const int64 width = in.faces.batch == 1 ? 1 : in.faces.Width();
    std::vector<float> rows(in.faces.Groups() * columns * width);
    in.ForEachColumn([&](int64 column, int64 place) {
      for (int64 f = 0; f < in.faces.batch; ++f) {
        const float scaled = coefficients[f * in.width + place] * scale[column];
        rows[(f / width * columns + column) * width + f % width] = scaled;
      }
    });
    pages_.AskFor(context->input(1));
    RunSharded(context, Blocks(in.linear.rows), 24 * columns * in.faces.Groups(), [&](int64 first, int64 last) {
      LinearBlocks(in.linear, in.faces, rows.data(), first, last, Floats(points));
    });
  }

 private:
  LinearInputs inputs_;
  LargePages pages_;
};

class FaceLinearGradOp : public OpKernel {
 public:
  explicit FaceLinearGradOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, inputs_.Configure(context));
  }

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "FaceLinearGrad";
    const Tensor& df_dpoints = context->input(3);
    OP_REQUIRES_OK(context, CheckShape(kOp, "df_dpoints", df_dpoints, {-1, -1, 3}));
    LinearInputs in = inputs_;
    OP_REQUIRES_OK(context, in.Read(kOp, context, df_dpoints.dim_size(1)));
    OP_REQUIRES_OK(context, CheckShape(kOp, "df_dpoints", df_dpoints, {in.faces.batch, -1, 3}));
    Tensor* df_dcoefficients;
    OP_REQUIRES_OK(context, context->allocate_output(0, context->input(0).shape(), &df_dcoefficients));

    const int64 columns = in.linear.columns, size = in.faces.batch * columns, blocks = Blocks(in.linear.rows);
    const int64 chunks = (blocks + kChunkBlocks - 1) / kChunkBlocks;
    Tensor parts;
    OP_REQUIRES_OK(context, Scratch(context, chunks * size, &parts));
    RunSharded(context, chunks, 24 * kChunkBlocks * columns * in.faces.Groups(), [&](int64 first, int64 last) {
      for (int64 i = first; i < last; ++i) {
        const int64 end = std::min<int64>((i + 1) * kChunkBlocks, blocks);
        LinearBlocksGradient(in.linear, in.faces, Floats(df_dpoints), i * kChunkBlocks, end, Floats(&parts) + i * size);
      }
    });
    const std::vector<double> sums = SumOfChunks(parts, chunks, size);
    const float* const scale = Floats(context->input(2));
    float* const out = Floats(df_dcoefficients);
    std::fill(out, out + in.faces.batch * in.width, 0.0f);
    in.ForEachColumn([&](int64 column, int64 place) {
      const double whole = static_cast<double>(scale[column]) * kIntegers;
      for (int64 f = 0; f < in.faces.batch; ++f) {
        out[f * in.width + place] += static_cast<float>(sums[f * columns + column] * whole);
      }
    });
  }

 private:
  LinearInputs inputs_;
};

// Where a pose lies in the coefficients.
Status ReadPlaces(OpKernelConstruction* context, std::vector<tf::int32>* places) {
  TF_RETURN_IF_ERROR(context->GetAttr("places", places));
  if (places->size() == 3) return Status();
  return tf::errors::InvalidArgument("places must be of angles, lighting and translation, got ", places->size());
}

Status CheckPlaces(const char* op, const Tensor& coefficients, const std::vector<tf::int32>& places) {
  TF_RETURN_IF_ERROR(CheckShape(op, "coefficients", coefficients, {-1, -1}));
  const int64 sizes[3] = {3, 3 * kHarmonics, 3};
  for (int i = 0; i < 3; ++i) {
    if (places[i] >= 0 && places[i] + sizes[i] <= coefficients.dim_size(1)) continue;
    return tf::errors::InvalidArgument(op, ": coefficients ", coefficients.shape().DebugString(), " have no ", sizes[i],
                                       " numbers at ", places[i]);
  }
  return Status();
}

class FacePoseOp : public OpKernel {
 public:
  explicit FacePoseOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadPlaces(context, &places_));
    OP_REQUIRES_OK(context, context->GetAttr("ambient", &model_.ambient));
  }

  void Compute(OpKernelContext* context) override {
    PoseModel model;
    OP_REQUIRES_OK(context, Read("FacePose", context, &model));
    const Tensor& coefficients = context->input(0);
    const int64 batch = coefficients.dim_size(0), width = coefficients.dim_size(1);
    Tensor *rotation, *light, *projection;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({batch, 3, 3}), &rotation));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({batch, 3, kMonomials}), &light));
    OP_REQUIRES_OK(context, context->allocate_output(2, TensorShape({batch, 4, 4}), &projection));
    for (int64 f = 0; f < batch; ++f) {
      Pose(model, Floats(coefficients) + f * width, Floats(rotation) + 9 * f, Floats(light) + kLightRows * f,
           Floats(projection) + 16 * f);
    }
  }

 protected:
  Status Read(const char* op, OpKernelContext* context, PoseModel* model) const {
    *model = model_;
    TF_RETURN_IF_ERROR(CheckPlaces(op, context->input(0), places_));
    TF_RETURN_IF_ERROR(CheckShape(op, "harmonics", context->input(1), {kHarmonics, kTerms}));
    TF_RETURN_IF_ERROR(CheckShape(op, "camera", context->input(2), {4, 4}));
    model->angles = places_[0];
    model->lighting = places_[1];
    model->translation = places_[2];
    model->harmonics = Floats(context->input(1));
    model->camera = Floats(context->input(2));
    return Status();
  }

 private:
  std::vector<tf::int32> places_;
  PoseModel model_;
};

class FacePoseGradOp : public FacePoseOp {
 public:
  explicit FacePoseGradOp(OpKernelConstruction* context) : FacePoseOp(context) {}

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "FacePoseGrad";
    PoseModel model;
    OP_REQUIRES_OK(context, Read(kOp, context, &model));
    const Tensor& coefficients = context->input(0);
    const int64 batch = coefficients.dim_size(0), width = coefficients.dim_size(1);
    OP_REQUIRES_OK(context, CheckShape(kOp, "df_drotation", context->input(3), {batch, 3, 3}));
    OP_REQUIRES_OK(context, CheckShape(kOp, "df_dlight", context->input(4), {batch, 3, kMonomials}));
    OP_REQUIRES_OK(context, CheckShape(kOp, "df_dprojection", context->input(5), {batch, 4, 4}));
    Tensor* df_dcoefficients;
    OP_REQUIRES_OK(context, context->allocate_output(0, coefficients.shape(), &df_dcoefficients));
    float* const out = Floats(df_dcoefficients);
    std::fill(out, out + batch * width, 0.0f);
    for (int64 f = 0; f < batch; ++f) {
      PoseGradient(model, Floats(coefficients) + f * width, Floats(context->input(3)) + 9 * f,
                   Floats(context->input(4)) + kLightRows * f, Floats(context->input(5)) + 16 * f, out + f * width);
    }
  }
};

// Checked inputs of the two placing kernels.
struct PlaceInputs {
  std::vector<tf::int32> places;
  const Tensor *points, *coefficients;
  int64 batch, count, width;

  Status Read(const char* op, OpKernelContext* context) {
    points = &context->input(0);
    coefficients = &context->input(1);
    TF_RETURN_IF_ERROR(CheckPlaces(op, *coefficients, places));
    batch = coefficients->dim_size(0);
    width = coefficients->dim_size(1);
    TF_RETURN_IF_ERROR(CheckShape(op, "points", *points, {batch, -1, 3}));
    count = points->dim_size(1);
    return Status();
  }
  const float* Angles(int64 face) const { return Floats(*coefficients) + face * width + places[0]; }
  const float* Translation(int64 face) const { return Floats(*coefficients) + face * width + places[2]; }
};

class FacePlaceOp : public OpKernel {
 public:
  explicit FacePlaceOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadPlaces(context, &inputs_.places));
  }

  void Compute(OpKernelContext* context) override {
    PlaceInputs in = inputs_;
    OP_REQUIRES_OK(context, in.Read("FacePlace", context));
    Tensor* placed;
    OP_REQUIRES_OK(context, context->allocate_output(0, in.points->shape(), &placed));
    RunSharded(context, in.batch, 1000 + 10 * in.count, [&](int64 first, int64 last) {
      for (int64 f = first; f < last; ++f) {
        const int64 start = 3 * f * in.count;
        Place(Floats(*in.points) + start, in.count, in.Angles(f), in.Translation(f), Floats(placed) + start);
      }
    });
  }

 private:
  PlaceInputs inputs_;
};

class FacePlaceGradOp : public OpKernel {
 public:
  explicit FacePlaceGradOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadPlaces(context, &inputs_.places));
  }

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "FacePlaceGrad";
    PlaceInputs in = inputs_;
    OP_REQUIRES_OK(context, in.Read(kOp, context));
    const Tensor& df_dplaced = context->input(2);
    OP_REQUIRES_OK(context, CheckShape(kOp, "df_dplaced", df_dplaced, {in.batch, in.count, 3}));
    Tensor *df_dpoints, *df_dcoefficients;
    OP_REQUIRES_OK(context, context->allocate_output(0, in.points->shape(), &df_dpoints));
    OP_REQUIRES_OK(context, context->allocate_output(1, in.coefficients->shape(), &df_dcoefficients));
    float* const out = Floats(df_dcoefficients);
    std::fill(out, out + in.batch * in.width, 0.0f);
    // One face per thread: the order of additions is the same for any number of threads.
    RunSharded(context, in.batch, 1000 + 30 * in.count, [&](int64 first, int64 last) {
      for (int64 f = first; f < last; ++f) {
        const int64 start = 3 * f * in.count;
        float* const df = out + f * in.width;
        PlaceGradient(Floats(*in.points) + start, in.count, in.Angles(f), Floats(df_dplaced) + start,
                      Floats(df_dpoints) + start, df + in.places[0], df + in.places[2]);
      }
    });
  }

 private:
  PlaceInputs inputs_;
};

// Checked inputs of the two shading kernels, and the group of faces that is at work.
struct ShadeInputs {
  const Tensor *shape, *texture, *light;
  Mesh mesh;
  Faces faces;
  Tensor packed_light;
  float *shape_rows, *triangle_rows, *vertex_rows;

  Status Read(const char* op, OpKernelContext* context) {
    shape = &context->input(0);
    texture = &context->input(1);
    light = &context->input(2);
    TF_RETURN_IF_ERROR(CheckShape(op, "shape", *shape, {-1, -1, 3}));
    const int64 batch = shape->dim_size(0);
    TF_RETURN_IF_ERROR(CheckShape(op, "texture", *texture, {batch, -1, 3}));
    TF_RETURN_IF_ERROR(CheckShape(op, "light", *light, {batch, 3, kMonomials}));
    faces.batch = batch;
    mesh.vertices = shape->dim_size(1);
    mesh.lit = texture->dim_size(1);
    if (mesh.lit > mesh.vertices) {
      return tf::errors::InvalidArgument(op, ": texture has ", mesh.lit, " vertices, but shape only ", mesh.vertices);
    }
    TF_RETURN_IF_ERROR(ReadTables(op, context));
    TF_RETURN_IF_ERROR(Scratch(context, faces.Groups() * kLightRows * faces.Width(), &packed_light));
    PackRows(faces, Floats(*light), kLightRows, Floats(&packed_light));
    return Status();
  }

  // Tables that the forward pass does not use are checked all the same: a bad one is found at once.
  Status ReadTables(const char* op, OpKernelContext* context) {
    const Tensor& corners = context->input(3);
    const Tensor& around = context->input(4);
    const Tensor& around_back = context->input(5);
    const Tensor& corners_back = context->input(6);
    TF_RETURN_IF_ERROR(CheckShape(op, "corners", corners, {3, -1}));
    mesh.triangles = corners.dim_size(1);
    TF_RETURN_IF_ERROR(CheckShape(op, "around", around, {mesh.lit + 1, -1}));
    TF_RETURN_IF_ERROR(CheckShape(op, "around_back", around_back, {mesh.triangles, -1}));
    TF_RETURN_IF_ERROR(CheckShape(op, "corners_back", corners_back, {mesh.vertices, -1}));
    mesh.around_width = around.dim_size(1);
    mesh.around_back_width = around_back.dim_size(1);
    mesh.corners_back_width = corners_back.dim_size(1);
    if (mesh.triangles < 1 || mesh.around_width < 1 || mesh.around_back_width < 1 || mesh.corners_back_width < 1) {
      return tf::errors::InvalidArgument(op, ": corners, around, around_back and corners_back must not be empty");
    }
    TF_RETURN_IF_ERROR(CheckIndices(op, context, "corners", corners, mesh.vertices));
    TF_RETURN_IF_ERROR(CheckIndices(op, context, "around", around, mesh.triangles));
    TF_RETURN_IF_ERROR(CheckIndices(op, context, "around_back", around_back, mesh.lit + 1));
    TF_RETURN_IF_ERROR(CheckIndices(op, context, "corners_back", corners_back, 3 * mesh.triangles));
    mesh.corners = corners.flat<tf::int32>().data();
    mesh.around = around.flat<tf::int32>().data();
    mesh.around_back = around_back.flat<tf::int32>().data();
    mesh.corners_back = corners_back.flat<tf::int32>().data();
    return Status();
  }

  // Sizes of one group's rows.
  int64 ShapeSize() const { return mesh.vertices * 3 * faces.Width(); }
  int64 TriangleSize() const { return mesh.triangles * 4 * faces.Width(); }
  int64 VertexSize() const { return mesh.lit * 4 * faces.Width(); }

  Group Of(int64 group) {
    return {group * faces.Width(), faces.Lanes(group), faces.Width(), shape_rows + group * ShapeSize(),
            triangle_rows + group * TriangleSize(), vertex_rows + group * VertexSize(),
            Floats(packed_light) + group * kLightRows * faces.Width()};
  }
};

class FaceShadeOp : public OpKernel {
 public:
  explicit FaceShadeOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("with_normals", &with_normals_));
  }

  void Compute(OpKernelContext* context) override {
    ShadeInputs in;
    OP_REQUIRES_OK(context, in.Read("FaceShade", context));
    Tensor *normals, *colors, *rows[3];
    const TensorShape none({0, 0, 3});
    OP_REQUIRES_OK(context, context->allocate_output(0, with_normals_ ? in.texture->shape() : none, &normals));
    OP_REQUIRES_OK(context, context->allocate_output(1, in.texture->shape(), &colors));
    const int64 sizes[3] = {in.ShapeSize(), in.TriangleSize(), in.VertexSize()};
    for (int i = 0; i < 3; ++i) {
      const TensorShape shape({in.faces.Groups() * sizes[i]});
      OP_REQUIRES_OK(context, context->allocate_output(2 + i, shape, &rows[i]));
    }
    in.shape_rows = Floats(rows[0]);
    in.triangle_rows = Floats(rows[1]);
    in.vertex_rows = Floats(rows[2]);
    const Mesh& mesh = in.mesh;
    for (int64 g = 0; g < in.faces.Groups(); ++g) {
      const Group group = in.Of(g);
      RunInBlocks(context, mesh.vertices, kTileVertices, 30, [&](int64 first, int64 last) {
        PackShape(mesh, Floats(*in.shape), first, last, group);
      });
      RunInBlocks(context, mesh.triangles, kBlockTriangles, 40, [&](int64 first, int64 last) {
        TriangleNormals(mesh, first, last, group);
      });
      RunSharded(context, Tiles(mesh.lit), 120 * kTileVertices, [&](int64 first, int64 last) {
        ShadeTiles(mesh, Floats(*in.texture), first, last, group, with_normals_ ? Floats(normals) : nullptr,
                   Floats(colors));
      });
    }
  }

 private:
  bool with_normals_;
};

class FaceShadeGradOp : public OpKernel {
 public:
  explicit FaceShadeGradOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    static const char* const kOp = "FaceShadeGrad";
    ShadeInputs in;
    OP_REQUIRES_OK(context, in.Read(kOp, context));
    const Mesh& mesh = in.mesh;
    const int64 groups = in.faces.Groups();
    OP_REQUIRES_OK(context, CheckShape(kOp, "shape_rows", context->input(7), {groups * in.ShapeSize()}));
    OP_REQUIRES_OK(context, CheckShape(kOp, "triangle_rows", context->input(8), {groups * in.TriangleSize()}));
    OP_REQUIRES_OK(context, CheckShape(kOp, "vertex_rows", context->input(9), {groups * in.VertexSize()}));
    in.shape_rows = const_cast<float*>(Floats(context->input(7)));  // Only read here.
    in.triangle_rows = const_cast<float*>(Floats(context->input(8)));
    in.vertex_rows = const_cast<float*>(Floats(context->input(9)));
    const std::vector<int64> like = {in.faces.batch, mesh.lit, 3};
    const bool with_normals = context->input(10).NumElements() > 0;
    if (with_normals) OP_REQUIRES_OK(context, CheckShape(kOp, "df_dnormals", context->input(10), like));
    OP_REQUIRES_OK(context, CheckShape(kOp, "df_dcolors", context->input(11), like));
    Tensor *df_dshape, *df_dtexture, *df_dlight;
    OP_REQUIRES_OK(context, context->allocate_output(0, in.shape->shape(), &df_dshape));
    OP_REQUIRES_OK(context, context->allocate_output(1, in.texture->shape(), &df_dtexture));
    OP_REQUIRES_OK(context, context->allocate_output(2, in.light->shape(), &df_dlight));
    const ShadeGradient gradient = {Floats(*in.texture), with_normals ? Floats(context->input(10)) : nullptr,
                                    Floats(context->input(11)), Floats(df_dtexture)};

    const int64 chunks = Chunks(mesh.lit), width = in.faces.Width(), light_size = kLightRows * width;
    Tensor df_dsums, df_dcorners, df_dlights;
    OP_REQUIRES_OK(context, Scratch(context, (mesh.lit + 1) * 3 * width, &df_dsums));
    OP_REQUIRES_OK(context, Scratch(context, 9 * mesh.triangles * width, &df_dcorners));
    OP_REQUIRES_OK(context, Scratch(context, chunks * light_size, &df_dlights));
    std::fill(Floats(&df_dsums) + mesh.lit * 3 * width, Floats(&df_dsums) + (mesh.lit + 1) * 3 * width, 0.0f);
    for (int64 g = 0; g < groups; ++g) {
      const Group group = in.Of(g);
      RunSharded(context, chunks, 200 * kChunkTiles * kTileVertices, [&](int64 first, int64 last) {
        for (int64 i = first; i < last; ++i) {
          const int64 end = std::min<int64>((i + 1) * kChunkTiles, Tiles(mesh.lit));
          ShadeTilesGradient(gradient, mesh.lit, i * kChunkTiles, end, group, Floats(&df_dsums),
                             Floats(&df_dlights) + i * light_size);
        }
      });
      const std::vector<double> sums = SumOfChunks(df_dlights, chunks, light_size);
      for (int lane = 0; lane < group.lanes; ++lane) {
        float* const out = Floats(df_dlight) + (group.first_face + lane) * kLightRows;
        for (int64 i = 0; i < kLightRows; ++i) out[i] = static_cast<float>(sums[i * width + lane]);
      }
      RunInBlocks(context, mesh.triangles, kBlockTriangles, 80, [&](int64 first, int64 last) {
        TriangleNormalsGradient(mesh, Floats(df_dsums), first, last, group, Floats(&df_dcorners));
      });
      RunSharded(context, Tiles(mesh.vertices), 60 * kTileVertices, [&](int64 first, int64 last) {
        ShapeGradientTiles(mesh, Floats(df_dcorners), first, last, group, Floats(df_dshape));
      });
    }
  }
};

// ---- registration

REGISTER_OP("FaceLinear")
    .Input("coefficients: float32")
    .Input("basis: int32")
    .Input("scale: float32")
    .Input("mean: float32")
    .Attr("runs: list(int)")
    .Output("points: float32")
    .SetShapeFn(LinearShape);

REGISTER_OP("FaceLinearGrad")
    .Input("coefficients: float32")
    .Input("basis: int32")
    .Input("scale: float32")
    .Input("df_dpoints: float32")
    .Attr("runs: list(int)")
    .Output("df_dcoefficients: float32")
    .SetShapeFn(LikeFirstInput);

REGISTER_OP("FacePose")
    .Input("coefficients: float32")
    .Input("harmonics: float32")
    .Input("camera: float32")
    .Attr("places: list(int)")
    .Attr("ambient: float")
    .Output("rotation: float32")
    .Output("light: float32")
    .Output("projection: float32")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle coefficients;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &coefficients));
      const DimensionHandle batch = c->Dim(coefficients, 0);
      c->set_output(0, c->MakeShape({batch, c->MakeDim(3), c->MakeDim(3)}));
      c->set_output(1, c->MakeShape({batch, c->MakeDim(3), c->MakeDim(kMonomials)}));
      c->set_output(2, c->MakeShape({batch, c->MakeDim(4), c->MakeDim(4)}));
      return Status();
    });

REGISTER_OP("FacePoseGrad")
    .Input("coefficients: float32")
    .Input("harmonics: float32")
    .Input("camera: float32")
    .Input("df_drotation: float32")
    .Input("df_dlight: float32")
    .Input("df_dprojection: float32")
    .Attr("places: list(int)")
    .Attr("ambient: float")
    .Output("df_dcoefficients: float32")
    .SetShapeFn(LikeFirstInput);

REGISTER_OP("FacePlace")
    .Input("points: float32")
    .Input("coefficients: float32")
    .Attr("places: list(int)")
    .Output("placed: float32")
    .SetShapeFn(LikeFirstInput);

REGISTER_OP("FacePlaceGrad")
    .Input("points: float32")
    .Input("coefficients: float32")
    .Input("df_dplaced: float32")
    .Attr("places: list(int)")
    .Output("df_dpoints: float32")
    .Output("df_dcoefficients: float32")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(0));
      c->set_output(1, c->input(1));
      return Status();
    });

// The last three outputs are for the gradient alone.
REGISTER_OP("FaceShade")
    .Input("shape: float32")
    .Input("texture: float32")
    .Input("light: float32")
    .Input("corners: int32")
    .Input("around: int32")
    .Input("around_back: int32")
    .Input("corners_back: int32")
    .Attr("with_normals: bool = true")
    .Output("normals: float32")
    .Output("colors: float32")
    .Output("shape_rows: float32")
    .Output("triangle_rows: float32")
    .Output("vertex_rows: float32")
    .SetShapeFn(ShadeShape);

REGISTER_OP("FaceShadeGrad")
    .Input("shape: float32")
    .Input("texture: float32")
    .Input("light: float32")
    .Input("corners: int32")
    .Input("around: int32")
    .Input("around_back: int32")
    .Input("corners_back: int32")
    .Input("shape_rows: float32")
    .Input("triangle_rows: float32")
    .Input("vertex_rows: float32")
    .Input("df_dnormals: float32")
    .Input("df_dcolors: float32")
    .Output("df_dshape: float32")
    .Output("df_dtexture: float32")
    .Output("df_dlight: float32")
    .SetShapeFn(ShadeGradShape);

REGISTER_KERNEL_BUILDER(Name("FaceLinear").Device(tf::DEVICE_CPU), FaceLinearOp);
REGISTER_KERNEL_BUILDER(Name("FaceLinearGrad").Device(tf::DEVICE_CPU), FaceLinearGradOp);
REGISTER_KERNEL_BUILDER(Name("FacePose").Device(tf::DEVICE_CPU), FacePoseOp);
REGISTER_KERNEL_BUILDER(Name("FacePoseGrad").Device(tf::DEVICE_CPU), FacePoseGradOp);
REGISTER_KERNEL_BUILDER(Name("FacePlace").Device(tf::DEVICE_CPU), FacePlaceOp);
REGISTER_KERNEL_BUILDER(Name("FacePlaceGrad").Device(tf::DEVICE_CPU), FacePlaceGradOp);
REGISTER_KERNEL_BUILDER(Name("FaceShade").Device(tf::DEVICE_CPU), FaceShadeOp);
REGISTER_KERNEL_BUILDER(Name("FaceShadeGrad").Device(tf::DEVICE_CPU), FaceShadeGradOp);

}  // namespace face_decoder
