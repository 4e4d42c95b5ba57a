//! The one thing that every dialect talks to: [`Service`]. REST, gRPC and the page translate to it and nothing else.
//!
//! The methods (all `async` ones return `Result<_, ApiError>`, take the caller's [`Account`] first and answer `NotFound` for what belongs to another account):
//!
//! ```text
//! resolve(&Account, Input, MediaKind, field: &str) -> AssetRef         own URLs, file ids, data:, policy fetch -> media process -> stored
//! submit(&Account, Spec, Option<Idempotency>) -> JobId                 durable when it returns; moderation, limits and credits are checked here
//! job(&Account, &str) -> Job              wait(&Account, &str, Duration) -> Job     (the job as it is when the time is over)
//! cancel(&Account, &str) -> Job           delete(&Account, &str) -> ()              (delete cancels, too)
//! list(&Account, &JobFilter) -> Page<Job>
//! read_asset(&AssetRef) -> Bytes          last frame: frame(&Account, &AssetRef, FrameAt) -> AssetRef   (a PNG; frame_bytes: not stored)
//! adopt(&Account, &AssetRef) -> AssetRef  the same bytes for another job
//! signed_url(&AssetRef, expires_at_ms: Option<i64>) -> String          output_url(&Job, n: usize) -> String  (also of a running job: live with ?stream=1)
//! models() -> &[ModelInfo]                resolve_model(Option<&str>, JobKind) -> Result<&ModelInfo, ApiError>   (not async)
//! put_file(&Account, filename, purpose, Bytes, expires_after: Option<i64>) -> StoredFile
//! file(&Account, id) · list_files(&Account, limit, after: Option<&str>, ascending) -> Page<StoredFile> · delete_file · read_file(&Account, id) -> (StoredFile, Bytes)
//! publish_file(&Account, id, expires_after: Option<i64>) -> StoredFile · unpublish_file(&Account, id) -> StoredFile
//! create_batch(&Account, name, input_file: Option<&str>) -> Batch · add_to_batch(&Account, id, Vec<BatchLine>) -> Batch · batch · list_batches(&Account, limit, after)
//! cancel_batch -> Batch · batch_items(&Account, id, limit, after: Option<&str>) -> Page<BatchItem> · batch_item(&Account, id, request_id) -> BatchItem
//! create_folder(&Account, name) -> Folder · rename_folder(&Account, id, name) · folders(&Account) -> Vec<Folder> · delete_folder(&Account, id)
//! move_job(&Account, job, folder: Option<&str>) -> Job · usage(&Account, since_ms) -> UsageReport
//! config() -> &ServerConfig · base_url() -> String · metrics() -> &Metrics
//! ```

mod admit;
mod discard;
mod guard;
mod inputs;
pub(crate) mod library;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::auth::Keys;
use crate::blobs::Blobs;
use crate::config::ServerConfig;
use crate::error::Result as ServerResult;
pub use crate::error::{ApiError, ApiErrorKind};
use crate::fetch::Fetcher;
use crate::limits::Limits;
use crate::media_process::MediaReader;
use crate::metrics::Metrics;
use crate::moderation::Moderation;
use crate::secrets::Secret;
use crate::store::{Store, now_ms};
pub use crate::types::*;
use crate::{models, urls};
pub use admit::*;
pub(crate) use guard::CancelOnDrop;

/// Jobs that are remembered until something changes in the store.
const REMEMBERED: usize = 4096;
/// What the routers talk to; clones share everything.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    config: ServerConfig,
    address: SocketAddr,
    store: Store,
    blobs: Blobs,
    secret: Secret,
    keys: Keys,
    models: Vec<ModelInfo>,
    media: MediaReader,
    fetcher: Fetcher,
    limits: Limits,
    moderation: Moderation,
    metrics: Arc<Metrics>,
    jobs: Mutex<(u64, HashMap<JobId, Arc<Job>>)>,
    /// Hashes of bytes that somebody has given up; see [`Service::discard`].
    discarded: Mutex<HashSet<String>>,
    anybody: Account,
}

