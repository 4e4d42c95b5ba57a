//! What a request takes of memory, known before it starts.

use borealis_kernels::Device;
use borealis_model::Forward;

use crate::error::{EngineError, Result, mebibytes};
use crate::scheduler::MAX_ROWS;

/// Rates of memory, asked of the model once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    per_slot: u64,
    fixed: u64,
    per_row: u64,
    limit: Option<u64>,
}

/// What a request takes, by where it goes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Keys and values.
    pub cache: u64,
    /// Buffers of a step.
    pub buffers: u64,
    /// Frames that wait for the reader, and the decoders' own buffers.
    pub frames: u64,
    /// Pictures and clips that were given.
    pub inputs: u64,
}

impl Estimate {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.cache + self.buffers + self.frames + self.inputs
    }
}

impl Memory {
    pub fn new(model: &dyn Forward, limit: Option<u64>) -> Self {
        let fixed = model.cache_bytes(0, MAX_ROWS);
        Self {
            per_slot: (model.cache_bytes(1024, MAX_ROWS) - fixed).div_ceil(1024),
            fixed,
            per_row: (model.cache_bytes(0, 2 * MAX_ROWS) - fixed).div_ceil(MAX_ROWS as u64),
            limit,
        }
    }

    /// Bytes that are allowed now.
    pub fn limit(&self) -> u64 {
        self.limit.or_else(|| Device::Cpu.free_memory()).unwrap_or(u64::MAX)
    }

    /// Cache and buffers for a request.
    pub fn estimate(&self, slots: usize, widest: usize) -> Estimate {
        let buffers = self.fixed + self.per_row * widest.saturating_sub(MAX_ROWS) as u64;
        Estimate { cache: self.per_slot * slots as u64, buffers, ..Estimate::default() }
    }

    /// Refuses what does not fit.
    pub fn check(&self, estimate: &Estimate) -> Result<()> {
        let (needed, limit) = (estimate.total(), self.limit());
        if needed <= limit {
            return Ok(());
        }
        let Estimate { cache, buffers, frames, inputs } = *estimate;
        let detail = [("cache", cache), ("buffers", buffers), ("frames", frames), ("inputs", inputs)];
        let detail: Vec<_> =
            detail.iter().filter(|d| d.1 > 0).map(|(name, bytes)| format!("{name} {}", mebibytes(*bytes))).collect();
        let remedy = "ask for fewer variants, fewer seconds or a lower resolution, keep weights or keys and values in fewer bits (--dtype, --kv-dtype), or raise --memory or --memory-limit";
        Err(EngineError::Memory { needed, limit, detail: detail.join(", "), remedy })
    }
}
