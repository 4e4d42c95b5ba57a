//! `borealis serve`, and the processes that it starts: `borealis worker` and `borealis media`.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use borealis_engine::Engine;
use borealis_server::{
    CheckpointInfo, FetchPolicy, ModerationConfig, OpenEngine, PaymentStyle, Prices, ProcessSpec, ServerConfig,
    Started, WorkerConfig, media_main, worker,
};
use borealis_weights::Checkpoint;
use clap::Parser;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command, MACHINE, MachineArgs};
use crate::error::{CliError, Result};
use crate::ranks::{RankArgs, Ranks};
use crate::{interrupt, model};

/// Name of the model inside this program.
const BUILT_IN: &str = "borealis-mini";

pub const EXAMPLES: &str = "\
Examples:
  On this machine, with the page at http://127.0.0.1:8080/:
    borealis serve
  For others, behind their own keys:
    borealis serve --address 0.0.0.0:8080 --public-url https://media.example.org
    borealis keys create --account ann
  With xAI's SDK for Python:
    Client(api_key=\"bk-...\", api_host=\"localhost:8080\")
  With anything that speaks REST:
    curl http://127.0.0.1:8080/v1/videos/generations -H \"Authorization: Bearer bk-...\" \\
      --json '{\"prompt\": \"a red ball bounces on grass\", \"duration\": 6}'

The first start prints one API key. Jobs and results lie in the data folder and survive a restart.
Logs go to standard error; RUST_LOG chooses how many (info, debug, borealis_server=debug).";

/// Arguments of `borealis serve`.
#[derive(clap::Args)]
pub struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    address: SocketAddr,
    #[command(flatten)]
    shared: SharedArgs,
    /// The address that clients see, when it is another one (behind a proxy)
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Let everybody in; only on loopback addresses
    #[arg(long)]
    no_auth: bool,
    /// http(s) URLs that clients may name: off, https, http (public addresses), local (any address)
    #[arg(long, value_name = "POLICY", default_value = "off", value_parser = fetch)]
    fetch: FetchPolicy,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    ranks: RankArgs,
    /// Make the ranks processes, started so: mpirun and its options, such as "mpirun --bind-to core" [default: threads of one process]
    #[arg(long, value_name = "COMMAND", requires = "ranks", help_heading = MACHINE)]
    launcher: Option<String>,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Limits and prices")]
struct LimitArgs {
    /// Jobs that a key may start in a minute; 0 = any number
    #[arg(long, value_name = "N", default_value_t = 0)]
    requests_per_minute: u32,
    /// Jobs of an account that may wait
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_queued: u32,
    /// Dollars for a picture of 1k, and of 2k
    #[arg(long, value_name = "USD,USD", value_delimiter = ',', value_parser = usd)]
    image_price: Vec<f64>,
    /// Dollars for a second of 480p, of 720p, and of 1080p
    #[arg(long, value_name = "USD,USD,USD", value_delimiter = ',', value_parser = usd)]
    video_price: Vec<f64>,
    /// How an account without credits is told: 402, or xAI's 403 or 429
    #[arg(long, value_name = "STATUS", default_value = "402", value_parser = payment)]
    payment_status: PaymentStyle,
}

/// What server and worker must agree on.
#[derive(clap::Args, Clone)]
pub struct SharedArgs {
    /// Folder of jobs, keys and results [default: borealis in the user's data folder]
    #[arg(long, value_name = "DIR", env = "BOREALIS_DATA", hide_env_values = true)]
    pub data: Option<PathBuf>,
    /// Bucket for results instead of the data folder: s3://BUCKET/FOLDER, with the keys in AWS_... variables (builds with --features s3)
    #[arg(long, value_name = "URL", env = "BOREALIS_STORE", hide_env_values = true)]
    store: Option<String>,
    /// Hours that results are kept
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8760))]
    keep: u32,
    /// Jobs that are made at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Rules of your own and a classifier of pictures, as JSON
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Make whatever is asked for
    #[arg(long, conflicts_with = "policy")]
    no_moderation: bool,
}

/// Arguments of `borealis worker`.
#[derive(clap::Args)]
pub struct WorkerArgs {
    /// Its name in the store
    #[arg(long)]
    id: String,
    #[command(flatten)]
    shared: SharedArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    ranks: RankArgs,
}

impl SharedArgs {
    fn moderation(&self) -> ModerationConfig {
        ModerationConfig { enabled: !self.no_moderation, policy: self.policy.clone() }
    }

    fn retention(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep) * 3600)
    }
}

/// The data folder: as given, or the usual place.
pub fn data(given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(folder) = given {
        return Ok(folder);
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let usual = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
    let missing = || CliError::usage("there is no home folder for the data: give one with --data DIR");
    Ok(usual.ok_or_else(missing)?.join("borealis"))
}

/// A runtime for commands that need one.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::failed)
}