impl Service {
    /// Opens everything in the data folder. `address` is where clients reach it.
    pub async fn open(config: ServerConfig, address: SocketAddr) -> ServerResult<Self> {
        config.check()?;
        let store = Store::open(&config.data).await?;
        let anybody = Account {
            id: store.account("default").await?,
            key_id: "key_none".into(),
            name: "local".into(),
            redacted_key: "bk-...none".into(),
            acls: vec!["*".into()],
            created_at: now_ms(),
        };
        let blobs = Blobs::open(&config.data, config.store.as_deref())?;
        blobs.check().await?;
        let inner = Inner {
            blobs,
            secret: Secret::open(&config.data)?,
            keys: Keys::default(),
            models: models::all(&config.checkpoints),
            media: MediaReader::new(config.media.clone()),
            fetcher: Fetcher::new(config.fetch),
            limits: Limits::new(config.requests_per_minute),
            moderation: crate::moderate::open(&config.moderation)?,
            metrics: Arc::default(),
            jobs: Mutex::default(),
            discarded: Mutex::default(),
            address,
            store,
            anybody,
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The configuration.
    pub fn config(&self) -> &ServerConfig {
        &self.inner.config
    }

    /// The address that clients see, without a slash at the end.
    pub fn base_url(&self) -> String {
        if let Some(url) = &self.inner.config.public_url {
            return url.clone();
        }
        let mut address = self.inner.address;
        if address.ip().is_unspecified() {
            // Nobody can open 0.0.0.0; who listens everywhere for others says --public-url.
            address.set_ip(if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        format!("http://{address}")
    }

    /// Counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// The rules for prompts and pictures.
    pub fn moderation(&self) -> &Moderation {
        &self.inner.moderation
    }

    /// The account of those who need no key.
    pub(crate) fn anybody(&self) -> &Account {
        &self.inner.anybody
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.inner.secret
    }

    pub(crate) fn media(&self) -> &MediaReader {
        &self.inner.media
    }

    pub(crate) fn fetcher(&self) -> &Fetcher {
        &self.inner.fetcher
    }

    pub(crate) async fn look_up_key(&self, key: &str) -> Result<Account, ApiError> {
        self.inner.keys.look_up(&self.inner.store, key).await
    }

    /// All names of models.
    pub fn models(&self) -> &[ModelInfo] {
        &self.inner.models
    }

    /// The model of that name or alias; `None`: the usual one for what is made.
    pub fn resolve_model(&self, name: Option<&str>, kind: JobKind) -> Result<&ModelInfo, ApiError> {
        models::resolve(&self.inner.models, name, kind)
    }

    /// A job of the account.
    pub async fn job(&self, account: &Account, id: &str) -> Result<Job, ApiError> {
        self.shared_job(account, id).await.map(|job| Job::clone(&job))
    }

    /// As [`Service::job`], without a copy: for polling.
    pub async fn shared_job(&self, account: &Account, id: &str) -> Result<Arc<Job>, ApiError> {
        let missing =
            || ApiError::not_found("there is no such request: check its id; results are kept for a limited time");
        let version = self.inner.store.version();
        if let Some(job) = self.remembered(version, id) {
            return if job.account == account.id { Ok(job) } else { Err(missing()) };
        }
        let job = self.inner.store.job(&account.id, id).await?.ok_or_else(missing)?;
        Ok(self.remember(version, job))
    }

    /// State and kind of a job of whomever: for live playback under a signed address.
    pub(crate) async fn state_of(&self, id: &str) -> Result<Option<(JobState, JobKind)>, ApiError> {
        let version = self.inner.store.version();
        let job = match self.remembered(version, id) {
            Some(job) => Some(job),
            None => self.inner.store.any_job(id).await?.map(|job| self.remember(version, job)),
        };
        Ok(job.map(|job| (job.state, job.spec.kind)))
    }

    fn remembered(&self, version: u64, id: &str) -> Option<Arc<Job>> {
        let mut jobs = self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.0 != version {
            *jobs = (version, HashMap::new());
        }
        jobs.1.get(id).cloned()
    }

    fn remember(&self, version: u64, job: Job) -> Arc<Job> {
        let job = Arc::new(job);
        let mut jobs = self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.1.len() >= REMEMBERED {
            jobs.1.clear();
        }
        if jobs.0 == version {
            jobs.1.insert(job.id.clone(), job.clone());
        }
        job
    }

    /// Waits until a job has ended, at most `timeout`; returns it as it is then.
    pub async fn wait(&self, account: &Account, id: &str, timeout: Duration) -> Result<Job, ApiError> {
        let end = tokio::time::Instant::now() + timeout;
        let mut changes = self.inner.store.changes();
        loop {
            changes.borrow_and_update();
            let job = self.job(account, id).await?;
            if job.state.is_final() || tokio::time::timeout_at(end, changes.changed()).await.is_err() {
                return Ok(job);
            }
        }
    }

    /// Jobs of the account.
    pub async fn list(&self, account: &Account, filter: &JobFilter) -> Result<Page<Job>, ApiError> {
        if filter.limit > 100 {
            return Err(ApiError::invalid("limit", format!("limit {} is too large: use 1 to 100", filter.limit)));
        }
        let limit = if filter.limit == 0 { 20 } else { filter.limit };
        self.check_page("job", account, filter.after.as_deref()).await?;
        Ok(self.inner.store.jobs(&account.id, &JobFilter { limit, ..filter.clone() }).await?)
    }

    /// Cancels a job; one that has ended stays as it is.
    pub async fn cancel(&self, account: &Account, id: &str) -> Result<Job, ApiError> {
        self.job(account, id).await?;
        self.inner.store.cancel(&account.id, id).await?;
        self.job(account, id).await
    }

    /// Cancels a job if it has not ended, and removes it with its results.
    pub async fn delete(&self, account: &Account, id: &str) -> Result<(), ApiError> {
        let missing = || ApiError::not_found("there is no such request: check its id");
        let hashes = self.inner.store.delete(&account.id, id).await?.ok_or_else(missing)?;
        self.discard(hashes).await;
        Ok(())
    }

    /// All bytes of an asset.
    pub async fn read_asset(&self, asset: &AssetRef) -> Result<Bytes, ApiError> {
        match self.inner.blobs.get(&asset.sha256).await {
            Ok(bytes) => Ok(bytes),
            Err(crate::ServerError::Blobs(object_store::Error::NotFound { .. })) => {
                Err(ApiError::not_found("this result has expired: make it again"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The address of an asset for everybody who has it, until then (milliseconds since 1970; `None`: as long as results are kept).
    pub fn signed_url(&self, asset: &AssetRef, expires_at: Option<i64>) -> String {
        let until = expires_at.unwrap_or_else(|| now_ms() + self.inner.config.retention.as_millis() as i64);
        urls::of_asset(self, asset, until)
    }

    /// The address of the n-th output of a job; of a job that is running, too (with `&stream=1` it shows the clip as it grows).
    pub fn output_url(&self, job: &Job, n: usize) -> String {
        if let Some(output) = job.outputs.get(n) {
            return self.signed_url(&output.asset, job.expires_at);
        }
        let mime = match (job.spec.kind.is_still(), job.spec.format) {
            (true, ImageFormat::Jpeg) => "image/jpeg",
            (true, ImageFormat::Png) => "image/png",
            (false, _) => "video/mp4",
        };
        let until = job.created_at + self.inner.config.retention.as_millis() as i64;
        urls::absolute(
            &self.base_url(),
            &urls::signed_path(&self.inner.secret, &format!("{}-{n}", job.id), mime, until),
        )
    }

    /// Whether work can be done: the database answers and a worker is alive. The reason otherwise.
    pub async fn ready(&self) -> Result<Vec<String>, ApiError> {
        self.inner.store.ping().await?;
        let workers = self.inner.store.workers().await?;
        if workers.is_empty() {
            return Err(ApiError::new(ApiErrorKind::Unavailable, "no worker is running: see the server's log"));
        }
        Ok(workers)
    }
}

#[cfg(test)]
mod tests;
