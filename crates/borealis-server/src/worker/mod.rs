//! The worker process: it owns the engine, claims jobs, makes several at once, and says all the while that it is alive.
//!
//! It ends when its standard input does: an API that was killed leaves no worker behind. Whatever ends it, no job is lost; the leases run out.

mod clip;
mod generate;
mod pulse;
mod still;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use borealis_engine::Engine;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::blobs::Blobs;
use crate::config::ModerationConfig;
use crate::error::{Result, ServerError};
use crate::live;
use crate::store::{Claimed, Ending, Store, now_ms};
use crate::types::{AssetRef, JobError, JobUsage, Output};

/// How a worker is set up.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The data folder of the server.
    pub data: PathBuf,
    /// Bucket that results are kept in; as [`crate::ServerConfig::store`].
    pub store: Option<String>,
    /// Its id; random for every start.
    pub id: String,
    /// Name of the checkpoint that is loaded at the start.
    pub checkpoint: String,
    /// Jobs at once.
    pub slots: usize,
    /// How long results are kept.
    pub retention: Duration,
    /// How long a stop waits for jobs that are nearly done.
    pub grace: Duration,
    /// Output frames are shown to its classifier.
    pub moderation: ModerationConfig,
}

impl WorkerConfig {
    /// The defaults: a random id, four jobs at once.
    pub fn new(data: impl Into<PathBuf>, checkpoint: impl Into<String>) -> Self {
        Self {
            data: data.into(),
            store: None,
            id: ulid::Ulid::generate().to_string(),
            checkpoint: checkpoint.into(),
            slots: 4,
            retention: Duration::from_secs(24 * 3600),
            grace: Duration::from_secs(5),
            moderation: ModerationConfig::default(),
        }
    }
}

/// Loads the engine of a checkpoint by name; the message of a failure is for the user.
pub type OpenEngine = Box<dyn Fn(&str) -> std::result::Result<Engine, String> + Send + Sync>;

/// Runs a worker until standard input ends, or until a rank of its model is lost.
pub fn worker(config: WorkerConfig, open: OpenEngine) -> Result<()> {
    let system = |source| ServerError::System { what: "starting the worker", source };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(system)?;
    let (stop, stopped) = watch::channel(false);
    std::thread::Builder::new()
        .name("stdin".into())
        .spawn(move || {
            // Whatever comes, only the end counts.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = stop.send(true);
        })
        .map_err(system)?;
    let done = runtime.block_on(async {
        let generator = generate::EngineGenerator::new(&config, open)?;
        tracing::info!(model = %config.checkpoint, "the worker is ready");
        run(config, Arc::new(generator), stopped).await
    });
    // Jobs that were given up may still hold a thread.
    runtime.shutdown_background();
    done
}

/// Makes what a job asks for; the engine, or a fake in tests.
pub(crate) trait Generator: Send + Sync + 'static {
    /// Writes the outputs into the job's scratch folder. Called on a thread of its own.
    fn generate(&self, job: &Claimed, context: &Context) -> std::result::Result<Product, Failure>;

    /// What it is, as JSON.
    fn info(&self) -> String;
}

/// What a generator has made.
#[derive(Debug, Default)]
pub(crate) struct Product {
    pub made: Vec<Made>,
    pub usage: JobUsage,
}

/// One output, in a file.
#[derive(Debug)]
pub(crate) struct Made {
    pub path: PathBuf,
    pub mime: &'static str,
    pub width: u32,
    pub height: u32,
    pub seconds: f64,
    pub frames: u32,
}

/// Why nothing was made.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Somebody asked to stop.
    Cancelled,
    /// It cannot be made.
    Error(JobError),
    /// Moderation refused an output.
    Moderated(String),
    /// There is not enough memory beside the other jobs.
    Full(String),
    /// The model is lost, and with it this worker: the job is made again by the next one.
    Lost(String),
}

impl Failure {
    pub fn error(code: &str, message: impl Into<String>) -> Self {
        Self::Error(JobError { code: code.into(), message: message.into() })
    }
}

/// What a running job shares with the heartbeat.
pub(crate) struct Context {
    fence: i64,
    attempt: i64,
    progress: AtomicU8,
    cancelled: AtomicBool,
    cancellers: Mutex<Vec<Box<dyn Fn() + Send>>>,
    scratch: tempfile::TempDir,
    data: PathBuf,
    blobs: Blobs,
    handle: Handle,
}

impl Context {
    /// A folder for the outputs; it goes when the job does.
    pub fn scratch(&self) -> &std::path::Path {
        self.scratch.path()
    }

