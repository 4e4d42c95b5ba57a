//! One file from the hub to the cache's blobs: goes on where it was cut, is checked before it counts.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::RANGE;
use reqwest::{Client, Response, StatusCode};

use crate::error::chain;
use crate::hub::{ANSWER, Hub, agent};
use crate::pull::{Event, Watch};
use crate::tree::Entry;
use crate::verify::Hasher;
use crate::{HubError, RepoId, Result};

/// How often a transfer looks whether another process is done with its file.
const LOOK: Duration = Duration::from_millis(100);
/// Wait after a failed attempt; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(250);

/// Settings and connections of one pull.
pub(crate) struct Transfer {
    pub hub: Hub,
    client: Client,
    pub watch: std::sync::Arc<dyn Watch>,
}

/// Why an attempt ended.
enum Cut {
    /// Worth another attempt.
    Broken(String),
    /// Bytes that do not belong to the ones that are there.
    Mismatch(String),
    Fatal(HubError),
}

impl From<HubError> for Cut {
    fn from(error: HubError) -> Self {
        Self::Fatal(error)
    }
}

impl Transfer {
    pub fn new(hub: Hub, watch: std::sync::Arc<dyn Watch>) -> Result<Self> {
        // Redirects to other hosts lose the token: reqwest takes it off.
        let client = Client::builder().user_agent(agent()).connect_timeout(ANSWER).read_timeout(ANSWER).build();
        let client = client.map_err(|e| HubError::network(&hub.endpoint, chain(&e)))?;
        Ok(Self { hub, client, watch })
    }

    /// Asks for `url`, from byte `from` on; tries again while the hub is busy.
    pub async fn get(&self, repo: &RepoId, url: &str, from: Option<u64>) -> Result<Response> {
        let mut problem = String::new();
        for attempt in 0..self.hub.attempts.max(1) {
            if attempt > 0 {
                self.pause(attempt).await;
            }
            let mut request = self.client.get(url);
            if let Some(token) = &self.hub.token {
                request = request.bearer_auth(token);
            }
            if let Some(from) = from {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            match request.send().await {
                Ok(response)
                    if response.status().is_success() || response.status() == StatusCode::RANGE_NOT_SATISFIABLE =>
                {
                    return Ok(response);
                }
                Ok(response) => match refusal(repo, url, &response) {
                    Some(error) => return Err(error),
                    None => problem = format!("the hub answers {}", response.status()),
                },
                Err(error) => problem = chain(&error.without_url()),
            }
        }
        Err(HubError::network(url, problem))
    }

    /// Waits before attempt number `attempt`.
    async fn pause(&self, attempt: u32) {
        tokio::time::sleep(PAUSE * 2u32.pow(attempt.saturating_sub(1).min(5))).await;
    }

    /// Makes sure that the blob of `entry` is in `blobs`; false: it was there before. `lock` keeps other processes away from it.
    pub async fn blob(&self, repo: &RepoId, commit: &str, entry: &Entry, blobs: &Path, lock: &Path) -> Result<bool> {
        let blob = blobs.join(&entry.hash);
        if blob.exists() {
            return Ok(false);
        }
        let _lock = self.lock(lock).await?;
        if blob.exists() {
            return Ok(false);
        }
        let part = blobs.join(format!("{}.incomplete", entry.hash));
        let url = address(&self.hub.endpoint, repo, commit, &entry.path);
        let (mut idle, mut fresh) = (0, false);
        loop {
            let before = length(&part);
            let cut = match self.attempt(repo, entry, &part, &url).await {
                Ok(()) => break,
                Err(cut) => cut,
            };
            match cut {
                Cut::Fatal(error) => return Err(error),
                Cut::Mismatch(problem) => {
                    std::fs::remove_file(&part).map_err(HubError::io(&part))?;
                    // What was there before may be the reason; without it there is none to try again.
                    if fresh || before == 0 {
                        return Err(HubError::Corrupt { file: entry.path.clone(), problem });
                    }
                    (fresh, idle) = (true, 0);
                }
                Cut::Broken(problem) => {
                    idle = if length(&part) > before { 0 } else { idle + 1 };
                    if idle >= self.hub.attempts.max(1) {
                        return Err(HubError::network(&url, problem));
                    }
                    self.watch.event(Event::Retry { file: &entry.path, problem: &problem });
                    self.pause(idle.max(1)).await;
                }
            }
        }
        std::fs::rename(&part, &blob).map_err(HubError::io(&blob))?;
        Ok(true)
    }

    /// One connection: what is missing of `part`, then the comparison of size and hash.
    async fn attempt(&self, repo: &RepoId, entry: &Entry, part: &Path, url: &str) -> std::result::Result<(), Cut> {
        let mut hasher = Hasher::new(&entry.hash, entry.size).ok_or_else(|| Cut::Mismatch("it has no hash".into()))?;
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(part)
            .map_err(HubError::io(part))?;
        let mut have = resume(&mut file, entry.size, &mut hasher).map_err(HubError::io(part))?;
        self.watch.event(Event::Bytes { file: &entry.path, done: have });
        if have < entry.size {
            let response = self.get(repo, url, (have > 0).then_some(have)).await?;
            if have > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
                // This hub cannot go on in the middle: from the start then.
                hasher = Hasher::new(&entry.hash, entry.size).ok_or_else(|| Cut::Mismatch("it has no hash".into()))?;
                file.set_len(0).and_then(|()| file.rewind()).map_err(HubError::io(part))?;
                have = 0;
                if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
                    return Err(Cut::Broken("the hub has fewer bytes than it announced".into()));
                }
            }
            self.copy(response, entry, (&mut file, part), &mut hasher, have).await?;
        }
        file.sync_all().map_err(HubError::io(part))?;
        let found = hasher.finish();
        if found == entry.hash {
            return Ok(());
        }
        Err(Cut::Mismatch(format!("its hash is {found}, the hub announced {}", entry.hash)))
    }

    async fn copy(
        &self,
        mut response: Response,
        entry: &Entry,
        (file, part): (&mut File, &Path),
        hasher: &mut Hasher,
        mut have: u64,
    ) -> std::result::Result<(), Cut> {
        loop {
            let chunk = match tokio::time::timeout(self.hub.patience, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) if have == entry.size => return Ok(()),
                Ok(Ok(None)) => {
                    return Err(Cut::Broken(format!("the connection ended at {have} of {} bytes", entry.size)));
                }
                Ok(Err(error)) => return Err(Cut::Broken(chain(&error.without_url()))),
                Err(_) => return Err(Cut::Broken(format!("nothing came for {} s", self.hub.patience.as_secs_f32()))),
            };
            have += chunk.len() as u64;
            if have > entry.size {
                return Err(Cut::Mismatch(format!(
                    "it is longer than the {} bytes that the hub announced",
                    entry.size
                )));
            }
            file.write_all(&chunk).map_err(HubError::io(part))?;
            hasher.update(&chunk);
            self.watch.event(Event::Bytes { file: &entry.path, done: have });
        }
    }

    /// Waits until no other process fetches this blob.
    async fn lock(&self, path: &Path) -> Result<File> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        }
        let file = File::create(path).map_err(HubError::io(path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK).await,
                Err(TryLockError::Error(error)) => return Err(HubError::io(path)(error)),
            }
        }
    }
}

