// The image layers' kernels as TensorFlow ops: argument checks, buffers, threads, shape functions. The work is in the
// _impl files.

#include "image_layers_impl.h"
#include "op_common.h"

namespace image_layers {

using namespace op_common;

// How kernels see the values of a tensor: bfloat16 as its bits.
template <typename T>
struct Raw {
  typedef T Type;
};
template <>
struct Raw<tf::bfloat16> {
  typedef uint16_t Type;
};

template <typename T>
const typename Raw<T>::Type* Values(const Tensor& tensor) {
  return reinterpret_cast<const typename Raw<T>::Type*>(tensor.flat<T>().data());
}

template <typename T>
typename Raw<T>::Type* Values(Tensor* tensor) {
  return reinterpret_cast<typename Raw<T>::Type*>(tensor->flat<T>().data());
}

// ---- noise, bias, leaky ReLU, instance norm, style

// Runs first(image, block) for all blocks of an image, then between(image), then second(image, block) for all blocks.
template <typename First, typename Between, typename Second>
void RunTwoPasses(OpKernelContext* context, const Images& size, int64 cost, const First& first,
                  const Between& between, const Second& second) {
  const int64 blocks = size.Blocks(), values = size.BlockPixels() * size.channels;
  if (size.images >= NumThreads(context)) {  // The second pass finds an image in the cache.
    RunSharded(context, size.images, 2 * cost * size.pixels * size.channels, [&](int64 begin, int64 end) {
      for (int64 image = begin; image < end; ++image) {
        for (int64 block = 0; block < blocks; ++block) first(image, block);
        between(image);
        for (int64 block = 0; block < blocks; ++block) second(image, block);
      }
    });
    return;
  }
  RunSharded(context, size.images * blocks, cost * values, [&](int64 begin, int64 end) {
    for (int64 i = begin; i < end; ++i) first(i / blocks, i % blocks);
  });
  for (int64 image = 0; image < size.images; ++image) between(image);
  RunSharded(context, size.images * blocks, cost * values, [&](int64 begin, int64 end) {
    for (int64 i = begin; i < end; ++i) second(i / blocks, i % blocks);
  });
}

// What the op and its gradient share; the inputs x, noise, weight, bias and scale begin at number `at`.
template <typename T>
class StyleOpBase : public OpKernel {
 public:
  explicit StyleOpBase(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("alpha", &alpha_));
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
  }

 protected:
  typedef typename Raw<T>::Type Value;

  Status Read(OpKernelContext* context, int at, Style<Value>* style) const {
    const std::string op = this->type_string();
    const Tensor &x = context->input(at), &noise = context->input(at + 1);
    TF_RETURN_IF_ERROR(CheckShape(op, "x", x, {-1, -1, -1, -1}));
    Images& size = style->size;
    size.images = x.dim_size(0);
    size.pixels = x.dim_size(1) * x.dim_size(2);
    size.channels = x.dim_size(3);
    if (size.images > 0 && size.pixels * size.channels == 0) {
      return tf::errors::InvalidArgument(op, ": images without pixels, ", x.shape().DebugString());
    }
    style->noise_images = noise.dims() > 0 && noise.dim_size(0) == 1 ? 1 : size.images;
    TF_RETURN_IF_ERROR(CheckShape(op, "noise", noise, {style->noise_images, 1, x.dim_size(1), x.dim_size(2)}));
    TF_RETURN_IF_ERROR(CheckShape(op, "weight", context->input(at + 2), {size.channels}));
    TF_RETURN_IF_ERROR(CheckShape(op, "bias", context->input(at + 3), {size.channels}));
    TF_RETURN_IF_ERROR(CheckShape(op, "scale", context->input(at + 4), {size.images, size.channels}));
    style->x = Values<T>(x);
    style->noise = Floats(noise);
    style->weight = Floats(context->input(at + 2));
    style->bias = Floats(context->input(at + 3));
    style->scale = Floats(context->input(at + 4));
    style->alpha = alpha_;
    style->epsilon = epsilon_;
    return Status();
  }

