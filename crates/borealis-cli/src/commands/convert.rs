//! `borealis convert`: writes a checkpoint in our own format, quantised when asked.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use borealis_weights::{Converted, Target, convert, plan_conversion};

use crate::commands::inspect::size;
use crate::error::{CliError, Result};
use crate::model;

pub const EXAMPLES: &str = "\
Examples:
  borealis convert models/mixtral models/mixtral-int8 --quantize int8
  borealis convert models/emu3 models/emu3-native --dry-run";

/// Arguments of `borealis convert`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of a model, or OWNER/NAME of one that was pulled
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// Folder to write; it must not exist or be empty
    #[arg(value_name = "DST")]
    target: PathBuf,
    /// Keep the matrices as bf16, int8 or int4 [default: as they are]
    #[arg(long, value_name = "TYPE", value_parser = format)]
    quantize: Option<Target>,
    /// Only say what would be written
    #[arg(long)]
    dry_run: bool,
}

fn format(text: &str) -> std::result::Result<Target, String> {
    match text {
        "bf16" => Ok(Target::Bf16),
        "int8" => Ok(Target::Int8),
        "int4" => Ok(Target::Int4),
        _ => Err("use bf16, int8 or int4".into()),
    }
}

/// Converts, or says what it would do.
pub fn run(args: Args) -> Result<()> {
    let checkpoint = model::open(Some(&args.source))?;
    // What the model would refuse is not worth writing.
    borealis_model::check(&checkpoint).map_err(CliError::failed)?;
    let format = args.quantize.unwrap_or(Target::AsIs);
    let plan = plan_conversion(&checkpoint, format).map_err(CliError::failed)?;
    if !args.dry_run {
        let bar = indicatif::ProgressBar::new(plan.bytes());
        convert(&checkpoint, &args.target, format, &mut |bytes| bar.set_position(bytes)).map_err(CliError::failed)?;
        bar.finish_and_clear();
    }
    let verb = if args.dry_run { "would write" } else { "wrote" };
    let text = report(verb, &plan, &args.target.display().to_string());
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

/// The files and their sizes, one a line.
pub fn report(verb: &str, plan: &Converted, target: &str) -> String {
    let mut out = String::new();
    for (name, bytes) in &plan.files {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:>10}  {name}", size(*bytes));
    }
    let _ = writeln!(out, "{verb} {} tensors, {}, to {target}", plan.tensors, size(plan.bytes()));
    out
}
