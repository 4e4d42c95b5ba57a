//! One model over several ranks: threads of this process (`--ranks N`) or the processes that `mpirun` started.
//!
//! Rank 0 does what the command says; the others compute experts for it and write nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use borealis_engine::{Budget, Engine, EngineConfig, Share};
use borealis_kernels::DeviceSpec;
use borealis_model::ranks::{self as model, Identity, MpiWorld, Placement, Traffic, TrafficTotals};
use borealis_weights::Checkpoint;
use serde::{Deserialize, Serialize};

use crate::args::{MACHINE, MachineArgs};
use crate::error::{CliError, Result};
use crate::{interrupt, output};

/// How long after a signal the news of a dead rank may take: `mpirun` ends all others as soon as one is gone.
const NEWS: Duration = Duration::from_millis(500);

/// How many ranks, and which holds what: shared by the subcommands that compute on several.
#[derive(clap::Args, Clone)]
pub struct RankArgs {
    /// Spread the experts over so many threads that each hold a part; under mpirun, over its processes [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = MACHINE)]
    pub ranks: Option<u16>,
    /// Share the experts out by how often they were chosen: a file of `borealis bench --save-expert-load` [default: in turn]
    #[arg(long, value_name = "FILE", help_heading = MACHINE)]
    pub expert_load: Option<PathBuf>,
}

/// What `--expert-load` reads.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpertLoad {
    /// `[layer][expert]`: rows that chose the expert; empty for layers without experts.
    load: Vec<Vec<u64>>,
}

/// The ranks of this run.
pub struct Ranks {
    world: Option<Arc<MpiWorld>>,
    count: usize,
    load: Option<ExpertLoad>,
    /// Of the ranks of this process.
    devices: Vec<DeviceSpec>,
    traffic: Arc<Traffic>,
}

impl Ranks {
    /// Joins the other processes of `mpirun`, if there are any.
    pub fn join(args: &RankArgs, machine: &MachineArgs) -> Result<Self> {
        let world = MpiWorld::join().map_err(CliError::failed)?.map(Arc::new);
        let asked = args.ranks.map(usize::from);
        let count = match (&world, asked) {
            (Some(world), Some(n)) if n != world.ranks() => {
                let started = world.ranks();
                let what = format!("--ranks {n}, but mpirun started {started} processes: leave --ranks out");
                return Err(CliError::usage(what));
            }
            (Some(world), _) => world.ranks(),
            (None, n) => n.unwrap_or(1),
        };
        let load = args.expert_load.as_deref().map(read_load).transpose()?;
        let devices = devices(&machine.devices, world.as_deref(), count)?;
        Ok(Self { world, count, load, devices, traffic: Arc::default() })
    }

    /// Whether this process only computes experts for rank 0.
    pub fn is_member(&self) -> bool {
        self.world.as_ref().is_some_and(|world| world.rank() > 0)
    }

    /// Whether there are several ranks.
    pub fn is_spread(&self) -> bool {
        self.count > 1
    }

    /// Computes experts for rank 0, for as many models as it loads one after another. Ends the process with a message of its own when something fails:
    /// standard output belongs to rank 0.
    pub fn serve(&self, machine: &MachineArgs, sessions: usize) -> Result<()> {
        let Some(world) = &self.world else { return Ok(()) };
        let leaving = world.clone();
        let _watch = interrupt::watch(move || {
            leaving.leave();
            std::process::exit(i32::from(CliError::Interrupted.exit_code()));
        });
        let served = (0..sessions).try_for_each(|_| self.session(world, machine));
        let Err(error) = served.and_then(|()| world.finish().map_err(CliError::failed)) else { return Ok(()) };
        // Rank 0 says why it ended.
        if !world.was_left() {
            eprintln!("error: rank {}: {error}", world.rank());
        }
        std::process::exit(i32::from(error.exit_code()));
    }

