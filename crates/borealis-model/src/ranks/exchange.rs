//! The seam between the expert layer and a way of moving rows between ranks.

use std::time::Duration;

use crate::error::{ModelError, Result};

/// Rows of one routed layer for the experts of one rank, and later what these experts made of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parcel {
    /// Step of the run, from 1; for messages.
    pub step: u64,
    /// Layer of the transformer.
    pub layer: u32,
    /// Inputs of the experts, `[n, H]`: each row once, however many of the rank's experts it chose.
    pub x: Vec<f32>,
    /// For each assignment its row in `x`.
    pub rows: Vec<u32>,
    /// For each assignment its expert, counted among the rank's own experts of that layer; ascending.
    pub experts: Vec<u32>,
    /// Filled by the rank: for each assignment the expert's output, not weighted, `[assignments, H]`.
    pub results: Vec<f32>,
    /// Filled by the rank: how long its experts computed.
    pub took: Duration,
}

impl Parcel {
    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.x.clear();
        self.rows.clear();
        self.experts.clear();
        self.results.clear();
    }

    /// Bytes of numbers that go out and that come back.
    pub fn bytes(&self) -> (u64, u64) {
        (4 * (self.x.len() + self.rows.len() + self.experts.len()) as u64, 4 * self.results.len() as u64)
    }
}

/// How the home reaches the other ranks. An error names the rank and the step, and is final: the run fails.
pub trait Exchange: Send {
    /// Ranks in all, the home included.
    fn ranks(&self) -> usize;
    /// Hands a parcel to rank `to` (from 1) and returns at once.
    fn dispatch(&mut self, to: usize, parcel: Parcel) -> Result<()>;
    /// Waits for the parcel that rank `from` was handed, with its results.
    fn combine(&mut self, from: usize) -> Result<Parcel>;
}

/// How a member reaches the home.
pub trait Member: Send {
    /// Waits for the next parcel; `None` when the run is over.
    fn receive(&mut self) -> Result<Option<Parcel>>;
    /// Hands a parcel with its results back.
    fn answer(&mut self, parcel: Parcel) -> Result<()>;
    /// Tells the home why there will be no results.
    fn fail(&mut self, problem: &str) -> Result<()>;
}

/// One rank that holds all experts: nothing is sent, and nothing is paid for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

impl Exchange for Local {
    fn ranks(&self) -> usize {
        1
    }

    fn dispatch(&mut self, to: usize, parcel: Parcel) -> Result<()> {
        Err(ModelError::Rank { rank: to, step: parcel.step, problem: "does not exist: there is one rank".into() })
    }

    fn combine(&mut self, from: usize) -> Result<Parcel> {
        Err(ModelError::Rank { rank: from, step: 0, problem: "does not exist: there is one rank".into() })
    }
}
