// What all kernels share: names, formats of weights, sums over lanes.
//
// The sources compile two ways: by Metal's compiler on the Mac that runs them, and by a C++ compiler against `emulator/libmetal.cpp`, where a kernel
// runs on the host. Metal takes them as one text, in the order of `SOURCES` in src/metal/program.rs. The multiply-adds of sums are written as `fma`,
// so that no compiler decides what is fused. A kernel's arguments are bound in the order in which it names them.

#ifndef EMULATED
#include <metal_stdlib>
using namespace metal;
#define DEVICE static inline
#define KERNEL_HEAD [[kernel, max_total_threads_per_threadgroup(256)]] void
#define KERNEL_PLACE uint3 block [[threadgroup_position_in_grid]], uint me [[thread_index_in_threadgroup]]
// `block` counts threadgroups, `me` the threads of one: at most 256.
#define KERNEL(name, ...) KERNEL_HEAD name(__VA_ARGS__, KERNEL_PLACE)
// As KERNEL, with threadgroup memory whose size is given at launch.
#define KERNEL_SHARED(name, ...) KERNEL_HEAD name(__VA_ARGS__, threadgroup float* shared [[threadgroup(0)]], KERNEL_PLACE)
// Threadgroup memory of a size that is known, declared at the top of a kernel.
#define SHARED threadgroup
DEVICE float half_to_float(ushort bits) { return float(as_type<half>(bits)); }
// A read of several numbers at once, at a multiple of their size (which the emulator checks).
template <typename T>
DEVICE T read_wide(device const T* p) { return *p; }
// A struct of another address space as a value.
template <typename T>
DEVICE T copied(constant T& x) { return x; }
template <typename T>
DEVICE T copied(device const T& x) { return x; }
#endif

enum : uint { NONE = 0xffffffffu };

DEVICE float silu(float x) { return x / (1.0f + precise::exp(-x)); }

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + precise::exp(-x)); }

DEVICE void group_barrier() { threadgroup_barrier(mem_flags::mem_threadgroup); }

// Index of this thread in a one-dimensional grid of threadgroups of 256.
DEVICE uint at1(uint3 block, uint me) { return block.x * 256 + me; }

// A matrix `[out, inputs]` or a stack of them. `pitch` elements from one row to the next, a multiple of 64; what lies behind `inputs` is zero.
struct Matrix {
    device const uchar* data;
    device const ushort* scales; // f16, one for 64 inputs; int8 and int4 only
    uint inputs;
    uint pitch;
};

DEVICE Matrix matrix_of(device const uchar* data, device const ushort* scales, uint inputs, uint pitch) {
    Matrix m;
    m.data = data;
    m.scales = scales;
    m.inputs = inputs;
    m.pitch = pitch;
    return m;
}

// The formats: `load8` reads inputs `k .. k + 8` of a row, k a multiple of 8.
struct F32 {
    static void load8(Matrix m, ulong row, uint k, thread float* w) {
        device const float4* p = (device const float4*)(m.data + (row * m.pitch + k) * 4);
        const float4 a = read_wide(p), b = read_wide(p + 1);
        w[0] = a.x, w[1] = a.y, w[2] = a.z, w[3] = a.w;
        w[4] = b.x, w[5] = b.y, w[6] = b.z, w[7] = b.w;
    }
};

struct Bf16 {
    static void load8(Matrix m, ulong row, uint k, thread float* w) {
        const uint4 v = read_wide((device const uint4*)(m.data + (row * m.pitch + k) * 2));
        w[0] = as_type<float>(v.x << 16), w[1] = as_type<float>(v.x & 0xffff0000u);
        w[2] = as_type<float>(v.y << 16), w[3] = as_type<float>(v.y & 0xffff0000u);
        w[4] = as_type<float>(v.z << 16), w[5] = as_type<float>(v.z & 0xffff0000u);
        w[6] = as_type<float>(v.w << 16), w[7] = as_type<float>(v.w & 0xffff0000u);
    }
};

DEVICE float scale_of(Matrix m, ulong row, uint k) { return half_to_float(m.scales[row * (m.pitch / 64) + k / 64]); }

// Eight signed bytes times a scale: each goes to the top of a word and comes back with its sign.
DEVICE void bytes8(uint2 v, float scale, thread float* w) {
    for (uint i = 0; i < 4; i++) {
        w[i] = float(int(v.x << (24 - 8 * i)) >> 24) * scale;
        w[4 + i] = float(int(v.y << (24 - 8 * i)) >> 24) * scale;
    }
}

struct Int8 {
    static void load8(Matrix m, ulong row, uint k, thread float* w) {
        bytes8(read_wide((device const uint2*)(m.data + row * m.pitch + k)), scale_of(m, row, k), w);
    }
};

// Two codes to a byte, the even input in the low half, each plus 8.
struct Int4 {
    static void load8(Matrix m, ulong row, uint k, thread float* w) {
        const uint v = read_wide((device const uint*)(m.data + (row * m.pitch + k) / 2));
        const float s = scale_of(m, row, k);
        for (uint i = 0; i < 8; i++) w[i] = float(int(v >> (4 * i) & 15u) - 8) * s;
    }
};

// x[k .. k + 8] of a row of n numbers; zeros behind its end. `wide`: rows lie at multiples of 16 bytes and n is a multiple of 4.
DEVICE void load_x8(device const float* x, uint k, uint n, bool wide, thread float* v) {
    if (wide && k + 8 <= n) {
        device const float4* p = (device const float4*)(x + k);
        const float4 a = read_wide(p), b = read_wide(p + 1);
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
        v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
        return;
    }
    for (uint i = 0; i < 8; i++) v[i] = k + i < n ? x[k + i] : 0.0f;
}

// Sum over the lanes of a group of N neighbours (a power of two, at most a simdgroup of 32); every lane gets it, in one order.
template <uint N>
DEVICE float lane_sum(float v) {
    for (uint d = N / 2; d > 0; d /= 2) v += simd_shuffle_xor(v, ushort(d));
    return v;
}

template <uint N>
DEVICE float lane_max(float v) {
    for (uint d = N / 2; d > 0; d /= 2) v = fmax(v, simd_shuffle_xor(v, ushort(d)));
    return v;
}
