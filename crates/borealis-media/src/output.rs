//! Files that appear under their name only when they are complete.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::error::{MediaError, Result};

/// A temporary file beside its target; dropping it removes it.
pub(crate) struct Pending {
    temp: TempPath,
    target: PathBuf,
}

impl Pending {
    /// Creates the temporary file; fails when the folder is missing or not writable.
    pub(crate) fn create(target: &Path) -> Result<(Pending, File)> {
        let fail = |e| MediaError::write(target, e);
        if target.is_dir() || target.file_name().is_none() {
            return Err(fail(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let folder = match target.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".borealis-").suffix(".part");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As any program would create the file: the user's umask decides, not tempfile's 0600.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let (file, temp) = builder.tempfile_in(folder).map_err(|e| fail(bare(e)))?.into_parts();
        Ok((Pending { temp, target: target.to_owned() }, file))
    }

    pub(crate) fn temp_path(&self) -> &Path {
        &self.temp
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Renames the temporary file to the target.
    pub(crate) fn commit(self) -> Result<()> {
        let Pending { temp, target } = self;
        temp.persist(&target).map_err(|e| MediaError::write(&target, bare(e.error)))
    }
}

/// tempfile's errors name the folder of the temporary file; the target is what the user knows.
fn bare(error: io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::from(error.kind()), io::Error::from_raw_os_error)
}

/// Writes `bytes` to `path` by way of a temporary file.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let (pending, mut file) = Pending::create(path)?;
    file.write_all(bytes).and_then(|()| file.flush()).map_err(|e| MediaError::write(path, e))?;
    drop(file);
    pending.commit()
}
