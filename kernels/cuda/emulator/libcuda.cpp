// A stand-in for the CUDA driver and for NVRTC, with the kernels of this folder compiled in: as many of their functions as src/cuda/ calls.
// Built as libcuda.so and libnvrtc.so by scripts/gpu.sh --emulate; programs find it through LD_LIBRARY_PATH. Everything is done before a call returns.

#include "emulator.h"

#include "../kernels.cu"

typedef int Result;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500 };
typedef unsigned long long Pointer;
#define API extern "C" __attribute__((visibility("default"))) Result

// Never destroyed: other threads may still free memory while the program ends.
static std::mutex& lock = *new std::mutex();
static std::map<void*, std::pair<void*, size_t>>& memory = *new std::map<void*, std::pair<void*, size_t>>();
static const size_t TOTAL = size_t(8) << 30;
static size_t taken;

API cuInit(unsigned) { return SUCCESS; }
API cuDriverGetVersion(int* v) { return *v = 13000, SUCCESS; }
// Two devices, which are the same: for what needs one for each rank.
API cuDeviceGetCount(int* n) { return *n = 2, SUCCESS; }
API cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal >= 0 && ordinal < 2 ? SUCCESS : 101; }
API cuDeviceGetName(char* name, int n, int) { return snprintf(name, n, "emulated device"), SUCCESS; }
API cuDeviceTotalMem_v2(size_t* n, int) { return *n = TOTAL, SUCCESS; }
API cuDeviceGetAttribute(int* v, int attribute, int) {
    // Compute capability 8.0, two multiprocessors.
    *v = attribute == 75 ? 8 : attribute == 76 ? 0 : attribute == 16 ? 2 : 0;
    return SUCCESS;
}
API cuDevicePrimaryCtxRetain(void** ctx, int) { return *ctx = &memory, SUCCESS; }
API cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API cuCtxSetCurrent(void*) { return SUCCESS; }
API cuCtxSynchronize() { return SUCCESS; }
API cuStreamCreate(void** s, unsigned) { return *s = new int(0), SUCCESS; }
API cuStreamDestroy_v2(void* s) { return delete static_cast<int*>(s), SUCCESS; }
API cuStreamSynchronize(void*) { return SUCCESS; }
API cuGetErrorName(int, const char** text) { return *text = "CUDA_ERROR_EMULATED", SUCCESS; }
API cuGetErrorString(int, const char** text) { return *text = "an error of the emulator", SUCCESS; }

API cuMemAlloc_v2(Pointer* p, size_t bytes) {
    std::lock_guard<std::mutex> held(lock);
    if (bytes == 0) return INVALID_VALUE;
    void* at = bytes <= TOTAL - taken ? guarded(bytes, &memory) : nullptr;
    if (!at) return OUT_OF_MEMORY;
    taken += memory[at].second;
    return *p = reinterpret_cast<Pointer>(at), SUCCESS;
}
API cuMemFree_v2(Pointer p) {
    std::lock_guard<std::mutex> held(lock);
    auto found = memory.find(reinterpret_cast<void*>(p));
    if (found == memory.end()) return INVALID_VALUE;
    taken -= found->second.second;
    munmap(found->second.first, found->second.second);
    memory.erase(found);
    return SUCCESS;
}
API cuMemGetInfo_v2(size_t* free, size_t* total) { return *free = TOTAL - taken, *total = TOTAL, SUCCESS; }
API cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t n, void*) { return memcpy(reinterpret_cast<void*>(to), from, n), SUCCESS; }
API cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t n, void*) { return memcpy(to, reinterpret_cast<void*>(from), n), SUCCESS; }

// Graphs: what is started between begin and end is kept instead of done. One capture at a time, which is all that a Cuda needs.
typedef std::vector<std::function<void()>> Graph;
static thread_local Graph* captured;

static Result start(std::function<void()> work) {
    if (captured) return captured->push_back(std::move(work)), SUCCESS;
    std::lock_guard<std::mutex> held(lock);
    return work(), SUCCESS;
}

API cuStreamBeginCapture_v2(void*, int) { return captured ? INVALID_VALUE : (captured = new Graph(), SUCCESS); }
API cuStreamEndCapture(void*, Graph** graph) {
    if (!captured) return INVALID_VALUE;
    *graph = captured;
    captured = nullptr;
    return SUCCESS;
}
API cuGraphInstantiateWithFlags(Graph** exec, Graph* graph, unsigned long long) { return *exec = new Graph(*graph), SUCCESS; }
API cuGraphDestroy(Graph* graph) { return delete graph, SUCCESS; }
API cuGraphExecDestroy(Graph* exec) { return delete exec, SUCCESS; }
API cuGraphLaunch(Graph* exec, void*) {
    std::lock_guard<std::mutex> held(lock);
    for (auto& work : *exec) work();
    return SUCCESS;
}

API cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t n, void*) {
    return start([=] { memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), n); });
}
API cuMemsetD8Async(Pointer p, unsigned char v, size_t n, void*) { return memset(reinterpret_cast<void*>(p), v, n), SUCCESS; }

API cuModuleLoadData(void** module, const void*) { return *module = &kernels(), SUCCESS; }
API cuModuleUnload(void*) { return SUCCESS; }
API cuModuleGetFunction(const Kernel** f, void*, const char* name) {
    auto found = kernels().find(name);
    if (found == kernels().end()) return NOT_FOUND;
    return *f = &found->second, SUCCESS;
}
API cuLaunchKernel(const Kernel* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void*, void** args, void**) {
    const auto once = f->bind(args);
    return start([=] { launch(*f, {gx, gy, gz}, {bx, by, bz}, shared, once); });
}

API nvrtcVersion(int* major, int* minor) { return *major = 13, *minor = 0, SUCCESS; }
API nvrtcCreateProgram(void** program, const char*, const char*, int, const char* const*, const char* const*) { return *program = &kernels(), SUCCESS; }
API nvrtcDestroyProgram(void**) { return SUCCESS; }
API nvrtcCompileProgram(void*, int, const char* const*) { return SUCCESS; }
API nvrtcGetProgramLogSize(void*, size_t* n) { return *n = 1, SUCCESS; }
API nvrtcGetProgramLog(void*, char* log) { return *log = 0, SUCCESS; }
API nvrtcGetCUBINSize(void*, size_t* n) { return *n = 8, SUCCESS; }
API nvrtcGetCUBIN(void*, char* code) { return memcpy(code, "emulated", 8), SUCCESS; }
