//! What a device can do at most, measured: the limits that speeds are compared with.

use std::time::Instant;

use super::Metal;
use crate::backend::Result;
use crate::{Backend, Columns, HostTensor, HostType, QuantFormat};

/// Repetitions of a measurement; the fastest counts.
const TRIES: usize = 5;
/// Copies of one measurement.
const COPIES: usize = 4;

impl Metal {
    /// Bytes per second that a copy within the device's memory moves, reads and writes counted: `bytes` from one buffer to another, in full.
    pub fn copy_bandwidth(&self, bytes: usize) -> Result<f64> {
        let n = bytes / 4;
        let (from, mut to) = (self.alloc(n)?, self.alloc(n)?);
        let whole = Columns { stride: n, at: 0 };
        let seconds =
            self.fastest(|| (0..COPIES).try_for_each(|_| self.copy_columns(&from, whole, &mut to, whole, n, 1)))?;
        Ok((2 * COPIES * bytes) as f64 / seconds)
    }

    /// Operations per second (a multiply-add counts as two) of this backend's product of `side` rows with a `side` x `side` matrix kept as `format`.
    pub fn matmul_rate(&self, side: usize, format: QuantFormat) -> Result<f64> {
        let zeros = vec![0u8; 4 * side * side];
        let tensor = HostTensor { dtype: HostType::F32, shape: &[side, side], data: &zeros, scales: None };
        let (w, x, mut out) = (self.weight(&tensor, format)?, self.alloc(side * side)?, self.alloc(side * side)?);
        let seconds = self.fastest(|| self.matmul(&x, side, &w, None, false, &mut out))?;
        Ok(2.0 * (side as f64).powi(3) / seconds)
    }

    /// Seconds of the fastest run.
    fn fastest(&self, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
        let mut best = f64::INFINITY;
        for _ in 0..=TRIES {
            self.device.wait()?;
            let start = Instant::now();
            work()?;
            self.device.wait()?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        Ok(best)
    }
}
