//! `borealis evaluate`: makes clips for prompts whose truth is known, decodes the files, and scores what is seen and heard.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use crate::args::MachineArgs;
use crate::error::{CliError, Result};
use crate::evaluation::{self, Mode, Prompt, Runner};
use crate::ranks::{RankArgs, Ranks};
use crate::{interrupt, model, output};

/// Longest file of prompts that is read.
const MAX_FILE: u64 = 4 << 20;

pub const EXAMPLES: &str = "\
Examples:
  borealis evaluate --prompts recipes/heldout.txt
  borealis evaluate --prompts recipes/heldout.txt --limit 24 --sheet sheet.png
  borealis evaluate --prompts recipes/heldout.txt --modes text,edit --json

A line of the file of prompts: PROMPT, then background, colour, shape and motion, separated by tabs; a line that begins
with # is left out. The analyser looks at the decoded MP4 and knows the world of the built-in model only.";

/// Arguments of `borealis evaluate`.
#[derive(clap::Args)]
pub struct Args {
    /// Prompts and what they should show
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Only the first N prompts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    limit: Option<u16>,
    /// What to score: text, edit, image, extend
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "text,edit,image,extend")]
    modes: Vec<Mode>,
    /// Prompt i is made with seed N + i
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Also write a picture with six frames of every clip; the squares below it say what was right: object, background, colour, shape, motion
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    ranks: RankArgs,
    /// The table and every clip's verdict as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// Scores all prompts in all modes and prints the table.
pub fn run(args: Args) -> Result<()> {
    let mut ranks = Ranks::join(&args.ranks, &args.machine)?;
    if ranks.is_member() {
        return ranks.serve(&args.machine, 1);
    }
    let result = evaluate(&args, &mut ranks);
    ranks.end(result)
}

fn evaluate(args: &Args, ranks: &mut Ranks) -> Result<()> {
    let mut prompts = read(&args.prompts)?;
    prompts.truncate(args.limit.map_or(usize::MAX, usize::from));
    if let Some(path) = &args.sheet {
        if path.extension().is_none_or(|e| e != "png") {
            return Err(CliError::usage(format!(
                "sheet \"{}\" is not a .png file: choose that ending",
                path.display()
            )));
        }
        output::check(path)?;
    }
    let checkpoint = model::open(args.machine.model.as_deref())?;
    args.machine.tell_fallback();
    let engine = ranks.engine(checkpoint, args.machine.engine())?;
    let folder = tempfile::tempdir()?;
    let runner = Runner::new(&engine, folder.path(), args.seed, args.sheet.is_some());
    let bar = bar(args.modes.len() * prompts.len());
    let watch = interrupt::watch(|| ());
    let mut scores = Vec::new();
    for &mode in &args.modes {
        bar.set_message(mode.name());
        for (index, prompt) in prompts.iter().enumerate() {
            interrupt::check()?;
            scores.push(runner.score(mode, index, prompt)?);
            bar.inc(1);
        }
    }
    drop(watch);
    bar.finish_and_clear();
    if let Some(path) = &args.sheet {
        evaluation::write_sheet(path, &scores)?;
    }
    let table = evaluation::table(&scores);
    let text = if args.json {
        evaluation::json(&table, &scores).map_err(CliError::failed)?
    } else {
        evaluation::print(&table)
    };
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

fn read(path: &Path) -> Result<Vec<Prompt>> {
    let name = path.display();
    let wrong = |what: String| CliError::Failed(format!("cannot read the prompts \"{name}\": {what}"));
    let size = fs::metadata(path).map_err(|e| wrong(format!("{e}: give a file of prompts")))?.len();
    if size > MAX_FILE {
        return Err(wrong(format!("it has {} MiB: give at most {} MiB", size >> 20, MAX_FILE >> 20)));
    }
    let text = fs::read_to_string(path).map_err(|e| wrong(format!("{e}: give a text file")))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let parse = |(i, line)| Prompt::parse(line).map_err(|e| wrong(format!("line {}: {e}", i + 1)));
    let prompts: Vec<Prompt> = lines.map(parse).collect::<Result<_>>()?;
    if prompts.is_empty() {
        return Err(wrong("it has no prompts: give a line for each".into()));
    }
    Ok(prompts)
}

fn bar(total: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>14} [{bar:32}] {pos}/{len} {eta} left");
    ProgressBar::new(total as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
