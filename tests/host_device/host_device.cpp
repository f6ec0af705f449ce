// A second device, "host", made of ordinary memory: torch's PrivateUse1 backend, for tests.
//
// Every operator runs on the CPU, on copies, so results are the CPU's to the bit. What makes it
// worth having is what it refuses, as a GPU would: an operator that is given tensors of both
// devices. So code that leaves a mask or an index on the CPU fails here, without a GPU.

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <pybind11/pybind11.h>
#include <torch/library.h>

#include <cstdlib>
#include <set>
#include <string>

namespace {

const c10::Device HOST(c10::DeviceType::PrivateUse1, 0);

struct HostAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t num_bytes) override {
    void* data = num_bytes ? std::malloc(num_bytes) : nullptr;
    return {data, data, &std::free, HOST};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, size_t num_bytes) const override {
    default_copy_data(to, from, num_bytes);
  }
};
HostAllocator allocator;

// One device, one stream: nothing to switch.
struct HostGuard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return HOST.type(); }
  c10::Device exchangeDevice(c10::Device) const override { return HOST; }
  c10::Device getDevice() const override { return HOST; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, HOST); }
  c10::Stream exchangeStream(c10::Stream) const override { return c10::Stream(c10::Stream::DEFAULT, HOST); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, HostGuard);

struct HostHooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
};

// The same memory as a CPU tensor.
at::Tensor seen_by_cpu(const at::Tensor& tensor) {
  if (tensor.device().is_cpu()) return tensor;
  auto options = tensor.options().device(at::kCPU);
  if (!tensor.numel()) return at::empty_strided(tensor.sizes(), tensor.strides(), options);
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), options);
}

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(sizes, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(sizes, strides, &allocator,
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  seen_by_cpu(to).copy_(seen_by_cpu(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Tensor convolve(const at::Tensor& input, const at::Tensor& weight,
                    const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                    at::IntArrayRef output_padding, int64_t groups) {
  for (const auto& each : {input, weight})
    TORCH_CHECK(each.device() == HOST, "convolution: tensors of both devices");
  std::optional<at::Tensor> added;
  if (bias && bias->defined()) {
    TORCH_CHECK(bias->device() == HOST, "convolution: tensors of both devices");
    added = bias->cpu();
  }
  return at::convolution(input.cpu(), weight.cpu(), added, stride, padding, dilation, transposed,
                         output_padding, groups).to(HOST);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolve_backward(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& weight,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
    at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> wanted) {
  std::vector<int64_t> bias{transposed ? weight.size(1) * groups : weight.size(0)};
  auto found = at::convolution_backward(grad.cpu(), input.cpu(), weight.cpu(), bias, stride, padding,
                                        dilation, transposed, output_padding, groups, wanted);
  auto back = [](const at::Tensor& x) { return x.defined() ? x.to(HOST) : x; };
  return {back(std::get<0>(found)), back(std::get<1>(found)), back(std::get<2>(found))};
}

int64_t plain_attention(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                        const std::optional<at::Tensor>&, double, bool, std::optional<double>,
                        bool) {
  return 0;  // sdp::SDPBackend::math
}

// What CUDA takes from the CPU: an index. And what only moves data.
const std::set<std::string> MIXED{"aten::index", "aten::index_put_", "aten::_index_put_impl_",
                                  "aten::index_put", "aten::copy_", "aten::_copy_from"};

void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& name = op.schema().name();
  if (!MIXED.count(name)) {
    auto check = [&](const at::Tensor& tensor) {
      // A number in a tensor may come from the CPU, as on a GPU.
      TORCH_CHECK(!tensor.defined() || tensor.dim() == 0 || tensor.device() == HOST, name,
                  ": a tensor of ", tensor.sizes(), " ", tensor.dtype(), " is on ",
                  tensor.device(), ", another one on ", HOST);
    };
    const auto num = op.schema().arguments().size();
    for (const auto& value : torch::jit::last(*stack, num)) {
      if (value.isTensor()) check(value.toTensor());
      if (value.isTensorList())
        for (const at::Tensor& each : value.toTensorList()) check(each);
      if (value.isOptionalTensorList())
        for (const std::optional<at::Tensor> each : value.toOptionalTensorList())
          if (each) check(*each);
    }
  }
  at::native::cpu_fallback(op, stack);
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
}

// Autocast changes nothing here: what is checked is devices, not types.
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("unfold", &at::native::unfold);
  m.impl("resize_", &at::native::resize_);
  m.impl("set_.source_Tensor", &at::native::set_tensor_);
  m.impl("set_.source_Storage", &at::native::set_);
  m.impl("set_.source_Storage_storage_offset", &at::native::set_storage_cpu_);
  m.impl("convolution_overrideable", &convolve);
  m.impl("convolution_backward_overrideable", &convolve_backward);
  m.impl("_fused_sdp_choice", &plain_attention);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  static HostHooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  m.doc() = "torch device \"host\"";
}