  static int64 PartsSize(const Images& size) { return size.images * size.Blocks() * 2 * size.channels; }

 private:
  float alpha_, epsilon_;
};

template <typename T>
class NoiseStyleOp : public StyleOpBase<T> {
 public:
  explicit NoiseStyleOp(OpKernelConstruction* context) : StyleOpBase<T>(context) {}

  void Compute(OpKernelContext* context) override {
    Style<typename Raw<T>::Type> style;
    OP_REQUIRES_OK(context, this->Read(context, 0, &style));
    const Images& size = style.size;
    const TensorShape statistics({size.images, size.channels});
    OP_REQUIRES_OK(context, CheckShape(this->type_string(), "shift", context->input(5), {size.images, size.channels}));
    style.shift = Floats(context->input(5));
    Tensor *y, *mean, *factor;
    OP_REQUIRES_OK(context, context->allocate_output(0, context->input(0).shape(), &y));
    OP_REQUIRES_OK(context, context->allocate_output(1, statistics, &mean));
    OP_REQUIRES_OK(context, context->allocate_output(2, statistics, &factor));
    style.mean = Floats(mean);
    style.factor = Floats(factor);
    Scratch<float> parts;
    OP_REQUIRES_OK(context, parts.Allocate(context, this->PartsSize(size)));
    RunTwoPasses(
        context, size, 1, [&](int64 image, int64 block) { StyleSums(style, image, block, parts.data()); },
        [&](int64 image) { StyleStatistics(style, image, parts.data()); },
        [&](int64 image, int64 block) { StyleWrite(style, image, block, Values<T>(y)); });
  }
};

template <typename T>
class NoiseStyleGradOp : public StyleOpBase<T> {
 public:
  explicit NoiseStyleGradOp(OpKernelConstruction* context) : StyleOpBase<T>(context) {}

  void Compute(OpKernelContext* context) override {
    typedef typename Raw<T>::Type Value;
    Style<Value> style;
    OP_REQUIRES_OK(context, this->Read(context, 1, &style));
    const Images& size = style.size;
    const Tensor& x = context->input(1);
    OP_REQUIRES_OK(context, CheckShape(this->type_string(), "dy", context->input(0),
                                       {x.dim_size(0), x.dim_size(1), x.dim_size(2), x.dim_size(3)}));
    for (int i : {6, 7}) {
      OP_REQUIRES_OK(context, CheckShape(this->type_string(), i == 6 ? "mean" : "factor", context->input(i),
                                         {size.images, size.channels}));
    }
    style.mean = const_cast<float*>(Floats(context->input(6)));  // Read only.
    style.factor = const_cast<float*>(Floats(context->input(7)));
    Tensor* out[5];
    const TensorShape channels({size.channels}), both({size.images, size.channels});
    const TensorShape shapes[5] = {x.shape(), channels, channels, both, both};
    for (int i = 0; i < 5; ++i) OP_REQUIRES_OK(context, context->allocate_output(i, shapes[i], &out[i]));
    const StyleGradient<Value> gradient = {Values<T>(context->input(0)), Values<T>(out[0]), Floats(out[1]),
                                           Floats(out[2]), Floats(out[3]), Floats(out[4])};
    Scratch<float> parts;
    OP_REQUIRES_OK(context, parts.Allocate(context, this->PartsSize(size)));
    RunTwoPasses(
        context, size, 2,
        [&](int64 image, int64 block) { StyleGradientSums(style, gradient, image, block, parts.data()); },
        [&](int64 image) { StyleGradientStatistics(style, gradient, image, parts.data()); },
        [&](int64 image, int64 block) { StyleGradientWrite(style, gradient, image, block, parts.data()); });
    StyleGradientTotals(style, gradient, parts.data());
  }
};

// ---- blur, leaky ReLU

