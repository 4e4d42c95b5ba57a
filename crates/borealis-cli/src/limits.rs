//! What this machine could do at most, and which share of it a generation reached.

use std::fmt;

use borealis_engine::Usage;
use borealis_kernels::{Cuda, Device, DeviceSpec, KernelError, Metal, QuantFormat, limits as measured};
use serde::Serialize;

use crate::error::{CliError, Result};

/// Larger than any last-level cache of a desktop: reads come from DRAM.
const DRAM: usize = 256 << 20;

/// Limits of this machine, measured.
#[derive(Debug, Clone, Serialize)]
pub struct Limits {
    /// Threads that measured.
    pub threads: usize,
    /// Bytes per second from DRAM.
    pub dram_bytes_per_second: f64,
    /// f32 operations per second.
    pub flops: f64,
    /// Of the GPU that computes, when one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuLimits>,
}

/// Limits of a GPU, measured.
#[derive(Debug, Clone, Serialize)]
pub struct GpuLimits {
    /// Its name and number.
    pub name: String,
    /// Bytes per second that a copy within its memory reads and writes.
    pub copy_bytes_per_second: f64,
    /// Operations per second of our own product of large f32 matrices.
    pub flops: f64,
}

/// Measures for about half a second, and the GPU, when one computes, for as long again.
pub fn measure(threads: usize, device: &DeviceSpec) -> Result<Limits> {
    Ok(Limits {
        threads,
        dram_bytes_per_second: measured::read_bandwidth(DRAM, threads),
        flops: measured::peak_flops(threads),
        gpu: match device.open() {
            Ok(Device::Cuda(cuda)) => Some(gpu(&cuda).map_err(CliError::failed)?),
            Ok(Device::Metal(metal)) => Some(apple_gpu(&metal).map_err(CliError::failed)?),
            Ok(Device::Cpu | Device::Reference(_)) => None,
            Err(error) => return Err(CliError::usage(error.to_string())),
        },
    })
}

/// Bytes of a copy on a GPU that no cache holds, and the side of a matrix whose product keeps every multiprocessor busy.
const GPU_COPY: usize = 1 << 30;
const GPU_SIDE: usize = 4096;

/// Bytes of a copy on a GPU with so much memory, and the side of a matrix: what fits beside a model, at most an eighth of the memory for each of two buffers.
fn sizes(memory: usize) -> (usize, usize) {
    let bytes = GPU_COPY.min(memory / 8);
    (bytes, GPU_SIDE.min((bytes as f64 / 4.0).sqrt() as usize))
}

/// Measures the GPU of a Mac.
pub fn apple_gpu(metal: &Metal) -> std::result::Result<GpuLimits, KernelError> {
    let (bytes, side) = sizes(metal.memory().1);
    Ok(GpuLimits {
        name: metal.describe(),
        copy_bytes_per_second: metal.copy_bandwidth(bytes)?,
        flops: metal.matmul_rate(side, QuantFormat::F32)?,
    })
}

/// Measures an NVIDIA GPU.
pub fn gpu(cuda: &Cuda) -> std::result::Result<GpuLimits, KernelError> {
    let (bytes, side) = sizes(cuda.memory()?.1);
    Ok(GpuLimits {
        name: cuda.describe(),
        copy_bytes_per_second: cuda.copy_bandwidth(bytes)?,
        flops: cuda.matmul_rate(side, QuantFormat::F32)?,
    })
}

/// A generation beside the limit that its bytes and operations set.
#[derive(Debug, Clone, Serialize)]
pub struct Share {
    /// Bytes of weights and KV read per step.
    pub bytes_per_step: u64,
    /// Operations per step; a multiply-add counts as two.
    pub operations_per_step: u64,
    /// Seconds of a step, measured.
    pub seconds_per_step: f64,
    /// Bytes per second that this machine reads at most from a working set of one step's size (from a cache, where it fits).
    pub limit_bytes_per_second: f64,
    /// Bytes per second that the steps read, over that limit.
    pub share_of_bandwidth: f64,
    /// Operations per second of the steps, over what this machine does at most.
    pub share_of_operations: f64,
    /// The least time of a step on this machine, by bytes or by operations, over the measured time: the larger of the two shares.
    pub share_of_limit: f64,
}

impl Share {
    /// Measures the bandwidth for this working set; what was generated stands in `usage`.
    pub fn of(usage: &Usage, limits: &Limits) -> Self {
        let seconds_per_step = (usage.generate_seconds / usage.steps.max(1) as f64).max(1e-9);
        let working_set = (usage.bytes_per_step as usize).min(DRAM);
        let (limit_bytes_per_second, flops) = match &limits.gpu {
            Some(gpu) => (gpu.copy_bytes_per_second, gpu.flops),
            None => (measured::read_bandwidth(working_set, limits.threads), limits.flops),
        };
        let share = |amount: u64, limit: f64| amount as f64 / seconds_per_step / limit.max(1.0);
        let share_of_bandwidth = share(usage.bytes_per_step, limit_bytes_per_second);
        let share_of_operations = share(usage.operations_per_step, flops);
        Self {
            bytes_per_step: usage.bytes_per_step,
            operations_per_step: usage.operations_per_step,
            seconds_per_step,
            limit_bytes_per_second,
            share_of_bandwidth,
            share_of_operations,
            share_of_limit: share_of_bandwidth.max(share_of_operations),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} ms for {:.2} MB and {:.0} MFLOP: {:.0} % of the {:.1} GB/s and {:.0} % of the operations that this machine does at most",
            self.seconds_per_step * 1e3,
            self.bytes_per_step as f64 / 1e6,
            self.operations_per_step as f64 / 1e6,
            self.share_of_bandwidth * 100.0,
            self.limit_bytes_per_second / 1e9,
            self.share_of_operations * 100.0
        )
    }
}
