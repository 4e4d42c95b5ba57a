//! What tests share: a service in a folder of its own, with or without a worker in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::ServerConfig;
use crate::service::Service;
use crate::types::{Account, Job};
use crate::worker::fake::Fake;
use crate::worker::{self, WorkerConfig};

/// A service for a test; everything of it goes when it is dropped.
pub(crate) struct Bench {
    /// The data folder.
    pub folder: tempfile::TempDir,
    /// What is tested.
    pub service: Service,
    /// An account with a key.
    pub account: Account,
    /// Its key.
    pub key: String,
    _stop: Option<watch::Sender<bool>>,
}

impl Bench {
    /// Everything on the port, for `oneshot`.
    pub fn app(&self) -> axum::Router {
        crate::app::router(self.service.clone())
    }

    /// Another account and its key.
    pub async fn other(&self) -> (Account, String) {
        let key = crate::auth::create(self.service.store(), "other", "other").await.expect("a key").key;
        (self.service.look_up_key(&key).await.expect("an account"), key)
    }
}

/// A service without a worker.
pub(crate) async fn bench() -> Bench {
    bench_with(|_| {}, false).await
}

/// A service with a worker that makes small red pictures and clips at once (see [`Fake`] for words that it obeys).
pub(crate) async fn bench_with_worker() -> Bench {
    bench_with(|_| {}, true).await
}

/// A service with another configuration.
pub(crate) async fn bench_with(change: impl FnOnce(&mut ServerConfig), work: bool) -> Bench {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = ServerConfig::new(folder.path());
    change(&mut config);
    let service = Service::open(config, SocketAddr::from(([127, 0, 0, 1], 8080))).await.expect("a service");
    let key = crate::auth::create(service.store(), "default", "test").await.expect("a key").key;
    let account = service.look_up_key(&key).await.expect("an account");
    let stop = work.then(|| {
        let (stop, stopped) = watch::channel(false);
        let config = WorkerConfig::new(folder.path(), "borealis-mini");
        tokio::spawn(worker::run(config, Arc::new(Fake::default()), stopped));
        stop
    });
    Bench { folder, service, account, key, _stop: stop }
}

/// Waits until a job is as it should be; a test that hangs is ended by its runner.
pub(crate) async fn until(bench: &Bench, id: &str, is: impl Fn(&Job) -> bool) -> Job {
    loop {
        let job = bench.service.job(&bench.account, id).await.expect("the job");
        if is(&job) {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
