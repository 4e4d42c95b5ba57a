//! What the exchange costs, and how often each expert was chosen.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Sums over a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrafficTotals {
    /// Steps.
    pub steps: u64,
    /// Routed layers that were computed.
    pub layers: u64,
    /// Bytes of numbers that the home sent.
    pub bytes_sent: u64,
    /// Bytes of numbers that came back.
    pub bytes_received: u64,
    /// Reading the routing, sorting rows by rank, and handing them over.
    pub dispatch: Duration,
    /// From the end of the home's own experts until the last result was there and summed.
    pub combine: Duration,
    /// The part of `combine` in which another rank's experts still computed: work, not exchange.
    pub waited: Duration,
    /// `[layer][expert]`: rows that chose the expert.
    pub load: Vec<Vec<u64>>,
}

impl TrafficTotals {
    /// The exchange's own time: what one rank would not have spent.
    pub fn own(&self) -> Duration {
        (self.dispatch + self.combine).saturating_sub(self.waited)
    }
}

/// Counts while a run goes on; shared with whoever reports it.
#[derive(Debug, Default)]
pub struct Traffic(Mutex<TrafficTotals>);

impl Traffic {
    /// The sums so far.
    pub fn totals(&self) -> TrafficTotals {
        self.lock().clone()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, TrafficTotals> {
        // Counters are valid after a panic elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
