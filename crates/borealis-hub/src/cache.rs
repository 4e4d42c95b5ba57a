//! The cache on disk, in the hub's own layout: `models--OWNER--NAME/{blobs/HASH, snapshots/COMMIT/NAME -> blob, refs/REVISION}`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hf_hub::cache::CachedRepoInfo;

use crate::error::chain;
use crate::id::is_commit;
use crate::{Hub, HubError, RepoId, Result};

/// A model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedModel {
    /// `OWNER/NAME`.
    pub repo: String,
    /// Bytes on disk; what revisions share counts once.
    pub bytes: u64,
    /// When something was last fetched.
    pub modified: SystemTime,
    /// Its revisions, by commit.
    pub revisions: Vec<CachedRevision>,
}

/// One revision of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedRevision {
    /// The commit.
    pub commit: String,
    /// Branches and tags that point to it.
    pub refs: Vec<String>,
    /// The folder with its files.
    pub path: PathBuf,
    /// Files.
    pub files: usize,
    /// Bytes of its files.
    pub bytes: u64,
}

impl Hub {
    /// The folder of a model that was pulled.
    ///
    /// # Errors
    /// [`HubError::NotCached`] when it is not there, with the command that fetches it.
    pub fn find(&self, repo: &RepoId) -> Result<PathBuf> {
        let folder = self.cache.join(repo.folder());
        let revision = repo.revision_or_main();
        let commit = if is_commit(revision) {
            Some(revision.to_string())
        } else {
            std::fs::read_to_string(folder.join("refs").join(revision)).ok().map(|text| text.trim().to_string())
        };
        let snapshot = commit.filter(|c| is_commit(c)).map(|c| folder.join("snapshots").join(c));
        snapshot.filter(|path| path.is_dir()).ok_or_else(|| HubError::NotCached { repo: repo.to_string() })
    }

    /// The models in the cache, by name.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn list(&self) -> Result<Vec<CachedModel>> {
        let mut models: Vec<CachedModel> = self.scan()?.into_iter().map(model).collect();
        models.sort_by(|a, b| a.repo.cmp(&b.repo));
        Ok(models)
    }

    /// Removes a model, or one revision of it and what only that revision needs; the bytes that became free.
    ///
    /// # Errors
    /// [`HubError::NotCached`] when it is not there.
    pub fn remove(&self, repo: &RepoId) -> Result<u64> {
        let missing = || HubError::NotCached { repo: repo.to_string() };
        let folder = self.cache.join(repo.folder());
        if !folder.is_dir() {
            return Err(missing());
        }
        let info = self.scan()?.into_iter().find(|info| info.repo_id == repo.repo());
        let everything = |bytes: u64| {
            std::fs::remove_dir_all(&folder).map_err(HubError::io(&folder))?;
            // Locks are of no use without blobs; that there are none is no failure.
            let _ = std::fs::remove_dir_all(self.cache.join(".locks").join(repo.folder()));
            Ok(bytes)
        };
        let before = size_of(&folder);
        if repo.revision().is_none() {
            return everything(before);
        }
        let commit = self.find(repo)?.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let info = info.ok_or_else(missing)?;
        let Some(revision) = info.revisions.iter().find(|r| r.commit_hash == commit) else { return Err(missing()) };
        if info.revisions.len() == 1 {
            return everything(before);
        }
        let others = info.revisions.iter().filter(|r| r.commit_hash != commit).flat_map(|r| &r.files);
        let kept: BTreeSet<&PathBuf> = others.map(|file| &file.blob_path).collect();
        std::fs::remove_dir_all(&revision.snapshot_path).map_err(HubError::io(&revision.snapshot_path))?;
        for name in &revision.refs {
            let path = folder.join("refs").join(name);
            std::fs::remove_file(&path).map_err(HubError::io(&path))?;
        }
        let gone: BTreeSet<&PathBuf> =
            revision.files.iter().map(|f| &f.blob_path).filter(|b| !kept.contains(b)).collect();
        for blob in gone {
            std::fs::remove_file(blob).map_err(HubError::io(blob))?;
        }
        Ok(before.saturating_sub(size_of(&folder)))
    }

    fn scan(&self) -> Result<Vec<CachedRepoInfo>> {
        let client = self.client()?;
        let found = self.runtime()?.block_on(async { client.scan_cache().send().await });
        let failed = |error| HubError::Io { path: self.cache.clone(), source: std::io::Error::other(chain(&error)) };
        Ok(found.map_err(failed)?.repos.into_iter().filter(|repo| repo.repo_type == "model").collect())
    }
}

fn model(info: CachedRepoInfo) -> CachedModel {
    let mut revisions: Vec<CachedRevision> = info
        .revisions
        .into_iter()
        .map(|revision| CachedRevision {
            commit: revision.commit_hash,
            refs: revision.refs,
            path: revision.snapshot_path,
            files: revision.files.len(),
            bytes: revision.size_on_disk,
        })
        .collect();
    revisions.sort_by(|a, b| a.commit.cmp(&b.commit));
    CachedModel { repo: info.repo_id, bytes: info.size_on_disk, modified: info.last_modified, revisions }
}

/// Bytes of a model's files: the blobs, and what lies in snapshots itself (where links are not to be had).
fn size_of(repo: &Path) -> u64 {
    let mut folders = vec![repo.join("blobs"), repo.join("snapshots")];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path().symlink_metadata() {
                Ok(m) if m.is_dir() => folders.push(entry.path()),
                Ok(m) if m.is_file() => bytes += m.len(),
                _ => {}
            }
        }
    }
    bytes
}

/// Names and sizes of the files of a snapshot.
pub(crate) fn snapshot_files(snapshot: &Path) -> Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    let mut folders = vec![snapshot.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(HubError::io(&folder))? {
            let path = entry.map_err(HubError::io(&folder))?.path();
            let metadata = path.metadata().map_err(HubError::io(&path))?;
            if metadata.is_dir() {
                folders.push(path);
            } else if let Ok(name) = path.strip_prefix(snapshot) {
                files.push((name.to_string_lossy().replace('\\', "/"), metadata.len()));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Makes `snapshot/name` a link to the blob.
pub(crate) fn link(snapshot: &Path, name: &str, hash: &str) -> Result<()> {
    let pointer = snapshot.join(name);
    if let Some(folder) = pointer.parent() {
        std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
    }
    // Relative, so that the cache can be moved: out of snapshots/COMMIT and of the folders in the name.
    let up = "../".repeat(2 + name.matches('/').count());
    let target = PathBuf::from(format!("{up}blobs/{hash}"));
    if std::fs::read_link(&pointer).is_ok_and(|there| there == target) {
        return Ok(());
    }
    match std::fs::remove_file(&pointer) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(HubError::io(&pointer)(error)),
        _ => {}
    }
    make_link(&target, &pointer).map_err(HubError::io(&pointer))
}

#[cfg(unix)]
fn make_link(target: &Path, pointer: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, pointer)
}

/// Links need rights that users of Windows do not have: a copy, as the hub's other tools do.
#[cfg(not(unix))]
fn make_link(target: &Path, pointer: &Path) -> std::io::Result<()> {
    let blob = pointer.parent().map(|folder| folder.join(target)).unwrap_or_else(|| target.to_path_buf());
    std::fs::copy(blob, pointer).map(drop)
}

/// Writes `refs/REVISION`.
pub(crate) fn write_ref(folder: &Path, revision: &str, commit: &str) -> Result<()> {
    let path = folder.join("refs").join(revision);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
    }
    std::fs::write(&path, commit).map_err(HubError::io(&path))
}
