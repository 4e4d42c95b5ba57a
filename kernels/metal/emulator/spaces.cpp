// The kernels as C++ with real address spaces, for clang alone and to be checked, not run: a pointer into the device's memory cannot become one into
// threadgroup memory, and none may be left without its space. `scripts/metal.sh --emulate` compiles it.

#define EMULATED
#define device __attribute__((address_space(1)))
#define constant __attribute__((address_space(2))) const
#define threadgroup __attribute__((address_space(3)))
#define thread

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
struct uint3 {
    uint x, y, z;
};
struct float3 {
    float x, y, z;
    float3(float a, float b, float c) : x(a), y(b), z(c) {}
};
// As Metal's: they can be read from the device's memory.
struct float4 {
    float x, y, z, w;
};
struct uint2 {
    uint x, y;
};
struct uint4 {
    uint x, y, z, w;
};

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")

namespace mem_flags {
enum Flags { mem_threadgroup };
}
void threadgroup_barrier(mem_flags::Flags);
void simdgroup_barrier(mem_flags::Flags);
template <class T>
T simd_shuffle_xor(T, ushort);
template <class To, class From>
To as_type(From);
template <class T>
T read_wide(const device T*);
// The compiler of Metal copies structs between address spaces; C++ has no such constructor.
template <class T>
T copied(constant T&);
template <class T>
T copied(const device T&);
template <class T>
T min(T, T);
template <class T>
T max(T, T);
float fma(float, float, float);
float fmax(float, float);
float fmin(float, float);
float fabs(float);
float floor(float);
float rint(float);
bool isfinite(float);
float half_to_float(ushort);
namespace precise {
float exp(float);
float tanh(float);
float sqrt(float);
}

#define DEVICE static inline
// Nobody declares a kernel before it: templates of other files cannot call one.
#define KERNEL(name, ...) void name(__VA_ARGS__, [[maybe_unused]] uint3 block, [[maybe_unused]] uint me)
#define KERNEL_SHARED(name, ...) void name(__VA_ARGS__, threadgroup float* shared, [[maybe_unused]] uint3 block, [[maybe_unused]] uint me)
#define SHARED extern threadgroup

#include "../common.metal"
#include "../matmul.metal"
#include "../rows.metal"
#include "../attention.metal"
#include "../moe.metal"
#include "../paint.metal"
