//! `borealis pull`, `borealis list`, `borealis rm`: models of the Hugging Face hub and the cache that they lie in.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use borealis_hub::{Event, Hub, RepoId, Watch};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use crate::error::{CliError, Result};
use crate::interrupt;

pub const PULL_EXAMPLES: &str = "\
Examples:
  borealis pull BAAI/Emu3-Gen-hf
  borealis pull kyutai/mimi@main --include \"*.json\" --include model.safetensors
  borealis generate \"a red ball\" --model BAAI/Emu3-Gen-hf -o ball.png

What is interrupted goes on where it stopped; every file's size and hash is checked. Pickled
files are refused. Files lie where the hub's other tools look for them: HF_HOME, HF_HUB_CACHE;
HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are honoured.";

/// Arguments of `borealis pull`.
#[derive(clap::Args)]
pub struct PullArgs {
    /// The model: OWNER/NAME or OWNER/NAME@REVISION
    #[arg(value_name = "MODEL")]
    model: String,
    /// Only files that match, such as "*.json"; can be given again [default: what a checkpoint needs]
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// No progress bars
    #[arg(long, short)]
    quiet: bool,
}

/// Arguments of `borealis list`.
#[derive(clap::Args)]
pub struct ListArgs {
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `borealis rm`.
#[derive(clap::Args)]
pub struct RemoveArgs {
    /// The model: OWNER/NAME, or OWNER/NAME@REVISION for one revision of it
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,
}

/// The model that a text names.
pub fn id(text: &str) -> Result<RepoId> {
    text.parse().map_err(|error: borealis_hub::HubError| CliError::usage(error.to_string()))
}

/// Fetches a model.
pub fn pull(args: PullArgs) -> Result<()> {
    let (hub, repo) = (Hub::from_env().map_err(CliError::failed)?, id(&args.model)?);
    let _watch = interrupt::watch(|| {
        eprintln!("error: interrupted: pull again to go on where it stopped");
        std::process::exit(i32::from(CliError::Interrupted.exit_code()));
    });
    let bars: Arc<dyn Watch> = if args.quiet { Arc::new(()) } else { Arc::new(Bars::new()) };
    let pulled = hub.pull(&repo, &args.include, bars.clone()).map_err(CliError::failed)?;
    drop(bars);
    for name in &pulled.pickles {
        eprintln!("left out {name}: pickles can run code and are not read");
    }
    if !args.quiet {
        let total: u64 = pulled.files.iter().map(|(_, size)| size).sum();
        let (files, fetched) = (pulled.files.len(), HumanBytes(pulled.fetched));
        eprintln!("{repo}: {files} files, {}, fetched {fetched}", HumanBytes(total));
    }
    // For scripts: borealis inspect --model "$(borealis pull X)".
    Ok(writeln!(std::io::stdout().lock(), "{}", pulled.path.display())?)
}

/// Lists the cache.
pub fn list(args: ListArgs) -> Result<()> {
    let hub = Hub::from_env().map_err(CliError::failed)?;
    let models = hub.list().map_err(CliError::failed)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let revision = |r: &borealis_hub::CachedRevision| serde_json::json!({ "commit": r.commit, "refs": r.refs, "path": r.path, "files": r.files, "bytes": r.bytes });
        let model = |m: &borealis_hub::CachedModel| {
            let revisions: Vec<_> = m.revisions.iter().map(revision).collect();
            serde_json::json!({ "model": m.repo, "bytes": m.bytes, "revisions": revisions })
        };
        let models: Vec<_> = models.iter().map(model).collect();
        return Ok(writeln!(out, "{}", serde_json::json!({ "cache": hub.cache(), "models": models }))?);
    }
    if models.is_empty() {
        eprintln!("no models in {}: fetch one with: borealis pull OWNER/NAME", hub.cache().display());
    }
    let width = models.iter().map(|m| m.repo.len()).max().unwrap_or(0);
    for model in &models {
        for revision in &model.revisions {
            let names = if revision.refs.is_empty() { "-".into() } else { revision.refs.join(",") };
            let (short, bytes) = (revision.commit.get(..8).unwrap_or_default(), HumanBytes(revision.bytes).to_string());
            writeln!(out, "{:width$}  {bytes:>10}  {:>3} files  {short}  {names}", model.repo, revision.files)?;
        }
    }
    Ok(())
}

/// Removes models from the cache.
pub fn remove(args: RemoveArgs) -> Result<()> {
    let hub = Hub::from_env().map_err(CliError::failed)?;
    let models = args.models.iter().map(|text| id(text)).collect::<Result<Vec<_>>>()?;
    for repo in models {
        let freed = hub.remove(&repo).map_err(CliError::failed)?;
        eprintln!("{repo}: removed, {} freed", HumanBytes(freed));
    }
    Ok(())
}

/// Bytes that are there, bytes in all, and the line that shows them.
type Watched = (u64, u64, Option<ProgressBar>);

/// A bar for each file on its way, and one for all of them.
struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    files: Mutex<HashMap<String, Watched>>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let total = all.add(
            ProgressBar::new(0)
                .with_style(style("{prefix:>24} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta}")),
        );
        total.set_prefix("all");
        Self { all, total, files: Mutex::default() }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

impl Watch for Bars {
    fn event(&self, event: Event<'_>) {
        // A panic elsewhere leaves valid numbers behind.
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::File { file, size, cached } => {
                files.insert(file.to_string(), (size, if cached { size } else { 0 }, None));
            }
            Event::Bytes { file, done } => {
                let Some((size, had, bar)) = files.get_mut(file) else { return };
                *had = done;
                let bar = bar.get_or_insert_with(|| {
                    let bar =
                        ProgressBar::new(*size).with_style(style("{prefix:>24} [{bar:32}] {bytes}/{total_bytes}"));
                    bar.set_prefix(tail(file));
                    self.all.insert_before(&self.total, bar)
                });
                bar.set_position(done);
            }
            Event::Retry { file, problem } => {
                // A line that cannot be drawn is no reason to stop.
                let _ = self.all.println(format!("{file}: {problem}; going on"));
            }
            Event::Done { file } => {
                let Some((size, had, bar)) = files.get_mut(file) else { return };
                *had = *size;
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
        self.total.set_length(files.values().map(|f| f.0).sum());
        self.total.set_position(files.values().map(|f| f.1).sum());
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.total.finish_and_clear();
    }
}

/// The last 24 characters.
fn tail(name: &str) -> String {
    let count = name.chars().count();
    if count <= 24 { name.to_string() } else { format!("..{}", name.chars().skip(count - 22).collect::<String>()) }
}
