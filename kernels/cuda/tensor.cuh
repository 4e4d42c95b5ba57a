// Products on tensor cores, for weights in bf16, int8, int4 and fp8: one definition for any number of rows.
//
// Weights become bf16 numbers without loss (codes are small whole numbers; their scale is applied behind the sum). A number of x is the sum of three bf16
// numbers, its bits cut in three, again without loss. The 16 x 8 x 16 instruction adds their products in f32. An output is defined so:
//   64 inputs are one group: its sum begins at zero and takes (inputs 8 t + 4 j .. + 4 of each half, t = 0 .. 3 in one instruction) half by half, j by j,
//   and high, middle and low part of x one after the other; the group's sum times its scale is added to that of its split by `fmaf`;
//   the groups are cut into eight splits of neighbours, whose sums are added in order.
// Nothing here mentions the number of rows; a column of the instruction does not know its neighbours. `few` gives each split to a warp, `Wide` goes through all.

#pragma once

constexpr u32 SPLITS = 8;
constexpr u32 OUTS = 16; // outputs of an instruction

#ifndef EMULATED
// d[16 outputs, 8 rows] += a[16 outputs, 16 inputs] b[16 inputs, 8 rows]; bf16 pairs in the layout of PTX.
DEVICE void mma(float* d, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
#endif

// The upper halves of two numbers: a pair of bf16.
DEVICE u32 upper(float first, float second) { return __float_as_uint(first) >> 16 | (__float_as_uint(second) & 0xffff0000u); }

// Eight numbers as three times four pairs of bf16 that add up to them.
DEVICE void cut8(const float* x, u32 (*pairs)[4]) {
    float rest[8];
#pragma unroll
    for (int i = 0; i < 8; i++) rest[i] = x[i];
#pragma unroll
    for (int part = 0; part < 3; part++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            pairs[part][i] = upper(rest[2 * i], rest[2 * i + 1]);
            rest[2 * i] -= __uint_as_float(pairs[part][i] << 16);
            rest[2 * i + 1] -= __uint_as_float(pairs[part][i] & 0xffff0000u);
        }
}

// Eight weights as bf16 pairs, and the scale of their group.
DEVICE void pairs8(Bf16, const Matrix& m, u64 row, u32 k, u32* p) {
    const uint4 v = __ldg(reinterpret_cast<const uint4*>(static_cast<const u16*>(m.data) + row * m.pitch + k));
    p[0] = v.x, p[1] = v.y, p[2] = v.z, p[3] = v.w;
}
DEVICE void pairs8(Int8, const Matrix& m, u64 row, u32 k, u32* p) {
    const uint2 v = __ldg(reinterpret_cast<const uint2*>(static_cast<const u8*>(m.data) + row * m.pitch + k));
    const u32 words[2] = {v.x, v.y};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const u32 two = words[i / 2] >> (i % 2 * 16);
        p[i] = upper(float(static_cast<signed char>(two)), float(static_cast<signed char>(two >> 8)));
    }
}
DEVICE void pairs8(Int4, const Matrix& m, u64 row, u32 k, u32* p) {
    const u32 v = __ldg(reinterpret_cast<const u32*>(static_cast<const u8*>(m.data) + (row * m.pitch + k) / 2));
#pragma unroll
    for (int i = 0; i < 4; i++) p[i] = upper(float(int(v >> (8 * i) & 15) - 8), float(int(v >> (8 * i + 4) & 15) - 8));
}
DEVICE float group_scale(Bf16, const Matrix&, u64, u32) { return 1.0f; }
DEVICE float group_scale(Int8, const Matrix& m, u64 row, u32 k) { return scale(m, row, k); }
DEVICE float group_scale(Int4, const Matrix& m, u64 row, u32 k) { return scale(m, row, k); }

// One half of a group: 32 inputs from k on of 16 outputs with R times eight rows. `x[r]`: pairs of this lane's row (lane / 4) at inputs 8 (lane % 4) .. of them.
template <class F, u32 R>
DEVICE void half_group(const Matrix& w, u64 low, u64 high, u32 k, const u32 (*x)[3][4], float (*sums)[4]) {
    u32 a[4], b[4];
    pairs8(F(), w, low, k, a);
    pairs8(F(), w, high, k, b);
#pragma unroll
    for (u32 r = 0; r < R; r++)
#pragma unroll
        for (int j = 0; j < 4; j += 2)
#pragma unroll
            for (int part = 0; part < 3; part++) mma(sums[r], a[j], b[j], a[j + 1], b[j + 1], x[r][part][j], x[r][part][j + 1]);
}

// Adds a group's sums, times the scales of both outputs of this lane.
template <class F, u32 R>
DEVICE void end_group(const Matrix& w, u64 low, u64 high, u32 k, const float (*sums)[4], float (*total)[4]) {
    const float a = group_scale(F(), w, low, k), b = group_scale(F(), w, high, k);
#pragma unroll
    for (u32 r = 0; r < R; r++)
#pragma unroll
        for (int i = 0; i < 4; i++) total[r][i] = fmaf(i < 2 ? a : b, sums[r][i], total[r][i]);
}

