// Conversions for TensorRT versions that take no uint8 tensors. convert.ptx is this file compiled for compute capability
// 7.2 (nvrtc --gpu-architecture=compute_72), declared as PTX 7.0 so that CUDA 11.4 (JetPack 5) takes it too. The driver
// assembles it on the device: no nvcc is needed there.

extern "C" __global__ void uint8_to_float32(const unsigned char* in, float* out, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = in[i];
}

extern "C" __global__ void int32_to_uint8(const int* in, unsigned char* out, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = static_cast<unsigned char>(in[i]);
}
