//! REST and gRPC spellings of `Engine::submit`, with durable jobs.
//!
//! One port, three kinds of processes: the API (this crate's [`serve`]), a worker that owns the engine ([`worker`]), and short-lived media processes
//! that decode what strangers send ([`media_main`]). They share a data folder: a SQLite database and blobs named by their hashes.
//!
//! A request goes: `listen` (clocks and limits) -> `app` (key, metrics) -> `rest` or `grpc` (a dialect becomes a [`types::Spec`]) -> [`service::Service`] ->
//! `store` (the job is on the disk, the client gets its id) -> `worker` (claims it, makes it) -> `store` (done, in one transaction with everything that follows)
//! -> the dialect again. See [`service`] for the seam and `store/claims.rs` for the protocol that loses no job.

mod app;
mod auth;
mod blobs;
mod config;
mod error;
mod fetch;
mod grpc;
mod limits;
mod listen;
mod live;
mod media_process;
mod metrics;
mod models;
mod moderate;
mod moderation;
mod playground;
mod rest;
mod secrets;
pub mod service;
mod store;
mod supervise;
#[cfg(test)]
mod testing;
pub mod types;
mod urls;
mod webhooks;
mod worker;

use std::path::Path;

use tokio::sync::watch;

pub use auth::CreatedKey;
pub use config::{
    CheckpointInfo, FetchPolicy, MAX_BODY, MAX_FILE, ModerationConfig, PaymentStyle, Prices, ProcessSpec, ServerConfig,
};
pub use error::{Result, ServerError};
pub use media_process::media_main;
pub use worker::{OpenEngine, WorkerConfig, worker};

/// What is told when the server listens.
#[derive(Clone)]
pub struct Started {
    /// The address that clients use; the page is at its root.
    pub url: String,
    /// The first key, when there was none; shown once.
    pub first_key: Option<String>,
}

/// Runs the server until `stop` is sent true (or dropped). `started` is called once it listens.
pub async fn serve(
    config: ServerConfig,
    mut stop: watch::Receiver<bool>,
    started: impl FnOnce(&Started),
) -> Result<()> {
    config.check()?;
    // One that is true for good, also when the caller has dropped its end.
    let (ended, stopped) = watch::channel(false);
    tokio::spawn(async move {
        let _ = stop.wait_for(|stop| *stop).await;
        let _ = ended.send(true);
        ended.closed().await;
    });
    let stop = stopped;
    raise_file_limit();
    let listener = listen::bind(config.address)?;
    let address =
        listener.local_addr().map_err(|source| ServerError::System { what: "asking for the address", source })?;
    let service = service::Service::open(config, address).await?;
    let first_key = match service.config().no_auth || !service.store().keys().await?.is_empty() {
        true => None,
        false => Some(auth::create(service.store(), "default", "first key").await?.key),
    };
    let mut tasks = tokio::task::JoinSet::new();
    if let Some(program) = service.config().worker.clone() {
        tasks.spawn(supervise::worker(service.clone(), program, stop.clone()));
    }
    tasks.spawn(supervise::clock(service.clone(), stop.clone()));
    tasks.spawn(supervise::media(service.clone(), stop.clone()));
    tasks.spawn(webhooks::run(service.clone(), stop.clone()));
    started(&Started { url: service.base_url(), first_key });
    let (most, grace) = (service.config().max_connections, service.config().grace);
    listen::serve(listener, app::router(service.clone()), most, service.metrics().clone(), stop, grace).await;
    while tasks.join_next().await.is_some() {}
    tracing::info!("stopped");
    Ok(())
}

/// Every connection is a file: takes as many as the system lets us have.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // With fewer files there are fewer connections; that is all.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// A key as `borealis keys list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// Its id.
    pub id: String,
    /// Name of its account.
    pub account: String,
    /// Its own name.
    pub name: String,
    /// Its first and last characters.
    pub redacted: String,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Whether it has been revoked.
    pub revoked: bool,
}

/// The keys of a data folder, for the operator's command line.
pub struct KeyRing {
    store: store::Store,
    secret: secrets::Secret,
}

impl KeyRing {
    /// Opens the data folder, making it as needed.
    pub async fn open(data: &Path) -> Result<Self> {
        Ok(Self { store: store::Store::open(data).await?, secret: secrets::Secret::open(data)? })
    }

    /// Makes a key for the account of that name. `credits`: sets what the account may spend, in ticks (10^10 to a dollar).
    pub async fn create(&self, account: &str, name: &str, credits: Option<i64>) -> Result<CreatedKey> {
        let key = auth::create(&self.store, account, name).await?;
        if credits.is_some() {
            let id = self.store.account(account).await?;
            self.store.set_credits(&id, credits).await?;
        }
        Ok(key)
    }

    /// With what webhooks of an account are signed, as Standard Webhooks writes it.
    pub async fn webhook_secret(&self, account: &str) -> Result<String> {
        Ok(secrets::webhook_secret(&self.secret.webhook_key(&self.store.account(account).await?)))
    }

    /// All keys, oldest first.
    pub async fn list(&self) -> Result<Vec<ListedKey>> {
        let listed = |row: store::KeyRow| ListedKey {
            id: row.account.key_id,
            account: row.account_name,
            name: row.account.name,
            redacted: row.account.redacted_key,
            created_at: row.account.created_at,
            revoked: row.revoked_at.is_some(),
        };
        Ok(self.store.keys().await?.into_iter().map(listed).collect())
    }

    /// Revokes keys by id or name; returns how many there were. Running servers notice at once.
    pub async fn revoke(&self, id_or_name: &str) -> Result<u64> {
        self.store.revoke_key(id_or_name).await
    }
}
