//! What can go wrong with media. Every message is one line that names the thing and the remedy.

use std::io;
use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, MediaError>;

/// Errors of reading and writing media.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The file could not be opened or read.
    #[error("cannot read \"{name}\": {source}; check the path and its permissions")]
    Read {
        /// The file.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Not a kind of file that is read here.
    #[error("\"{name}\" is not a {wanted} that can be read ({what}); give {remedy}")]
    Unsupported {
        /// The file.
        name: String,
        /// "picture", "clip", "sound".
        wanted: &'static str,
        /// What was found.
        what: String,
        /// What to give instead.
        remedy: &'static str,
    },
    /// The data contradict themselves or cannot be decoded.
    #[error("\"{name}\" is damaged: {what}; export or copy it again")]
    Corrupt {
        /// The file.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The file ends before what its header promises.
    #[error("\"{name}\" is cut short: {got:.2} of {expected:.2} seconds are there; copy it again")]
    Truncated {
        /// The file.
        name: String,
        /// Seconds that could be decoded.
        got: f64,
        /// Seconds that the header promises.
        expected: f64,
    },
    /// A bound of [`crate::Limits`] is exceeded.
    #[error("\"{name}\" has {value} {what}, the limit is {limit}; give a smaller one")]
    Limit {
        /// The file.
        name: String,
        /// "pixels", "bytes", "seconds", "frames", "streams".
        what: &'static str,
        /// What the file has.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Reading took longer than [`crate::Limits::max_wall`].
    #[error("\"{name}\" was not read within {seconds} seconds; give a shorter or simpler file")]
    TooSlow {
        /// The file.
        name: String,
        /// The bound.
        seconds: u64,
    },
    /// The file has no track of the kind that is needed.
    #[error("\"{name}\" has no {what} track; give a file that has one")]
    NoTrack {
        /// The file.
        name: String,
        /// "video" or "audio".
        what: &'static str,
    },
    /// A parameter of a writer or reader is out of range.
    #[error("{field} = {value} is not possible: {remedy}")]
    Parameter {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What to give.
        remedy: &'static str,
    },
    /// A frame whose buffer does not fit its size, or that does not fit the clip.
    #[error("frame {index}: {what}")]
    Frame {
        /// Number of the frame from 0.
        index: u64,
        /// What is wrong.
        what: String,
    },
    /// No encoder could be opened.
    #[error("no video encoder could be opened ({tried}); install an FFmpeg with libx264, or name one that is there")]
    Encoder {
        /// The encoders that were tried and what each said.
        tried: String,
    },
    /// Writing the output failed.
    #[error("cannot write \"{}\": {source}; {remedy}", path.display())]
    Write {
        /// The target.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// FFmpeg refused a step that should work.
    #[error("{step} failed: {detail}; please report this with the version of FFmpeg")]
    Ffmpeg {
        /// The step.
        step: &'static str,
        /// FFmpeg's words.
        detail: String,
    },
}

impl MediaError {
    /// A failed write to `path` with the remedy that fits the system's error.
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        let remedy = match source.kind() {
            io::ErrorKind::NotFound => "create the folder first, or choose another place with -o",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "choose a folder that you may write to"
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some space on the disk, or choose another place"
            }
            io::ErrorKind::IsADirectory => "give the name of a file, not of a folder",
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => "the reader went away; start again",
            io::ErrorKind::InvalidFilename => "choose a shorter name",
            _ => "check the place and try again",
        };
        MediaError::Write { path: path.to_owned(), source, remedy }
    }

    /// A step of FFmpeg that failed with `error`.
    pub(crate) fn ffmpeg(step: &'static str, error: ffmpeg_next::Error) -> Self {
        MediaError::Ffmpeg { step, detail: error.to_string() }
    }

    /// True when the user's disk or folder is the cause, not the media.
    pub fn is_write(&self) -> bool {
        matches!(self, MediaError::Write { .. })
    }
}
