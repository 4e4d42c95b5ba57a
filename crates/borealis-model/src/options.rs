//! How a checkpoint is loaded.

use borealis_kernels::QuantFormat;

/// How a checkpoint is loaded on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// How matrices are kept (norms, routers, gates and small tables stay f32).
    pub format: QuantFormat,
    /// Threads, for the CPU; 0 = [`crate::default_threads`].
    pub threads: usize,
    /// How many experts of each layer this rank keeps on its device, at least one; the others stay in the files and are copied there when they are chosen. `None`: all.
    pub experts: Option<usize>,
}

impl LoadOptions {
    /// Everything in this format on the device.
    pub fn new(format: QuantFormat) -> Self {
        Self { format, threads: 0, experts: None }
    }

    /// Experts of each layer that may lie on the device.
    pub(crate) fn places(&self) -> usize {
        self.experts.map_or(usize::MAX, |n| n.max(1))
    }
}
