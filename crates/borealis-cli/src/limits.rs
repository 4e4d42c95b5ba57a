//! What this machine could do at most, and which share of it a generation reached.

use std::fmt;

use borealis_engine::Usage;
use borealis_kernels::limits as measured;
use serde::Serialize;

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
}

/// Measures for about half a second.
pub fn measure(threads: Option<usize>) -> Limits {
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    Limits {
        threads,
        dram_bytes_per_second: measured::read_bandwidth(DRAM, threads),
        flops: measured::peak_flops(threads),
    }
}

/// A generation beside the limit that its byte count sets.
#[derive(Debug, Clone, Serialize)]
pub struct Share {
    /// Bytes of weights and KV read per step.
    pub bytes_per_step: u64,
    /// Seconds of a step.
    pub seconds_per_step: f64,
    /// Bytes per second that the steps read.
    pub bytes_per_second: f64,
    /// Bytes per second that this machine reads at most from a working set of one step's size (from a cache, where it fits).
    pub limit_bytes_per_second: f64,
    /// The former over the latter.
    pub share_of_bandwidth: f64,
}

impl Share {
    /// Measures the limit for this working set; what was generated stands in `usage`.
    pub fn of(usage: &Usage, limits: &Limits) -> Self {
        let steps = usage.steps.max(1) as f64;
        let seconds_per_step = usage.generate_seconds / steps;
        let bytes_per_second = usage.bytes_per_step as f64 / seconds_per_step.max(1e-9);
        let working_set = (usage.bytes_per_step as usize).min(DRAM);
        let limit_bytes_per_second = measured::read_bandwidth(working_set, limits.threads);
        Self {
            bytes_per_step: usage.bytes_per_step,
            seconds_per_step,
            bytes_per_second,
            limit_bytes_per_second,
            share_of_bandwidth: bytes_per_second / limit_bytes_per_second.max(1.0),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} MB per step in {:.2} ms: {:.1} GB/s, {:.0} % of the {:.1} GB/s that this machine reads at most",
            self.bytes_per_step as f64 / 1e6,
            self.seconds_per_step * 1e3,
            self.bytes_per_second / 1e9,
            self.share_of_bandwidth * 100.0,
            self.limit_bytes_per_second / 1e9
        )
    }
}
