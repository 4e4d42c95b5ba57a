// Router and routed experts.
//
// Few rows: `experts_gate_up` and `experts_down` go by output rows, an assignment (row, choice) at a time: nothing is sorted or padded.
// Many rows: assignments are grouped by expert on the device and worked on in tiles of 32. Both give the same bits: a product is defined by
// matmul.cuh (f32) or tensor.cuh (other formats), and a row's experts are summed in ascending order of their index.

#pragma once

struct RouterRules {
    u32 experts, all, top_k, sigmoid, normalise, groups, top_groups;
    float scale;
};

// Better of two (selection score, index): the larger score, then the lower index.
DEVICE bool better(float a, u32 i, float b, u32 j) { return j == NONE || (i != NONE && (a > b || (a == b && i < j))); }

// Logits to scores, by one warp. `all` of them.
DEVICE void score(float* s, u32 all, bool is_sigmoid, u32 lane) {
    float most = NEGATIVE_INFINITY, sum = 0.0f;
    for (u32 i = lane; i < all; i += 32) most = fmaxf(most, s[i]);
    most = lane_max<32>(most);
    for (u32 i = lane; i < all; i += 32) {
        s[i] = is_sigmoid ? sigmoid(s[i]) : expf(s[i] - most);
        sum += s[i];
    }
    sum = lane_sum<32>(sum);
    if (!is_sigmoid)
        for (u32 i = lane; i < all; i += 32) s[i] /= sum;
    __syncwarp(FULL);
}

// Scores of groups (sum of the two largest selection scores), then `closed[e]` for experts of groups that are not among the best.
DEVICE void close_groups(const RouterRules& rules, const float* s, const float* bias, float* groups, u32* closed, u32 lane) {
    const u32 size = rules.experts / rules.groups;
    for (u32 g = lane; g < rules.groups; g += 32) {
        float first = NEGATIVE_INFINITY, second = NEGATIVE_INFINITY;
        for (u32 e = g * size; e < (g + 1) * size; e++) {
            const float v = s[e] + (bias ? bias[e] : 0.0f);
            if (v > first) second = first, first = v;
            else second = fmaxf(second, v);
        }
        groups[g] = first + second;
    }
    __syncwarp(FULL);
    for (u32 e = lane; e < rules.experts; e += 32) {
        const u32 mine = e / size;
        u32 above = 0;
        for (u32 g = 0; g < rules.groups; g++) above += groups[g] > groups[mine] || (groups[g] == groups[mine] && g < mine);
        closed[e] = above >= rules.top_groups;
    }
    __syncwarp(FULL);
}

// The `top_k` largest selection scores, one after the other, by one warp.
DEVICE void choose(const RouterRules& rules, const float* s, const float* bias, u32* closed, u32 lane, u32* experts, float* weights) {
    float sum = 0.0f;
    for (u32 n = 0; n < rules.top_k; n++) {
        float best = NEGATIVE_INFINITY;
        u32 index = NONE;
        for (u32 e = lane; e < rules.all; e += 32) {
            const float v = s[e] + (bias ? bias[e] : 0.0f);
            if (!closed[e] && better(v, e, best, index)) best = v, index = e;
        }
#pragma unroll
        for (int d = 16; d > 0; d /= 2) {
            const float v = __shfl_xor_sync(FULL, best, d);
            const u32 i = __shfl_xor_sync(FULL, index, d);
            if (better(v, i, best, index)) best = v, index = i;
        }
        // Only numbers that are none (NaN) leave nothing to choose.
        if (index == NONE) index = n;
        sum += s[index];
        if (lane == 0) {
            closed[index] = 1;
            experts[n] = index;
            weights[n] = s[index];
        }
        __syncwarp(FULL);
    }
    const float norm = rules.normalise ? sum + 1e-20f : 1.0f;
    for (u32 n = lane; n < rules.top_k; n += 32) weights[n] = weights[n] / norm * rules.scale;
}

