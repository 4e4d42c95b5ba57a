//! Files that are written: which kind, whether they can be, and whole or not at all.

use std::fs;
use std::io::Write;
use std::path::Path;

use tempfile::TempPath;

use crate::error::{CliError, Result};

/// The endings that are known, for messages.
const ENDINGS: &str = "use .png, .jpg or .webp for a still, .mp4 for a clip, .txt or - for text";

/// The path that stands for standard output.
pub const STDOUT: &str = "-";

/// What a file's ending asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One picture.
    Still,
    /// Frames and sound.
    Clip,
    /// Text; `-` is standard output.
    Text,
}

/// Prints a report to standard output: as one JSON object, or in its own words.
pub fn print<T: serde::Serialize>(json: bool, report: &T, words: impl FnOnce(&T) -> String) -> Result<()> {
    let text = match json {
        true => serde_json::to_string_pretty(report).map_err(CliError::failed)? + "\n",
        false => words(report),
    };
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

/// The kind of output that a path asks for by its ending.
pub fn kind(path: &Path) -> Result<Kind> {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "png" | "jpg" | "jpeg" | "webp" => Ok(Kind::Still),
        "mp4" => Ok(Kind::Clip),
        "txt" => Ok(Kind::Text),
        "" if path == Path::new(STDOUT) => Ok(Kind::Text),
        "" => Err(CliError::usage(format!("output \"{}\" has no ending: {ENDINGS}", path.display()))),
        _ => Err(CliError::usage(format!("output \"{}\" has the unknown ending .{ending}: {ENDINGS}", path.display()))),
    }
}

/// Fails now, before any work, when a file could not be written later.
pub fn check(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(CliError::Failed(format!("output \"{}\" is a folder: name a file", path.display())));
    }
    temporary(path).map(drop)
}

/// Opens what a stream goes to, standard output or a file that grows under its own name; the file of a stream that failed does not stay.
pub fn live<T, E>(path: &Path, write: impl FnOnce(Box<dyn Write + Send>) -> Outcome<T, E>) -> Result<Outcome<T, E>> {
    if path == Path::new(STDOUT) {
        return Ok(write(Box::new(std::io::stdout())));
    }
    let file = fs::File::create(path).map_err(|error| cannot_write(path, &error))?;
    let result = write(Box::new(file));
    if result.is_err() && path.is_file() {
        // The error that ended it is told.
        let _ = fs::remove_file(path);
    }
    Ok(result)
}

/// The result of whoever writes a stream.
type Outcome<T, E> = std::result::Result<T, E>;

/// An empty file beside `path`, removed unless it is renamed.
fn temporary(path: &Path) -> Result<TempPath> {
    let folder = folder(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".borealis-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any other new file: the user's umask takes away what it wants.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let file = builder.tempfile_in(folder).map_err(|error| cannot_write(path, &error))?;
    Ok(file.into_temp_path())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> CliError {
    let folder = folder(path);
    let why = match error.kind() {
        std::io::ErrorKind::NotFound => format!("folder \"{}\" does not exist: create it", folder.display()),
        std::io::ErrorKind::NotADirectory => format!("\"{}\" is not a folder: choose another place", folder.display()),
        std::io::ErrorKind::StorageFull => "the disk is full: free some space".to_string(),
        // tempfile adds the name of the temporary file, which says nothing to the user.
        _ => format!("{}: choose another place", error.to_string().split(" at path").next().unwrap_or("no access")),
    };
    CliError::Failed(format!("cannot write \"{}\": {why}", path.display()))
}

/// Writes `bytes` to `path` in one move.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary(path)?;
    fs::write(&temporary, bytes).map_err(|error| cannot_write(path, &error))?;
    temporary.persist(path).map_err(|error| cannot_write(path, &error.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_choose_the_kind() {
        assert_eq!(kind(Path::new("a.MP4")).ok(), Some(Kind::Clip));
        assert_eq!(kind(Path::new("a.b/c.jpeg")).ok(), Some(Kind::Still));
        let message = kind(Path::new("ball.avi")).err().map(|e| e.to_string());
        let wanted = "output \"ball.avi\" has the unknown ending .avi: use .png, .jpg or .webp for a still, .mp4 for a clip, .txt or - for text";
        assert_eq!(message.as_deref(), Some(wanted));
    }

    #[test]
    fn whole_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_whole(&path, b"1").unwrap();
        write_whole(&path, b"2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        let message = check(&folder.path().join("no/b.png")).unwrap_err().to_string();
        assert!(message.ends_with("does not exist: create it"), "{message}");
        let message = check(&path.join("b.png")).unwrap_err().to_string();
        assert!(message.ends_with("is not a folder: choose another place"), "{message}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
