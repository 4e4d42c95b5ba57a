// Row-wise and element-wise kernels.

#pragma once

// Index of this thread in a one-dimensional grid.
DEVICE u64 thread_index() { return u64(blockIdx.x) * blockDim.x + threadIdx.x; }

// Sum over groups of N threads of a block: a warp, or all 256. Contains barriers when N is more than a warp.
template <int N>
DEVICE float group_sum(float v) {
    v = lane_sum<32>(v);
    if (N == 32) return v;
    SHARED float parts[N / 32];
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < N / 32; i++) sum += parts[i];
    return sum;
}

// `out[r] = x[r] * rsqrt(mean(x[r]^2) + eps) * weight` by groups of N threads; `out` may be `x`.
template <int N>
DEVICE void rms_norm(const float* x, const float* weight, u32 n, float eps, u32 rows, float* out) {
    const u32 row = blockIdx.x * (blockDim.x / N) + threadIdx.x / N, t = threadIdx.x % N;
    const bool real = row < rows;
    x += at2(real ? row : 0, n);
    float sum = 0.0f;
    for (u32 i = t; i < n; i += N) sum = fmaf(x[i], x[i], sum);
    const float factor = 1.0f / sqrtf(group_sum<N>(sum) / float(n) + eps);
    if (!real) return;
    out += at2(row, n);
    for (u32 i = t; i < n; i += N) out[i] = x[i] * factor * weight[i];
}
KERNEL(rms_norm_warp, 256, (const float* x, const float* weight, u32 n, float eps, u32 rows, float* out)) {
    rms_norm<32>(x, weight, n, eps, rows, out);
}
KERNEL(rms_norm_block, 256, (const float* x, const float* weight, u32 n, float eps, u32 rows, float* out)) {
    rms_norm<256>(x, weight, n, eps, rows, out);
}

// A warp for each vector; vector v of `parts` in a row has part v of weight and bias.
KERNEL(layer_norm, 256, (float* x, const float* weight, const float* bias, u32 width, float eps, u32 parts, u32 vectors)) {
    const u32 v = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, t = threadIdx.x % 32;
    const bool real = v < vectors;
    const u64 base = at2(real ? v : 0, width), part = at2(v % parts, width);
    float sum = 0.0f, squares = 0.0f;
    for (u32 i = t; i < width; i += 32) sum += x[base + i];
    const float mean = lane_sum<32>(sum) / float(width);
    for (u32 i = t; i < width; i += 32) squares = fmaf(x[base + i] - mean, x[base + i] - mean, squares);
    const float factor = 1.0f / sqrtf(lane_sum<32>(squares) / float(width) + eps);
    if (!real) return;
    for (u32 i = t; i < width; i += 32) x[base + i] = fmaf((x[base + i] - mean) * factor, weight[part + i], bias[part + i]);
}

// `out[g] (+)= sum over codes of table[ids]`.
template <class F>
DEVICE void embed(Matrix table, const u32* ids, u32 codes, u32 groups, float* out, u32 add) {
    const u64 i = thread_index();
    const u32 width = table.inputs, c = u32(i % width);
    const u64 g = i / width;
    if (g >= groups) return;
    float sum = add ? out[i] : 0.0f;
    for (u32 j = 0; j < codes; j++) {
        const u32 id = ids[g * codes + j];
        if (id != NONE) sum += F::get(table, id, c);
    }
    out[i] = sum;
}
#define EMBED(F, name)                                                                                              \
    KERNEL(embed_##name, 256, (Matrix table, const u32* ids, u32 codes, u32 groups, float* out, u32 add)) {          \
        embed<F>(table, ids, codes, groups, out, add);                                                              \
    }
EMBED(F32, f32)
EMBED(Bf16, bf16)
EMBED(Int8, int8)
EMBED(Int4, int4)