// grid: rows, 256 threads. Shared: scores [all], closed [all], groups [groups].
template <class F>
DEVICE void route(Matrix w, const float* x, RouterRules rules, const float* bias, u32* experts, float* weights) {
    DYNAMIC_SHARED(float, s);
    u32* closed = reinterpret_cast<u32*>(s + rules.all);
    float* groups = s + 2 * rules.all;
    const u32 row = blockIdx.x, lane = threadIdx.x % 32;
    const u64 at = at2(row, rules.top_k);
    for (u32 base = 0; base < rules.all; base += blockDim.x / LANES) {
        const u32 o = base + threadIdx.x / LANES;
        float logit[1][1];
        dot<F, 1, 1>(w, o < rules.all ? o : 0, 1, x + at2(row, w.inputs), w.inputs, 1, w.inputs % 4 == 0, logit);
        if (o < rules.all && threadIdx.x % LANES == 0) {
            s[o] = logit[0][0];
            closed[o] = 0;
        }
    }
    __syncthreads();
    if (threadIdx.x >= 32) return;
    score(s, rules.all, rules.sigmoid, lane);
    if (rules.groups > 1) close_groups(rules, s, bias, groups, closed, lane);
    choose(rules, s, bias, closed, lane, experts + at, weights + at);
}

// A routing from outside: one expert a row, with weight 1.
KERNEL(assign, 256, (const u32* list, u64 len, u32* experts, float* weights)) {
    const u64 i = thread_index();
    if (i < len) experts[i] = list[i], weights[i] = 1.0f;
}

// grid: (inner / 8, rows * top_k), 128 threads. `inner[a] = silu(gate) * up` of assignment a.
template <class F>
DEVICE void experts_gate_up(Matrix w, u32 experts, u32 inner, const float* x, const u32* chosen, u32 top_k, float* out) {
    const u32 a = blockIdx.y, e = chosen[a];
    if (e >= experts) return;
    const u32 i = blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES;
    const u64 gate = u64(e) * 2 * inner + (i < inner ? i : 0);
    const float* row = x + at2(a / top_k, w.inputs);
    const bool wide = w.inputs % 4 == 0;
    float g[1][1], u[1][1];
    dot<F, 1, 1>(w, gate, 1, row, w.inputs, 1, wide, g);
    dot<F, 1, 1>(w, gate + inner, 1, row, w.inputs, 1, wide, u);
    if (i < inner && threadIdx.x % LANES == 0) out[at2(a, inner) + i] = silu(g[0][0]) * u[0][0];
}

// Sum of a row's experts: two roundings, as on the host, which sums experts of other ranks and those that were copied from files.
DEVICE float plus(float sum, float weight, float value) { return __fadd_rn(sum, __fmul_rn(weight, value)); }

// The choice of a row with the lowest expert from `least` on; NONE when there is none below `experts`.
DEVICE u32 next_choice(const u32* chosen, u32 top_k, u32 least, u32 experts) {
    u32 best = NONE, at = NONE;
    for (u32 n = 0; n < top_k; n++)
        if (chosen[n] >= least && chosen[n] < experts && chosen[n] < best) best = chosen[n], at = n;
    return at;
}

// grid: (outputs / 8, rows), 128 threads. `dst[r] += sum of weight * down[e] @ inner`.
template <class F>
DEVICE void experts_down(Matrix w, u32 experts, u32 outputs, const float* inner, const u32* chosen, const float* weights, u32 top_k, float* dst) {
    const u32 row = blockIdx.y, o = blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES;
    const u64 at = at2(row, top_k);
    float sum = 0.0f;
    u32 least = 0;
    for (u32 n = next_choice(chosen + at, top_k, 0, experts); n != NONE; n = next_choice(chosen + at, top_k, least, experts)) {
        const u32 e = chosen[at + n];
        float v[1][1];
        dot<F, 1, 1>(w, u64(e) * outputs + (o < outputs ? o : 0), 1, inner + at2(u32(at) + n, w.inputs), w.inputs, 1, w.inputs % 4 == 0, v);
        sum = plus(sum, weights[at + n], v[0][0]);
        least = e + 1;
    }
    if (o < outputs && threadIdx.x % LANES == 0) dst[at2(row, outputs) + o] += sum;
}