DEVICE u32 split_groups(const Matrix& w) { return (w.pitch / 64 + SPLITS - 1) / SPLITS; }

// The split of this warp (its number in the block): O times 16 outputs, from rows `first[o]` of the matrix on (`mine` of them), with R times eight rows.
// `x[r]`: the row of this lane, or null. Leaves the sums in `parts[split][o][r][output][row]`.
template <class F, u32 O, u32 R>
DEVICE void few(const Matrix& w, const u64* first, u32 mine, const float* const* x, bool wide, float (*parts)[O][R][OUTS][8]) {
    const u32 split = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const u32 all = w.pitch / 64, each = split_groups(w), end = (split + 1) * each < all ? (split + 1) * each : all;
    float total[O][R][4];
#pragma unroll
    for (u32 o = 0; o < O; o++)
#pragma unroll
        for (u32 r = 0; r < R; r++) total[o][r][0] = total[o][r][1] = total[o][r][2] = total[o][r][3] = 0.0f;
    const u32 a = g < mine ? g : mine - 1, b = g + 8 < mine ? g + 8 : mine - 1;
    for (u32 n = split * each; n < end; n++) {
        float sums[O][R][4];
#pragma unroll
        for (u32 o = 0; o < O; o++)
#pragma unroll
            for (u32 r = 0; r < R; r++) sums[o][r][0] = sums[o][r][1] = sums[o][r][2] = sums[o][r][3] = 0.0f;
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 k = 64 * n + 32 * half + 8 * t;
            u32 pairs[R][3][4];
#pragma unroll
            for (u32 r = 0; r < R; r++) {
                float v[8] = {0, 0, 0, 0, 0, 0, 0, 0};
                if (x[r]) load_x8(x[r], k, w.inputs, wide, v);
                cut8(v, pairs[r]);
            }
#pragma unroll
            for (u32 o = 0; o < O; o++) half_group<F, R>(w, first[o] + a, first[o] + b, k, pairs, sums[o]);
        }
#pragma unroll
        for (u32 o = 0; o < O; o++) end_group<F, R>(w, first[o] + a, first[o] + b, 64 * n, sums[o], total[o]);
    }
#pragma unroll
    for (u32 o = 0; o < O; o++)
#pragma unroll
        for (u32 r = 0; r < R; r++)
#pragma unroll
            for (int i = 0; i < 4; i++) parts[split][o][r][g + i / 2 * 8][2 * t + i % 2] = total[o][r][i];
}

// The splits of one output, in order.
template <u32 O, u32 R>
DEVICE float joined(const float (*parts)[O][R][OUTS][8], u32 o, u32 r, u32 output, u32 row) {
    float sum = 0.0f;
#pragma unroll
    for (u32 s = 0; s < SPLITS; s++) sum += parts[s][o][r][output][row];
    return sum;
}

// grid: (outputs / 16, rows / (8 R), stack), 256 threads.
template <class F, u32 R>
DEVICE void matmul_few(Matrix w, u32 from, u32 outputs, u32 per_stack, const float* x, Layout in, u32 rows, float* out, Layout to, u32 add) {
    SHARED float parts[SPLITS][1][R][OUTS][8];
    const u32 o0 = blockIdx.x * OUTS, r0 = blockIdx.y * 8 * R, z = blockIdx.z;
    const u32 mine = outputs - o0 < OUTS ? outputs - o0 : OUTS;
    const u64 first[1] = {u64(z) * per_stack + from + o0};
    const float* row[R];
#pragma unroll
    for (u32 r = 0; r < R; r++) {
        const u32 n = r0 + 8 * r + threadIdx.x % 32 / 4;
        row[r] = n < rows ? x + at2(z, in.stack) + at2(n, in.row) : nullptr;
    }
    few<F, 1, R>(w, first, mine, row, (in.row | in.stack | w.inputs) % 4 == 0, parts);
    __syncthreads();
    out += at2(z, to.stack) + o0;
    for (u32 i = threadIdx.x; i < R * OUTS * 8; i += blockDim.x) {
        const u32 o = i % OUTS, n = i / OUTS;
        if (o >= mine || r0 + n >= rows) continue;
        const float sum = joined<1, R>(parts, 0, n / 8, o, n % 8);
        float* p = out + at2(r0 + n, to.row) + o;
        *p = add ? *p + sum : sum;
    }
}

constexpr u32 WIDE = 64; // outputs of a tile

// 32 rows x 64 outputs by a block of eight warps: four times 16 outputs, twice 16 rows.
template <class F>
struct Wide {
    u32 x[3][SIDE][48]; // 32 pairs a row; the gap keeps a quarter of a warp off the same banks
    float out[SIDE][WIDE + 1];
    const float* rows[SIDE]; // null: no row
    u64 outputs[WIDE];       // rows of the matrix; ~0: none