    /// Tells how far the job is, 0 to 1.
    pub fn progress(&self, share: f64) {
        self.progress.store((share.clamp(0.0, 1.0) * 99.0) as u8, Ordering::Relaxed);
    }

    /// Whether the job is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Calls `end` when the job is to stop; at once if it is already.
    pub fn on_cancel(&self, end: impl Fn() + Send + 'static) {
        lock(&self.cancellers).push(Box::new(end));
        if self.is_cancelled() {
            self.cancel();
        }
    }

    /// Stops the job.
    fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        lock(&self.cancellers).iter().for_each(|end| end());
    }

    /// The bytes of an input.
    pub fn read(&self, asset: &AssetRef) -> std::result::Result<Arc<[u8]>, Failure> {
        match self.handle.block_on(self.blobs.get(&asset.sha256)) {
            Ok(bytes) => Ok(bytes.to_vec().into()),
            Err(ServerError::Blobs(object_store::Error::NotFound { .. })) => {
                Err(Failure::error("invalid_argument", "an input of this job has expired: give it again"))
            }
            Err(error) => Err(internal(error)),
        }
    }

    /// A file that others read while it grows: the n-th clip of the job.
    pub fn live(&self, job: &str, n: usize) -> std::io::Result<std::fs::File> {
        let path = live::path(&self.data, job, n);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        // A new file for a new attempt: readers of the old one keep it.
        let _ = std::fs::remove_file(&path);
        std::fs::File::create_new(path)
    }

    /// Waits for something asynchronous.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }
}

/// A fault of ours: the cause is for the log.
fn internal(cause: impl std::fmt::Display) -> Failure {
    tracing::error!(%cause, "a job failed");
    Failure::error("internal_error", "an internal error happened while making this: try again")
}

/// A panic elsewhere leaves valid values behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The jobs of a worker by id.
type Running = Arc<Mutex<HashMap<String, Arc<Context>>>>;

/// A worker around a generator.
struct Worker<G> {
    config: WorkerConfig,
    generator: Arc<G>,
    store: Store,
    blobs: Blobs,
    running: Running,
    stopping: AtomicBool,
    /// Why the worker must end.
    lost: watch::Sender<Option<String>>,
}

