// Products of rows with a matrix in f32, two ways that give the same bits; tensor.cuh has those of other formats.
//
// Sixteen lanes share one output: lane t adds up, in ascending order, the products of inputs k with (k / 8) % 16 == t; then the lanes' sums
// are added in the order of `lane_sum`. That is the whole definition of a product here: it does not mention the number of rows. `matmul_rows`
// reads each weight once for up to eight rows; `Tile` keeps 32 x 32 outputs in registers for many rows.

#pragma once

constexpr u32 LANES = 16;
constexpr u32 STEP = 8 * LANES;

// How one operand or result lies: numbers from one row to the next, and from one matrix of a stack to the next.
struct Layout {
    u32 row;
    u32 stack;
};

// Outputs `from ..` of one group of 16 lanes for rows `r0 .. r0 + R`.
template <class F, u32 R, u32 O>
DEVICE void dot(const Matrix& w, u64 first, u32 outputs, const float* x, u32 stride, u32 rows, bool wide, float sums[R][O]) {
    const u32 t = threadIdx.x % LANES;
#pragma unroll
    for (u32 r = 0; r < R; r++)
#pragma unroll
        for (u32 o = 0; o < O; o++) sums[r][o] = 0.0f;
#pragma unroll 2
    for (u32 k = 8 * t; k < w.inputs; k += STEP) {
        float a[O][8];
#pragma unroll
        for (u32 o = 0; o < O; o++) F::load8(w, first + (o < outputs ? o : 0), k, a[o]);
#pragma unroll
        for (u32 r = 0; r < R; r++) {
            float v[8];
            load_x8(x + at2(r < rows ? r : 0, stride), k, w.inputs, wide, v);
#pragma unroll
            for (u32 o = 0; o < O; o++)
#pragma unroll
                for (int i = 0; i < 8; i++) sums[r][o] = fmaf(v[i], a[o][i], sums[r][o]);
        }
    }
#pragma unroll
    for (u32 r = 0; r < R; r++)
#pragma unroll
        for (u32 o = 0; o < O; o++) sums[r][o] = lane_sum<LANES>(sums[r][o]);
}

// grid: (outputs / (8 O), rows / R, stack), 128 threads.
template <class F, u32 R, u32 O>
DEVICE void matmul_rows(Matrix w, u32 from, u32 outputs, u32 per_stack, const float* x, Layout in, u32 rows, float* out, Layout to, u32 add) {
    const u32 o = (blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES) * O, r0 = blockIdx.y * R, z = blockIdx.z;
    const u32 mine = o < outputs ? (outputs - o < O ? outputs - o : O) : 0, some = rows - r0 < R ? rows - r0 : R;
    const bool wide = (in.row | in.stack | w.inputs) % 4 == 0;
    float sums[R][O];
    const u64 first = u64(z) * per_stack + from + (mine ? o : 0);
    dot<F, R, O>(w, first, mine ? mine : 1, x + at2(z, in.stack) + at2(r0, in.row), in.row, some, wide, sums);
    if (threadIdx.x % LANES != 0) return;
    out += at2(z, to.stack) + at2(r0, to.row) + o;
#pragma unroll
    for (u32 r = 0; r < R; r++)
#pragma unroll
        for (u32 i = 0; i < O; i++)
            if (r < some && i < mine) {
                float* p = out + at2(r, to.row) + i;
                *p = add ? *p + sums[r][i] : sums[r][i];
            }
}

constexpr u32 SIDE = 32;

// 32 rows x 32 outputs by a block of 256 threads: 16 groups of 16 lanes, a group has 8 x 8 outputs.
// Operands of 128 inputs lie in shared memory as [row][half of 8][lane][4]: a quarter of a warp reads 128 bytes in a row.
template <class F>
struct Tile {
    float x[SIDE][STEP];
    float w[SIDE][STEP];
    const float* rows[SIDE]; // null: no row
    u64 outputs[SIDE];       // rows of the matrix; ~0: none

    DEVICE void put(float* row, u32 t, const float* v) {
        float4* p = reinterpret_cast<float4*>(row) + t;
        p[0] = make_float4(v[0], v[1], v[2], v[3]);
        p[LANES] = make_float4(v[4], v[5], v[6], v[7]);
    }

