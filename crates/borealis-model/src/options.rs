//! How a checkpoint is loaded.

use borealis_kernels::QuantFormat;

use crate::config::ModelConfig;
use crate::estimate::Sizes;

/// How a checkpoint is loaded on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// How matrices are kept (norms, routers, gates and small tables stay f32).
    pub format: QuantFormat,
    /// Threads, for the CPU; 0 = [`crate::default_threads`].
    pub threads: usize,
    /// Bytes that the routed experts of this rank may take on the device; those that do not fit are copied there from the files when they are chosen.
    /// `None`: all experts are loaded.
    pub experts: Option<u64>,
}

impl LoadOptions {
    /// Everything in this format on the device.
    pub fn new(format: QuantFormat) -> Self {
        Self { format, threads: 0, experts: None }
    }

    /// Experts of each layer that may lie on the device, at least one.
    pub(crate) fn places(&self, c: &ModelConfig) -> usize {
        match self.experts {
            None => usize::MAX,
            Some(bytes) => Sizes::of(c, self.format).places(bytes),
        }
    }
}
