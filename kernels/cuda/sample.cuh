// One id for each draw, as src/sample/ defines it on the host: guidance, temperature, top-k, top-p, min-p, and noise that is a function of its address.
//
// The ids are the host's. What orders logits is exact: guidance is three operations of f32 that are rounded one by one, keys of logits are compared as integers,
// and sums of probabilities are sums of whole numbers, in which order does not matter. What is not exact to the last bit (exp and log in f64, the rounding of
// those numbers) decides only where it is far enough from the border; else the answer is UNSURE, and the host draws from the same logits.

#pragma once

// Must equal `raw` in src/cuda/sample.rs.
struct Draw {
    u32 row, against, from, size, except_from, except_to, top_k;
    float guidance, temperature, top_p, min_p;
    u32 key[2], stream, position, code;
};

// Must equal the constants in src/cuda/sample.rs. A logit is not a number, or nothing is left; the host must decide.
constexpr u32 NOTHING = 0xffffffffu;
constexpr u32 UNSURE = 0xfffffffeu;
// A probability of one as a whole number: 2^19 of them fit 64 bits.
constexpr double CERTAIN = 17592186044416.0;
// What the last bits of f64 can be wrong by, and much more.
constexpr double SAFE = 1e-9;

// Keys that order numbers as integers, minus zero below zero.
DEVICE u32 order(float x) {
    const u32 bits = __float_as_uint(x);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
DEVICE float ordered(u32 key) { return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key); }
DEVICE u64 order(double x) {
    const u64 bits = u64(__double_as_longlong(x));
    return bits >> 63 ? ~bits : bits | 0x8000000000000000ull;
}
DEVICE double ordered(u64 key) { return __longlong_as_double(key >> 63 ? key & 0x7fffffffffffffffull : ~key); }

// What the threads of a block share.
struct Sampling {
    u64 bins[256];
    u64 above, total, best, second;
    u32 bad, unsure, top, least, id, key, count;
};

// The logits of one draw.
struct Choices {
    const float* conditional;
    const float* unconditional; // null: no guidance
    Draw draw;
};

DEVICE float logit(const Choices& c, u32 i) {
    if (i >= c.draw.except_from && i < c.draw.except_to) return NEGATIVE_INFINITY;
    const float x = c.conditional[i];
    if (!c.unconditional) return x;
    const float u = c.unconditional[i];
    return __fadd_rn(u, __fmul_rn(c.draw.guidance, __fsub_rn(x, u)));
}