// The two kernels above on tensor cores: grid (inner / 16, rows * top_k) and (outputs / 16, rows), 256 threads.
template <class F>
DEVICE void experts_gate_up_few(Matrix w, u32 experts, u32 inner, const float* x, const u32* chosen, u32 top_k, float* out) {
    SHARED float parts[SPLITS][2][1][OUTS][8];
    const u32 a = blockIdx.y, e = chosen[a], i0 = blockIdx.x * OUTS, mine = inner - i0 < OUTS ? inner - i0 : OUTS;
    if (e >= experts) return;
    const u64 gate = u64(e) * 2 * inner + i0;
    const u64 first[2] = {gate, gate + inner};
    const float* row[1] = {threadIdx.x % 32 < 4 ? x + at2(a / top_k, w.inputs) : nullptr};
    few<F, 2, 1>(w, first, mine, row, w.inputs % 4 == 0, parts);
    __syncthreads();
    const u32 i = threadIdx.x;
    if (i < mine) out[at2(a, inner) + i0 + i] = silu(joined<2, 1>(parts, 0, 0, i, 0)) * joined<2, 1>(parts, 1, 0, i, 0);
}

template <class F>
DEVICE void experts_down_few(Matrix w, u32 experts, u32 outputs, const float* inner, const u32* chosen, const float* weights, u32 top_k, float* dst) {
    SHARED float parts[SPLITS][1][1][OUTS][8];
    const u32 row = blockIdx.y, o0 = blockIdx.x * OUTS, mine = outputs - o0 < OUTS ? outputs - o0 : OUTS, o = threadIdx.x;
    const u64 at = at2(row, top_k);
    float sum = 0.0f;
    u32 least = 0;
    for (u32 n = next_choice(chosen + at, top_k, 0, experts); n != NONE; n = next_choice(chosen + at, top_k, least, experts)) {
        const u32 e = chosen[at + n];
        const u64 first[1] = {u64(e) * outputs + o0};
        const float* x[1] = {threadIdx.x % 32 < 4 ? inner + at2(u32(at) + n, w.inputs) : nullptr};
        few<F, 1, 1>(w, first, mine, x, w.inputs % 4 == 0, parts);
        __syncthreads();
        if (o < mine) sum = plus(sum, weights[at + n], joined<1, 1>(parts, 0, 0, o, 0));
        __syncthreads();
        least = e + 1;
    }
    if (o < mine) dst[at2(row, outputs) + o0 + o] += sum;
}

// Part of one expert's assignments.
struct Work {
    u32 expert, first, count;
};

// One block of 256 threads. Lists assignments by expert (`list`) and cuts each expert's into parts of up to 32 (`work`, their number in `parts`).
// Shared: starts [experts + 1], next [experts].
KERNEL(experts_group, 256, (const u32* chosen, u32 assignments, u32 experts, u32* list, Work* work, u32* parts)) {
    DYNAMIC_SHARED(u32, starts);
    u32* next = starts + experts + 1;
    for (u32 e = threadIdx.x; e <= experts; e += blockDim.x) starts[e] = 0;
    __syncthreads();
    for (u32 a = threadIdx.x; a < assignments; a += blockDim.x)
        if (chosen[a] < experts) atomicAdd(&starts[chosen[a] + 1], 1u);
    __syncthreads();
    if (threadIdx.x == 0) {
        u32 n = 0;
        for (u32 e = 0; e < experts; e++) {
            const u32 count = starts[e + 1];
            starts[e + 1] += starts[e];
            next[e] = starts[e];
            for (u32 i = 0; i < count; i += SIDE) {
                work[n].expert = e;
                work[n].first = starts[e] + i;
                work[n++].count = count - i < SIDE ? count - i : SIDE;
            }
        }
        *parts = n;
    }
    __syncthreads();
    for (u32 a = threadIdx.x; a < assignments; a += blockDim.x)
        if (chosen[a] < experts) list[atomicAdd(&next[chosen[a]], 1u)] = a;
}

