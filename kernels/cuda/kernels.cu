// All kernels. `SOURCES` in src/cuda/program.rs lists the same files in the same order.
#include "common.cuh"
#include "matmul.cuh"
#include "tensor.cuh"
#include "rows.cuh"
#include "attention.cuh"
#include "moe.cuh"
#include "paint.cuh"
#include "sample.cuh"
