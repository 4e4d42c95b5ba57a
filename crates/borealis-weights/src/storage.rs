//! Where a checkpoint's bytes are: a folder, or files embedded in the binary.
#![allow(unsafe_code)]

use crate::{Result, WeightsError};
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Files embedded in the binary: (path with forward slashes, bytes).
pub(crate) type Embedded = &'static [(&'static str, &'static [u8])];

/// Origin of a checkpoint's files.
#[derive(Debug)]
pub(crate) enum Storage {
    /// An existing folder, as an absolute path without links, and the folder that links may not lead out of.
    Folder(PathBuf, PathBuf),
    /// Inside the binary.
    Embedded(Embedded),
    /// In memory, by path with forward slashes.
    Memory(BTreeMap<String, Arc<[u8]>>),
}

/// The bytes of one file.
pub(crate) enum Bytes {
    Owned(Vec<u8>),
    Mapped(memmap2::Mmap),
    Static(&'static [u8]),
    Shared(Arc<[u8]>),
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Self::Owned(_) => "owned",
            Self::Mapped(_) => "mapped",
            Self::Static(_) => "embedded",
            Self::Shared(_) => "in memory",
        };
        write!(f, "{} bytes, {kind}", self.len())
    }
}

impl Bytes {
    /// Gives the memory in which the system keeps this part of a mapped file back to it. The next look at the part reads the file again.
    pub fn release(&self, part: Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self
            && !part.is_empty()
        {
            // SAFETY: the mapping is of a file, read-only and never written: its pages come back with the same bytes (by the contract of `map`).
            let advised =
                unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, part.start, part.len()) };
            // A system that keeps the memory does no harm.
            let _ = advised;
        }
        #[cfg(not(unix))]
        let _ = part;
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(v) => v,
            Self::Mapped(m) => m,
            Self::Static(s) => s,
            Self::Shared(s) => s,
        }
    }
}

impl Storage {
    /// The folder at `path`, which must exist.
    pub fn folder(path: &Path) -> Result<Self> {
        let not_a_folder = || WeightsError::NotAFolder { path: path.to_path_buf() };
        let root = path.canonicalize().map_err(|_| not_a_folder())?;
        if !root.is_dir() {
            return Err(not_a_folder());
        }
        // In the hub's cache a snapshot's files are links to `blobs/` beside `snapshots/`.
        let repository = root.parent().filter(|p| p.ends_with("snapshots")).and_then(Path::parent);
        let bounds = repository.filter(|r| r.join("blobs").is_dir()).unwrap_or(&root).to_path_buf();
        Ok(Self::Folder(root, bounds))
    }

    /// For messages: the folder's path, or `embedded model`.
    pub fn location(&self) -> String {
        match self {
            Self::Folder(root, _) => root.display().to_string(),
            Self::Embedded(_) => "embedded model".into(),
            Self::Memory(_) => "model in memory".into(),
        }
    }

    /// Reads a small file whole; `None` when there is none. Refuses more than `limit` bytes.
    pub fn read(&self, file: &str, limit: u64) -> Result<Option<Bytes>> {
        match self.find(file)? {
            Some(Found::Path(path)) => {
                let too_large = |size| WeightsError::TooLarge { file: file.into(), size, limit };
                let size = path.metadata().map_err(|e| self.io(file, e))?.len();
                if size > limit {
                    return Err(too_large(size));
                }
                let bytes = std::fs::read(&path).map_err(|e| self.io(file, e))?;
                Ok(Some(Bytes::Owned(bytes)))
            }
            Some(Found::Bytes(bytes)) => Ok(Some(bytes)),
            None => Ok(None),
        }
    }

    /// Maps a large file; `None` when there is none.
    ///
    /// The file must not change while it is mapped (the usual contract of mapped weights: another process that truncates it
    /// makes the system end this one).
    pub fn map(&self, file: &str) -> Result<Option<Bytes>> {
        match self.find(file)? {
            Some(Found::Path(path)) => {
                let opened = File::open(&path).map_err(|e| self.io(file, e))?;
                // SAFETY: the mapping is read-only and private to this value; the bytes are plain `u8`s that are bounds-checked on every
                // use. A concurrent writer could change them under us: documented above as the caller's contract.
                let map = unsafe { memmap2::Mmap::map(&opened) }.map_err(|e| self.io(file, e))?;
                Ok(Some(Bytes::Mapped(map)))
            }
            Some(Found::Bytes(bytes)) => Ok(Some(bytes)),
            None => Ok(None),
        }
    }

    /// Whether there is something by that name.
    pub fn exists(&self, file: &str) -> bool {
        match self {
            Self::Folder(root, _) => root.join(file).symlink_metadata().is_ok(),
            Self::Embedded(files) => files.iter().any(|(name, _)| *name == file),
            Self::Memory(files) => files.contains_key(file),
        }
    }

    /// Finds a plain file that lies inside the folder even after links are followed.
    fn find(&self, file: &str) -> Result<Option<Found>> {
        let outside = |problem: &str| WeightsError::Outside { file: file.into(), problem: problem.into() };
        let plain = Path::new(file).components().all(|c| matches!(c, Component::Normal(_)));
        if file.is_empty() || !plain || file.contains(['\\', '\0']) {
            return Err(outside("not a plain relative path"));
        }
        match self {
            Self::Embedded(files) => {
                Ok(files.iter().find(|(name, _)| *name == file).map(|(_, b)| Found::Bytes(Bytes::Static(b))))
            }
            Self::Memory(files) => Ok(files.get(file).map(|b| Found::Bytes(Bytes::Shared(b.clone())))),
            Self::Folder(root, bounds) => {
                let path = root.join(file);
                if let Err(e) = path.symlink_metadata() {
                    return if absent(&e) { Ok(None) } else { Err(self.io(file, e)) };
                }
                let real = path.canonicalize().map_err(|e| self.io(file, e))?;
                if !real.starts_with(bounds) {
                    return Err(outside("a link that leads out of the folder"));
                }
                // Also keeps us from waiting on a pipe or reading a device without end.
                if !real.metadata().map_err(|e| self.io(file, e))?.is_file() {
                    return Err(outside("not a plain file"));
                }
                Ok(Some(Found::Path(real)))
            }
        }
    }

    fn io(&self, file: &str, source: std::io::Error) -> WeightsError {
        WeightsError::Io { location: self.location(), file: file.into(), source }
    }
}

fn absent(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

enum Found {
    Path(PathBuf),
    Bytes(Bytes),
}