    // Leaves the sums in `s.out[row][output]`. Begins and ends with a barrier.
    DEVICE void sums(Wide& s, const Matrix& m, bool wide) {
        const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
        const u32 o0 = warp % 4 * OUTS, r0 = warp / 4 * 16, each = split_groups(m);
        __syncthreads();
        const u64 a = s.outputs[o0 + g], b = s.outputs[o0 + g + 8];
        // Of a missing output another is computed and thrown away.
        const u64 low = a == ~u64(0) ? s.outputs[0] : a, high = b == ~u64(0) ? s.outputs[0] : b;
        float all[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}}, total[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
        for (u32 n = 0; n < m.pitch / 64; n++) {
            __syncthreads();
            {
                const u32 row = threadIdx.x / 8, k = threadIdx.x % 8 * 8;
                float v[8] = {0, 0, 0, 0, 0, 0, 0, 0};
                u32 pairs[3][4];
                if (s.rows[row]) load_x8(s.rows[row], 64 * n + k, m.inputs, wide, v);
                cut8(v, pairs);
#pragma unroll
                for (int part = 0; part < 3; part++)
                    *reinterpret_cast<uint4*>(&s.x[part][row][k / 2]) = make_uint4(pairs[part][0], pairs[part][1], pairs[part][2], pairs[part][3]);
            }
            __syncthreads();
            float sums[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                u32 pairs[2][3][4];
#pragma unroll
                for (u32 r = 0; r < 2; r++)
#pragma unroll
                    for (int part = 0; part < 3; part++) {
                        const uint4 p = *reinterpret_cast<const uint4*>(&s.x[part][r0 + 8 * r + g][16 * half + 4 * t]);
                        pairs[r][part][0] = p.x, pairs[r][part][1] = p.y, pairs[r][part][2] = p.z, pairs[r][part][3] = p.w;
                    }
                half_group<F, 2>(m, low, high, 64 * n + 32 * half + 8 * t, pairs, sums);
            }
            end_group<F, 2>(m, low, high, 64 * n, sums, total);
            if ((n + 1) % each == 0 || n + 1 == m.pitch / 64) {
#pragma unroll
                for (u32 r = 0; r < 2; r++)
#pragma unroll
                    for (int i = 0; i < 4; i++) all[r][i] += total[r][i], total[r][i] = 0.0f;
            }
        }
#pragma unroll
        for (u32 r = 0; r < 2; r++)
#pragma unroll
            for (int i = 0; i < 4; i++) s.out[r0 + 8 * r + 2 * t + i % 2][o0 + g + i / 2 * 8] = all[r][i];
        __syncthreads();
    }
};

// grid: (outputs / 64, rows / 32, stack), 256 threads.
template <class F>
DEVICE void matmul_wide(Matrix w, u32 from, u32 outputs, u32 per_stack, const float* x, Layout in, u32 rows, float* out, Layout to, u32 add) {
    SHARED Wide<F> s;
    const u32 o0 = blockIdx.x * WIDE, r0 = blockIdx.y * SIDE, z = blockIdx.z;
    if (threadIdx.x < WIDE) {
        const u32 r = r0 + threadIdx.x, o = o0 + threadIdx.x;
        if (threadIdx.x < SIDE) s.rows[threadIdx.x] = r < rows ? x + at2(z, in.stack) + at2(r, in.row) : nullptr;
        s.outputs[threadIdx.x] = o < outputs ? u64(z) * per_stack + from + o : ~u64(0);
    }
    Wide<F>::sums(s, w, (in.row | in.stack | w.inputs) % 4 == 0);
    out += at2(z, to.stack) + o0;
    for (u32 i = threadIdx.x; i < SIDE * WIDE; i += blockDim.x) {
        const u32 r = i / WIDE, o = i % WIDE;
        if (r0 + r >= rows || o0 + o >= outputs) continue;
        float* p = out + at2(r0 + r, to.row) + o;
        *p = add ? *p + s.out[r][o] : s.out[r][o];
    }
}

#define TENSOR_MATMUL(F, name)                                                                                                                  \
    KERNEL(matmul_##name##_8, 256, (Matrix w, u32 from, u32 outputs, u32 per_stack, const float* x, Layout in, u32 rows, float* out, Layout to, u32 add)) { \
        matmul_few<F, 1>(w, from, outputs, per_stack, x, in, rows, out, to, add);                                                              \
    }                                                                                                                                           \
    KERNEL(matmul_##name##_16, 256, (Matrix w, u32 from, u32 outputs, u32 per_stack, const float* x, Layout in, u32 rows, float* out, Layout to, u32 add)) { \
        matmul_few<F, 2>(w, from, outputs, per_stack, x, in, rows, out, to, add);                                                              \
    }                                                                                                                                           \
    KERNEL(matmul_##name##_tile, 256, (Matrix w, u32 from, u32 outputs, u32 per_stack, const float* x, Layout in, u32 rows, float* out, Layout to, u32 add)) { \
        matmul_wide<F>(w, from, outputs, per_stack, x, in, rows, out, to, add);                                                                \
    }
TENSOR_MATMUL(Bf16, bf16)
TENSOR_MATMUL(Int8, int8)
TENSOR_MATMUL(Int4, int4)
