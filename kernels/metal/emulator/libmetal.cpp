// The Metal kernels on the host: what the .metal files need of Metal's language, over the fibers of the CUDA emulator, and three calls for
// src/metal/emulated.rs. Built as libborealis-metal.so by scripts/metal.sh --emulate; programs find it through LD_LIBRARY_PATH.
//
// What this shows: the arithmetic, every index (a page without access follows each allocation; fresh and threadgroup memory holds NaN), barriers that
// not all threads reach, results that depend on the order of threads or threadgroups (BOREALIS_EMULATOR_REVERSE), arguments that are not bound in order.
// What it cannot show: what Metal's own compiler accepts, rules of address spaces, and speed.

#include "../../cuda/emulator/emulator.h"

#undef DEVICE
#undef KERNEL

#include <tuple>

typedef unsigned char uchar;
struct uint3 {
    unsigned x, y, z;
};

// Address spaces: all one here.
#define device
#define constant const
#define threadgroup
#define thread

namespace mem_flags {
enum Flags { mem_threadgroup };
}
static inline void threadgroup_barrier(mem_flags::Flags) { __syncthreads(); }
static inline void simdgroup_barrier(mem_flags::Flags) { __syncwarp(~0u); }
template <class T>
static inline T simd_shuffle_xor(T value, ushort d) { return __shfl_xor_sync(~0u, value, d); }
template <class To, class From>
static inline To as_type(From v) { return bits_as<To>(v); }
template <class T>
static inline T copied(const T& x) { return x; }
template <class T>
static inline T read_wide(const T* p) { return __ldg(p); }

template <class T>
static inline T min(T a, T b) { return b < a ? b : a; }
template <class T>
static inline T max(T a, T b) { return a < b ? b : a; }
static inline float fma(float a, float b, float c) { return fmaf(a, b, c); }
using std::isfinite;
namespace precise {
static inline float exp(float x) { return expf(x); }
static inline float tanh(float x) { return tanhf(x); }
static inline float sqrt(float x) { return sqrtf(x); }
}

// An argument as it is bound: an address. Kernels take it as a pointer or as a reference.
template <class T>
struct Bound;
template <class T>
struct Bound<T*> {
    static T* from(void* p) { return static_cast<T*>(p); }
};
template <class T>
struct Bound<T&> {
    static T& from(void* p) { return *static_cast<T*>(p); }
};
template <bool WITH_SHARED>
struct Launched {
    template <class All, class F, size_t... I>
    static void run(F f, void** args, std::index_sequence<I...>) {
        const uint3 block = {blockIdx.x, blockIdx.y, blockIdx.z};
        if constexpr (WITH_SHARED) f(Bound<std::tuple_element_t<I, All>>::from(args[I])..., static_cast<float*>(dynamic_shared), block, threadIdx.x);
        else f(Bound<std::tuple_element_t<I, All>>::from(args[I])..., block, threadIdx.x);
    }

    template <class... A>
    Launched(const char* name, void (*f)(A...)) {
        constexpr size_t bound = sizeof...(A) - (WITH_SHARED ? 3 : 2);
        // Run before the launch returns: what the arguments point at is still there.
        kernels()[name] = {name, 256, [f](void** args) -> std::function<void()> {
            return [f, args] { run<std::tuple<A...>>(f, args, std::make_index_sequence<bound>()); };
        }};
    }
};

#define EMULATED_KERNEL(with_shared, name, ...)             \
    static void name(__VA_ARGS__);                          \
    static Launched<with_shared> launched_##name(#name, name); \
    static void name(__VA_ARGS__)
#define KERNEL(name, ...) EMULATED_KERNEL(false, name, __VA_ARGS__, [[maybe_unused]] uint3 block, [[maybe_unused]] uint me)
#define KERNEL_SHARED(name, ...) EMULATED_KERNEL(true, name, __VA_ARGS__, float* shared, [[maybe_unused]] uint3 block, uint me)
#define DEVICE static inline

#include "../common.metal"
#include "../matmul.metal"
#include "../rows.metal"
#include "../attention.metal"
#include "../moe.metal"
#include "../paint.metal"

#define API extern "C" __attribute__((visibility("default")))

// Never destroyed: other threads may still free memory while the program ends.
static std::mutex& lock = *new std::mutex();
static std::map<void*, std::pair<void*, size_t>>& memory = *new std::map<void*, std::pair<void*, size_t>>();

API void* borealis_metal_allocate(size_t bytes) {
    std::lock_guard<std::mutex> held(lock);
    return guarded(bytes, &memory);
}

API void borealis_metal_free(void* p) {
    std::lock_guard<std::mutex> held(lock);
    auto found = memory.find(p);
    if (found == memory.end()) return;
    munmap(found->second.first, found->second.second);
    memory.erase(found);
}

// 0 when it ran, 1 when there is no such kernel.
API int borealis_metal_launch(const char* name, const unsigned* grid, unsigned threads, size_t shared, void** args) {
    std::lock_guard<std::mutex> held(lock);
    auto found = kernels().find(name);
    if (found == kernels().end()) return 1;
    launch(found->second, {grid[0], grid[1], grid[2]}, {threads, 1, 1}, shared, found->second.bind(args));
    return 0;
}
