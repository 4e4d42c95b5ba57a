//! The home's side of a routed layer: sort rows by rank, dispatch, compute the own share, combine in a fixed order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use borealis_kernels::Backend;

use super::exchange::{Exchange, Local, Parcel};
use super::placement::Placement;
use super::shard::Runs;
use super::traffic::Traffic;
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::moe::ExpertWeights;

/// One row's choice of one expert.
#[derive(Clone, Copy)]
struct Choice {
    expert: u32,
    row: u32,
    weight: f32,
    /// The rank that holds the expert, and where its result lies in that rank's parcel.
    rank: usize,
    at: usize,
}

/// What the home needs to spread routed layers over ranks.
pub(crate) struct Spread<B: Backend> {
    exchange: Box<dyn Exchange>,
    placement: Arc<Placement>,
    traffic: Arc<Traffic>,
    /// Which step of the run this is, from 1.
    step: u64,
    failed: bool,
    /// One for each rank; their memory goes around.
    parcels: Vec<Parcel>,
    choices: Vec<Choice>,
    /// Where a row lies in the parcel that is being filled, while its number is that of the parcel.
    placed: Vec<(usize, u32)>,
    x: Vec<f32>,
    sums: Vec<f32>,
    runs: Runs<B>,
    sum: B::Buffer,
    sum_len: usize,
    width: usize,
}

impl<B: Backend> Spread<B> {
    pub fn new(
        b: &B,
        width: usize,
        exchange: Box<dyn Exchange>,
        placement: Arc<Placement>,
        traffic: Arc<Traffic>,
    ) -> Result<Self> {
        let parcels = vec![Parcel::default(); placement.ranks()];
        Ok(Self {
            exchange,
            placement,
            traffic,
            step: 0,
            failed: false,
            parcels,
            choices: Vec::new(),
            placed: Vec::new(),
            x: Vec::new(),
            sums: Vec::new(),
            runs: Runs::new(b, width)?,
            sum: b.alloc(1)?,
            sum_len: 1,
            width,
        })
    }

    /// For one rank whose experts do not all fit its device: choices are computed one by one, as if they were sent.
    pub fn local(b: &B, config: &ModelConfig) -> Result<Self> {
        let placement = Arc::new(Placement::round_robin(config, 1)?);
        Self::new(b, config.hidden_size, Box::new(Local), placement, Arc::default())
    }

    /// A step begins.
    pub fn begin(&mut self) {
        self.step += 1;
        self.traffic.lock().steps += 1;
    }

    /// `hidden[r] += sum over chosen e of weight * expert e of x[r]`, in ascending order of the expert's index. After an error nothing more is computed.
    pub fn forward(
        &mut self,
        b: &B,
        weights: &ExpertWeights<B>,
        (x, rows): (&B::Buffer, usize),
        routing: &B::Routing,
        hidden: &mut B::Buffer,
    ) -> Result<()> {
        if self.failed {
            return Err(ModelError::Ranks("a rank has failed in an earlier step: start all ranks again".into()));
        }
        let result = self.layer(b, weights, (x, rows), routing, hidden);
        // Parcels of other ranks may still be on their way.
        self.failed = result.is_err() && self.parcels.len() > 1;
        result
    }

