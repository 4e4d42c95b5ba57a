// Attention over a slab `[kv_heads][slots][pitch]`, pitch = head_dim rounded up to 8, in one of three formats.
//
// The slots that a row sees are counted from the first one of its first range and cut into pieces by that count. A block has one piece of one row
// and up to eight query heads of one key head: keys and values are read once for them. `attention_combine` puts the pieces together in order.

#pragma once

constexpr u32 PIECE = 256;
constexpr u32 HEADS = 8;
constexpr u32 SLOT_LANES = 8;

struct Seen {
    u32 prefix[2];
    u32 recent[2];
};

DEVICE u32 seen_count(const Seen& s) { return s.prefix[1] - s.prefix[0] + s.recent[1] - s.recent[0]; }

DEVICE u64 seen_slot(const Seen& s, u32 i) {
    const u32 n = s.prefix[1] - s.prefix[0];
    return i < n ? s.prefix[0] + i : s.recent[0] + (i - n);
}

// Keys or values, and one scale for each slot and head where the format has scales. Must equal `Slab` in src/cuda/attention.rs.
struct Slab {
    void* data;
    float* scales;
};

// How keys and values are kept; see `KvFormat`. `at`: number of an element, `load8` takes multiples of 8.
struct KvF32 {
    DEVICE float get(const Slab& s, u64 at) { return static_cast<const float*>(s.data)[at]; }
    DEVICE void load8(const Slab& s, u64 at, float* v) {
        const float4* p = reinterpret_cast<const float4*>(static_cast<const float*>(s.data) + at);
        const float4 a = p[0], b = p[1];
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    }
    DEVICE float scaled(const Slab&, u64, float x) { return x; }
    // A vector of `dim` numbers by one warp.
    DEVICE void store(const Slab& s, u64 vector, u32 pitch, const float* x, u32 dim, u32 lane) {
        for (u32 d = lane; d < dim; d += 32) static_cast<float*>(s.data)[vector * pitch + d] = x[d];
    }
};