// grid: (inner / 16, most parts), 256 threads: a tile of 16 gates and their 16 ups.
template <class F>
DEVICE void experts_gate_up_tile(Matrix w, u32 inner, const float* x, u32 top_k, const u32* list, const Work* work, const u32* parts, float* out) {
    SHARED Tile<F> s;
    SHARED float both[SIDE][SIDE + 1];
    if (blockIdx.y >= *parts) return;
    const Work part = work[blockIdx.y];
    const u32 i0 = blockIdx.x * (SIDE / 2), t = threadIdx.x % LANES, g = threadIdx.x / LANES;
    if (threadIdx.x < SIDE) {
        const u32 n = threadIdx.x, i = i0 + n % (SIDE / 2);
        s.rows[n] = n < part.count ? x + at2(list[part.first + n] / top_k, w.inputs) : nullptr;
        s.outputs[n] = i < inner ? u64(part.expert) * 2 * inner + (n < SIDE / 2 ? 0 : inner) + i : ~u64(0);
    }
    float v[64];
    Tile<F>::sums(s, w, w.inputs % 4 == 0, v);
    const u32 row = g / 4 * 8 + t / 2, o = g % 4 * 8 + t % 2 * 4;
#pragma unroll
    for (u32 i = 0; i < 4; i++) both[row][o + i] = v[i];
    __syncthreads();
    for (u32 n = threadIdx.x; n < SIDE * SIDE / 2; n += blockDim.x) {
        const u32 r = n / (SIDE / 2), i = n % (SIDE / 2);
        if (r < part.count && i0 + i < inner) out[at2(list[part.first + r], inner) + i0 + i] = silu(both[r][i]) * both[r][SIDE / 2 + i];
    }
}

// grid: (outputs / 32, most parts), 256 threads. `out[a] = down[e] @ inner[a]`.
template <class F>
DEVICE void experts_down_tile(Matrix w, u32 outputs, const float* inner, const u32* list, const Work* work, const u32* parts, float* out) {
    SHARED Tile<F> s;
    if (blockIdx.y >= *parts) return;
    const Work part = work[blockIdx.y];
    const u32 o0 = blockIdx.x * SIDE, t = threadIdx.x % LANES, g = threadIdx.x / LANES;
    if (threadIdx.x < SIDE) {
        const u32 n = threadIdx.x;
        s.rows[n] = n < part.count ? inner + at2(list[part.first + n], w.inputs) : nullptr;
        s.outputs[n] = o0 + n < outputs ? u64(part.expert) * outputs + o0 + n : ~u64(0);
    }
    float v[64];
    Tile<F>::sums(s, w, w.inputs % 4 == 0, v);
    const u32 row = g / 4 * 8 + t / 2, o = o0 + g % 4 * 8 + t % 2 * 4;
    if (row >= part.count) return;
    out += at2(list[part.first + row], outputs);
#pragma unroll
    for (u32 i = 0; i < 4; i++)
        if (o + i < outputs) out[o + i] = v[i];
}

// The two tiles above on tensor cores: grid (inner / 32, most parts), a tile of 32 gates and their 32 ups, and (outputs / 64, most parts), 256 threads.
template <class F>
DEVICE void experts_gate_up_wide(Matrix w, u32 inner, const float* x, u32 top_k, const u32* list, const Work* work, const u32* parts, float* out) {
    SHARED Wide<F> s;
    if (blockIdx.y >= *parts) return;
    const Work part = work[blockIdx.y];
    const u32 i0 = blockIdx.x * (WIDE / 2);
    if (threadIdx.x < WIDE) {
        const u32 n = threadIdx.x, i = i0 + n % (WIDE / 2);
        if (n < SIDE) s.rows[n] = n < part.count ? x + at2(list[part.first + n] / top_k, w.inputs) : nullptr;
        s.outputs[n] = i < inner ? u64(part.expert) * 2 * inner + (n < WIDE / 2 ? 0 : inner) + i : ~u64(0);
    }
    Wide<F>::sums(s, w, w.inputs % 4 == 0);
    for (u32 n = threadIdx.x; n < SIDE * WIDE / 2; n += blockDim.x) {
        const u32 r = n / (WIDE / 2), i = n % (WIDE / 2);
        if (r < part.count && i0 + i < inner) out[at2(list[part.first + r], inner) + i0 + i] = silu(s.out[r][i]) * s.out[r][WIDE / 2 + i];
    }
}

