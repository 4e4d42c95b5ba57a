//! Loading one rank's part of a model.

use std::sync::Arc;

use borealis_kernels::{Backend, DeviceSpec};
use borealis_weights::Checkpoint;

use super::exchange::Exchange;
use super::placement::Placement;
use super::shard::{Held, Shard, serve};
use super::threads::Threads;
use super::traffic::Traffic;
use crate::error::{ModelError, Result};
use crate::forward::{Forward, OnDevice, Runner, default_threads, on_device};
use crate::model::Model;
use crate::options::LoadOptions;

/// A rank's part of a checkpoint.
struct Part<'a> {
    checkpoint: &'a Checkpoint,
    options: &'a LoadOptions,
    placement: &'a Arc<Placement>,
}

/// The part of rank 0, and how it reaches the others.
struct Home<'a>(Part<'a>, Box<dyn Exchange>, Arc<Traffic>);

/// The part of another rank.
struct Away<'a>(Part<'a>, usize);

impl OnDevice for Home<'_> {
    type Out = Box<dyn Forward>;
    fn run<B: Backend>(self, backend: B) -> Result<Self::Out> {
        let Self(Part { checkpoint, options, placement }, exchange, traffic) = self;
        if exchange.ranks() != placement.ranks() {
            let (have, placed) = (exchange.ranks(), placement.ranks());
            return Err(ModelError::Ranks(format!("the placement is for {placed} ranks, there are {have}")));
        }
        let share = (placement.ranks() > 1).then_some((&**placement, 0));
        let model = Arc::new(Model::load_share(checkpoint, backend, options, share)?);
        let mut runner = Runner::new(model)?;
        if share.is_some() {
            runner.spread(exchange, placement.clone(), traffic)?;
        }
        Ok(Box::new(runner))
    }
}

impl OnDevice for Away<'_> {
    type Out = Box<dyn Shard>;
    fn run<B: Backend>(self, backend: B) -> Result<Self::Out> {
        let Self(Part { checkpoint, options, placement }, rank) = self;
        Ok(Box::new(Held::load(checkpoint, backend, options, placement, rank)?))
    }
}

/// Loads what rank 0 holds: everything but the experts of the other ranks, which `exchange` reaches.
pub fn load_home(
    checkpoint: &Checkpoint,
    device: &DeviceSpec,
    options: &LoadOptions,
    placement: &Arc<Placement>,
    (exchange, traffic): (Box<dyn Exchange>, Arc<Traffic>),
) -> Result<Box<dyn Forward>> {
    on_device(checkpoint, device, options.threads, Home(Part { checkpoint, options, placement }, exchange, traffic))
}

/// Loads what another rank holds: its experts and nothing else.
pub fn load_shard(
    checkpoint: &Checkpoint,
    device: &DeviceSpec,
    options: &LoadOptions,
    placement: &Arc<Placement>,
    rank: usize,
) -> Result<Box<dyn Shard>> {
    on_device(checkpoint, device, options.threads, Away(Part { checkpoint, options, placement }, rank))
}

/// All ranks in this process, each a thread with a backend of its own on its device of `devices`; the threads are shared out among them.
pub fn load_threads(
    checkpoint: &Checkpoint,
    devices: &[DeviceSpec],
    options: &LoadOptions,
    placement: &Arc<Placement>,
    traffic: Arc<Traffic>,
) -> Result<Box<dyn Forward>> {
    let ranks = placement.ranks();
    let (Some(home), true) = (devices.first(), devices.len() == ranks) else {
        let given = devices.len();
        return Err(ModelError::Ranks(format!(
            "{ranks} ranks and {given} devices: name one device, or one for each rank"
        )));
    };
    same_kind(devices)?;
    let threads = if options.threads == 0 { default_threads(checkpoint)? } else { options.threads };
    let options = &LoadOptions { threads: (threads / ranks).max(1), ..options.clone() };
    let (exchange, members) = Threads::new(ranks);
    for (i, mut member) in members.into_iter().enumerate() {
        let rank = i + 1;
        let mut shard = load_shard(checkpoint, &devices[rank], options, placement, rank)?;
        // What goes wrong is told to the home by `serve`; a panic closes the channel, which the home sees.
        std::thread::Builder::new()
            .name(format!("borealis-rank-{rank}"))
            .spawn(move || serve(shard.as_mut(), &mut member))
            .map_err(|error| ModelError::Ranks(format!("cannot start the thread of rank {rank}: {error}")))?;
    }
    load_home(checkpoint, home, options, placement, (Box::new(exchange), traffic))
}

/// Refuses devices whose arithmetic differs: ids would depend on which rank holds which expert. The error of one that cannot be used names its rank.
fn same_kind(devices: &[DeviceSpec]) -> Result<()> {
    let mut first = None;
    for (rank, device) in devices.iter().enumerate() {
        let opened = device.open().map_err(|error| ModelError::Ranks(format!("rank {rank}: {error}")))?;
        let first = *first.get_or_insert(opened.name());
        if opened.name() != first {
            let what = format!("rank {rank} computes on {device}, rank 0 on {first}: use devices of one kind");
            return Err(ModelError::Ranks(what));
        }
        // All ranks of the host are alike.
        if !opened.has_own_memory() && devices.iter().all(|other| other == device) {
            break;
        }
    }
    Ok(())
}
