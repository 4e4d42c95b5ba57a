// Router and routed experts.
//
// Few rows: `experts_gate_up` and `experts_down` go by output rows, an assignment (row, choice) at a time: nothing is sorted or padded.
// Many rows: assignments are grouped by expert on the device and worked on eight at a time. Both give the same bits: a product is defined by
// matmul.metal, and a row's experts are summed in ascending order of their index.

// Must equal `Rules` in src/metal/moe.rs.
struct RouterRules {
    uint experts, all, top_k, is_sigmoid, normalise, groups, top_groups, biased;
    float scale;
};

// Selection score of an expert.
DEVICE float selection(RouterRules rules, threadgroup const float* s, constant float* bias, uint e) { return s[e] + (rules.biased != 0 ? bias[e] : 0.0f); }

// Better of two (selection score, index): the larger score, then the lower index.
DEVICE bool better(float a, uint i, float b, uint j) { return j == NONE || (i != NONE && (a > b || (a == b && i < j))); }

DEVICE void simd_meet() { simdgroup_barrier(mem_flags::mem_threadgroup); }

// Logits to scores, by one simdgroup. `all` of them.
DEVICE void score(threadgroup float* s, uint all, bool is_sigmoid, uint lane) {
    float most = -INFINITY, sum = 0.0f;
    for (uint i = lane; i < all; i += 32) most = fmax(most, s[i]);
    most = lane_max<32>(most);
    for (uint i = lane; i < all; i += 32) {
        s[i] = is_sigmoid ? sigmoid(s[i]) : precise::exp(s[i] - most);
        sum += s[i];
    }
    sum = lane_sum<32>(sum);
    if (!is_sigmoid)
        for (uint i = lane; i < all; i += 32) s[i] /= sum;
    simd_meet();
}

// Scores of groups (sum of the two largest selection scores), then `closed[e]` for experts of groups that are not among the best.
DEVICE void close_groups(RouterRules rules, threadgroup const float* s, constant float* bias, threadgroup float* groups, threadgroup uint* closed, uint lane) {
    const uint size = rules.experts / rules.groups;
    for (uint g = lane; g < rules.groups; g += 32) {
        float first = -INFINITY, second = -INFINITY;
        for (uint e = g * size; e < (g + 1) * size; e++) {
            const float v = selection(rules, s, bias, e);
            if (v > first) {
                second = first;
                first = v;
            } else {
                second = fmax(second, v);
            }
        }
        groups[g] = first + second;
    }
    simd_meet();
    for (uint e = lane; e < rules.experts; e += 32) {
        const uint mine = e / size;
        uint above = 0;
        for (uint g = 0; g < rules.groups; g++) above += groups[g] > groups[mine] || (groups[g] == groups[mine] && g < mine) ? 1 : 0;
        closed[e] = above >= rules.top_groups ? 1 : 0;
    }
    simd_meet();
}

// The `top_k` largest selection scores, one after the other, by one simdgroup.
DEVICE void choose(RouterRules rules, threadgroup const float* s, constant float* bias, threadgroup uint* closed, uint lane, device uint* experts, device float* weights) {
    float sum = 0.0f;
    for (uint n = 0; n < rules.top_k; n++) {
        float best = -INFINITY;
        uint index = NONE;
        for (uint e = lane; e < rules.all; e += 32) {
            const float v = selection(rules, s, bias, e);
            if (closed[e] == 0 && better(v, e, best, index)) {
                best = v;
                index = e;
            }
        }
        for (uint d = 16; d > 0; d /= 2) {
            const float v = simd_shuffle_xor(best, ushort(d));
            const uint i = simd_shuffle_xor(index, ushort(d));
            if (better(v, i, best, index)) {
                best = v;
                index = i;
            }
        }
        // Only numbers that are none (NaN) leave nothing to choose.
        if (index == NONE) index = n;
        sum += s[index];
        if (lane == 0) closed[index] = 1;
        if (lane == 0) experts[n] = index;
        simd_meet();
    }
    // Lane 0 writes the weights alone: it reads what it wrote.
    if (lane != 0) return;
    const float norm = rules.normalise != 0 ? sum + 1e-20f : 1.0f;
    for (uint n = 0; n < rules.top_k; n++) weights[n] = s[experts[n]] / norm * rules.scale;
}

