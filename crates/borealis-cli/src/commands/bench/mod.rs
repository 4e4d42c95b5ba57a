//! `borealis bench`: what this machine could do at most, then what a generation does. `borealis bench model`: the transformer alone.

mod measure;
mod model_bench;
mod plot;
mod table;

use std::path::PathBuf;
use std::time::Instant;

use borealis_engine::{Engine, OutputKind, Rendered, Request, Sampling, render_mp4};
use borealis_media::VideoSpec;
use serde::Serialize;

use super::latency;
use crate::args::MachineArgs;
use crate::error::{CliError, Result};
use crate::limits::{self, Limits, Share};
use crate::ranks::{Cost, RankArgs, Ranks};
use crate::{interrupt, model, output};

pub const EXAMPLES: &str = "\
Examples:
  borealis bench
  borealis bench --seconds 2 --variants 4 --threads 1
  borealis bench --json | jq .share_of_limit
  borealis bench model --synth 40m,1b
  borealis bench latency --local --runs 10
  borealis bench --ranks 2 --save-expert-load load.json

Stages overlap: frames are decoded and encoded while later ids are generated,
so they add up to more than the whole.";

/// Arguments of `borealis bench`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Length of the clip, 1 to 15
    #[arg(long, value_name = "S", default_value_t = 6.0, value_parser = super::generate::seconds)]
    seconds: f32,
    /// Make so many at once, 1 to 4
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    variants: u8,
    /// Guidance scale; above 1 every position is computed twice
    #[arg(long, value_name = "X")]
    guidance: Option<f32>,
    /// Measure so often and tell the fastest
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    runs: u8,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    ranks: RankArgs,
    /// Write how often each expert was chosen, for --expert-load
    #[arg(long, value_name = "FILE", help_heading = crate::args::MACHINE)]
    save_expert_load: Option<PathBuf>,
    /// One JSON object on standard output
    #[arg(long, help_heading = "Messages")]
    json: bool,
}

/// What else can be measured.
#[derive(clap::Subcommand)]
enum What {
    /// Measure the transformer alone: prefill and decode at several rows and types
    #[command(after_help = model_bench::EXAMPLES)]
    Model(model_bench::Args),
    /// How long a client waits for a clip, by asking a server every second: P50 and P95
    #[command(after_help = latency::EXAMPLES)]
    Latency(latency::Args),
}

impl Args {
    /// Whether standard output is for programs.
    pub fn json(&self) -> bool {
        match &self.what {
            Some(What::Model(args)) => args.json,
            Some(What::Latency(args)) => args.json,
            None => self.json,
        }
    }
}

/// What is told.
#[derive(Serialize)]
struct Report {
    machine: Limits,
    model: String,
    seconds: f32,
    variants: u8,
    /// Of the fastest run.
    #[serde(flatten)]
    fastest: Run,
    runs: u8,
}

/// One clip, from the request to the finished file.
#[derive(Serialize)]
struct Run {
    load_seconds: f64,
    whole_seconds: f64,
    prefill_seconds: f64,
    generate_seconds: f64,
    decode_seconds: f64,
    encode_seconds: f64,
    first_frame_seconds: f64,
    finish_seconds: f64,
    positions: usize,
    steps: usize,
    positions_per_second: f64,
    #[serde(flatten)]
    share: Share,
    /// What the exchange between ranks cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<Cost>,
}

/// Measures and tells.
pub fn run(args: Args) -> Result<()> {
    match &args.what {
        Some(What::Model(args)) => return model_bench::run(args),
        Some(What::Latency(args)) => return latency::run(args),
        None => {}
    }
    let mut ranks = Ranks::join(&args.ranks, &args.machine)?;
    if ranks.is_member() {
        return ranks.serve(&args.machine, usize::from(args.runs));
    }
    let result = measure(&args, &mut ranks);
    ranks.end(result)
}

fn measure(args: &Args, ranks: &mut Ranks) -> Result<()> {
    if args.save_expert_load.is_some() && !ranks.is_spread() {
        return Err(CliError::usage("--save-expert-load needs --ranks 2 or more: one rank does not count"));
    }
    let checkpoint = model::open(args.machine.model.as_deref())?;
    let machine =
        limits::measure(borealis_engine::step_threads(&checkpoint, &args.machine.engine())?, args.machine.device())?;
    let mut fastest: Option<Run> = None;
    let mut name = String::new();
    for _ in 0..args.runs {
        let run = once(args, ranks, &machine, &mut name)?;
        if fastest.as_ref().is_none_or(|best| run.whole_seconds < best.whole_seconds) {
            fastest = Some(run);
        }
    }
    let fastest = fastest.ok_or_else(|| CliError::usage("--runs 0 measures nothing: use at least 1"))?;
    let report =
        Report { machine, model: name, seconds: args.seconds, variants: args.variants, fastest, runs: args.runs };
    if let Some(path) = &args.save_expert_load {
        ranks.save_load(path)?;
    }
    output::print(args.json, &report, Report::text)
}

