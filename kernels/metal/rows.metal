// Row-wise and element-wise kernels.

// Sum over groups of N threads of a threadgroup of 256: a simdgroup, or all. Contains barriers when N is more than a simdgroup.
template <uint N>
DEVICE float group_sum(float v, uint me, threadgroup float* parts) {
    v = lane_sum<32>(v);
    if (N == 32) return v;
    if (me % 32 == 0) parts[me / 32] = v;
    group_barrier();
    float sum = 0.0f;
    for (uint i = 0; i < N / 32; i++) sum += parts[i];
    return sum;
}

// `out[r] = x[r] * rsqrt(mean(x[r]^2) + eps) * weight` by groups of N threads; `out` may be `x`.
template <uint N>
DEVICE void rms_norm(device const float* x, device const float* weight, uint n, float eps, uint rows, device float* out, uint3 block, uint me, threadgroup float* parts) {
    const uint row = block.x * (256 / N) + me / N, t = me % N;
    const bool real = row < rows;
    x += ulong(real ? row : 0) * n;
    float sum = 0.0f;
    for (uint i = t; i < n; i += N) sum = fma(x[i], x[i], sum);
    const float factor = 1.0f / precise::sqrt(group_sum<N>(sum, me, parts) / float(n) + eps);
    if (!real) return;
    out += ulong(row) * n;
    for (uint i = t; i < n; i += N) out[i] = x[i] * factor * weight[i];
}
KERNEL(rms_norm_simd, device const float* x, device const float* weight, constant uint& n, constant float& eps, constant uint& rows, device float* out) {
    SHARED float parts[8];
    rms_norm<32>(x, weight, n, eps, rows, out, block, me, parts);
}
KERNEL(rms_norm_block, device const float* x, device const float* weight, constant uint& n, constant float& eps, constant uint& rows, device float* out) {
    SHARED float parts[8];
    rms_norm<256>(x, weight, n, eps, rows, out, block, me, parts);
}

// A simdgroup for each vector; vector v of `parts` in a row has part v of weight and bias.
KERNEL(layer_norm, device float* x, device const float* weight, device const float* bias, constant uint& width, constant float& eps, constant uint& parts, constant uint& vectors) {
    const uint v = block.x * 8 + me / 32, t = me % 32;
    const bool real = v < vectors;
    const ulong base = ulong(real ? v : 0) * width, part = ulong(v % parts) * width;
    float sum = 0.0f, squares = 0.0f;
    for (uint i = t; i < width; i += 32) sum += x[base + i];
    const float mean = lane_sum<32>(sum) / float(width);
    for (uint i = t; i < width; i += 32) squares = fma(x[base + i] - mean, x[base + i] - mean, squares);
    const float factor = 1.0f / precise::sqrt(lane_sum<32>(squares) / float(width) + eps);
    if (!real) return;
    for (uint i = t; i < width; i += 32) x[base + i] = fma((x[base + i] - mean) * factor, weight[part + i], bias[part + i]);
}

// `out[g] (+)= sum over codes of table[ids]`; a thread has eight numbers.
template <class F>
DEVICE void embed(Matrix table, constant uint* ids, uint codes, uint groups, uint add, device float* out, uint i) {
    const uint parts = (table.inputs + 7) / 8, g = i / parts, c = i % parts * 8;
    if (g >= groups) return;
    out += ulong(g) * table.inputs + c;
    const uint n = min(table.inputs - c, 8u);
    float sums[8], w[8];
    for (uint j = 0; j < 8; j++) sums[j] = add != 0 && j < n ? out[j] : 0.0f;
    for (uint j = 0; j < codes; j++) {
        const uint id = ids[g * codes + j];
        if (id == NONE) continue;
        F::load8(table, id, c, w);
        for (uint k = 0; k < 8; k++) sums[k] += w[k];
    }
    for (uint j = 0; j < n; j++) out[j] = sums[j];
}
#define EMBED(F, name)                                                                                                                           \
    KERNEL(embed_##name, device const uchar* data, device const ushort* scales, constant uint& inputs, constant uint& pitch, constant uint* ids, \
           constant uint& codes, constant uint& groups, constant uint& add, device float* out) {                                                 \
        embed<F>(matrix_of(data, scales, inputs, pitch), ids, codes, groups, add, out, at1(block, me));                                             \
    }
EMBED(F32, f32)
EMBED(Bf16, bf16)
EMBED(Int8, int8)
EMBED(Int4, int4)

KERNEL(copy_columns, device const float* src, constant uint& from_stride, constant uint& from_at, device float* dst, constant uint& to_stride, constant uint& to_at, constant uint& width, constant uint& rows) {
    const uint i = at1(block, me), r = i / width, c = i % width;
    if (r < rows) dst[ulong(r) * to_stride + to_at + c] = src[ulong(r) * from_stride + from_at + c];
}