template <class F>
DEVICE void experts_down_wide(Matrix w, u32 outputs, const float* inner, const u32* list, const Work* work, const u32* parts, float* out) {
    SHARED Wide<F> s;
    if (blockIdx.y >= *parts) return;
    const Work part = work[blockIdx.y];
    const u32 o0 = blockIdx.x * WIDE;
    if (threadIdx.x < WIDE) {
        const u32 n = threadIdx.x;
        if (n < SIDE) s.rows[n] = n < part.count ? inner + at2(list[part.first + n], w.inputs) : nullptr;
        s.outputs[n] = o0 + n < outputs ? u64(part.expert) * outputs + o0 + n : ~u64(0);
    }
    Wide<F>::sums(s, w, w.inputs % 4 == 0);
    for (u32 n = threadIdx.x; n < SIDE * WIDE; n += blockDim.x) {
        const u32 r = n / WIDE, o = n % WIDE;
        if (r < part.count && o0 + o < outputs) out[at2(list[part.first + r], outputs) + o0 + o] = s.out[r][o];
    }
}

// grid: (outputs / 256, rows), 256 threads. `dst[r] += sum of weight * part[a]` over the row's experts in ascending order.
KERNEL(experts_combine, 256, (const float* part, u32 experts, u32 outputs, const u32* chosen, const float* weights, u32 top_k, float* dst)) {
    const u32 row = blockIdx.y, o = blockIdx.x * blockDim.x + threadIdx.x;
    const u64 at = at2(row, top_k);
    if (o >= outputs) return;
    float sum = 0.0f;
    u32 least = 0;
    for (u32 n = next_choice(chosen + at, top_k, 0, experts); n != NONE; n = next_choice(chosen + at, top_k, least, experts)) {
        sum = plus(sum, weights[at + n], part[(at + n) * outputs + o]);
        least = chosen[at + n] + 1;
    }
    dst[at2(row, outputs) + o] += sum;
}

#define ROUTE(F, name)                                                                                                                         \
    KERNEL(route_##name, 256, (Matrix w, const float* x, RouterRules rules, const float* bias, u32* experts, float* weights)) {                 \
        route<F>(w, x, rules, bias, experts, weights);                                                                                         \
    }
ROUTE(F32, f32)
ROUTE(Bf16, bf16)
ROUTE(Int8, int8)
ROUTE(Int4, int4)

#define EXPERTS(F, name, threads, gate_up, down, gate_up_many, down_many)                                                                      \
    KERNEL(experts_gate_up_##name, threads, (Matrix w, u32 experts, u32 inner, const float* x, const u32* chosen, u32 top_k, float* out)) {    \
        gate_up<F>(w, experts, inner, x, chosen, top_k, out);                                                                                  \
    }                                                                                                                                          \
    KERNEL(experts_down_##name, threads, (Matrix w, u32 experts, u32 outputs, const float* inner, const u32* chosen, const float* weights, u32 top_k, float* dst)) { \
        down<F>(w, experts, outputs, inner, chosen, weights, top_k, dst);                                                                      \
    }                                                                                                                                          \
    KERNEL(experts_gate_up_##name##_tile, 256, (Matrix w, u32 inner, const float* x, u32 top_k, const u32* list, const Work* work, const u32* parts, float* out)) { \
        gate_up_many<F>(w, inner, x, top_k, list, work, parts, out);                                                                           \
    }                                                                                                                                          \
    KERNEL(experts_down_##name##_tile, 256, (Matrix w, u32 outputs, const float* inner, const u32* list, const Work* work, const u32* parts, float* out)) { \
        down_many<F>(w, outputs, inner, list, work, parts, out);                                                                               \
    }
EXPERTS(F32, f32, 128, experts_gate_up, experts_down, experts_gate_up_tile, experts_down_tile)
EXPERTS(Bf16, bf16, 256, experts_gate_up_few, experts_down_few, experts_gate_up_wide, experts_down_wide)
EXPERTS(Int8, int8, 256, experts_gate_up_few, experts_down_few, experts_gate_up_wide, experts_down_wide)
EXPERTS(Int4, int4, 256, experts_gate_up_few, experts_down_few, experts_gate_up_wide, experts_down_wide)
