// What all kernels share: names, formats of weights, sums over lanes.
//
// The sources compile three ways: by nvcc ahead of time, by NVRTC at run time (so: no standard header), and by a C++ compiler against
// `emulator/emulator.h`, where a kernel runs on the host. Every multiply-add is written as `fmaf`, so that no compiler decides what is fused.

#pragma once

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;
typedef unsigned long long u64;

#ifndef EMULATED
#define DEVICE static __device__ __forceinline__
// A kernel that is launched with at most `threads` threads a block.
#define KERNEL(name, threads, args) extern "C" __global__ void __launch_bounds__(threads) name args
#define SHARED __shared__
extern __shared__ float4 dynamic_shared[];

DEVICE float half_to_float(u16 bits) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(bits));
    return f;
}
#endif

#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(dynamic_shared)
#define FULL 0xffffffffu
#define NONE 0xffffffffu
#define NEGATIVE_INFINITY __int_as_float(0xff800000)

DEVICE u64 at2(u32 row, u32 width) { return u64(row) * width; }

DEVICE float bf16_to_float(u32 bits) { return __uint_as_float(bits << 16); }

// To the nearest, ties to even; what is not a number stays so.
DEVICE u16 float_to_bf16(float x) {
    const u32 bits = __float_as_uint(x);
    return u16(x == x ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : bits >> 16 | 0x40);
}

DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// A matrix `[out, inputs]` or a stack of them. `pitch` elements from one row to the next, a multiple of 64; what lies behind `inputs` is zero.
// Must equal `Matrix` in src/cuda/weight.rs.
struct Matrix {
    const void* data;
    const u16* scales; // f16, one for 64 inputs; int8 and int4 only
    u32 inputs;
    u32 pitch;
};

struct F32 {
    DEVICE float get(const Matrix& m, u64 row, u32 k) { return static_cast<const float*>(m.data)[row * m.pitch + k]; }
    DEVICE void load8(const Matrix& m, u64 row, u32 k, float* w) {
        const float4* p = reinterpret_cast<const float4*>(static_cast<const float*>(m.data) + row * m.pitch + k);
        float4 a = __ldg(p), b = __ldg(p + 1);
        w[0] = a.x, w[1] = a.y, w[2] = a.z, w[3] = a.w;
        w[4] = b.x, w[5] = b.y, w[6] = b.z, w[7] = b.w;
    }
};

struct Bf16 {
    DEVICE float get(const Matrix& m, u64 row, u32 k) {
        return bf16_to_float(static_cast<const u16*>(m.data)[row * m.pitch + k]);
    }
    DEVICE void load8(const Matrix& m, u64 row, u32 k, float* w) {
        uint4 v = __ldg(reinterpret_cast<const uint4*>(static_cast<const u16*>(m.data) + row * m.pitch + k));
        u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            w[2 * i] = __uint_as_float(words[i] << 16);
            w[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
        }
    }
};

DEVICE float scale(const Matrix& m, u64 row, u32 k) { return half_to_float(m.scales[row * (m.pitch / 64) + k / 64]); }

struct Int8 {
    DEVICE float get(const Matrix& m, u64 row, u32 k) {
        return float(static_cast<const signed char*>(m.data)[row * m.pitch + k]) * scale(m, row, k);
    }
    DEVICE void load8(const Matrix& m, u64 row, u32 k, float* w) {
        uint2 v = __ldg(reinterpret_cast<const uint2*>(static_cast<const u8*>(m.data) + row * m.pitch + k));
        float s = scale(m, row, k);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            w[i] = float(static_cast<signed char>(v.x >> (8 * i))) * s;
            w[4 + i] = float(static_cast<signed char>(v.y >> (8 * i))) * s;
        }
    }
};

// Two codes to a byte, the even input in the low half, each plus 8.
struct Int4 {
    DEVICE float get(const Matrix& m, u64 row, u32 k) {
        const u32 pair = static_cast<const u8*>(m.data)[(row * m.pitch + k) / 2];
        return float(int(pair >> (k % 2 * 4) & 15) - 8) * scale(m, row, k);
    }
    DEVICE void load8(const Matrix& m, u64 row, u32 k, float* w) {
        const u32 v = __ldg(reinterpret_cast<const u32*>(static_cast<const u8*>(m.data) + (row * m.pitch + k) / 2));
        const float s = scale(m, row, k);
#pragma unroll
        for (int i = 0; i < 8; i++) w[i] = float(int(v >> (4 * i) & 15) - 8) * s;
    }
};

// x[k .. k + 8] of a row of n numbers; zeros behind its end. `wide`: rows lie at multiples of 16 bytes and n is a multiple of 4.
DEVICE void load_x8(const float* x, u32 k, u32 n, bool wide, float* v) {
    if (wide && k + 8 <= n) {
        const float4* p = reinterpret_cast<const float4*>(x + k);
        float4 a = p[0], b = p[1];
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
        v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = k + i < n ? x[k + i] : 0.0f;
}

// Sum over the lanes of a group of N neighbours (a power of two); every lane gets it, in one order.
template <int N>
DEVICE float lane_sum(float v) {
#pragma unroll
    for (int d = N / 2; d > 0; d /= 2) v += __shfl_xor_sync(FULL, v, d);
    return v;
}

template <int N>
DEVICE float lane_max(float v) {
#pragma unroll
    for (int d = N / 2; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(FULL, v, d));
    return v;
}

// Sums of COUNT values over groups of N lanes, shared out: lane t of a group gets the sums of values `t * COUNT / N ..` in v[0 .. COUNT / N].
// The order of each sum is that of `lane_sum`.
template <int COUNT, int N>
struct Scatter {
    DEVICE void sum(float* v, u32 lane) {
        const bool high = lane & (N / 2);
#pragma unroll
        for (int i = 0; i < COUNT / 2; i++) {
            float mine = high ? v[COUNT / 2 + i] : v[i], other = high ? v[i] : v[COUNT / 2 + i];
            v[i] = mine + __shfl_xor_sync(FULL, other, N / 2);
        }
        Scatter<COUNT / 2, N / 2>::sum(v, lane);
    }
};
template <int COUNT>
struct Scatter<COUNT, 1> {
    DEVICE void sum(float*, u32) {}
};
