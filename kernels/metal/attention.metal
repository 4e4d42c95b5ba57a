// Attention over a slab `[kv_heads][slots][pitch]`, pitch = head_dim rounded up to 8.
//
// The slots that a row sees are counted from the first one of its first range and cut into pieces by that count. A threadgroup has one piece of one
// row and up to eight query heads of one key head: keys and values are read once for them. `attention_combine` puts the pieces together in order.

// Must equal the numbers in src/metal/attention.rs.
enum : uint { PIECE = 256, HEADS = 8, THREADS = 128, SLOT_LANES = 8 };

struct Seen {
    uint prefix_from, prefix_to, recent_from, recent_to;
};

DEVICE uint seen_count(Seen s) { return s.prefix_to - s.prefix_from + s.recent_to - s.recent_from; }

DEVICE uint seen_slot(Seen s, uint i) {
    const uint n = s.prefix_to - s.prefix_from;
    return i < n ? s.prefix_from + i : s.recent_from + (i - n);
}

// How keys and values are kept: `KvFormat` in src/kv.rs. `data` has vectors of `pitch` elements, `scales` one number for each vector (int8 only).
struct Slab {
    device uchar* data;
    device float* scales;
    uint pitch;
};

DEVICE Slab slab_of(device uchar* data, device float* scales, uint pitch) {
    Slab s;
    s.data = data;
    s.scales = scales;
    s.pitch = pitch;
    return s;
}

struct KvF32 {
    static void load8(Slab s, ulong vector, uint d, thread float* w) { load_x8((device const float*)s.data + vector * s.pitch, d, s.pitch, true, w); }
    static float get(Slab s, ulong vector, uint d) { return ((device const float*)s.data)[vector * s.pitch + d]; }
    // A number of x, by a simdgroup that has the whole vector.
    static void put(Slab s, ulong vector, uint d, float x, float) { ((device float*)s.data)[vector * s.pitch + d] = x; }
    static float scale(float, bool) { return 1.0f; }
};

struct KvBf16 {
    static void load8(Slab s, ulong vector, uint d, thread float* w) { Bf16::load8(matrix_of(s.data, (device const ushort*)s.data, s.pitch, s.pitch), vector, d, w); }
    static float get(Slab s, ulong vector, uint d) { return as_type<float>(uint(((device const ushort*)s.data)[vector * s.pitch + d]) << 16); }
    // To the nearest, ties to even.
    static void put(Slab s, ulong vector, uint d, float x, float) {
        const uint bits = as_type<uint>(x);
        const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
        ((device ushort*)s.data)[vector * s.pitch + d] = ushort((finite ? bits + 0x7fffu + (bits >> 16 & 1u) : bits | (bits << 16 != 0 ? 0x400000u : 0u)) >> 16);
    }
    static float scale(float, bool) { return 1.0f; }
};

struct KvInt8 {
    static void load8(Slab s, ulong vector, uint d, thread float* w) {
        const uint2 v = read_wide((device const uint2*)(s.data + vector * s.pitch + d));
        const float scale = s.scales[vector];
        bytes8(v, scale, w);
    }
    static float get(Slab s, ulong vector, uint d) { return float(int(uint(s.data[vector * s.pitch + d]) << 24) >> 24) * s.scales[vector]; }
    static void put(Slab s, ulong vector, uint d, float x, float scale) {
        // Of a vector that is not finite the scale is none, and what is read again is none.
        s.data[vector * s.pitch + d] = isfinite(scale) ? uchar(int(rint(x / scale)) & 255) : uchar(0);
        if (d == 0) s.scales[vector] = scale;
    }
    // The smallest normal number at least.
    static float scale(float largest, bool finite) { return finite ? fmax(largest / 127.0f, 1.17549435e-38f) : NAN; }
};

// Vectors of k or v `[rows, kv_heads, dim]` to their slots, a simdgroup for each.
template <class K>
DEVICE void store_vector(device const float* x, constant uint* slots, uint kv_heads, uint dim, uint slots_of_slab, uint vectors, Slab s, uint3 block, uint me) {
    const uint v = block.x * 8 + me / 32, lane = me % 32;
    const bool real = v < vectors;
    x += ulong(real ? v : 0) * dim;
    float largest = 0.0f, wrong = 0.0f;
    for (uint d = lane; d < dim; d += 32) {
        largest = fmax(largest, fabs(x[d]));
        if (!isfinite(x[d])) wrong = 1.0f;
    }
    const float scale = K::scale(lane_max<32>(largest), lane_max<32>(wrong) == 0.0f);
    if (!real) return;
    const ulong to = ulong(v % kv_heads) * slots_of_slab + slots[v / kv_heads];
    for (uint d = lane; d < dim; d += 32) K::put(s, to, d, x[d], scale);
}