/// Loads the model anew and makes a clip into a temporary folder.
fn once(args: &Args, ranks: &mut Ranks, machine: &Limits, name: &mut String) -> Result<Run> {
    let start = Instant::now();
    let checkpoint = model::open(args.machine.model.as_deref())?;
    *name = checkpoint.name().to_string();
    args.machine.tell_fallback();
    let engine = ranks.engine(checkpoint, args.machine.engine())?;
    let load_seconds = start.elapsed().as_secs_f64();
    let rendered = generate(&engine, args)?;
    let usage = &rendered.usage;
    let whole_seconds = start.elapsed().as_secs_f64();
    Ok(Run {
        load_seconds,
        whole_seconds,
        prefill_seconds: usage.prefill_seconds,
        generate_seconds: usage.generate_seconds,
        decode_seconds: usage.decode_seconds,
        encode_seconds: rendered.encode_seconds,
        first_frame_seconds: rendered.first_frame_seconds,
        finish_seconds: rendered.finish_seconds,
        positions: usage.positions,
        steps: usage.steps,
        positions_per_second: crate::events::rate(usage.positions, usage.generate_seconds).unwrap_or(0.0),
        share: Share::of(usage, machine),
        exchange: ranks.cost(),
    })
}

/// One generation.
fn generate(engine: &Engine, args: &Args) -> Result<Rendered> {
    let folder = tempfile::tempdir().map_err(|error| {
        CliError::Failed(format!(
            "cannot make a temporary folder: {error}: set TMPDIR to a folder with some free space"
        ))
    })?;
    let clip = OutputKind::Video { seconds: args.seconds, audio: true };
    let request = Request {
        variants: usize::from(args.variants),
        sampling: Sampling { guidance: args.guidance, ..Sampling::default() },
        ..Request::new("a red ball bounces on grass", clip)
    };
    let like = VideoSpec::new(16, 16, engine.info().fps);
    let stream = engine.submit(request)?;
    let canceller = stream.canceller();
    let _watch = interrupt::watch(move || canceller.cancel());
    Ok(render_mp4(stream, &folder.path().join("clip.mp4"), &like, |_| ())?)
}

impl Report {
    fn text(&self) -> String {
        let (run, machine) = (&self.fastest, &self.machine);
        let clips = if self.variants == 1 { "clip".to_string() } else { format!("{} clips", self.variants) };
        let mut rows = vec![
            (
                "machine",
                format!(
                    "{} thread(s): {:.1} GB/s from memory, {:.0} GFLOP/s",
                    machine.threads,
                    machine.dram_bytes_per_second / 1e9,
                    machine.flops / 1e9
                ),
            ),
            (
                "work",
                format!(
                    "{clips} of {} s, 720p with sound, model {}; fastest of {}",
                    self.seconds, self.model, self.runs
                ),
            ),
            (
                "whole",
                format!(
                    "{:.2} s from start to file ({:.2} s per second of video)",
                    run.whole_seconds,
                    run.whole_seconds / f64::from(self.seconds)
                ),
            ),
            ("load", format!("{:.2} s", run.load_seconds)),
            ("prefill", format!("{:.3} s", run.prefill_seconds)),
            (
                "generate",
                format!(
                    "{:.2} s, {} positions in {} steps: {:.0} positions/s",
                    run.generate_seconds, run.positions, run.steps, run.positions_per_second
                ),
            ),
            ("step", run.share.to_string()),
            ("first", format!("{:.2} s from the request to the first frame", run.first_frame_seconds)),
            ("decode", format!("{:.2} s, ids to frames and sound, beside it", run.decode_seconds)),
            ("encode", format!("{:.2} s, H.264 and AAC, beside it", run.encode_seconds)),
            ("finish", format!("{:.2} s from the last frame to the finished MP4", run.finish_seconds)),
        ];
        if let Some(cost) = &run.exchange {
            rows.push(("ranks", cost.to_string()));
        }
        let gpu = machine.gpu.as_ref().map(|gpu| {
            let (copy, flops) = (gpu.copy_bytes_per_second / 1e9, gpu.flops / 1e9);
            ("gpu", format!("{}: copies {copy:.0} GB/s, products {flops:.0} GFLOP/s", gpu.name))
        });
        gpu.iter().chain(&rows).map(|(name, text)| format!("{name:<10}{text}\n")).collect()
    }
}
