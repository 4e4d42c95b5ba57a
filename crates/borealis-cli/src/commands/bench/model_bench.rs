//! `borealis bench model`: the arguments, the models and where the figures go.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use borealis_kernels::{DeviceSpec, Instructions, QuantFormat};
use borealis_weights::{Checkpoint, SynthShape, synthesise};

use super::measure::{self, Load, Machine, Report, Work};
use super::{plot, table};
use crate::commands::synth;
use crate::error::{CliError, Result};
use crate::model;

pub const EXAMPLES: &str = "\
Examples:
  borealis bench model --synth 40m,1b
  borealis bench model models/mixtral --dtypes int8,int4 --threads 1
  borealis bench model --synth 1b --out benches/results

--out writes model.json, model.md and model.svg. Every figure stands beside the limit that the bytes
or the operations of its step set on this machine, measured in the same minute.";

/// Arguments of `borealis bench model`.
#[derive(clap::Args)]
pub struct Args {
    /// Folders of models, or OWNER/NAME of ones that were pulled; without any the model inside this program
    #[arg(value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Synthetic models, written to a temporary folder first: 40m, 1b
    #[arg(long, value_name = "SHAPES", value_delimiter = ',', value_parser = named)]
    synth: Vec<(String, SynthShape)>,
    /// Types of the weights
    #[arg(long, value_name = "TYPES", value_delimiter = ',', default_value = "bf16,int8,int4")]
    dtypes: Vec<QuantFormat>,
    /// How keys and values are kept: auto (f32 beside f32 weights, else bf16), f32, bf16 or int8
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = crate::args::kv_dtype)]
    kv_dtype: crate::args::KvChoice,
    /// Rows of a decode step, each of another sequence
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_value = "1,2,4,8,32,64", value_parser = clap::value_parser!(u16).range(1..=1024))]
    rows: Vec<u16>,
    /// Positions of the prompt; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u16).range(0..=8192))]
    prefill: u16,
    /// Positions that each row of a decode step sees
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=8192))]
    context: u16,
    /// Time for each figure, in seconds
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = budget)]
    budget: f64,
    /// Where to compute: cpu, cuda, cuda:N or metal
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = crate::args::device)]
    device: DeviceSpec,
    /// Threads that compute [default: one per core, fewer for a small model]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// At most these instructions of the processor: scalar, avx2 or avx512 (results are the same)
    #[arg(long, value_name = "SET", default_value = "avx512", value_parser = instructions)]
    instructions: Instructions,
    /// Folder for model.json, model.md and model.svg
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// One JSON object on standard output
    #[arg(long, help_heading = "Messages")]
    pub json: bool,
}

fn named(name: &str) -> std::result::Result<(String, SynthShape), String> {
    Ok((name.to_string(), synth::shape(name)?))
}

fn instructions(name: &str) -> std::result::Result<Instructions, String> {
    match name {
        "scalar" => Ok(Instructions::Scalar),
        "avx2" => Ok(Instructions::Avx2),
        "avx512" => Ok(Instructions::Avx512),
        _ => Err("use scalar, avx2 or avx512".into()),
    }
}

fn budget(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("use 0.01 to 600".into()),
    }
}

/// Measures all models and tells.
pub fn run(args: &Args) -> Result<()> {
    let mut report = Report { machine: Machine::here(args.instructions), figures: Vec::new() };
    for folder in &args.models {
        let name = folder.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
        one(args, &name, &model::open(Some(folder))?, &mut report)?;
    }
    for (name, shape) in &args.synth {
        let folder = tempfile::tempdir().map_err(|error| {
            CliError::Failed(format!(
                "cannot make a temporary folder: {error}: set TMPDIR to a folder with some free space"
            ))
        })?;
        let target = folder.path().join(name);
        synthesise(shape, synth::SEED, &target, &mut |_| {}).map_err(CliError::failed)?;
        one(args, name, &Checkpoint::open(&target).map_err(CliError::failed)?, &mut report)?;
    }
    if args.models.is_empty() && args.synth.is_empty() {
        let checkpoint = model::open(None)?;
        one(args, checkpoint.name(), &checkpoint, &mut report)?;
    }
    let json = serde_json::to_string_pretty(&report).map_err(CliError::failed)? + "\n";
    if let Some(folder) = &args.out {
        let files =
            [("model.json", &json), ("model.md", &table::markdown(&report)), ("model.svg", &plot::svg(&report))];
        files.iter().try_for_each(|(name, text)| save(folder, name, text))?;
    }
    let text = if args.json { json } else { table::text(&report) };
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

fn save(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, text));
    written.map_err(|error| CliError::Failed(format!("cannot write {}: {error}", path.display())))
}

fn one(args: &Args, name: &str, checkpoint: &Checkpoint, report: &mut Report) -> Result<()> {
    for &dtype in &args.dtypes {
        let (threads, instructions) = (args.threads.map(usize::from), args.instructions);
        let load = Load {
            name,
            checkpoint,
            dtype,
            kv: args.kv_dtype.0.unwrap_or_else(|| borealis_engine::suited_kv(dtype)),
            device: &args.device,
            threads,
            instructions,
        };
        let work = Work {
            rows: args.rows.iter().map(|r| usize::from(*r)).collect(),
            prefill: args.prefill.into(),
            context: args.context.into(),
            budget: Duration::from_secs_f64(args.budget),
        };
        measure::figures(&load, &work, report, &mut |line| {
            // Progress only: nothing is lost with it.
            let _ = writeln!(std::io::stderr(), "{line}");
        })?;
    }
    Ok(())
}
