//! `borealis synth`: a checkpoint with random weights, to measure speeds on.

use std::io::Write;
use std::path::PathBuf;

use borealis_weights::{SynthShape, plan_synthesis, synthesise};

use crate::commands::convert::report;
use crate::error::{CliError, Result};

pub const EXAMPLES: &str = "\
Examples:
  borealis synth 40m models/40m
  borealis synth 1b models/wide --experts 64 --inner 256
  borealis synth 1b models/1b --dry-run

Shapes: 40m fits the last-level cache of a desktop, 1b fits none. The files are in the layout of
Qwen3-MoE, which other engines read too; the same seed gives the same bytes on every machine.";

/// Arguments of `borealis synth`.
#[derive(clap::Args)]
pub struct Args {
    /// 40m or 1b
    #[arg(value_name = "SHAPE", value_parser = shape)]
    shape: SynthShape,
    /// Folder to write; it must not exist or be empty
    #[arg(value_name = "OUT")]
    target: PathBuf,
    /// Other weights of the same shape
    #[arg(long, value_name = "N", default_value_t = SEED)]
    seed: u64,
    /// Width of a row
    #[arg(long, value_name = "N", help_heading = SHAPE)]
    hidden: Option<usize>,
    /// Layers
    #[arg(long, value_name = "N", help_heading = SHAPE)]
    layers: Option<usize>,
    /// Experts of a layer
    #[arg(long, value_name = "N", help_heading = SHAPE)]
    experts: Option<usize>,
    /// Experts of a row
    #[arg(long, value_name = "N", help_heading = SHAPE)]
    top_k: Option<usize>,
    /// Inner width of an expert
    #[arg(long, value_name = "N", help_heading = SHAPE)]
    inner: Option<usize>,
    /// Query heads
    #[arg(long, value_name = "N", help_heading = SHAPE)]
    heads: Option<usize>,
    /// Key heads
    #[arg(long, value_name = "N", help_heading = SHAPE)]
    kv_heads: Option<usize>,
    /// Width of a head
    #[arg(long, value_name = "N", help_heading = SHAPE)]
    head_dim: Option<usize>,
    /// Ids
    #[arg(long, value_name = "N", help_heading = SHAPE)]
    vocabulary: Option<usize>,
    /// Only say what would be written
    #[arg(long)]
    dry_run: bool,
}

/// Heading of the options that change a shape.
const SHAPE: &str = "Shape";
/// Seed of the published figures.
pub const SEED: u64 = 20_261_121;

/// A shape by its name.
pub fn shape(name: &str) -> std::result::Result<SynthShape, String> {
    SynthShape::named(name).ok_or_else(|| "use 40m or 1b".into())
}

/// Writes a checkpoint, or says what it would write.
pub fn run(args: Args) -> Result<()> {
    let mut shape = args.shape;
    let changes = [
        (&mut shape.hidden_size, args.hidden),
        (&mut shape.num_hidden_layers, args.layers),
        (&mut shape.num_experts, args.experts),
        (&mut shape.num_experts_per_tok, args.top_k),
        (&mut shape.moe_intermediate_size, args.inner),
        (&mut shape.num_attention_heads, args.heads),
        (&mut shape.num_key_value_heads, args.kv_heads),
        (&mut shape.head_dim, args.head_dim),
        (&mut shape.vocab_size, args.vocabulary),
    ];
    for (size, wanted) in changes {
        *size = wanted.unwrap_or(*size);
    }
    let plan = plan_synthesis(&shape).map_err(CliError::failed)?;
    if !args.dry_run {
        let bar = indicatif::ProgressBar::new(plan.bytes());
        synthesise(&shape, args.seed, &args.target, &mut |bytes| bar.set_position(bytes)).map_err(CliError::failed)?;
        bar.finish_and_clear();
    }
    let verb = if args.dry_run { "would write" } else { "wrote" };
    let mut text = report(verb, &plan, &args.target.display().to_string());
    text.push_str(&format!("{:.1} million parameters, seed {}\n", shape.parameters() as f64 / 1e6, args.seed));
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}