KERNEL(copy_words, constant uint* src, constant uint& len, device uint* dst) {
    const uint i = at1(block, me);
    if (i < len) dst[i] = src[i];
}

KERNEL(add_bias, device float* dst, device const float* bias, constant uint& n, constant uint& len) {
    const uint i = at1(block, me);
    if (i < len) dst[i] += bias[i % n];
}

KERNEL(add, device float* dst, device const float* src, constant uint& len) {
    const uint i = at1(block, me);
    if (i < len) dst[i] += src[i];
}

// The error function by its series with positive terms (Abramowitz and Stegun, 7.1.6): erf x = 2 / sqrt(pi) * exp(-x^2) * sum of 2^n x^(2n+1) / (2n+1)!!.
// Metal has none. Beyond 4 it is 1 in f32.
DEVICE float error_function(float x) {
    const float a = fmin(fabs(x), 4.0f), square = a * a;
    float term = a, sum = a;
    for (uint n = 1; n < 80 && term > 1e-9f * sum; n++) {
        term *= 2.0f * square / float(2 * n + 1);
        sum += term;
    }
    const float y = a < 4.0f ? 1.1283791670955126f * precise::exp(-square) * sum : 1.0f;
    return x < 0.0f ? -y : y;
}

// Must equal the numbers in src/metal/backend.rs.
enum : uint { SILU, TANH, GELU, CLIP };

KERNEL(activate, device float* x, constant uint& len, constant uint& function, constant float& limit) {
    const uint i = at1(block, me);
    if (i >= len) return;
    const float v = x[i];
    switch (function) {
        case SILU: x[i] = silu(v); break;
        // Beyond 10 it is 1 in f32.
        case TANH: x[i] = precise::tanh(fmax(-10.0f, fmin(v, 10.0f))); break;
        case GELU: x[i] = 0.5f * v * (1.0f + error_function(v * 0.70710678118654752f)); break;
        case CLIP: x[i] = v < -limit ? -limit : (v > limit ? limit : v); break;
    }
}

KERNEL(swiglu, device const float* gate_up, constant uint& inner, constant uint& len, device float* out) {
    const uint i = at1(block, me), r = i / inner, c = i % inner;
    if (i < len) out[i] = silu(gate_up[ulong(r) * 2 * inner + c]) * gate_up[(ulong(r) * 2 + 1) * inner + c];
}

// Pairs of a head: (i, i + half), or (2 i, 2 i + 1) when interleaved. `angles`: half cosines, then half sines, a row.
KERNEL(rope, device const float* angles, constant uint& half_width, constant uint& heads, constant uint& interleaved, constant uint& pairs, device float* x) {
    const uint n = at1(block, me);
    if (n >= pairs) return;
    const uint i = n % half_width, head = n / half_width;
    device const float* angle = angles + ulong(head / heads) * 2 * half_width;
    const float c = angle[i], s = angle[half_width + i];
    device float* p = x + ulong(head) * 2 * half_width + (interleaved != 0 ? 2 * i : i);
    device float* q = p + (interleaved != 0 ? 1 : half_width);
    const float a = *p, b = *q;
    *p = a * c - b * s;
    *q = b * c + a * s;
}

KERNEL(gather, device const float* src, constant uint* rows, constant uint& width, constant uint& len, device float* dst) {
    const uint i = at1(block, me);
    if (i < len) dst[i] = src[ulong(rows[i / width]) * width + i % width];
}

KERNEL(patches, device const float* x, constant uint& h, constant uint& w, constant uint& c, constant uint& side, constant uint& stride, constant uint& pad, constant uint& oh, constant uint& ow, constant uint& len, device float* out) {
    const uint i = at1(block, me);
    if (i >= len) return;
    uint rest = i;
    const uint channel = rest % c;
    rest /= c;
    const uint kx = rest % side;
    rest /= side;
    const uint ky = rest % side;
    rest /= side;
    const uint ox = rest % ow;
    rest /= ow;
    const uint oy = rest % oh, n = rest / oh, y = oy * stride + ky, column = ox * stride + kx;
    const bool inside = y >= pad && y < h + pad && column >= pad && column < w + pad;
    out[i] = inside ? x[((ulong(n) * h + y - pad) * w + column - pad) * c + channel] : 0.0f;
}

// Input lines of w positions with 4 c channels.
KERNEL(pixel_shuffle2, device const float* x, constant uint& w, constant uint& c, constant uint& len, device float* out) {
    const uint i = at1(block, me);
    if (i >= len) return;
    const uint k = i % c, column = i / c % (2 * w), line = i / c / (2 * w);
    out[i] = x[(ulong(line / 2) * w + column / 2) * 4 * c + 4 * k + 2 * (line % 2) + column % 2];
}