    fn layer(
        &mut self,
        b: &B,
        weights: &ExpertWeights<B>,
        (x, rows): (&B::Buffer, usize),
        routing: &B::Routing,
        hidden: &mut B::Buffer,
    ) -> Result<()> {
        let begin = Instant::now();
        if self.parcels.len() > 1 {
            self.x.resize(rows * self.width, 0.0);
            b.read(x, 0, &mut self.x)?;
        }
        self.sort(weights, &b.read_routing(routing, rows)?, rows);
        let (mut sent, mut received) = (0, 0);
        let busy: Vec<usize> = (1..self.parcels.len()).filter(|r| !self.parcels[*r].rows.is_empty()).collect();
        for &rank in &busy {
            sent += self.parcels[rank].bytes().0;
            self.exchange.dispatch(rank, std::mem::take(&mut self.parcels[rank]))?;
        }
        let dispatched = begin.elapsed();

        let own = &mut self.parcels[0];
        self.runs.run(b, weights, x, (&own.rows, &own.experts), &mut own.results)?;

        let (computed, mut slowest) = (begin.elapsed(), Duration::ZERO);
        for &rank in &busy {
            self.parcels[rank] = self.collect(rank, weights.layer)?;
            received += self.parcels[rank].bytes().1;
            slowest = slowest.max(self.parcels[rank].took);
        }
        self.add(b, rows, hidden)?;

        let combine = begin.elapsed() - computed;
        let mut totals = self.traffic.lock();
        totals.layers += 1;
        totals.bytes_sent += sent;
        totals.bytes_received += received;
        totals.dispatch += dispatched;
        totals.combine += combine;
        totals.waited += slowest.saturating_sub(computed - dispatched).min(combine);
        let layers = totals.load.len().max(weights.layer + 1);
        totals.load.resize_with(layers, Vec::new);
        let load = &mut totals.load[weights.layer];
        load.resize(weights.experts, 0);
        self.choices.iter().for_each(|c| load[c.expert as usize] += 1);
        Ok(())
    }

    /// Sorts the choices by expert, then by row, and fills the parcels: of the own one no inputs, since they are on the device already.
    fn sort(&mut self, weights: &ExpertWeights<B>, chosen: &[Vec<(u32, f32)>], rows: usize) {
        let (layer, experts) = (weights.layer, weights.experts);
        self.choices.clear();
        for (row, chosen) in chosen.iter().enumerate() {
            // Null experts have no weights and add nothing.
            for &(expert, weight) in chosen.iter().filter(|(e, _)| (*e as usize) < experts) {
                let (rank, _) = self.placement.of(layer, expert as usize);
                self.choices.push(Choice { expert, row: row as u32, weight, rank, at: 0 });
            }
        }
        self.choices.sort_unstable_by_key(|c| (c.expert, c.row));
        self.placed.clear();
        self.placed.resize(rows, (usize::MAX, 0));
        for (rank, parcel) in self.parcels.iter_mut().enumerate() {
            parcel.clear();
            (parcel.step, parcel.layer) = (self.step, layer as u32);
            for choice in self.choices.iter_mut().filter(|c| c.rank == rank) {
                let row = choice.row as usize;
                if rank > 0 && self.placed[row].0 != rank {
                    self.placed[row] = (rank, (parcel.x.len() / self.width) as u32);
                    parcel.x.extend_from_slice(&self.x[row * self.width..(row + 1) * self.width]);
                }
                choice.at = parcel.rows.len();
                parcel.rows.push(if rank > 0 { self.placed[row].1 } else { choice.row });
                parcel.experts.push(self.placement.of(layer, choice.expert as usize).1);
            }
        }
    }

    /// The parcel of a rank with results that belong to what was sent.
    fn collect(&mut self, rank: usize, layer: usize) -> Result<Parcel> {
        let parcel = self.exchange.combine(rank)?;
        let fits = parcel.step == self.step
            && parcel.layer as usize == layer
            && parcel.results.len() == parcel.rows.len() * self.width;
        if fits {
            return Ok(parcel);
        }
        let problem = format!("answered with {} numbers for layer {}", parcel.results.len(), parcel.layer);
        Err(ModelError::Rank { rank, step: self.step, problem })
    }

    /// Sums each row's results in ascending order of the expert, as `Backend::experts` does, and adds the sums to `hidden`.
    fn add(&mut self, b: &B, rows: usize, hidden: &mut B::Buffer) -> Result<()> {
        let width = self.width;
        self.sums.clear();
        self.sums.resize(rows * width, 0.0);
        for choice in &self.choices {
            let result = &self.parcels[choice.rank].results[choice.at * width..][..width];
            let sum = &mut self.sums[choice.row as usize * width..][..width];
            sum.iter_mut().zip(result).for_each(|(s, v)| *s += choice.weight * v);
        }
        if self.sums.len() > self.sum_len {
            (self.sum, self.sum_len) = (b.alloc(self.sums.len())?, self.sums.len());
        }
        b.write(&mut self.sum, 0, &self.sums)?;
        Ok(b.add(hidden, &self.sum, self.sums.len())?)
    }
}
