// What the TensorFlow ops here share: argument checks, buffers, threads.

#ifndef DNNLIB_TFLIB_KERNELS_OP_COMMON_H_
#define DNNLIB_TFLIB_KERNELS_OP_COMMON_H_

#include <algorithm>
#include <string>
#include <vector>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/util/work_sharder.h"

namespace op_common {

namespace tf = tensorflow;
using tf::int64;
using tf::OpKernel;
using tf::OpKernelConstruction;
using tf::OpKernelContext;
using tf::Status;
using tf::Tensor;
using tf::TensorShape;
using tf::shape_inference::InferenceContext;
using tf::shape_inference::ShapeHandle;

inline const float* Floats(const Tensor& tensor) { return tensor.flat<float>().data(); }
inline float* Floats(Tensor* tensor) { return tensor->flat<float>().data(); }
inline const tf::int32* Ints(const Tensor& tensor) { return tensor.flat<tf::int32>().data(); }
inline tf::int32* Ints(Tensor* tensor) { return tensor->flat<tf::int32>().data(); }

// Checks that argument `name` has the shape `dims`, where -1 takes any size.
inline Status CheckShape(const std::string& op, const char* name, const Tensor& tensor,
                         const std::vector<int64>& dims) {
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

// Checks that all numbers of argument `name` are 0 to count - 1.
inline Status CheckIndices(const std::string& op, const char* name, const Tensor& tensor, int64 count) {
  const tf::int32* const values = Ints(tensor);
  tf::uint32 largest = 0;  // A negative index becomes a large unsigned one.
  for (int64 i = 0; i < tensor.NumElements(); ++i) largest = std::max(largest, static_cast<tf::uint32>(values[i]));
  if (tensor.NumElements() == 0 || largest < count) return Status();
  int64 i = 0;
  while (static_cast<tf::uint32>(values[i]) < count) ++i;
  return tf::errors::InvalidArgument(op, ": ", name, " ", tensor.shape().DebugString(), " holds ", values[i],
                                     " at flat position ", i, ": expected 0 to ", count - 1);
}

// A buffer of one call, from TensorFlow's allocator: where memory ends, the call fails, not the process.
template <typename T>
class Scratch {
 public:
  Status Allocate(OpKernelContext* context, int64 count) {
    const int64 bytes = count * static_cast<int64>(sizeof(T));
    return context->allocate_temp(tf::DT_INT8, TensorShape({bytes}), &tensor_);
  }
  T* data() { return reinterpret_cast<T*>(tensor_.flat<tf::int8>().data()); }

 private:
  Tensor tensor_;
};

inline int64 NumThreads(OpKernelContext* context) {
  return context->device()->tensorflow_cpu_worker_threads()->num_threads;
}

// work(first, last) for parts of `total` things on TensorFlow's threads; cost: cycles of one thing.
template <typename Work>
void RunSharded(OpKernelContext* context, int64 total, int64 cost, const Work& work) {
  const auto& workers = *context->device()->tensorflow_cpu_worker_threads();
  tf::Shard(workers.num_threads, workers.workers, total, cost, work);
}

// Shape function: outputs are like the inputs `of`, in order.
template <int... kInputs>
Status LikeInputs(InferenceContext* c) {
  int output = 0;
  for (const int input : {kInputs...}) c->set_output(output++, c->input(input));
  return Status();
}

}  // namespace op_common

#endif  // DNNLIB_TFLIB_KERNELS_OP_COMMON_H_
