//! A model from the hub to the cache.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use hf_hub::HFError;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::error::chain;
use crate::fetch::{Transfer, lock_path, refused};
use crate::hub::ANSWER;
use crate::id::is_commit;
use crate::tree::{self, Entry};
use crate::{Hub, HubError, RepoId, Result, cache, files};

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A file that will be fetched, or is there already.
    File {
        /// Its name.
        file: &'a str,
        /// Bytes.
        size: u64,
        /// It is in the cache.
        cached: bool,
    },
    /// So many bytes of it are there.
    Bytes {
        /// Its name.
        file: &'a str,
        /// Bytes so far.
        done: u64,
    },
    /// The connection broke; it goes on.
    Retry {
        /// Its name.
        file: &'a str,
        /// What happened.
        problem: &'a str,
    },
    /// It is complete and checked.
    Done {
        /// Its name.
        file: &'a str,
    },
}

/// Sees what happens, from several threads.
pub trait Watch: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// For those who do not look.
impl Watch for () {
    fn event(&self, _: Event<'_>) {}
}

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The folder with the files, to be opened as a checkpoint.
    pub path: PathBuf,
    /// The commit.
    pub commit: String,
    /// Files and their bytes.
    pub files: Vec<(String, u64)>,
    /// Bytes of the files that were not in the cache before.
    pub fetched: u64,
    /// Pickles that were left out.
    pub pickles: Vec<String>,
}

impl Hub {
    /// Fetches a model: what matches one of the patterns `include`, or all that a checkpoint needs. Blocks until everything is there; call it from a thread without an async runtime.
    ///
    /// # Errors
    /// [`HubError`]: what was complete by then stays in the cache, and what was not goes on next time.
    pub fn pull(&self, repo: &RepoId, include: &[String], watch: Arc<dyn Watch>) -> Result<Pulled> {
        if self.offline {
            return self.cached(repo);
        }
        self.runtime()?.block_on(self.pull_now(repo, include, watch))
    }

    async fn pull_now(&self, repo: &RepoId, include: &[String], watch: Arc<dyn Watch>) -> Result<Pulled> {
        let transfer = Arc::new(Transfer::new(self.clone(), watch)?);
        let commit = self.commit(repo).await?;
        let choice = files::choose(repo, include, tree::list(&transfer, repo, &commit).await?)?;
        let folder = self.cache.join(repo.folder());
        let blobs = folder.join("blobs");
        std::fs::create_dir_all(&blobs).map_err(HubError::io(&blobs))?;
        for entry in &choice.files {
            let cached = blobs.join(&entry.hash).exists();
            transfer.watch.event(Event::File { file: &entry.path, size: entry.size, cached });
        }
        let fetched = fetch_all(&transfer, repo, &commit, &choice.files, &blobs).await?;
        let snapshot = folder.join("snapshots").join(&commit);
        for entry in &choice.files {
            cache::link(&snapshot, &entry.path, &entry.hash)?;
        }
        // The name of the revision is written last: whoever finds it finds the files.
        if !is_commit(repo.revision_or_main()) {
            cache::write_ref(&folder, repo.revision_or_main(), &commit)?;
        }
        Ok(Pulled {
            path: snapshot,
            commit,
            files: choice.files.into_iter().map(|entry| (entry.path, entry.size)).collect(),
            fetched,
            pickles: choice.pickles,
        })
    }

    /// The commit of the revision.
    async fn commit(&self, repo: &RepoId) -> Result<String> {
        let client = self.client()?;
        let model = client.model(repo.owner(), repo.name());
        let url = format!("{}/{}", self.endpoint, repo.repo());
        let asked = model.info().revision(repo.revision_or_main().to_string()).send();
        let info = tokio::time::timeout(ANSWER, asked).await;
        let info = info.map_err(|_| HubError::network(&url, "no answer"))?;
        let commit = info.map_err(|error| translate(repo, &url, error))?.sha.unwrap_or_default();
        if is_commit(&commit) { Ok(commit) } else { Err(HubError::network(&url, "the hub names no commit")) }
    }

    /// What a pull would give without a connection.
    fn cached(&self, repo: &RepoId) -> Result<Pulled> {
        let path = self.find(repo).map_err(|_| HubError::Offline { repo: repo.to_string() })?;
        let commit = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let files = cache::snapshot_files(&path)?;
        Ok(Pulled { path, commit, files, fetched: 0, pickles: Vec::new() })
    }
}

/// Fetches all blobs, several at once; the bytes that were not there before.
async fn fetch_all(
    transfer: &Arc<Transfer>,
    repo: &RepoId,
    commit: &str,
    entries: &[Entry],
    blobs: &std::path::Path,
) -> Result<u64> {
    let free = Arc::new(Semaphore::new(transfer.hub.parallel.max(1)));
    let mut tasks = JoinSet::new();
    // Two names can have one blob.
    let unique: BTreeMap<&str, &Entry> = entries.iter().map(|entry| (entry.hash.as_str(), entry)).collect();
    for entry in unique.into_values() {
        let (transfer, repo, commit) = (transfer.clone(), repo.clone(), commit.to_string());
        let (entry, blobs, free) = (entry.clone(), blobs.to_path_buf(), free.clone());
        tasks.spawn(async move {
            // The semaphore is never closed.
            let _turn = free.acquire().await;
            let lock = lock_path(&transfer.hub.cache, &repo, &entry.hash);
            let new = transfer.blob(&repo, &commit, &entry, &blobs, &lock).await?;
            transfer.watch.event(Event::Done { file: &entry.path });
            Ok::<u64, HubError>(if new { entry.size } else { 0 })
        });
    }
    let mut fetched = 0;
    while let Some(task) = tasks.join_next().await {
        // The first error ends the others: the set aborts them when it is dropped, and what they have stays on disk.
        fetched += task.map_err(|error| HubError::network(&transfer.hub.endpoint, error))??;
    }
    Ok(fetched)
}

/// `hf-hub`'s errors in our words.
fn translate(repo: &RepoId, url: &str, error: HFError) -> HubError {
    let context = match &error {
        HFError::Http { context } | HFError::AuthRequired { context } | HFError::Forbidden { context } => Some(context),
        HFError::RateLimited { context, .. } => Some(context),
        HFError::RepoNotFound { context, .. } | HFError::RevisionNotFound { context, .. } => context.as_ref(),
        _ => None,
    };
    let known = context.and_then(|context| {
        let code = context.error_code.as_deref().unwrap_or_default();
        let message = context.server_message.as_deref().unwrap_or_default();
        refused(repo, url, context.status.as_u16(), code, message)
    });
    known.unwrap_or_else(|| match error {
        HFError::Request { source, .. } => HubError::network(url, chain(&source.without_url())),
        error => HubError::network(url, chain(&error)),
    })
}
