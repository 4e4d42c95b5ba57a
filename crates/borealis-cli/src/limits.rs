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
pub fn measure(threads: usize) -> Limits {
    Limits {
        threads,
        dram_bytes_per_second: measured::read_bandwidth(DRAM, threads),
        flops: measured::peak_flops(threads),
    }
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
        let limit_bytes_per_second = measured::read_bandwidth(working_set, limits.threads);
        let share = |amount: u64, limit: f64| amount as f64 / seconds_per_step / limit.max(1.0);
        let share_of_bandwidth = share(usage.bytes_per_step, limit_bytes_per_second);
        let share_of_operations = share(usage.operations_per_step, limits.flops);
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