// grid: rows, 256 threads. Shared: scores [all], closed [all], groups [groups].
#define ROUTE(F, name)                                                                                                                              \
    KERNEL_SHARED(route_##name, device const uchar* data, device const ushort* scales, constant uint& inputs, constant uint& pitch, device const float* x, \
                  constant RouterRules& given, constant float* bias, device uint* experts, device float* weights) {                                 \
        const RouterRules rules = copied(given);                                                                                                            \
        const Matrix m = matrix_of(data, scales, inputs, pitch);                                                                                    \
        threadgroup uint* closed = (threadgroup uint*)(shared + rules.all);                                                                         \
        const uint lane = me % 32, at = block.x * rules.top_k;                                                                                      \
        for (uint base = 0; base < rules.all; base += 256 / LANES) {                                                                                \
            const uint o = base + me / LANES;                                                                                                       \
            const float logit = dot1<F>(m, o < rules.all ? o : 0, x + ulong(block.x) * inputs, me % LANES);                                         \
            if (o < rules.all && me % LANES == 0) {                                                                                                 \
                shared[o] = logit;                                                                                                                  \
                closed[o] = 0;                                                                                                                      \
            }                                                                                                                                       \
        }                                                                                                                                           \
        group_barrier();                                                                                                                            \
        if (me >= 32) return;                                                                                                                       \
        score(shared, rules.all, rules.is_sigmoid != 0, lane);                                                                                      \
        if (rules.groups > 1) close_groups(rules, shared, bias, shared + 2 * rules.all, closed, lane);                                              \
        choose(rules, shared, bias, closed, lane, experts + at, weights + at);                                                                      \
    }

// Must equal `Sizes` in src/metal/moe.rs: of the matrices, and K.
struct Experts {
    uint experts, inputs, pitch, outputs, top_k;
};

// grid: (inner / 8, rows * top_k), 128 threads. `out[a] = silu(gate) * up` of assignment a; `s.outputs` is the inner size.
template <class F>
DEVICE void experts_gate_up(Matrix m, Experts s, device const float* x, device const uint* chosen, device float* out, uint3 block, uint me) {
    const uint a = block.y, e = chosen[a], t = me % LANES, i = block.x * GROUPS + me / LANES;
    if (e >= s.experts) return;
    const ulong gate = ulong(e) * 2 * s.outputs + (i < s.outputs ? i : 0);
    device const float* row = x + ulong(a / s.top_k) * s.inputs;
    const float g = dot1<F>(m, gate, row, t), u = dot1<F>(m, gate + s.outputs, row, t);
    if (i < s.outputs && t == 0) out[ulong(a) * s.outputs + i] = silu(g) * u;
}

// The choice of a row with the lowest expert from `least` on; NONE when there is none below `experts`.
DEVICE uint next_choice(device const uint* chosen, uint top_k, uint least, uint experts) {
    uint best = NONE, at = NONE;
    for (uint n = 0; n < top_k; n++)
        if (chosen[n] >= least && chosen[n] < experts && chosen[n] < best) {
            best = chosen[n];
            at = n;
        }
    return at;
}

// An expert's part of a row, rounded before it is added, as where ranks send it; written so that no compiler puts the two together.
DEVICE float weighted(float weight, float value) { return fma(weight, value, 0.0f); }

// grid: (outputs / 8, rows), 128 threads. `dst[r] += sum of weight * down[e] @ inner`.
template <class F>
DEVICE void experts_down(Matrix m, Experts s, device const float* inner, device const uint* chosen, device const float* weights, device float* dst, uint3 block, uint me) {
    const uint row = block.y, t = me % LANES, o = block.x * GROUPS + me / LANES, at = row * s.top_k;
    float sum = 0.0f;
    for (uint least = 0;;) {
        const uint n = next_choice(chosen + at, s.top_k, least, s.experts);
        if (n == NONE) break;
        const uint e = chosen[at + n];
        const float v = dot1<F>(m, ulong(e) * s.outputs + (o < s.outputs ? o : 0), inner + ulong(at + n) * s.inputs, t);
        sum += weighted(weights[at + n], v);
        least = e + 1;
    }
    if (o < s.outputs && t == 0) dst[ulong(row) * s.outputs + o] += sum;
}

// Assignments of one expert that are worked on together.
enum : uint { TOGETHER = 8 };

// Some assignments of one expert, as the list has them.
struct Work {
    uint expert, first, count;
};

// One threadgroup of 256 threads. Lists assignments by expert (`list`) and cuts each expert's into parts of up to 8 (`work`, their number in `parts`).
// Shared: starts [experts + 1].
KERNEL_SHARED(experts_group, device const uint* chosen, constant uint& assignments, constant uint& experts, device uint* list, device Work* work, device uint* parts) {
    threadgroup uint* starts = (threadgroup uint*)shared;
    for (uint e = me; e < experts; e += 256) {
        uint count = 0;
        for (uint a = 0; a < assignments; a++) count += chosen[a] == e ? 1 : 0;
        starts[e + 1] = count;
    }
    if (me == 0) starts[0] = 0;
    group_barrier();
    if (me == 0) {
        uint n = 0;
        for (uint e = 0; e < experts; e++) {
            const uint count = starts[e + 1], first = starts[e];
            starts[e + 1] = first + count;
            for (uint i = 0; i < count; i += TOGETHER) {
                work[n].expert = e;
                work[n].first = first + i;
                work[n].count = min(count - i, uint(TOGETHER));
                n++;
            }
        }
        *parts = n;
    }
    group_barrier();
    for (uint e = me; e < experts; e += 256) {
        uint to = starts[e];
        for (uint a = 0; a < assignments; a++)
            if (chosen[a] == e) list[to++] = a;
    }
}

