//! The experts of one rank, and the loop of a member.

use std::sync::Arc;
use std::time::Instant;

use borealis_kernels::Backend;
use borealis_weights::Checkpoint;

use super::exchange::{Member, Parcel};
use super::placement::Placement;
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::hot::Taken;
use crate::load::Loader;
use crate::moe::ExpertWeights;
use crate::names::tensor_names;
use crate::options::LoadOptions;

/// Assignments that are computed at once at most: bounds the buffers, whatever a step brings.
const RUN: usize = 1024;

/// Buffers for computing rows that each go to one expert.
pub(crate) struct Runs<B: Backend> {
    x: B::Buffer,
    out: B::Buffer,
    routing: B::Routing,
    zeros: Vec<f32>,
    /// Outputs of a run, rows of `x` that it takes, and the matrices that they go to.
    host: (Vec<f32>, Vec<u32>, Vec<u32>),
    width: usize,
}

/// Bytes of [`Runs::new`]: two buffers on the device, two on the host.
pub(crate) fn run_bytes(width: usize) -> u64 {
    4 * 4 * (RUN * width) as u64
}

impl<B: Backend> Runs<B> {
    pub fn new(b: &B, width: usize) -> Result<Self> {
        let zeros = vec![0.0; RUN * width];
        let host = (zeros.clone(), Vec::with_capacity(RUN), Vec::with_capacity(RUN));
        Ok(Self {
            x: b.alloc(RUN * width)?,
            out: b.alloc(RUN * width)?,
            routing: b.routing(RUN, 1)?,
            zeros,
            host,
            width,
        })
    }

    /// The output of expert `experts[a]` for row `rows[a]` of `x`, for all assignments a.
    pub fn run(
        &mut self,
        b: &B,
        weights: &ExpertWeights<B>,
        x: &B::Buffer,
        (rows, experts): (&[u32], &[u32]),
        results: &mut Vec<f32>,
    ) -> Result<()> {
        results.resize(rows.len() * self.width, 0.0);
        weights.each(b, experts, |stacks, taken| {
            taken.chunks(RUN).try_for_each(|part| self.part(b, stacks, (x, rows), part, results))
        })
    }

    /// A part of the assignments, at most [`RUN`].
    fn part(
        &mut self,
        b: &B,
        (gate_up, down): (&B::Weight, &B::Weight),
        (x, rows): (&B::Buffer, &[u32]),
        taken: &[Taken],
        results: &mut [f32],
    ) -> Result<()> {
        let (out, from, to) = &mut self.host;
        from.clear();
        to.clear();
        for t in taken {
            from.push(rows[t.assignment as usize]);
            to.push(t.matrix);
        }
        let out = &mut out[..taken.len() * self.width];
        b.gather(x, from, self.width, &mut self.x)?;
        b.assign(to, &mut self.routing)?;
        b.write(&mut self.out, 0, &self.zeros[..out.len()])?;
        b.experts(&self.x, taken.len(), &self.routing, gate_up, down, &mut self.out)?;
        b.read(&self.out, 0, out)?;
        for (t, values) in taken.iter().zip(out.chunks_exact(self.width)) {
            results[t.assignment as usize * self.width..][..self.width].copy_from_slice(values);
        }
        Ok(())
    }
}

/// The experts of one rank on a device. What a member computes with; it has no other state.
pub trait Shard: Send {
    /// Fills the results of a parcel.
    fn compute(&mut self, parcel: &mut Parcel) -> Result<()>;
    /// Bytes of weights that it holds.
    fn bytes(&self) -> u64;
}

/// [`Shard`] on a backend.
pub(crate) struct Held<B: Backend> {
    backend: B,
    /// By layer; `None` for layers without experts.
    layers: Vec<Option<ExpertWeights<B>>>,
    runs: Runs<B>,
    x: B::Buffer,
    x_len: usize,
    width: usize,
}

impl<B: Backend> Held<B> {
    /// Reads the experts of `rank` and nothing else.
    pub fn load(
        checkpoint: &Checkpoint,
        backend: B,
        options: &LoadOptions,
        placement: &Placement,
        rank: usize,
    ) -> Result<Self> {
        let config = ModelConfig::new(checkpoint.manifest())?;
        let tensors = checkpoint.tensors("")?;
        tensors.check(&tensor_names(&config))?;
        let loader = Loader {
            backend: &backend,
            tensors,
            format: options.format,
            share: Some((placement, rank)),
            places: options.places(),
            copies: Arc::default(),
        };
        let width = config.hidden_size;
        let layer = |i: usize| config.routed(i).map(|e| ExpertWeights::load(&loader, i, width, e)).transpose();
        let layers = (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?;
        let (runs, x) = (Runs::new(&backend, width)?, backend.alloc(1)?);
        Ok(Self { layers, runs, x, x_len: 1, width, backend })
    }
}

impl<B: Backend> Shard for Held<B> {
    fn compute(&mut self, parcel: &mut Parcel) -> Result<()> {
        let start = Instant::now();
        let weights = self.layers.get(parcel.layer as usize).and_then(Option::as_ref);
        let Some(weights) = weights else {
            return Err(ModelError::Ranks(format!("a parcel for layer {}, which has no experts here", parcel.layer)));
        };
        let Parcel { x, rows, experts, results, .. } = parcel;
        let fits = x.len().is_multiple_of(self.width)
            && rows.len() == experts.len()
            && rows.iter().all(|r| (*r as usize) < x.len() / self.width)
            && experts.iter().all(|e| (*e as usize) < weights.held());
        if !fits {
            return Err(ModelError::Ranks("a parcel that does not fit this rank's experts".into()));
        }
        if x.len() > self.x_len {
            (self.x, self.x_len) = (self.backend.alloc(x.len())?, x.len());
        }
        self.backend.write(&mut self.x, 0, x)?;
        self.runs.run(&self.backend, weights, &self.x, (rows, experts), results)?;
        parcel.took = start.elapsed();
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.layers.iter().flatten().map(|e| e.bytes(&self.backend)).sum()
    }
}

/// Computes parcels until the home ends the run. What goes wrong is told to the home, too.
pub fn serve(shard: &mut dyn Shard, member: &mut dyn Member) -> Result<()> {
    while let Some(mut parcel) = member.receive()? {
        match shard.compute(&mut parcel) {
            Ok(()) => member.answer(parcel)?,
            Err(error) => {
                member.fail(&error.to_string())?;
                return Err(error);
            }
        }
    }
    Ok(())
}