/// Hashes what is there; the number of bytes. More than the file has is thrown away.
fn resume(file: &mut File, size: u64, hasher: &mut Hasher) -> std::io::Result<u64> {
    if file.metadata()?.len() > size {
        file.set_len(0)?;
    }
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 1 << 16];
    let mut have = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(have);
        }
        hasher.update(&buffer[..n]);
        have += n as u64;
    }
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |m| m.len())
}

/// The address of a file; every part of its name is escaped.
fn address(endpoint: &str, repo: &RepoId, commit: &str, path: &str) -> String {
    let escape = |part: &str| -> String {
        part.bytes()
            .map(|b| match b {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
                _ => format!("%{b:02X}"),
            })
            .collect()
    };
    let path: Vec<String> = path.split('/').map(escape).collect();
    format!("{endpoint}/{}/resolve/{commit}/{}", repo.repo(), path.join("/"))
}

/// An answer that another attempt will not change.
fn refusal(repo: &RepoId, url: &str, response: &Response) -> Option<HubError> {
    let header =
        |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
    refused(repo, url, response.status().as_u16(), &header("x-error-code"), &header("x-error-message"))
}

/// What a status means; the hub says 401 for models that it does not have, too.
pub(crate) fn refused(repo: &RepoId, url: &str, status: u16, code: &str, message: &str) -> Option<HubError> {
    let reason = if message.is_empty() { format!("status {status}") } else { message.to_string() };
    let refused = |remedy| Some(HubError::Refused { repo: repo.to_string(), reason: reason.clone(), remedy });
    match (status, code) {
        (401 | 403, "GatedRepo") => refused("accept the model's terms on its page, then set HF_TOKEN to your token"),
        (404, "RevisionNotFound") => {
            Some(HubError::NotFound { what: format!("revision {} of {}", repo.revision_or_main(), repo.repo()) })
        }
        (401, "RepoNotFound") => Some(HubError::NotFound { what: format!("model {}", repo.repo()) }),
        (401, _) => refused("set HF_TOKEN to a token that may read this model"),
        (403, _) => refused("this token may not read it: use another in HF_TOKEN"),
        (404, _) if url.contains("/resolve/") => Some(HubError::NotFound { what: format!("file {url}") }),
        (404, _) => Some(HubError::NotFound { what: format!("model {repo}") }),
        (408 | 429 | 500..=599, _) => None,
        _ => Some(HubError::network(url, format!("the hub answers {reason}"))),
    }
}

/// Where the lock of a blob lies.
pub(crate) fn lock_path(cache: &Path, repo: &RepoId, hash: &str) -> PathBuf {
    cache.join(".locks").join(repo.folder()).join(format!("{hash}.lock"))
}
