//! One model over several ranks: threads of this process (`--ranks N`) or the processes that `mpirun` started.
//!
//! Rank 0 does what the command says; the others compute experts for it and write nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use borealis_engine::{Engine, EngineConfig};
use borealis_model::LoadOptions;
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
    ranks: Option<u16>,
    /// Share the experts out by how often they were chosen: a file of `borealis bench --save-expert-load` [default: in turn]
    #[arg(long, value_name = "FILE", help_heading = MACHINE)]
    expert_load: Option<PathBuf>,
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
    traffic: Arc<Traffic>,
}

impl Ranks {
    /// Joins the other processes of `mpirun`, if there are any.
    pub fn join(args: &RankArgs) -> Result<Self> {
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
        Ok(Self { world, count, load, traffic: Arc::default() })
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
        let config = machine.engine();
        let format = borealis_engine::weight_format(&checkpoint, &config)?;
        let placement = Arc::new(self.placement(&checkpoint)?);
        let identity = Identity::new(&checkpoint, format, &placement).map_err(CliError::failed)?;
        world.agree(&identity).map_err(CliError::failed)?;
        let options = LoadOptions { threads: self.threads(&checkpoint, &config)?, ..LoadOptions::new(format) };
        let mut member = world.member();
        let shard = model::load_shard(&checkpoint, &config.device, &options, &placement, world.rank());
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
        if self.count == 1 && self.world.is_none() {
            return Ok(Engine::new(checkpoint, config)?);
        }
        self.traffic = Arc::default();
        let (placement, format) =
            (Arc::new(self.placement(&checkpoint)?), borealis_engine::weight_format(&checkpoint, &config)?);
        let options = LoadOptions { threads: self.threads(&checkpoint, &config)?, ..LoadOptions::new(format) };
        let loaded = match &self.world {
            Some(world) => {
                world.end_session().map_err(CliError::failed)?;
                let identity = Identity::new(&checkpoint, format, &placement).map_err(CliError::failed)?;
                world.agree(&identity).map_err(CliError::failed)?;
                let exchange = (Box::new(world.home()) as Box<dyn model::Exchange>, self.traffic.clone());
                model::load_home(&checkpoint, &config.device, &options, &placement, exchange)
            }
            None => {
                let traffic = self.traffic.clone();
                model::load_threads(&checkpoint, &config.device, &options, &placement, traffic)
            }
        };
        let tokenizers = borealis_engine::open_tokenizers(&checkpoint, &config)?;
        let (name, manifest) = (checkpoint.name().to_string(), checkpoint.manifest().clone());
        let mut loaded = loaded.map_err(CliError::failed)?;
        borealis_engine::keep_kv(loaded.as_mut(), &config)?;
        Ok(Engine::with_model(name, manifest, tokenizers, loaded, config.memory_limit)?)
    }

    /// Threads of one process: the cores are shared with the processes beside it.
    fn threads(&self, checkpoint: &Checkpoint, config: &EngineConfig) -> Result<usize> {
        let threads = borealis_engine::step_threads(checkpoint, config)?;
        let neighbours = self.world.as_ref().map_or(1, |world| world.neighbours());
        Ok(if config.threads.is_some() { threads } else { (threads / neighbours).max(1) })
    }

    fn placement(&self, checkpoint: &Checkpoint) -> Result<Placement> {
        let config = borealis_model::check(checkpoint).map_err(CliError::failed)?;
        let placement = match &self.load {
            Some(load) => Placement::balanced(&config, self.count, &load.load),
            None => Placement::round_robin(&config, self.count),
        };
        placement.map_err(|error| CliError::usage(error.to_string()))
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