    fn session(&self, world: &MpiWorld, machine: &MachineArgs) -> Result<()> {
        let checkpoint = crate::model::open(machine.model.as_deref())?;
        let config = EngineConfig { device: self.devices[0].clone(), ..machine.engine() };
        let (budget, placement) = (self.budget(&checkpoint, &config)?, Arc::new(self.placement(&checkpoint)?));
        let identity = self.identity(&checkpoint, &budget, &placement)?;
        world.agree(&identity).map_err(CliError::failed)?;
        let mut member = world.member();
        let shard = model::load_shard(&checkpoint, &config.device, &budget.options, &placement, world.rank());
        match shard {
            Ok(mut shard) => model::serve(shard.as_mut(), &mut member).map_err(CliError::failed),
            Err(error) => {
                // Rank 0 hears it where it waits for results; if it is gone, too, our own message is the one that counts.
                let _ = model::Member::fail(&mut member, &error.to_string());
                Err(CliError::failed(error))
            }
        }
    }

    /// The engine, with the model spread over all ranks. The engine before must be gone: they take turns.
    pub fn engine(&mut self, checkpoint: Checkpoint, config: EngineConfig) -> Result<Engine> {
        let engine = self.spread(checkpoint, config)?;
        if let Some((there, all)) = engine.info().experts {
            eprintln!(
                "note: {there} of {all} experts of each layer fit into memory; the others are copied from the model's files when they are chosen"
            );
        }
        Ok(engine)
    }

    fn spread(&mut self, checkpoint: Checkpoint, config: EngineConfig) -> Result<Engine> {
        let config = EngineConfig { device: self.devices[0].clone(), ..config };
        if self.count == 1 && self.world.is_none() {
            return Ok(Engine::new(checkpoint, config)?);
        }
        self.traffic = Arc::default();
        let (budget, placement) = (self.budget(&checkpoint, &config)?, Arc::new(self.placement(&checkpoint)?));
        let loaded = match &self.world {
            Some(world) => {
                world.end_session().map_err(CliError::failed)?;
                let identity = self.identity(&checkpoint, &budget, &placement)?;
                world.agree(&identity).map_err(CliError::failed)?;
                let exchange = (Box::new(world.home()) as Box<dyn model::Exchange>, self.traffic.clone());
                model::load_home(&checkpoint, &config.device, &budget.options, &placement, exchange)
            }
            None => {
                let traffic = self.traffic.clone();
                model::load_threads(&checkpoint, &self.devices, &budget.options, &placement, traffic)
            }
        };
        let tokenizers = borealis_engine::open_tokenizers(&checkpoint, &config)?;
        let mut loaded = loaded.map_err(CliError::failed)?;
        borealis_engine::keep_kv(loaded.as_mut(), &config)?;
        Ok(Engine::with_budget(&checkpoint, tokenizers, loaded, &budget)?)
    }

    fn identity(&self, checkpoint: &Checkpoint, budget: &Budget, placement: &Placement) -> Result<Identity> {
        let kind = self.devices[0].open().map_err(CliError::failed)?.name();
        Identity::new(checkpoint, budget.options.format, kind, placement).map_err(CliError::failed)
    }

    /// What of the memory this process takes for its part of the model, and its threads: the cores are shared with the processes beside it.
    fn budget(&self, checkpoint: &Checkpoint, config: &EngineConfig) -> Result<Budget> {
        let (here, neighbours, home) = match &self.world {
            Some(world) => (1, world.neighbours(), world.rank() == 0),
            None => (self.count, 1, true),
        };
        let mut budget = Budget::new(checkpoint, config, Share { ranks: self.count, here, neighbours, home })?;
        if config.threads.is_none() {
            budget.options.threads = (budget.options.threads / neighbours).max(1);
        }
        Ok(budget)
    }

    fn placement(&self, checkpoint: &Checkpoint) -> Result<Placement> {
        place(checkpoint, self.count, self.load.as_ref())
    }

    /// What the exchange has cost; `None` on one rank.
    pub fn cost(&self) -> Option<Cost> {
        let totals = self.traffic.totals();
        (totals.steps > 0).then(|| Cost::of(self.count, &totals))
    }

    /// Writes what [`RankArgs`] reads.
    pub fn save_load(&self, path: &Path) -> Result<()> {
        let load = ExpertLoad { load: self.traffic.totals().load };
        output::write_whole(path, &serde_json::to_vec(&load).map_err(CliError::failed)?)
    }