struct KvBf16 {
    DEVICE float get(const Slab& s, u64 at) { return bf16_to_float(static_cast<const u16*>(s.data)[at]); }
    DEVICE void load8(const Slab& s, u64 at, float* v) {
        const uint4 p = *reinterpret_cast<const uint4*>(static_cast<const u16*>(s.data) + at);
        const u32 words[4] = {p.x, p.y, p.z, p.w};
#pragma unroll
        for (int i = 0; i < 4; i++) v[2 * i] = __uint_as_float(words[i] << 16), v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
    DEVICE float scaled(const Slab&, u64, float x) { return x; }
    DEVICE void store(const Slab& s, u64 vector, u32 pitch, const float* x, u32 dim, u32 lane) {
        for (u32 d = lane; d < dim; d += 32) static_cast<u16*>(s.data)[vector * pitch + d] = float_to_bf16(x[d]);
    }
};

struct KvInt8 {
    DEVICE float get(const Slab& s, u64 at) { return float(static_cast<const signed char*>(s.data)[at]); }
    DEVICE void load8(const Slab& s, u64 at, float* v) {
        const uint2 p = *reinterpret_cast<const uint2*>(static_cast<const u8*>(s.data) + at);
#pragma unroll
        for (int i = 0; i < 4; i++) v[i] = float(static_cast<signed char>(p.x >> (8 * i))), v[4 + i] = float(static_cast<signed char>(p.y >> (8 * i)));
    }
    DEVICE float scaled(const Slab& s, u64 vector, float x) { return x * s.scales[vector]; }
    DEVICE void store(const Slab& s, u64 vector, u32 pitch, const float* x, u32 dim, u32 lane) {
        float most = 0.0f, strange = 0.0f;
        for (u32 d = lane; d < dim; d += 32) {
            most = fmaxf(most, fabsf(x[d]));
            // Zero, or not a number when x is none or is infinite.
            strange += x[d] - x[d];
        }
        const float scale = fmaxf(lane_max<32>(most) / 127.0f, 1.17549435e-38f) + lane_sum<32>(strange);
        for (u32 d = lane; d < dim; d += 32) {
            const float code = rintf(x[d] / scale);
            static_cast<signed char*>(s.data)[vector * pitch + d] = code == code ? static_cast<signed char>(int(code)) : 0;
        }
        if (lane == 0) s.scales[vector] = scale;
    }
};

// Rows of k and v `[rows, kv_heads, dim]` to their slots, a warp for each vector. grid: (vectors / 8, 2), 256 threads; y: keys, then values.
template <class K>
DEVICE void store_kv(const float* k, const float* v, const u32* slots, u32 kv_heads, u32 dim, u32 pitch, u32 slab, u32 vectors, Slab keys, Slab values) {
    const u32 i = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (i >= vectors) return;
    const u64 to = u64(i % kv_heads) * slab + slots[i / kv_heads];
    K::store(blockIdx.y ? values : keys, to, pitch, (blockIdx.y ? v : k) + at2(i, dim), dim, threadIdx.x % 32);
}

// Slots `from..from + len` of every head of one slab of `slots_from` slots to slots `to..` of another; `pitch` words a slot.
KERNEL(copy_slots, 256, (const u32* src, u32 slots_from, u32 from, u32* dst, u32 slots_to, u32 to, u32 len, u32 heads, u32 pitch)) {
    const u64 i = thread_index();
    const u32 d = u32(i % pitch), slot = u32(i / pitch % len);
    const u64 head = i / pitch / len;
    if (head < heads) dst[(head * slots_to + to + slot) * pitch + d] = src[(head * slots_from + from + slot) * pitch + d];
}

// Numbers of a partial result: maximum, sum, and the weighted values.
DEVICE u32 part_size(u32 pitch) { return pitch + 2; }

// grid: (pieces, kv_heads * head tiles, rows), 128 threads. Shared: q [8][pitch], weights [256][8], parts [slices][8][pitch] when slices > 1.
template <class K>
DEVICE void attention_piece(const float* q, u32 heads, u32 kv_heads, u32 dim, u32 pitch, Slab keys, Slab values, u32 slab, const Seen* spans, float scale, u32 pieces, float* partial) {
    DYNAMIC_SHARED(float, shared);
    const u32 group = heads / kv_heads, tiles = (group + HEADS - 1) / HEADS;
    const u32 row = blockIdx.z, head = blockIdx.y / tiles, first = blockIdx.y % tiles * HEADS;
    const u32 mine = group - first < HEADS ? group - first : HEADS;
    const Seen seen = spans[row];
    const u32 count = seen_count(seen), from = blockIdx.x * PIECE;
    if (from >= count) return;
    const u32 n = count - from < PIECE ? count - from : PIECE;
    float* queries = shared;
    float* weights = queries + HEADS * pitch;
    float* parts = weights + PIECE * HEADS;
    const u64 base = u64(head) * slab;
    q += (at2(row, heads) + head * group + first) * dim;
    for (u32 i = threadIdx.x; i < HEADS * pitch; i += blockDim.x) {
        const u32 h = i / pitch, d = i % pitch;
        queries[i] = h < mine && d < dim ? q[h * dim + d] : 0.0f;
    }
    __syncthreads();

    // Scores: eight lanes share a slot; lane t ends with head t.
    const u32 t = threadIdx.x % SLOT_LANES, lanes = blockDim.x / SLOT_LANES;
    for (u32 at = 0; at < n; at += lanes) {
        const u32 s = at + threadIdx.x / SLOT_LANES;
        const u64 key = base + seen_slot(seen, from + (s < n ? s : n - 1));
        float sums[HEADS];
#pragma unroll
        for (u32 h = 0; h < HEADS; h++) sums[h] = 0.0f;
        for (u32 d = 8 * t; d < pitch; d += 8 * SLOT_LANES) {
            float a[8];
            K::load8(keys, key * pitch + d, a);
#pragma unroll
            for (u32 h = 0; h < HEADS; h++) {
                const float4* p = reinterpret_cast<const float4*>(queries + h * pitch + d);
                const float4 c = p[0], e = p[1];
                float v = sums[h];
                v = fmaf(c.x, a[0], v), v = fmaf(c.y, a[1], v), v = fmaf(c.z, a[2], v), v = fmaf(c.w, a[3], v);
                v = fmaf(e.x, a[4], v), v = fmaf(e.y, a[5], v), v = fmaf(e.z, a[6], v), v = fmaf(e.w, a[7], v);
                sums[h] = v;
            }
        }
        Scatter<HEADS, SLOT_LANES>::sum(sums, t);
        if (s < n) weights[s * HEADS + t] = K::scaled(keys, key, sums[0]) * scale;
    }
    __syncthreads();

    // Softmax of the piece, a warp for each head.
    partial += ((at2(row, heads) + head * group + first) * pieces + blockIdx.x) * part_size(pitch);
    for (u32 h = threadIdx.x / 32; h < mine; h += blockDim.x / 32) {
        float most = NEGATIVE_INFINITY, sum = 0.0f;
        for (u32 s = threadIdx.x % 32; s < n; s += 32) most = fmaxf(most, weights[s * HEADS + h]);
        most = lane_max<32>(most);
        for (u32 s = threadIdx.x % 32; s < n; s += 32) {
            const float e = expf(weights[s * HEADS + h] - most);
            weights[s * HEADS + h] = K::scaled(values, base + seen_slot(seen, from + s), e);
            sum += e;
        }
        sum = lane_sum<32>(sum);
        if (threadIdx.x % 32 == 0) {
            float* stats = partial + u64(h) * pieces * part_size(pitch);
            stats[0] = most;
            stats[1] = sum;
        }
    }
    __syncthreads();

    // Weighted values: a thread has a column; when columns are few, slices of threads share the slots.
    const u32 slices = pitch >= blockDim.x ? 1 : blockDim.x / pitch, slice = threadIdx.x / pitch;
    for (u32 d = slices == 1 ? threadIdx.x : threadIdx.x % pitch; d < pitch; d += slices == 1 ? blockDim.x : pitch) {
        float sums[HEADS];
#pragma unroll
        for (u32 h = 0; h < HEADS; h++) sums[h] = 0.0f;
        if (slices == 1 || slice < slices) {
#pragma unroll 4
            for (u32 s = slices == 1 ? 0 : slice; s < n; s += slices) {
                const float v = K::get(values, (base + seen_slot(seen, from + s)) * pitch + d);
                const float4* p = reinterpret_cast<const float4*>(weights + s * HEADS);
                const float4 a = p[0], b = p[1];
                sums[0] = fmaf(a.x, v, sums[0]), sums[1] = fmaf(a.y, v, sums[1]), sums[2] = fmaf(a.z, v, sums[2]), sums[3] = fmaf(a.w, v, sums[3]);
                sums[4] = fmaf(b.x, v, sums[4]), sums[5] = fmaf(b.y, v, sums[5]), sums[6] = fmaf(b.z, v, sums[6]), sums[7] = fmaf(b.w, v, sums[7]);
            }
        }
#pragma unroll
        for (u32 h = 0; h < HEADS; h++) {
            if (slices == 1) {
                if (h < mine) partial[u64(h) * pieces * part_size(pitch) + 2 + d] = sums[h];
            } else if (slice < slices) {
                parts[(slice * HEADS + h) * pitch + d] = sums[h];
            }
        }
    }
    if (slices == 1) return;
    __syncthreads();
    for (u32 i = threadIdx.x; i < mine * pitch; i += blockDim.x) {
        const u32 h = i / pitch, d = i % pitch;
        float sum = 0.0f;
        for (u32 s = 0; s < slices; s++) sum += parts[(s * HEADS + h) * pitch + d];
        partial[u64(h) * pieces * part_size(pitch) + 2 + d] = sum;
    }
}

// grid: (heads, rows), 128 threads.
KERNEL(attention_combine, 128, (const float* partial, u32 heads, u32 dim, u32 pitch, const Seen* spans, u32 pieces, float* out)) {
    const u32 h = blockIdx.x, row = blockIdx.y, used = (seen_count(spans[row]) + PIECE - 1) / PIECE, size = part_size(pitch);
    const u64 at = at2(row, heads) + h;
    partial += at * pieces * size;
    float most = NEGATIVE_INFINITY;
    for (u32 p = 0; p < used; p++) most = fmaxf(most, partial[u64(p) * size]);
    for (u32 d = threadIdx.x; d < dim; d += blockDim.x) {
        float sum = 0.0f, value = 0.0f;
        for (u32 p = 0; p < used; p++) {
            const float* part = partial + u64(p) * size;
            const float factor = expf(part[0] - most);
            sum = fmaf(factor, part[1], sum);
            value = fmaf(factor, part[2 + d], value);
        }
        out[at * dim + d] = value / sum;
    }
}

#define ATTENTION(K, name)                                                                                                                     \
    KERNEL(store_kv_##name, 256, (const float* k, const float* v, const u32* slots, u32 kv_heads, u32 dim, u32 pitch, u32 slab, u32 vectors, Slab keys, Slab values)) { \
        store_kv<K>(k, v, slots, kv_heads, dim, pitch, slab, vectors, keys, values);                                                           \
    }                                                                                                                                          \
    KERNEL(attention_piece_##name, 128, (const float* q, u32 heads, u32 kv_heads, u32 dim, u32 pitch, Slab keys, Slab values, u32 slab, const Seen* spans, float scale, u32 pieces, float* partial)) { \
        attention_piece<K>(q, heads, kv_heads, dim, pitch, keys, values, slab, spans, scale, pieces, partial);                                 \
    }
ATTENTION(KvF32, f32)
ATTENTION(KvBf16, bf16)
ATTENTION(KvInt8, int8)