KERNEL(copy_columns, 256, (const float* src, u32 from_stride, u32 from_at, float* dst, u32 to_stride, u32 to_at, u32 width, u32 rows)) {
    const u64 i = thread_index(), r = i / width;
    if (r < rows) dst[r * to_stride + to_at + i % width] = src[r * from_stride + from_at + i % width];
}

KERNEL(add_bias, 256, (float* dst, const float* bias, u32 n, u64 len)) {
    const u64 i = thread_index();
    if (i < len) dst[i] += bias[i % n];
}

KERNEL(add, 256, (float* dst, const float* src, u64 len)) {
    const u64 i = thread_index();
    if (i < len) dst[i] += src[i];
}

// Must equal the numbers in src/cuda/backend.rs.
enum Function { SILU, TANH, GELU, CLIP };

KERNEL(activate, 256, (float* x, u64 len, u32 function, float limit)) {
    const u64 i = thread_index();
    if (i >= len) return;
    const float v = x[i];
    switch (function) {
        case SILU: x[i] = silu(v); break;
        case TANH: x[i] = tanhf(v); break;
        case GELU: x[i] = 0.5f * v * (1.0f + erff(v * 0.70710678118654752f)); break;
        case CLIP: x[i] = v < -limit ? -limit : (v > limit ? limit : v); break;
    }
}

KERNEL(swiglu, 256, (const float* gate_up, u32 inner, u64 len, float* out)) {
    const u64 i = thread_index(), r = i / inner;
    if (i < len) out[i] = silu(gate_up[r * 2 * inner + i % inner]) * gate_up[(r * 2 + 1) * inner + i % inner];
}

// Pairs of a head: (i, i + half), or (2 i, 2 i + 1) when interleaved. `angles`: half cosines, then half sines, a row.
KERNEL(rope, 256, (const float* angles, u32 half, u32 heads, u32 interleaved, u64 pairs, float* x)) {
    const u64 n = thread_index();
    if (n >= pairs) return;
    const u32 i = u32(n % half);
    const u64 head = n / half, row = head / heads;
    const float c = angles[row * 2 * half + i], s = angles[row * 2 * half + half + i];
    float* p = x + head * 2 * half + (interleaved ? 2 * i : i);
    float* q = p + (interleaved ? 1 : half);
    const float a = *p, b = *q;
    *p = a * c - b * s;
    *q = b * c + a * s;
}

KERNEL(gather, 256, (const float* src, const u32* rows, u32 width, u64 len, float* dst)) {
    const u64 i = thread_index();
    if (i < len) dst[i] = src[u64(rows[i / width]) * width + i % width];
}

KERNEL(patches, 256, (const float* x, u32 h, u32 w, u32 c, u32 kernel, u32 stride, u32 pad, u32 oh, u32 ow, u64 len, float* out)) {
    const u64 i = thread_index();
    if (i >= len) return;
    u64 rest = i;
    const u32 channel = u32(rest % c), kx = u32((rest /= c) % kernel), ky = u32((rest /= kernel) % kernel);
    const u32 ox = u32((rest /= kernel) % ow), oy = u32((rest /= ow) % oh);
    const u64 n = rest / oh;
    const u32 y = oy * stride + ky, col = ox * stride + kx;
    const bool inside = y >= pad && y < h + pad && col >= pad && col < w + pad;
    out[i] = inside ? x[((n * h + y - pad) * w + col - pad) * c + channel] : 0.0f;
}

// `lines` input lines of w positions with 4 c channels.
KERNEL(pixel_shuffle2, 256, (const float* x, u32 w, u32 c, u64 len, float* out)) {
    const u64 i = thread_index();
    if (i >= len) return;
    u64 rest = i;
    const u32 k = u32(rest % c), column = u32((rest /= c) % (2 * w));
    const u64 line = (rest /= 2 * w);
    out[i] = x[((line / 2) * w + column / 2) * 4 * c + 4 * k + 2 * u32(line % 2) + column % 2];
}