    /// Ends the run on all ranks. When a rank was lost, that is what is told, whatever else went wrong because of it.
    pub fn end(&self, result: Result<()>) -> Result<()> {
        let Some(world) = &self.world else { return result };
        match result {
            Ok(()) => world.finish().map_err(CliError::failed),
            Err(error) => {
                let wait = if matches!(error, CliError::Interrupted) { NEWS } else { Duration::ZERO };
                let lost = world.failure(wait).map(CliError::failed);
                world.leave();
                Err(lost.unwrap_or(error))
            }
        }
    }
}

/// The devices of the ranks of this process: as listed, or counted on from the one that was named. Never empty.
fn devices(named: &[DeviceSpec], world: Option<&MpiWorld>, count: usize) -> Result<Vec<DeviceSpec>> {
    // Ranks of this machine, and those of them in this process.
    let (ranks, own) = match world {
        Some(world) => (world.neighbours(), world.local_rank()..world.local_rank() + 1),
        None => (count, 0..count),
    };
    let all = match named {
        [] => DeviceSpec::Auto.for_ranks(ranks),
        [one] => one.for_ranks(ranks),
        list if list.len() == ranks => list.to_vec(),
        list => {
            let given = list.len();
            return Err(CliError::usage(format!(
                "--device names {given} devices for {ranks} ranks: name one, or one for each"
            )));
        }
    };
    let none =
        || CliError::usage("mpirun numbers this rank beyond those of its machine: use mpirun of Open MPI 4.1 or 5");
    Ok(all.get(own).ok_or_else(none)?.to_vec())
}

impl RankArgs {
    /// Refuses ranks that do not fit the model, before anything is started.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<()> {
        let load = self.expert_load.as_deref().map(read_load).transpose()?;
        place(checkpoint, self.ranks.map_or(1, usize::from), load.as_ref()).map(drop)
    }
}

fn place(checkpoint: &Checkpoint, ranks: usize, load: Option<&ExpertLoad>) -> Result<Placement> {
    let config = borealis_model::check(checkpoint).map_err(CliError::failed)?;
    let placement = match load {
        Some(load) => Placement::balanced(&config, ranks, &load.load),
        None => Placement::round_robin(&config, ranks),
    };
    placement.map_err(|error| CliError::usage(error.to_string()))
}

fn read_load(path: &Path) -> Result<ExpertLoad> {
    let wrong = |what: String| {
        CliError::Failed(format!(
            "--expert-load \"{}\": {what}: give a file that borealis bench --save-expert-load wrote",
            path.display()
        ))
    };
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
}

/// What the exchange cost, for each step.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// Ranks.
    ranks: usize,
    /// Steps that were measured.
    steps: u64,
    /// Bytes that rank 0 sent.
    sent_bytes_per_step: f64,
    /// Bytes that came back.
    received_bytes_per_step: f64,
    /// Sorting rows by rank and handing them over.
    dispatch_seconds_per_step: f64,
    /// From the end of rank 0's own experts to the last sum.
    combine_seconds_per_step: f64,
    /// The part of the last in which other ranks still computed.
    waiting_seconds_per_step: f64,
    /// What one rank would not have spent: dispatch and combine without waiting.
    own_seconds_per_step: f64,
}

impl Cost {
    fn of(ranks: usize, totals: &TrafficTotals) -> Self {
        let steps = totals.steps.max(1) as f64;
        let seconds = |d: Duration| d.as_secs_f64() / steps;
        Self {
            ranks,
            steps: totals.steps,
            sent_bytes_per_step: totals.bytes_sent as f64 / steps,
            received_bytes_per_step: totals.bytes_received as f64 / steps,
            dispatch_seconds_per_step: seconds(totals.dispatch),
            combine_seconds_per_step: seconds(totals.combine),
            waiting_seconds_per_step: seconds(totals.waited),
            own_seconds_per_step: seconds(totals.own()),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: a step sends {:.1} kB and gets {:.1} kB; {:.3} ms of its own (dispatch {:.3}, combine {:.3} without waiting), {:.3} ms waiting for experts",
            self.ranks,
            self.sent_bytes_per_step / 1e3,
            self.received_bytes_per_step / 1e3,
            self.own_seconds_per_step * 1e3,
            self.dispatch_seconds_per_step * 1e3,
            (self.combine_seconds_per_step - self.waiting_seconds_per_step) * 1e3,
            self.waiting_seconds_per_step * 1e3
        )
    }
}
