// Products of rows with a matrix.
//
// Sixteen lanes share one output: lane t adds up, in ascending order, the products of inputs k with (k / 8) % 16 == t; then the lanes' sums
// are added in the order of `lane_sum`. That is the whole definition of a product here: it does not mention the number of rows, so a kernel for
// one row and one for eight give the same bits.

enum : uint { LANES = 16, STEP = 8 * LANES, GROUPS = 128 / LANES };

// Sums of R rows `x[0 .. R]` with O rows of the matrix, `first`, `first + step` ...; of those `outputs` are real. `sums[r * O + o]`.
template <class F, uint R, uint O>
DEVICE void dot_rows(Matrix m, ulong first, ulong step, uint outputs, device const float* thread* x, bool wide, uint t, thread float* sums) {
    for (uint i = 0; i < R * O; i++) sums[i] = 0.0f;
    for (uint k = 8 * t; k < m.inputs; k += STEP) {
        float a[O * 8];
        for (uint o = 0; o < O; o++) F::load8(m, first + (o < outputs ? o : 0) * step, k, a + 8 * o);
        for (uint r = 0; r < R; r++) {
            float v[8];
            load_x8(x[r], k, m.inputs, wide, v);
            for (uint o = 0; o < O; o++)
                for (uint i = 0; i < 8; i++) sums[r * O + o] = fma(v[i], a[8 * o + i], sums[r * O + o]);
        }
    }
    for (uint i = 0; i < R * O; i++) sums[i] = lane_sum<LANES>(sums[i]);
}

// One row, one output.
template <class F>
DEVICE float dot1(Matrix m, ulong row, device const float* x, uint t) {
    device const float* rows[1] = {x};
    float sum[1];
    dot_rows<F, 1, 1>(m, row, 0, 1, rows, m.inputs % 4 == 0, t, sum);
    return sum[0];
}

// Must equal `Sizes` in src/metal/matmul.rs. `x_row`, `out_row`: numbers from one row to the next; `x_stack`, `out_stack`: from one matrix's part to the next.
struct Product {
    uint from, outputs, per_stack, rows;
    uint inputs, pitch;
    uint x_row, x_stack;
    uint out_row, out_stack;
    uint add;
};

// grid: (outputs / (8 O), rows / R, stack), 128 threads.
template <class F, uint R, uint O>
DEVICE void matmul(Matrix m, Product p, device const float* x, device float* out, uint3 block, uint me) {
    const uint t = me % LANES, o = (block.x * GROUPS + me / LANES) * O, r0 = block.y * R, z = block.z;
    const uint mine = o < p.outputs ? min(p.outputs - o, O) : 0, some = min(p.rows - r0, R);
    device const float* rows[R];
    for (uint r = 0; r < R; r++) rows[r] = x + ulong(z) * p.x_stack + ulong(r0 + (r < some ? r : 0)) * p.x_row;
    float sums[R * O];
    const ulong first = ulong(z) * p.per_stack + p.from + (mine > 0 ? o : 0);
    dot_rows<F, R, O>(m, first, 1, max(mine, 1u), rows, ((p.x_row | p.x_stack | m.inputs) & 3) == 0, t, sums);
    if (t != 0) return;
    out += ulong(z) * p.out_stack + ulong(r0) * p.out_row + o;
    for (uint r = 0; r < some; r++)
        for (uint i = 0; i < mine; i++) {
            device float* to = out + ulong(r) * p.out_row + i;
            *to = p.add != 0 ? *to + sums[r * O + i] : sums[r * O + i];
        }
}

#define MATMUL_ROWS(F, name, rows, R, O)                                                                                                                 \
    KERNEL(matmul_##name##_##rows, device const uchar* data, device const ushort* scales, constant Product& p, device const float* x, device float* out) { \
        matmul<F, R, O>(matrix_of(data, scales, p.inputs, p.pitch), copied(p), x, out, block, me);                                                            \
    }
#define MATMUL(F, name)           \
    MATMUL_ROWS(F, name, 1, 1, 1) \
    MATMUL_ROWS(F, name, 2, 2, 1) \
    MATMUL_ROWS(F, name, 4, 4, 2) \
    MATMUL_ROWS(F, name, 8, 8, 2) \
    MATMUL_ROWS(F, name, many, 8, 4)
MATMUL(F32, f32)
MATMUL(Bf16, bf16)
MATMUL(Int8, int8)
MATMUL(Int4, int4)