/// Claims and makes jobs until `stop`.
pub(crate) async fn run<G: Generator>(
    config: WorkerConfig,
    generator: Arc<G>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let store = Store::open(&config.data).await?;
    let blobs = Blobs::open(&config.data, config.store.as_deref())?;
    let running = Running::default();
    let told = generator.clone();
    let info = Box::new(move || told.info());
    let beats = pulse::start(store.path().to_path_buf(), config.id.clone(), info, running.clone())?;
    let (lost, mut loss) = watch::channel(None);
    let worker = Arc::new(Worker { generator, store, blobs, running, stopping: AtomicBool::new(false), lost, config });
    let mut jobs = JoinSet::new();
    let mut changes = worker.store.changes();
    while !*stop.borrow() {
        if let Err(error) = worker.take(&mut jobs).await {
            tracing::error!(%error, "no job could be claimed");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        tokio::select! {
            _ = stop.changed() => {}
            _ = changes.changed() => {}
            // As if this process had been killed: whoever started it buries it, and its jobs are made again.
            Ok(why) = loss.wait_for(Option::is_some) => {
                return Err(ServerError::Lost(why.clone().unwrap_or_default()));
            }
            Some(_) = jobs.join_next(), if !jobs.is_empty() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
    worker.wind_up(&mut jobs).await;
    drop(beats);
    Ok(())
}

impl<G: Generator> Worker<G> {
    /// Claims as many jobs as there is room for.
    async fn take(self: &Arc<Self>, jobs: &mut JoinSet<()>) -> Result<()> {
        while jobs.try_join_next().is_some() {}
        // A job that was in a worker when it died is made alone.
        let alone = |worker: &Self| lock(&worker.running).values().any(|context| context.attempt > 1);
        while !alone(self) && jobs.len() < self.config.slots {
            // One place is kept for pictures: their clients wait on the line.
            let clips = jobs.len() + 1 < self.config.slots.max(2);
            let Some(job) = self.store.claim(&self.config.id, jobs.len(), clips).await? else { return Ok(()) };
            let context = match self.context(&job) {
                Ok(context) => Arc::new(context),
                Err(error) => {
                    self.finish(&job, &Ending::Released).await;
                    return Err(error);
                }
            };
            lock(&self.running).insert(job.id.clone(), context.clone());
            jobs.spawn(self.clone().make(job, context));
        }
        Ok(())
    }

    fn context(&self, job: &Claimed) -> Result<Context> {
        let data = |source| ServerError::Data { path: self.config.data.clone(), source };
        let folder = self.config.data.join("tmp");
        std::fs::create_dir_all(&folder).map_err(data)?;
        Ok(Context {
            fence: job.fence,
            attempt: job.attempt,
            progress: AtomicU8::new(0),
            cancelled: AtomicBool::new(false),
            cancellers: Mutex::default(),
            scratch: tempfile::Builder::new().prefix("job-").tempdir_in(folder).map_err(data)?,
            data: self.config.data.clone(),
            blobs: self.blobs.clone(),
            handle: Handle::current(),
        })
    }

    /// Makes one job and ends it in the store.
    async fn make(self: Arc<Self>, job: Claimed, context: Arc<Context>) {
        tracing::info!(job = %job.id, kind = job.spec.kind.name(), attempt = job.attempt, "begun");
        let (worker, work, own) = (self.clone(), job.clone(), context.clone());
        let made = tokio::task::spawn_blocking(move || worker.generator.generate(&work, &own)).await;
        let made = made.unwrap_or_else(|panic| Err(internal(panic)));
        let ending = match made {
            Ok(product) => self.keep(&job, product).await.unwrap_or_else(|error| {
                tracing::error!(job = %job.id, %error, "the outputs could not be stored");
                Ending::Failed(JobError {
                    code: "service_unavailable".into(),
                    message: "the result could not be stored: try again later".into(),
                })
            }),
            Err(_) if self.stopping.load(Ordering::SeqCst) => Ending::Released,
            // The fence is gone: whatever is written now is discarded.
            Err(Failure::Cancelled) => Ending::Released,
            Err(Failure::Full(_)) if lock(&self.running).len() > 1 => {
                // There will be room when another job has ended.
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ending::Released
            }
            Err(Failure::Full(message)) => Ending::Failed(JobError { code: "failed_precondition".into(), message }),
            Err(Failure::Error(error)) => Ending::Failed(error),
            Err(Failure::Moderated(reason)) => Ending::Moderated(reason),
            Err(Failure::Lost(why)) => {
                tracing::error!(job = %job.id, %why, "interrupted");
                self.lost.send_replace(Some(why));
                return;
            }
        };
        self.finish(&job, &ending).await;
        lock(&self.running).remove(&job.id);
        live::remove(&self.config.data, &job.id, job.spec.n as usize);
    }

    /// Stores the outputs' bytes: before the job is done, so that a job that is done has them.
    async fn keep(&self, job: &Claimed, product: Product) -> Result<Ending> {
        let mut outputs = Vec::with_capacity(product.made.len());
        for (n, made) in product.made.into_iter().enumerate() {
            let bytes = tokio::fs::read(&made.path)
                .await
                .map_err(|source| ServerError::Data { path: made.path.clone(), source })?;
            let size = bytes.len() as u64;
            let asset = AssetRef {
                id: format!("{}-{n}", job.id),
                sha256: self.blobs.put(bytes.into()).await?,
                mime: made.mime.into(),
                size,
                width: made.width,
                height: made.height,
                seconds: made.seconds,
            };
            let file_id = job.spec.storage.as_ref().map(|_| format!("file_{}", ulid::Ulid::generate()));
            outputs.push(Output { asset, frames: made.frames, file_id });
        }
        let expires_at = now_ms() + self.config.retention.as_millis() as i64;
        Ok(Ending::Done { outputs, usage: product.usage, expires_at })
    }

    /// Ends a job; a database that is busy is asked again while the lease holds.
    async fn finish(&self, job: &Claimed, ending: &Ending) {
        for pause in [50, 200, 1000, 3000, 0] {
            match self.store.finish(job, ending).await {
                Ok(true) => return,
                Ok(false) => {
                    tracing::info!(job = %job.id, "the result was discarded: the job is in other hands");
                    return;
                }
                Err(error) => tracing::warn!(job = %job.id, %error, "the job could not be ended"),
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Lets jobs finish for a while, then gives them back.
    async fn wind_up(&self, jobs: &mut JoinSet<()>) {
        let all = async { while jobs.join_next().await.is_some() {} };
        if tokio::time::timeout(self.config.grace, all).await.is_ok() {
            return;
        }
        self.stopping.store(true, Ordering::SeqCst);
        lock(&self.running).values().for_each(|context| context.cancel());
        let all = async { while jobs.join_next().await.is_some() {} };
        // What does not stop is taken back when its lease is over.
        let _ = tokio::time::timeout(Duration::from_secs(5), all).await;
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