// Words of slots `from..from + len` of every head of one slab of `slots_from` slots to slots `to..` of another; `words` of each vector.
KERNEL(copy_slots, device const uint* src, constant uint& slots_from, constant uint& from, device uint* dst, constant uint& slots_to, constant uint& to, constant uint& len, constant uint& heads, constant uint& words) {
    const uint i = at1(block, me), d = i % words, slot = i / words % len;
    const ulong head = i / words / len;
    if (head < heads) dst[(head * slots_to + to + slot) * words + d] = src[(head * slots_from + from + slot) * words + d];
}

struct Attention {
    uint heads, kv_heads, dim, pitch, slab, pieces;
    float scale;
};

// Numbers of a partial result: maximum, sum, and the weighted values.
DEVICE uint part_size(uint pitch) { return pitch + 2; }

// Scores of the piece, times `scale`, to `weights[slot][head]`: eight lanes share a slot; lane t ends with head t.
template <class K>
DEVICE void scores(Attention a, Seen seen, uint from, uint n, Slab keys, ulong base_vector, threadgroup const float* queries, threadgroup float* weights, uint me) {
    const uint t = me % SLOT_LANES;
    for (uint base = 0; base < n; base += THREADS / SLOT_LANES) {
        const uint s = base + me / SLOT_LANES;
        const ulong key = base_vector + seen_slot(seen, from + (s < n ? s : n - 1));
        float sums[HEADS];
        for (uint h = 0; h < HEADS; h++) sums[h] = 0.0f;
        for (uint d = 8 * t; d < a.pitch; d += 8 * SLOT_LANES) {
            float w[8];
            K::load8(keys, key, d, w);
            for (uint h = 0; h < HEADS; h++)
                for (uint i = 0; i < 8; i++) sums[h] = fma(queries[h * a.pitch + d + i], w[i], sums[h]);
        }
        float mine = 0.0f;
        for (uint h = 0; h < HEADS; h++) {
            const float sum = lane_sum<SLOT_LANES>(sums[h]);
            if (h == t) mine = sum;
        }
        if (s < n) weights[s * HEADS + t] = mine * a.scale;
    }
}

// Softmax of the piece, a simdgroup for each head; its maximum and sum go to `partial`.
DEVICE void soften(Attention a, uint n, uint heads, threadgroup float* weights, device float* partial, uint me) {
    for (uint h = me / 32; h < heads; h += THREADS / 32) {
        float most = -INFINITY, sum = 0.0f;
        for (uint s = me % 32; s < n; s += 32) most = fmax(most, weights[s * HEADS + h]);
        most = lane_max<32>(most);
        for (uint s = me % 32; s < n; s += 32) {
            const float e = precise::exp(weights[s * HEADS + h] - most);
            weights[s * HEADS + h] = e;
            sum += e;
        }
        sum = lane_sum<32>(sum);
        if (me % 32 == 0) {
            device float* stats = partial + ulong(h) * a.pieces * part_size(a.pitch);
            stats[0] = most;
            stats[1] = sum;
        }
    }
}