/// Runs the server until Ctrl-C or SIGTERM.
pub fn run(args: Args) -> Result<()> {
    log();
    let config = args.config()?;
    let (stop, stopped) = watch::channel(false);
    let watch = interrupt::watch(move || {
        // Nobody listens any more: it has stopped already.
        let _ = stop.send(true);
    });
    let served = runtime()?.block_on(borealis_server::serve(config, stopped, tell));
    drop(watch);
    served.map_err(CliError::failed)
}

/// Says where it is; programs read these lines.
fn tell(started: &Started) {
    println!("Borealis listens on {}", started.url);
    println!("Playground: {}/", started.url);
    match &started.first_key {
        Some(key) => println!("API key (shown this once): {key}"),
        None => println!("API keys: borealis keys list"),
    }
}

/// A server for this machine alone, on a free port, with its data in `folder`: as if it had been typed.
pub fn local(folder: &Path, machine: MachineArgs) -> Result<ServerConfig> {
    let words = ["borealis", "serve", "--no-auth", "--address", "127.0.0.1:0", "--data"].map(OsStr::new);
    match Cli::try_parse_from(words.into_iter().chain([folder.as_os_str()])).map_err(CliError::failed)?.command {
        Command::Serve(args) => Args { machine, ..*args }.config(),
        _ => Err(CliError::usage("this is no server: use borealis serve")),
    }
}

/// Runs a worker until its standard input ends.
pub fn run_worker(args: WorkerArgs) -> Result<()> {
    log();
    let ranks = Ranks::join(&args.ranks, &args.machine)?;
    if ranks.is_member() {
        return ranks.serve(&args.machine, 1);
    }
    // Its parent decides when it ends.
    let _watch = interrupt::watch(|| {});
    let folder = args.machine.model.clone();
    let config = WorkerConfig {
        id: args.id,
        store: args.shared.store.clone(),
        slots: usize::from(args.shared.jobs),
        retention: args.shared.retention(),
        moderation: args.shared.moderation(),
        ..WorkerConfig::new(data(args.shared.data)?, name(folder.as_deref()))
    };
    let (ranks, default, machine) = (Arc::new(Mutex::new(ranks)), config.checkpoint.clone(), args.machine);
    let spread = ranks.clone();
    let open: OpenEngine = Box::new(move |wanted| {
        // Only the own model is spread: ranks that are processes hold its experts and no other's.
        let opened = match wanted == default {
            true => model::open(folder.as_deref()).and_then(|own| lock(&spread).engine(own, machine.engine())),
            false => open_named(wanted).and_then(|other| Ok(Engine::new(other, machine.engine())?)),
        };
        opened.map_err(|error| error.to_string())
    });
    let served = worker(config, open).map_err(CliError::failed);
    lock(&ranks).end(served)
}

/// A panic elsewhere leaves valid values behind.
fn lock(ranks: &Mutex<Ranks>) -> MutexGuard<'_, Ranks> {
    ranks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a media process: one task from standard input.
pub fn run_media() -> Result<()> {
    media_main().map_err(CliError::failed)
}

/// The built-in model, or one that was pulled.
fn open_named(name: &str) -> Result<Checkpoint> {
    if name == BUILT_IN { model::open(None) } else { model::open(Some(name.as_ref())) }
}

/// What a model is called: its folder's name.
fn name(folder: Option<&std::path::Path>) -> String {
    let name = folder.and_then(|folder| folder.file_name()).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| BUILT_IN.into())
}

impl Args {
    fn config(&self) -> Result<ServerConfig> {
        let program = std::env::current_exe().map_err(CliError::failed)?;
        let process = |args: Vec<String>| ProcessSpec { program: program.clone(), args };
        self.ranks.check(&model::open(self.machine.model.as_deref())?)?;
        let data = std::path::absolute(data(self.shared.data.clone())?).map_err(CliError::failed)?;
        let config = ServerConfig {
            address: self.address,
            public_url: self.public_url.clone(),
            no_auth: self.no_auth,
            worker: Some(self.launched(process(self.worker_args(&data)?))?),
            media: Some(process(vec!["media".into()])),
            checkpoints: self.checkpoints()?,
            store: self.shared.store.clone(),
            fetch: self.fetch,
            moderation: self.shared.moderation(),
            prices: self.limits.prices()?,
            payment: self.limits.payment_status,
            requests_per_minute: self.limits.requests_per_minute,
            max_queued: self.limits.max_queued,
            retention: self.shared.retention(),
            ..ServerConfig::new(data)
        };
        config.check().map_err(|error| CliError::usage(error.to_string()))?;
        Ok(config)
    }

    /// The worker, or the launcher that starts it as several processes.
    fn launched(&self, worker: ProcessSpec) -> Result<ProcessSpec> {
        let Some(launcher) = &self.launcher else { return Ok(worker) };
        let mut words = launcher.split_whitespace().map(String::from);
        let missing = || CliError::usage("--launcher: it is empty: give mpirun and its options");
        let program = words.next().ok_or_else(missing)?.into();
        let text = worker.program.to_str().map(String::from);
        let own = text.ok_or_else(|| CliError::usage("this program's own path is no text: move it"))?;
        let count = ["-n".into(), self.ranks.ranks.unwrap_or(1).to_string(), own];
        Ok(ProcessSpec { program, args: words.chain(count).chain(worker.args).collect() })
    }