// Philox4x32-10; see src/sample/philox.rs.
DEVICE void philox(const Draw& d, u32 block, u32* c) {
    u32 k0 = d.key[0], k1 = d.key[1];
    c[0] = d.position, c[1] = d.code, c[2] = block, c[3] = d.stream;
#pragma unroll
    for (int i = 0; i < 10; i++) {
        const u64 a = u64(0xD2511F53u) * c[0], b = u64(0xCD9E8D57u) * c[2];
        const u32 next[4] = {u32(b >> 32) ^ c[1] ^ k0, u32(b), u32(a >> 32) ^ c[3] ^ k1, u32(a)};
        c[0] = next[0], c[1] = next[1], c[2] = next[2], c[3] = next[3];
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
}

// Gumbel noise of a word: as the host has it, and good to about 1e-5.
DEVICE double gumbel(u32 word) { return -log(-log((double(word) + 0.5) / 4294967296.0)); }
DEVICE float about_gumbel(u32 word) {
    const float half = 2.3283064365386963e-10f; // 2^-32
    return -logf(word >> 31 ? -log1pf(-(float(~word) + 0.5f) * half) : -logf((float(word) + 0.5f) * half));
}

// The largest key such that the weights of the ids with it or a larger one reach `goal`, digit by digit. Afterwards `s.above` is the weight above the key,
// and `s.bins[key & 255]` that of the key.
template <class Weight>
DEVICE u32 reach(Sampling& s, const Choices& c, u64 goal, Weight weight) {
    __syncthreads();
    if (threadIdx.x == 0) s.above = 0, s.key = 0;
    __syncthreads();
    for (u32 digit = 0; digit < 4; digit++) {
        const u32 shift = 24 - 8 * digit, prefix = s.key;
        for (u32 i = threadIdx.x; i < 256; i += blockDim.x) s.bins[i] = 0;
        __syncthreads();
        for (u32 i = threadIdx.x; i < c.draw.size; i += blockDim.x) {
            const u32 key = order(logit(c, i));
            if (digit == 0 || (key ^ prefix) >> (shift + 8) == 0) atomicAdd(&s.bins[key >> shift & 255], weight(key));
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            u32 bin = 255;
            while (bin > 0 && s.above + s.bins[bin] < goal) s.above += s.bins[bin--];
            s.key |= bin << shift;
        }
        __syncthreads();
    }
    return s.key;
}

// The first id behind the `wanted` lowest ids with a key.
DEVICE u32 behind(Sampling& s, const Choices& c, u32 key, u64 wanted) {
    u32 low = 0, high = c.draw.size;
    while (low < high) {
        const u32 middle = low + (high - low) / 2;
        __syncthreads();
        if (threadIdx.x == 0) s.count = 0;
        __syncthreads();
        for (u32 i = threadIdx.x; i < middle; i += blockDim.x)
            if (order(logit(c, i)) == key) atomicAdd(&s.count, 1u);
        __syncthreads();
        if (s.count >= wanted) high = middle;
        else low = middle + 1;
    }
    return low;
}

// What the filters leave.
struct Filter {
    float least;  // logits below it are removed
    u32 key;      // so are keys below this one,
    u32 end;      // and ids from `end` on with this key
    double floor; // scores below it
};

// Top-k, then top-p of what is left, then min-p. Sets `s.unsure` where rounding may decide.
DEVICE Filter filters(Sampling& s, const Choices& c, double highest) {
    const Draw& d = c.draw;
    const double t = double(d.temperature), p = double(d.top_p);
    Filter f = {NEGATIVE_INFINITY, 0, NONE, -HUGE_VAL};
    if (d.top_k > 0 && d.top_k < d.size) f.least = ordered(reach(s, c, d.top_k, [](u32) { return u64(1); }));
    if (p < 1.0) {
        const float least = f.least;
        const auto weight = [=](u32 key) {
            const float x = ordered(key);
            return x < least ? u64(0) : u64(exp(double(x) / t - highest) * CERTAIN + 0.5);
        };
        u64 sum = 0;
        for (u32 i = threadIdx.x; i < d.size; i += blockDim.x) sum += weight(order(logit(c, i)));
        atomicAdd(&s.total, sum);
        __syncthreads();
        const u64 total = s.total, wanted = u64(ceil(p * double(total))), goal = wanted > 0 ? wanted : 1;
        f.key = reach(s, c, goal, weight);
        const u64 above = s.above, each = weight(f.key), equals = each ? s.bins[f.key & 255] / each : 0;
        const u64 taken = each ? (goal - above + each - 1) / each : 0;
        const u64 border = 2 * u64(d.size) + u64(1e-12 * double(total));
        const bool sure = each > 0 && goal - (above + (taken - 1) * each) > border && above + taken * each - goal >= border;
        if (!sure && threadIdx.x == 0) s.unsure = 1;
        if (sure && taken < equals) f.end = behind(s, c, f.key, taken);
        __syncthreads();
    }
    if (d.min_p > 0.0f) f.floor = highest + log(double(d.min_p));
    return f;
}

DEVICE bool kept(Sampling& s, const Choices& c, const Filter& f, double highest, u32 i, float x) {
    const u32 key = order(x);
    if (x < f.least || x == NEGATIVE_INFINITY || key < f.key || (key == f.key && i >= f.end)) return false;
    if (c.draw.min_p <= 0.0f) return true;
    const double over = double(x) / double(c.draw.temperature) - f.floor;
    if (fabs(over) <= SAFE * (1.0 + fabs(highest))) atomicMax(&s.unsure, 1u);
    return over >= 0.0;
}

// grid: draws, 32 or 512 threads.
KERNEL(sample, 512, (const float* logits, u32 width, const Draw* draws, u32* ids)) {
    SHARED Sampling s;
    Choices c;
    c.draw = draws[blockIdx.x];
    const Draw& d = c.draw;
    c.conditional = logits + at2(d.row, width) + d.from;
    c.unconditional = d.against == NONE || d.guidance == 1.0f ? nullptr : logits + at2(d.against, width) + d.from;
    if (threadIdx.x == 0) s.total = s.best = s.second = 0, s.bad = s.unsure = s.top = s.least = 0, s.id = NONE;
    __syncthreads();
    const u32 lane = threadIdx.x % 32;

    float most = NEGATIVE_INFINITY;
    for (u32 i = threadIdx.x; i < d.size; i += blockDim.x) {
        const float x = logit(c, i);
        if (!(x < -NEGATIVE_INFINITY)) atomicMax(&s.bad, 1u);
        most = fmaxf(most, x);
    }
    most = lane_max<32>(most);
    if (lane == 0) atomicMax(&s.top, order(most));
    __syncthreads();
    const float top = ordered(s.top);
    if (s.bad || top == NEGATIVE_INFINITY) {
        if (threadIdx.x == 0) ids[blockIdx.x] = NOTHING;
        return;
    }
    if (d.temperature == 0.0f) {
        for (u32 i = threadIdx.x; i < d.size; i += blockDim.x)
            if (logit(c, i) == top) atomicMin(&s.id, i);
        __syncthreads();
        if (threadIdx.x == 0) ids[blockIdx.x] = s.id;
        return;
    }

    const double t = double(d.temperature), highest = double(top) / t;
    const Filter f = filters(s, c, highest);
    // First about, in f32: what cannot be the largest is not computed in f64.
    float least = NEGATIVE_INFINITY;
    for (u32 block = threadIdx.x; block < (d.size + 3) / 4; block += blockDim.x) {
        u32 words[4];
        philox(d, block, words);
        for (u32 j = 0; j < 4 && 4 * block + j < d.size; j++) {
            const float x = logit(c, 4 * block + j), score = x / d.temperature;
            if (kept(s, c, f, highest, 4 * block + j, x))
                least = fmaxf(least, score + about_gumbel(words[j]) - (1e-4f + 1e-6f * fabsf(score)));
        }
    }
    least = lane_max<32>(least);
    if (lane == 0) atomicMax(&s.least, order(least));
    __syncthreads();
    least = ordered(s.least);
    double best = -HUGE_VAL, second = -HUGE_VAL;
    u32 id = NONE;
    for (u32 block = threadIdx.x; block < (d.size + 3) / 4; block += blockDim.x) {
        u32 words[4];
        philox(d, block, words);
        for (u32 j = 0; j < 4 && 4 * block + j < d.size; j++) {
            const u32 i = 4 * block + j;
            const float x = logit(c, i), score = x / d.temperature;
            if (score + about_gumbel(words[j]) + (1e-4f + 1e-6f * fabsf(score)) < least || !kept(s, c, f, highest, i, x)) continue;
            const double value = double(x) / t + gumbel(words[j]);
            if (value > best) second = best, best = value, id = i;
            else if (value > second) second = value;
        }
    }
    if (id != NONE) atomicMax(&s.best, order(best));
    __syncthreads();
    if (id != NONE && order(best) == s.best) atomicMin(&s.id, id);
    __syncthreads();
    if (id != NONE) atomicMax(&s.second, order(id == s.id ? second : best));
    __syncthreads();
    if (threadIdx.x != 0) return;
    const double first = ordered(s.best), other = ordered(s.second);
    ids[blockIdx.x] = s.unsure || s.id == NONE || !(first - other > SAFE * (1.0 + fabs(first))) ? UNSURE : s.id;
}

// `dst[at[i]] += src[i]`; no place is named twice.
KERNEL(add_at, 256, (float* dst, const u32* at, const float* src, u64 len)) {
    const u64 i = thread_index();
    if (i < len && at[i] != NONE) dst[at[i]] += src[i];
}
