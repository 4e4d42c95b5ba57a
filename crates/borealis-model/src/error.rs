//! What can go wrong between a checkpoint, a batch and the logits.

use borealis_kernels::KernelError;
use borealis_weights::WeightsError;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, ModelError>;

/// Errors of the model; each names the thing and what to do. A configuration or a tensor that is wrong is a [`WeightsError`].
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A batch that contradicts the model or itself.
    #[error("batch: {0}")]
    Batch(String),
    /// Rows that must be computed together are more than the scratch buffers hold.
    #[error(
        "{rows} rows see each other and must be computed in one piece, at most {limit} can: step fewer sequences together"
    )]
    TooManyRows {
        /// Rows.
        rows: usize,
        /// Rows that fit.
        limit: usize,
    },
    /// No free range of slots that is long enough.
    #[error(
        "the KV cache has no {asked} slots in a row ({free} of {slots} are free, {largest} in a row): wait for a request to end or raise the memory limit"
    )]
    CacheFull {
        /// Slots asked for.
        asked: usize,
        /// Free slots in all.
        free: usize,
        /// Longest free range.
        largest: usize,
        /// Slots of the cache.
        slots: usize,
    },
    /// A range of slots that is not reserved (released twice, or never reserved).
    #[error("slots {start}..{end} of the KV cache are not reserved: they were released before, or never reserved")]
    NotReserved {
        /// First slot.
        start: u32,
        /// One past the last slot.
        end: u32,
    },
    /// The cache cannot be replaced while sequences use it.
    #[error("{0} slots of the KV cache are reserved: release them before it is allocated anew")]
    CacheInUse(usize),
    /// Another rank is gone, hangs or failed.
    #[error("rank {rank} {problem} (step {step}): start all ranks again")]
    Rank {
        /// The rank.
        rank: usize,
        /// The step that ran; 0 = before the first.
        step: u64,
        /// What became of it.
        problem: String,
    },
    /// Ranks, a placement and a model that do not fit together.
    #[error("ranks: {0}")]
    Ranks(String),
    /// An error of the MPI library.
    #[cfg(unix)]
    #[error(transparent)]
    Mpi(#[from] borealis_kernels::mpi::MpiError),
    /// An error of the checkpoint: its configuration or its tensors.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// An error of the device.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}