    // Sums of this thread: row `8 (g / 4) + t / 2`, outputs `8 (g % 4) + 4 (t % 2) ..`, in v[0 .. 4]; v needs 64 numbers. Begins with a barrier.
    DEVICE void sums(Tile& s, const Matrix& m, bool wide, float* v) {
        const u32 t = threadIdx.x % LANES, g = threadIdx.x / LANES;
        const u32 row = g / 4 * 8, output = g % 4 * 8;
#pragma unroll
        for (int i = 0; i < 64; i++) v[i] = 0.0f;
        for (u32 k0 = 0; k0 < m.inputs; k0 += STEP) {
            __syncthreads();
            const u32 k = k0 + 8 * t;
#pragma unroll
            for (u32 i = g; i < SIDE; i += 256 / LANES) {
                float a[8] = {0, 0, 0, 0, 0, 0, 0, 0}, b[8] = {0, 0, 0, 0, 0, 0, 0, 0};
                if (k < m.inputs && s.rows[i]) load_x8(s.rows[i], k, m.inputs, wide, a);
                if (k < m.inputs && s.outputs[i] != ~u64(0)) F::load8(m, s.outputs[i], k, b);
                put(s.x[i], t, a);
                put(s.w[i], t, b);
            }
            __syncthreads();
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                float4 a[8];
#pragma unroll
                for (int i = 0; i < 8; i++) a[i] = reinterpret_cast<const float4*>(s.x[row + i])[half * LANES + t];
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    const float4 b = reinterpret_cast<const float4*>(s.w[output + j])[half * LANES + t];
#pragma unroll
                    for (int i = 0; i < 8; i++) {
                        float c = v[8 * i + j];
                        c = fmaf(a[i].x, b.x, c), c = fmaf(a[i].y, b.y, c);
                        v[8 * i + j] = fmaf(a[i].w, b.w, fmaf(a[i].z, b.z, c));
                    }
                }
            }
        }
        Scatter<64, LANES>::sum(v, t);
    }
};

// grid: (outputs / 32, rows / 32, stack), 256 threads.
template <class F>
DEVICE void matmul_tile(Matrix w, u32 from, u32 outputs, u32 per_stack, const float* x, Layout in, u32 rows, float* out, Layout to, u32 add) {
    SHARED Tile<F> s;
    const u32 o0 = blockIdx.x * SIDE, r0 = blockIdx.y * SIDE, z = blockIdx.z, t = threadIdx.x % LANES, g = threadIdx.x / LANES;
    if (threadIdx.x < SIDE) {
        const u32 r = r0 + threadIdx.x, o = o0 + threadIdx.x;
        s.rows[threadIdx.x] = r < rows ? x + at2(z, in.stack) + at2(r, in.row) : nullptr;
        s.outputs[threadIdx.x] = o < outputs ? u64(z) * per_stack + from + o : ~u64(0);
    }
    float v[64];
    Tile<F>::sums(s, w, (in.row | in.stack | w.inputs) % 4 == 0, v);
    const u32 r = r0 + g / 4 * 8 + t / 2, o = o0 + g % 4 * 8 + t % 2 * 4;
    if (r >= rows) return;
    out += at2(z, to.stack) + at2(r, to.row);
#pragma unroll
    for (u32 i = 0; i < 4; i++)
        if (o + i < outputs) out[o + i] = add ? out[o + i] + v[i] : v[i];
}

#define MATMUL_ROWS(F, name, R, O)                                                                                                              \
    KERNEL(matmul_##name##_##R, 128, (Matrix w, u32 from, u32 outputs, u32 per_stack, const float* x, Layout in, u32 rows, float* out, Layout to, u32 add)) { \
        matmul_rows<F, R, O>(w, from, outputs, per_stack, x, in, rows, out, to, add);                                                          \
    }
#define MATMUL(F, name)                                                                                                                         \
    MATMUL_ROWS(F, name, 1, 1)                                                                                                                  \
    MATMUL_ROWS(F, name, 2, 1)                                                                                                                  \
    MATMUL_ROWS(F, name, 4, 2)                                                                                                                  \
    MATMUL_ROWS(F, name, 8, 2)                                                                                                                  \
    KERNEL(matmul_##name##_tile, 256, (Matrix w, u32 from, u32 outputs, u32 per_stack, const float* x, Layout in, u32 rows, float* out, Layout to, u32 add)) { \
        matmul_tile<F>(w, from, outputs, per_stack, x, in, rows, out, to, add);                                                                \
    }
MATMUL(F32, f32)