    /// The worker's command line: what of ours it shares.
    fn worker_args(&self, data: &std::path::Path) -> Result<Vec<String>> {
        let text = |path: &std::path::Path| {
            let not = || CliError::usage(format!("\"{}\" is no text: use another name", path.display()));
            path.to_str().map(str::to_owned).ok_or_else(not)
        };
        let (shared, machine) = (&self.shared, &self.machine);
        let mut args = vec!["worker".to_string(), "--data".into(), text(data)?];
        let mut add = |option: &str, value: String| args.extend([option.to_string(), value]);
        add("--keep", shared.keep.to_string());
        add("--jobs", shared.jobs.to_string());
        add("--device", machine.devices.iter().map(|d| d.to_string()).collect::<Vec<_>>().join(","));
        if let Some(store) = &shared.store {
            add("--store", store.clone());
        }
        if let Some(policy) = &shared.policy {
            add("--policy", text(policy)?);
        }
        if let Some(model) = &machine.model {
            add("--model", text(model)?);
        }
        if let Some(dtype) = machine.dtype {
            add("--dtype", dtype.name().into());
        }
        if let Some(kv) = machine.kv_dtype.0 {
            add("--kv-dtype", kv.name().into());
        }
        if let Some(threads) = machine.threads {
            add("--threads", threads.to_string());
        }
        add("--memory", machine.memory.to_string());
        if let Some(ranks) = self.ranks.ranks.filter(|_| self.launcher.is_none()) {
            add("--ranks", ranks.to_string());
        }
        if let Some(load) = &self.ranks.expert_load {
            add("--expert-load", text(load)?);
        }
        if let Some(limit) = machine.memory_limit {
            add("--memory-limit", limit.to_string());
        }
        if shared.no_moderation {
            args.push("--no-moderation".into());
        }
        Ok(args)
    }

    /// The models that can be asked for: the given one (or the built-in), the built-in one, and those that were pulled.
    fn checkpoints(&self) -> Result<Vec<CheckpointInfo>> {
        let folder = self.machine.model.as_deref();
        let mut all = vec![info(name(folder), &model::open(folder)?)];
        if folder.is_some()
            && let Ok(built_in) = model::open(None)
        {
            all.push(info(BUILT_IN.into(), &built_in));
        }
        // A cache that cannot be read has no models; one that is no picture or clip model is not for this server.
        let pulled = borealis_hub::Hub::from_env().and_then(|hub| hub.list()).unwrap_or_default();
        for cached in pulled {
            if let Ok(checkpoint) = model::open(Some(cached.repo.as_ref())) {
                let info = info(cached.repo, &checkpoint);
                all.extend((info.image || info.video).then_some(info));
            }
        }
        Ok(all)
    }
}

fn info(name: String, checkpoint: &Checkpoint) -> CheckpointInfo {
    let manifest = checkpoint.manifest();
    let image = manifest.modes.contains_key("text_to_image") || manifest.segment("image").is_some();
    CheckpointInfo { name, image, video: manifest.modes.contains_key("text_to_video") }
}

impl LimitArgs {
    fn prices(&self) -> Result<Prices> {
        let wrong = |option: &str, what: &str| CliError::usage(format!("{option}: give {what}"));
        let image = match self.image_price[..] {
            [] => [0.0; 2],
            [one, two] => [one, two],
            _ => return Err(wrong("--image-price", "two prices, for 1k and 2k")),
        };
        let video = match self.video_price[..] {
            [] => [0.0; 3],
            [one, two, three] => [one, two, three],
            _ => return Err(wrong("--video-price", "three prices, for 480p, 720p and 1080p")),
        };
        Ok(Prices::from_usd(image, video))
    }
}

fn fetch(text: &str) -> std::result::Result<FetchPolicy, String> {
    match text {
        "off" => Ok(FetchPolicy::Off),
        "https" => Ok(FetchPolicy::Https),
        "http" => Ok(FetchPolicy::Http),
        "local" => Ok(FetchPolicy::Local),
        _ => Err("use off, https, http or local".into()),
    }
}

fn payment(text: &str) -> std::result::Result<PaymentStyle, String> {
    match text {
        "402" => Ok(PaymentStyle::PaymentRequired),
        "403" => Ok(PaymentStyle::Forbidden),
        "429" => Ok(PaymentStyle::TooManyRequests),
        _ => Err("use 402, 403 or 429".into()),
    }
}

fn usd(text: &str) -> std::result::Result<f64, String> {
    let price = text.trim().parse::<f64>().ok().filter(|price| (0.0..=1000.0).contains(price));
    price.ok_or_else(|| "use dollars, 0 to 1000".into())
}

/// Logs to standard error; RUST_LOG chooses.
fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A second start in one process keeps the first.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}