template <typename T>
class BlurOp : public OpKernel {
 public:
  explicit BlurOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    OP_REQUIRES_OK(context, CheckShape(type_string(), "x", x, {-1, -1, -1, -1}));
    Tensor* y;
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &y));
    if (x.NumElements() == 0) return;
    const int64 height = x.dim_size(1), width = x.dim_size(2), channels = x.dim_size(3);
    RunSharded(context, x.dim_size(0) * height, width * channels, [&](int64 first, int64 last) {
      std::vector<float> row(width * channels);
      BlurRows(Values<T>(x), height, width, channels, first, last, row.data(), Values<T>(y));
    });
  }
};

template <typename T>
class LeakySlopeOp : public OpKernel {
 public:
  explicit LeakySlopeOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("alpha", &alpha_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &dy = context->input(0), &y = context->input(1);
    OP_REQUIRES(context, dy.shape() == y.shape(),
                tf::errors::InvalidArgument(type_string(), ": dy has shape ", dy.shape().DebugString(), ", y ",
                                            y.shape().DebugString()));
    Tensor* out;
    OP_REQUIRES_OK(context, context->allocate_output(0, dy.shape(), &out));
    RunSharded(context, dy.NumElements(), 1, [&](int64 first, int64 last) {
      LeakySlope(Values<T>(dy), Values<T>(y), alpha_, first, last, Values<T>(out));
    });
  }

 private:
  float alpha_;
};

// ---- registration

REGISTER_OP("NoiseStyle")
    .Input("x: T")
    .Input("noise: float32")
    .Input("weight: float32")
    .Input("bias: float32")
    .Input("scale: float32")
    .Input("shift: float32")
    .Attr("T: {float32, bfloat16}")
    .Attr("alpha: float")
    .Attr("epsilon: float")
    .Output("y: T")
    .Output("mean: float32")
    .Output("factor: float32")
    .SetShapeFn(LikeInputs<0, 4, 4>);

REGISTER_OP("NoiseStyleGrad")
    .Input("dy: T")
    .Input("x: T")
    .Input("noise: float32")
    .Input("weight: float32")
    .Input("bias: float32")
    .Input("scale: float32")
    .Input("mean: float32")
    .Input("factor: float32")
    .Attr("T: {float32, bfloat16}")
    .Attr("alpha: float")
    .Attr("epsilon: float")
    .Output("dx: T")
    .Output("dweight: float32")
    .Output("dbias: float32")
    .Output("dscale: float32")
    .Output("dshift: float32")
    .SetShapeFn(LikeInputs<1, 3, 4, 5, 5>);

REGISTER_OP("Blur2d").Input("x: T").Attr("T: {float32, bfloat16}").Output("y: T").SetShapeFn(LikeInputs<0>);

REGISTER_OP("LeakySlope")
    .Input("dy: T")
    .Input("y: T")
    .Attr("T: {float32, bfloat16}")
    .Attr("alpha: float")
    .Output("dx: T")
    .SetShapeFn(LikeInputs<0>);

#define REGISTER_FOR(T)                                                                                   \
  REGISTER_KERNEL_BUILDER(Name("NoiseStyle").Device(tf::DEVICE_CPU).TypeConstraint<T>("T"), NoiseStyleOp<T>); \
  REGISTER_KERNEL_BUILDER(Name("NoiseStyleGrad").Device(tf::DEVICE_CPU).TypeConstraint<T>("T"),           \
                          NoiseStyleGradOp<T>);                                                           \
  REGISTER_KERNEL_BUILDER(Name("Blur2d").Device(tf::DEVICE_CPU).TypeConstraint<T>("T"), BlurOp<T>);       \
  REGISTER_KERNEL_BUILDER(Name("LeakySlope").Device(tf::DEVICE_CPU).TypeConstraint<T>("T"), LeakySlopeOp<T>);
REGISTER_FOR(float)
REGISTER_FOR(tf::bfloat16)
#undef REGISTER_FOR

}  // namespace image_layers
