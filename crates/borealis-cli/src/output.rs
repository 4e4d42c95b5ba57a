//! Where pictures and clips go: one file for each variant, there whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use borealis_media::{Frame, Mp4Writer, VideoSpec, write_image};
use tempfile::TempPath;

use crate::error::{CliError, Result};

/// Frames per second of every clip.
pub const FPS: u32 = 24;
/// The endings that are known, for messages.
const ENDINGS: &str = "use .png, .jpg or .webp for a still, .mp4 for a clip";

/// What a file's ending asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One picture.
    Still,
    /// Frames and sound.
    Clip,
}

/// The kind of output that a path asks for by its ending.
pub fn kind(path: &Path) -> Result<Kind> {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "png" | "jpg" | "jpeg" | "webp" => Ok(Kind::Still),
        "mp4" => Ok(Kind::Clip),
        "" => Err(CliError::usage(format!("output \"{}\" has no ending: {ENDINGS}", path.display()))),
        _ => Err(CliError::usage(format!("output \"{}\" has the unknown ending .{ending}: {ENDINGS}", path.display()))),
    }
}

/// The path of each variant: the path itself, or `ball-1.mp4`, `ball-2.mp4`, ... for several.
pub fn paths(path: &Path, variants: usize) -> Vec<PathBuf> {
    if variants == 1 {
        return vec![path.to_path_buf()];
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    (1..=variants).map(|n| path.with_file_name(format!("{stem}-{n}.{ending}"))).collect()
}

/// Fails now, before any work, when a file could not be written later.
pub fn check(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(CliError::Failed(format!("output \"{}\" is a folder: name a file", path.display())));
    }
    temporary(path).map(drop)
}

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

/// Size and length of the output, as the engine decided them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames of each variant.
    pub frames: usize,
    /// Samples per second; 0 = silent.
    pub sample_rate: u32,
}

/// The files of all variants while they grow. Dropped before [`Files::finish`], they leave nothing.
pub struct Files {
    kind: Kind,
    paths: Vec<PathBuf>,
    sinks: Vec<Sink>,
}

/// The file of one variant.
enum Sink {
    /// A picture, kept until it is finished.
    Still(Option<Frame>),
    /// A clip, written beside its place.
    Clip(Box<Mp4Writer>),
}

impl Files {
    /// One file for each path; nothing is written yet.
    pub fn new(kind: Kind, paths: Vec<PathBuf>) -> Self {
        Self { kind, paths, sinks: Vec::new() }
    }

    /// Opens the files.
    pub fn open(&mut self, shape: Shape) -> Result<()> {
        let sink = |path: &PathBuf| match self.kind {
            Kind::Still => Ok(Sink::Still(None)),
            Kind::Clip => {
                let mut spec = VideoSpec::new(shape.width, shape.height, FPS);
                if shape.sample_rate > 0 {
                    spec = spec.with_audio(shape.sample_rate);
                }
                Mp4Writer::create(path, spec).map(|writer| Sink::Clip(Box::new(writer))).map_err(CliError::failed)
            }
        };
        self.sinks = self.paths.iter().map(sink).collect::<Result<_>>()?;
        Ok(())
    }

    /// The next frame of a variant; a picture keeps the last one.
    pub fn push_frame(&mut self, variant: usize, frame: Frame) -> Result<()> {
        match self.sink(variant)? {
            Sink::Clip(writer) => writer.push_owned(frame).map_err(CliError::failed),
            Sink::Still(kept) => {
                *kept = Some(frame);
                Ok(())
            }
        }
    }

    /// The next samples of a variant.
    pub fn push_audio(&mut self, variant: usize, samples: &[f32]) -> Result<()> {
        match self.sink(variant)? {
            Sink::Clip(writer) => writer.push_audio(samples).map_err(CliError::failed),
            Sink::Still(_) => Ok(()),
        }
    }

    /// Gives the files their names.
    pub fn finish(self) -> Result<()> {
        for (path, sink) in self.paths.iter().zip(self.sinks) {
            match sink {
                Sink::Clip(writer) => writer.finish().map(drop).map_err(CliError::failed)?,
                Sink::Still(Some(frame)) => write_image(path, &frame).map_err(CliError::failed)?,
                Sink::Still(None) => return Err(broken("no picture")),
            }
        }
        Ok(())
    }

    fn sink(&mut self, variant: usize) -> Result<&mut Sink> {
        self.sinks.get_mut(variant).ok_or_else(|| broken("a variant that was not asked for"))
    }
}

/// The engine broke its own rules.
fn broken(what: &str) -> CliError {
    CliError::Failed(format!("the engine sent {what}: this is a fault of borealis, please report it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_choose_the_kind() {
        assert_eq!(kind(Path::new("a.MP4")).ok(), Some(Kind::Clip));
        assert_eq!(kind(Path::new("a.b/c.jpeg")).ok(), Some(Kind::Still));
        let message = kind(Path::new("ball.avi")).err().map(|e| e.to_string());
        let wanted = "output \"ball.avi\" has the unknown ending .avi: use .png, .jpg or .webp for a still, .mp4 for a clip";
        assert_eq!(message.as_deref(), Some(wanted));
    }

    #[test]
    fn variants_are_numbered() {
        assert_eq!(paths(Path::new("out/ball.mp4"), 1), [Path::new("out/ball.mp4")]);
        assert_eq!(paths(Path::new("out/ball.mp4"), 2), [Path::new("out/ball-1.mp4"), Path::new("out/ball-2.mp4")]);
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