// grid: (inner / 8, most parts), 128 threads: as `experts_gate_up`, for the assignments of a part.
template <class F>
DEVICE void experts_gate_up_many(Matrix m, Experts s, device const float* x, device const uint* list, device const Work* work, device const uint* parts, device float* out, uint3 block, uint me) {
    if (block.y >= *parts) return;
    const Work part = copied(work[block.y]);
    const uint t = me % LANES, i = block.x * GROUPS + me / LANES;
    device const float* rows[TOGETHER];
    for (uint r = 0; r < TOGETHER; r++) rows[r] = x + ulong(list[part.first + (r < part.count ? r : 0)] / s.top_k) * s.inputs;
    float sums[2 * TOGETHER];
    dot_rows<F, TOGETHER, 2>(m, ulong(part.expert) * 2 * s.outputs + (i < s.outputs ? i : 0), s.outputs, 2, rows, s.inputs % 4 == 0, t, sums);
    if (i >= s.outputs || t != 0) return;
    for (uint r = 0; r < part.count; r++) out[ulong(list[part.first + r]) * s.outputs + i] = silu(sums[2 * r]) * sums[2 * r + 1];
}

// grid: (outputs / 16, most parts), 128 threads. `out[a] = down[e] @ inner[a]`.
template <class F>
DEVICE void experts_down_many(Matrix m, Experts s, device const float* inner, device const uint* list, device const Work* work, device const uint* parts, device float* out, uint3 block, uint me) {
    if (block.y >= *parts) return;
    const Work part = copied(work[block.y]);
    const uint t = me % LANES, o = (block.x * GROUPS + me / LANES) * 2, mine = o < s.outputs ? min(s.outputs - o, 2u) : 0;
    device const float* rows[TOGETHER];
    for (uint r = 0; r < TOGETHER; r++) rows[r] = inner + ulong(list[part.first + (r < part.count ? r : 0)]) * s.inputs;
    float sums[2 * TOGETHER];
    dot_rows<F, TOGETHER, 2>(m, ulong(part.expert) * s.outputs + (mine > 0 ? o : 0), 1, max(mine, 1u), rows, s.inputs % 4 == 0, t, sums);
    if (t != 0) return;
    for (uint r = 0; r < part.count; r++)
        for (uint i = 0; i < mine; i++) out[ulong(list[part.first + r]) * s.outputs + o + i] = sums[2 * r + i];
}

// grid: (outputs / 256, rows), 256 threads. `dst[r] += sum of weight * part[a]` over the row's experts in ascending order.
KERNEL(experts_combine, device const float* part, constant uint& experts, constant uint& outputs, device const uint* chosen, device const float* weights, constant uint& top_k, device float* dst) {
    const uint row = block.y, o = block.x * 256 + me, at = row * top_k;
    if (o >= outputs) return;
    float sum = 0.0f;
    for (uint least = 0;;) {
        const uint n = next_choice(chosen + at, top_k, least, experts);
        if (n == NONE) break;
        sum += weighted(weights[at + n], part[ulong(at + n) * outputs + o]);
        least = chosen[at + n] + 1;
    }
    dst[ulong(row) * outputs + o] += sum;
}

#define MATRIX device const uchar *data, device const ushort *scales, constant Experts &s
#define MOE(F, name)                                                                                                                                       \
    ROUTE(F, name)                                                                                                                                         \
    KERNEL(experts_gate_up_##name, MATRIX, device const float* x, device const uint* chosen, device float* out) {                                          \
        experts_gate_up<F>(matrix_of(data, scales, s.inputs, s.pitch), copied(s), x, chosen, out, block, me);                                                      \
    }                                                                                                                                                      \
    KERNEL(experts_down_##name, MATRIX, device const float* inner, device const uint* chosen, device const float* weights, device float* dst) {            \
        experts_down<F>(matrix_of(data, scales, s.inputs, s.pitch), copied(s), inner, chosen, weights, dst, block, me);                                            \
    }                                                                                                                                                      \
    KERNEL(experts_gate_up_##name##_many, MATRIX, device const float* x, device const uint* list, device const Work* work, device const uint* parts, device float* out) { \
        experts_gate_up_many<F>(matrix_of(data, scales, s.inputs, s.pitch), copied(s), x, list, work, parts, out, block, me);                                      \
    }                                                                                                                                                      \
    KERNEL(experts_down_##name##_many, MATRIX, device const float* inner, device const uint* list, device const Work* work, device const uint* parts, device float* out) { \
        experts_down_many<F>(matrix_of(data, scales, s.inputs, s.pitch), copied(s), inner, list, work, parts, out, block, me);                                     \
    }
MOE(F32, f32)
MOE(Bf16, bf16)
MOE(Int8, int8)
MOE(Int4, int4)
