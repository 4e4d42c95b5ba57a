//! Where media come from, how much of them is allowed, and the readers that keep to it.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{MediaError, Result};

/// A file, or the bytes of one.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A file on this machine.
    Path(&'a Path),
    /// The bytes of a file; `name` is for messages.
    Bytes {
        /// Shown in errors.
        name: &'a str,
        /// The whole file.
        data: &'a [u8],
    },
}

impl Source<'_> {
    /// The name for messages.
    pub fn name(&self) -> String {
        match self {
            Source::Path(path) => path.display().to_string(),
            Source::Bytes { name, .. } => (*name).to_owned(),
        }
    }

    /// Opens the source; refuses what is no plain file (a pipe could block for ever) and what is too large.
    pub(crate) fn open(&self, limits: &Limits) -> Result<Guarded> {
        let name = self.name();
        let too_large =
            |value: u64| MediaError::Limit { name: name.clone(), what: "bytes", value, limit: limits.max_bytes };
        let (stream, len): (Box<dyn ReadSeek>, u64) = match self {
            Source::Path(path) => {
                let read = |source| MediaError::Read { name: name.clone(), source };
                let meta = std::fs::metadata(path).map_err(read)?;
                if !meta.is_file() {
                    return Err(read(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file")));
                }
                if meta.len() > limits.max_bytes {
                    return Err(too_large(meta.len()));
                }
                (Box::new(File::open(path).map_err(read)?), meta.len())
            }
            Source::Bytes { data, .. } => {
                let len = data.len() as u64;
                if len > limits.max_bytes {
                    return Err(too_large(len));
                }
                (Box::new(Cursor::new(data.to_vec())), len)
            }
        };
        if len == 0 {
            return Err(MediaError::Corrupt { name, what: "the file is empty".to_owned() });
        }
        Ok(Guarded { stream, left: len.saturating_mul(16).saturating_add(64 << 20), deadline: limits.deadline() })
    }
}

/// Bounds for media that strangers give; each is checked before memory is taken for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Longest clip or sound that is read, seconds.
    pub max_seconds: f64,
    /// Most pixels of one picture or frame.
    pub max_pixels: u64,
    /// Largest file, bytes.
    pub max_bytes: u64,
    /// Most streams in a container.
    pub max_streams: u32,
    /// Most frames that one call decodes or returns.
    pub max_frames: u64,
    /// Most bytes of decoded frames that one call returns.
    pub max_decoded_bytes: u64,
    /// Longest time that one call may take.
    pub max_wall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_seconds: 600.0,
            max_pixels: 8192 * 8192,
            max_bytes: 1 << 30,
            max_streams: 16,
            max_frames: 36_000,
            max_decoded_bytes: 2 << 30,
            max_wall: Duration::from_secs(120),
        }
    }
}

impl Limits {
    pub(crate) fn deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.max_wall).unwrap_or(now + Duration::from_secs(86_400))
    }

    pub(crate) fn too_slow(&self, name: &str) -> MediaError {
        MediaError::TooSlow { name: name.to_owned(), seconds: self.max_wall.as_secs() }
    }

    pub(crate) fn check_pixels(&self, name: &str, width: u64, height: u64) -> Result<()> {
        let value = width.saturating_mul(height);
        if value > self.max_pixels {
            return Err(MediaError::Limit { name: name.to_owned(), what: "pixels", value, limit: self.max_pixels });
        }
        Ok(())
    }

    pub(crate) fn check_seconds(&self, name: &str, seconds: f64) -> Result<()> {
        if seconds > self.max_seconds {
            return Err(MediaError::Limit {
                name: name.to_owned(),
                what: "seconds",
                value: seconds.ceil() as u64,
                limit: self.max_seconds as u64,
            });
        }
        Ok(())
    }
}

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// A reader that ends with an error when a parser reads the file over and over, or for too long.
pub(crate) struct Guarded {
    stream: Box<dyn ReadSeek>,
    left: u64,
    pub(crate) deadline: Instant,
}

impl Guarded {
    /// The first bytes of the file, which is rewound.
    pub(crate) fn magic(&mut self) -> io::Result<[u8; 12]> {
        let mut head = [0; 12];
        let mut have = 0;
        while have < head.len() {
            match self.stream.read(&mut head[have..])? {
                0 => break,
                n => have += n,
            }
        }
        self.stream.rewind()?;
        Ok(head)
    }
}

impl Read for Guarded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || Instant::now() > self.deadline {
            return Err(io::Error::other("the budget for reading this file is used up"));
        }
        let n = self.stream.read(buf)?;
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}

impl Seek for Guarded {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        self.stream.seek(pos)
    }
}