// grid: (pieces, kv_heads * head tiles, rows), 128 threads. Shared: weights [256][8], then queries [8][pitch], later parts [slices][8][pitch].
template <class K>
DEVICE void attention_piece(device const float* q, Slab keys, Slab values, constant Seen* spans, Attention a, device float* partial, threadgroup float* shared, uint3 block, uint me) {
    const uint group = a.heads / a.kv_heads, tiles = (group + HEADS - 1) / HEADS;
    const uint row = block.z, head = block.y / tiles, first = block.y % tiles * HEADS;
    const uint mine = min(group - first, uint(HEADS));
    const Seen seen = copied(spans[row]);
    const uint count = seen_count(seen), from = block.x * PIECE;
    if (from >= count) return;
    const uint n = min(count - from, uint(PIECE));
    threadgroup float* weights = shared;
    threadgroup float* queries = shared + PIECE * HEADS;
    const ulong vectors = ulong(head) * a.slab;
    q += (ulong(row) * a.heads + head * group + first) * a.dim;
    for (uint i = me; i < HEADS * a.pitch; i += THREADS) {
        const uint h = i / a.pitch, d = i % a.pitch;
        queries[i] = h < mine && d < a.dim ? q[h * a.dim + d] : 0.0f;
    }
    group_barrier();
    scores<K>(a, seen, from, n, keys, vectors, queries, weights, me);
    group_barrier();
    partial += ((ulong(row) * a.heads + head * group + first) * a.pieces + block.x) * part_size(a.pitch);
    soften(a, n, mine, weights, partial, me);
    group_barrier();

    // Weighted values: a thread has a column; when columns are few, slices of threads share the slots. The queries' place is free now.
    threadgroup float* parts = queries;
    const uint slices = max(THREADS / a.pitch, 1u), slice = slices == 1 ? 0 : me / a.pitch;
    for (uint d = slices == 1 ? me : me % a.pitch; d < a.pitch; d += slices == 1 ? uint(THREADS) : a.pitch) {
        float sums[HEADS];
        for (uint h = 0; h < HEADS; h++) sums[h] = 0.0f;
        if (slice < slices)
            for (uint s = slice; s < n; s += slices) {
                const float v = K::get(values, vectors + seen_slot(seen, from + s), d);
                for (uint h = 0; h < mine; h++) sums[h] = fma(weights[s * HEADS + h], v, sums[h]);
            }
        for (uint h = 0; h < mine; h++) {
            if (slices == 1) partial[ulong(h) * a.pieces * part_size(a.pitch) + 2 + d] = sums[h];
            else if (slice < slices) parts[(slice * HEADS + h) * a.pitch + d] = sums[h];
        }
    }
    if (slices == 1) return;
    group_barrier();
    for (uint i = me; i < mine * a.pitch; i += THREADS) {
        const uint h = i / a.pitch, d = i % a.pitch;
        float sum = 0.0f;
        for (uint s = 0; s < slices; s++) sum += parts[(s * HEADS + h) * a.pitch + d];
        partial[ulong(h) * a.pieces * part_size(a.pitch) + 2 + d] = sum;
    }
}

#define ATTENTION(K, name)                                                                                                                                       \
    KERNEL(store_kv_##name, device const float* x, constant uint* slots, constant uint& kv_heads, constant uint& dim, constant uint& pitch, constant uint& slab, \
           constant uint& vectors, device uchar* data, device float* scales) {                                                                                   \
        store_vector<K>(x, slots, kv_heads, dim, slab, vectors, slab_of(data, scales, pitch), block, me);                                                        \
    }                                                                                                                                                            \
    KERNEL_SHARED(attention_##name, device const float* q, device uchar* keys, device float* key_scales, device uchar* values, device float* value_scales,       \
                  constant Seen* spans, constant Attention& a, device float* partial) {                                                                          \
        attention_piece<K>(q, slab_of(keys, key_scales, a.pitch), slab_of(values, value_scales, a.pitch), spans, copied(a), partial, shared, block, me);                 \
    }
ATTENTION(KvF32, f32)
ATTENTION(KvBf16, bf16)
ATTENTION(KvInt8, int8)

// grid: (heads, rows), 128 threads.
KERNEL(attention_combine, device const float* partial, constant Seen* spans, constant Attention& arguments, device float* out) {
    const Attention a = copied(arguments);
    const uint row = block.y, used = (seen_count(copied(spans[row])) + PIECE - 1) / PIECE, size = part_size(a.pitch);
    const ulong at = ulong(row) * a.heads + block.x;
    partial += at * a.pieces * size;
    float most = -INFINITY;
    for (uint p = 0; p < used; p++) most = fmax(most, partial[ulong(p) * size]);
    for (uint d = me; d < a.dim; d += THREADS) {
        float sum = 0.0f, value = 0.0f;
        for (uint p = 0; p < used; p++) {
            device const float* part = partial + ulong(p) * size;
            const float factor = precise::exp(part[0] - most);
            sum = fma(factor, part[1], sum);
            value = fma(factor, part[2 + d], value);
        }
        out[at * a.dim + d] = value / sum;
    }
}
