// CUDA kernels on the host: what the .cuh files need of CUDA, over plain C++.
//
// The threads of a block are fibers that run one at a time and give way at barriers and shuffles; blocks run one after the other. A barrier that not
// all threads reach ends the program with a message, as does a launch with more threads than a kernel declares. Memory is mapped so that a page
// without access follows each allocation: reading or writing behind the end is a fault. Fresh and shared memory holds NaN.
// With BOREALIS_EMULATOR_REVERSE set, blocks and threads run in descending order: results must not change.

#pragma once
#define EMULATED

#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <tuple>
#include <ucontext.h>
#include <unistd.h>
#include <utility>
#include <vector>

struct dim3 {
    unsigned x, y, z;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct float3 {
    float x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }

template <class T>
static inline T __ldg(const T* p) {
    if (reinterpret_cast<uintptr_t>(p) % alignof(T)) fprintf(stderr, "emulator: a load of %zu bytes at %p\n", sizeof(T), (const void*)p), abort();
    return *p;
}
template <class To, class From>
static inline To bits_as(From v) {
    static_assert(sizeof(To) == sizeof(From), "");
    To to;
    memcpy(&to, &v, sizeof to);
    return to;
}
static inline float __uint_as_float(unsigned v) { return bits_as<float>(v); }
static inline float __int_as_float(unsigned v) { return bits_as<float>(v); }
static inline unsigned __float_as_uint(float v) { return bits_as<unsigned>(v); }
static inline long long __double_as_longlong(double v) { return bits_as<long long>(v); }
static inline double __longlong_as_double(unsigned long long v) { return bits_as<double>(v); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __saturatef(float v) { return v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f; }

static inline float half_to_float(uint16_t h) {
    unsigned sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 0) return bits_as<float>(sign | bits_as<unsigned>(float(fraction) / 16777216.0f));
    if (exponent == 31) return bits_as<float>(sign | 0x7f800000u | fraction << 13);
    return bits_as<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

// Pages with nothing readable behind them; `bytes` end there, up to 15 bytes of padding.
static inline void* guarded(size_t bytes, std::map<void*, std::pair<void*, size_t>>* list) {
    size_t page = sysconf(_SC_PAGESIZE), used = (bytes + 15) / 16 * 16, size = (used + page - 1) / page * page;
    char* base = static_cast<char*>(mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base == MAP_FAILED) return nullptr;
    mprotect(base + size, page, PROT_NONE);
    memset(base, 0xff, size);
    void* p = base + size - used;
    if (list) (*list)[p] = {base, size + page};
    return p;
}

struct Barrier {
    unsigned arrived = 0;
    uint64_t generation = 0;
};

struct Fiber {
    jmp_buf at;
    ucontext_t start;
    void* stack;
    bool done;
    const Barrier* waits;
    uint64_t generation;
    dim3 thread;
};

struct Warp {
    Barrier barrier;
    uint64_t values[2][32];
    float* sums[32];
    unsigned left[32][4], right[32][2];
};

static const unsigned MAX_THREADS = 1024;
static const size_t STACK = 64 << 10;

static dim3 threadIdx, blockIdx, blockDim, gridDim;
static void* dynamic_shared;
static Fiber fibers[MAX_THREADS];
static Warp warps[MAX_THREADS / 32];
static Barrier block_barrier;
static unsigned running;
static jmp_buf scheduler;
static const std::function<void()>* body;

static void give_way(const Barrier* waits, uint64_t generation) {
    Fiber& f = fibers[running];
    f.waits = waits;
    f.generation = generation;
    if (!_setjmp(f.at)) _longjmp(scheduler, 1);
}

static void reach(Barrier& b, unsigned threads) {
    const uint64_t generation = b.generation;
    if (++b.arrived == threads) {
        b.arrived = 0;
        b.generation++;
    } else {
        give_way(&b, generation);
    }
}

static inline void __syncthreads() { reach(block_barrier, blockDim.x); }
static inline void __syncwarp(unsigned) { reach(warps[threadIdx.x / 32].barrier, 32); }

template <class T>
static inline T __shfl_xor_sync(unsigned, T value, int d) {
    static_assert(sizeof(T) == 4, "");
    const unsigned lane = threadIdx.x % 32;
    Warp& w = warps[threadIdx.x / 32];
    uint64_t(&values)[32] = w.values[w.barrier.generation % 2];
    values[lane] = bits_as<unsigned>(value);
    reach(w.barrier, 32);
    return bits_as<T>(unsigned(values[lane ^ unsigned(d)]));
}

// D[16][8] += A[16][16] B[16][8] of one warp, in PTX's layout of mma.m16n8k16: of lane 4 g + t, A holds rows g and g + 8 at columns 2 t, 2 t + 1 (registers 0, 1) and
// 2 t + 8, 2 t + 9 (2, 3); B rows 2 t, 2 t + 1 and 2 t + 8, 2 t + 9 of column g; D rows g (0, 1) and g + 8 (2, 3) at columns 2 t, 2 t + 1. The lane that comes last computes.
static void mma(float* d, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
    Warp& w = warps[threadIdx.x / 32];
    const unsigned lane = threadIdx.x % 32, a[4] = {a0, a1, a2, a3}, b[2] = {b0, b1};
    w.sums[lane] = d;
    memcpy(w.left[lane], a, sizeof a);
    memcpy(w.right[lane], b, sizeof b);
    if (w.barrier.arrived == 31) {
        float left[16][16], right[16][8], sums[16][8];
        for (unsigned l = 0; l < 32; l++)
            for (unsigned n = 0; n < 2; n++)
                for (unsigned i = 0; i < 4; i++) {
                    const unsigned g = l / 4, k = l % 4 * 2 + n;
                    left[g + i % 2 * 8][k + i / 2 * 8] = __uint_as_float(n ? w.left[l][i] & 0xffff0000u : w.left[l][i] << 16);
                    if (i < 2) right[k + i * 8][g] = __uint_as_float(n ? w.right[l][i] & 0xffff0000u : w.right[l][i] << 16);
                    if (n == 0) sums[g + i / 2 * 8][l % 4 * 2 + i % 2] = w.sums[l][i];
                }
        for (unsigned r = 0; r < 16; r++)
            for (unsigned k = 0; k < 16; k++)
                for (unsigned c = 0; c < 8; c++) sums[r][c] += left[r][k] * right[k][c];
        for (unsigned l = 0; l < 32; l++)
            for (unsigned i = 0; i < 4; i++) w.sums[l][i] = sums[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
    }
    reach(w.barrier, 32);
}

template <class T>
static inline T exchange(T* p, T v) {
    const T old = *p;
    *p = v;
    return old;
}
static inline unsigned atomicAdd(unsigned* p, unsigned v) { return exchange(p, *p + v); }
static inline unsigned long long atomicAdd(unsigned long long* p, unsigned long long v) { return exchange(p, *p + v); }
static inline unsigned atomicMax(unsigned* p, unsigned v) { return exchange(p, *p > v ? *p : v); }
static inline unsigned long long atomicMax(unsigned long long* p, unsigned long long v) { return exchange(p, *p > v ? *p : v); }
static inline unsigned atomicMin(unsigned* p, unsigned v) { return exchange(p, *p < v ? *p : v); }

// A fiber lives for the whole program: after a thread's end it waits for the next block's.
static void fiber_main() {
    for (;;) {
        (*body)();
        Fiber& f = fibers[running];
        f.done = true;
        if (!_setjmp(f.at)) _longjmp(scheduler, 1);
    }
}

static void resume(unsigned i) {
    Fiber& f = fibers[i];
    running = i;
    threadIdx = f.thread;
    if (_setjmp(scheduler)) return;
    if (f.stack) _longjmp(f.at, 1);
    f.stack = malloc(STACK);
    getcontext(&f.start);
    f.start.uc_stack.ss_sp = f.stack;
    f.start.uc_stack.ss_size = STACK;
    f.start.uc_link = nullptr;
    makecontext(&f.start, fiber_main, 0);
    setcontext(&f.start);
}

static void run_block(const char* name, bool reverse) {
    const unsigned n = blockDim.x;
    block_barrier = Barrier();
    for (unsigned w = 0; w < n / 32; w++) warps[w].barrier = Barrier();
    for (unsigned i = 0; i < n; i++) {
        fibers[i].done = false, fibers[i].waits = nullptr;
        fibers[i].thread = {i, 0, 0};
    }
    for (unsigned left = n; left > 0;) {
        bool moved = false;
        for (unsigned j = 0; j < n; j++) {
            const unsigned i = reverse ? n - 1 - j : j;
            Fiber& f = fibers[i];
            if (f.done || (f.waits && f.waits->generation == f.generation)) continue;
            f.waits = nullptr;
            resume(i);
            moved = true;
            left -= f.done;
        }
        if (!moved) {
            fprintf(stderr, "emulator: %s: %u threads of block (%u, %u, %u) wait at a barrier that others do not reach\n", name, left, blockIdx.x, blockIdx.y, blockIdx.z);
            abort();
        }
    }
}

struct Kernel {
    std::string name;
    unsigned threads;
    // A call with the values of its parameters.
    std::function<std::function<void()>(void**)> bind;
};

static std::map<std::string, Kernel>& kernels() {
    static auto& all = *new std::map<std::string, Kernel>();
    return all;
}

template <class... A, size_t... I>
static std::function<void()> keep(void (*f)(A...), void** args, std::index_sequence<I...>) {
    std::tuple<A...> values(*static_cast<A*>(args[I])...);
    return [f, values] { std::apply(f, values); };
}

struct Registered {
    template <class... A>
    Registered(const char* name, unsigned threads, void (*f)(A...)) {
        kernels()[name] = {name, threads, [f](void** args) { return keep(f, args, std::index_sequence_for<A...>()); }};
    }
};

#define DEVICE static inline
#define KERNEL(name, threads, args)                           \
    static void name args;                                    \
    static Registered registered_##name(#name, threads, name); \
    static void name args
#define SHARED static

static void launch(const Kernel& kernel, dim3 grid, dim3 block, size_t shared, const std::function<void()>& once) {
    if (block.x > kernel.threads || block.x > MAX_THREADS || block.x % 32 || block.y != 1 || block.z != 1 || shared > 48 << 10 || grid.y > 65535 || grid.z > 65535 || !grid.x || !grid.y || !grid.z) {
        fprintf(stderr, "emulator: %s: grid (%u, %u, %u), %u threads, %zu bytes of shared memory\n", kernel.name.c_str(), grid.x, grid.y, grid.z, block.x, shared);
        abort();
    }
    static const bool reverse = getenv("BOREALIS_EMULATOR_REVERSE");
    static auto& blocks = *new std::map<size_t, void*>();
    if (shared && !blocks[shared]) blocks[shared] = guarded(shared, nullptr);
    dynamic_shared = shared ? blocks[shared] : nullptr;
    gridDim = grid, blockDim = block;
    body = &once;
    const uint64_t total = uint64_t(grid.x) * grid.y * grid.z;
    for (uint64_t j = 0; j < total; j++) {
        const uint64_t i = reverse ? total - 1 - j : j;
        blockIdx = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y)};
        if (shared) memset(dynamic_shared, 0xff, shared);
        run_block(kernel.name.c_str(), reverse);
    }
}
