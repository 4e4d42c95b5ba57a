//! Media of strangers are decoded in a process of their own: `borealis media` reads one job from its standard input, writes one answer, and ends.
//!
//! What comes out is ours: a PNG, or an MP4 at 24 frames per second, that our own code has written. The process has no more memory and time than it
//! needs, no files, no network and no programs; whatever happens in it, and whatever a decoder says, the client reads one of a few sentences of ours.

mod child;
mod seal;
mod wire;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

pub use child::run as media_main;

use crate::config::ProcessSpec;
use crate::error::{ApiError, ApiErrorKind};

/// Media processes at once.
const PROCESSES: usize = 2;
/// Longest answer.
const MAX_ANSWER: u64 = 256 << 20;
/// A process that has not answered by then is ended.
const WALL: Duration = Duration::from_secs(60);

/// What a media process is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Task {
    /// Nothing but a look at its own locks.
    Check,
    /// A picture as a PNG of at most 2048 pixels a side.
    Picture,
    /// A clip as an MP4 at 24 frames per second, of at most 720 lines.
    Clip,
    /// The first so many frames of a clip, as [`Task::Clip`].
    Cut {
        /// At least 1.
        frames: u32,
    },
    /// A frame of a clip as a PNG: at that second, or the last one.
    Frame {
        /// `None`: the last.
        second: Option<f64>,
    },
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Readied {
    /// The file.
    pub bytes: Bytes,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Seconds; 0 for pictures.
    pub seconds: f64,
}

/// Head of an answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Head {
    /// Why not; one of our own sentences.
    #[serde(default)]
    refused: Option<String>,
    #[serde(default)]
    width: u32,
    #[serde(default)]
    height: u32,
    #[serde(default)]
    seconds: f64,
    /// [`Task::Check`]: what can be reached that should not be.
    #[serde(default)]
    open: Vec<String>,
}

/// Starts media processes, a few at a time.
#[derive(Clone)]
pub(crate) struct MediaReader {
    program: Option<Arc<ProcessSpec>>,
    room: Arc<Semaphore>,
}

impl MediaReader {
    /// `None` reads in this process, without limits: for tests.
    pub fn new(program: Option<ProcessSpec>) -> Self {
        Self { program: program.map(Arc::new), room: Arc::new(Semaphore::new(PROCESSES)) }
    }

    /// Starts one process to see whether they work and are locked, and tells the log.
    pub async fn check(&self) {
        let Some(program) = &self.program else { return };
        match tokio::time::timeout(WALL, ask(program, Task::Check, &Bytes::new())).await {
            Ok(Ok((Head { refused: None, open, .. }, _))) if open.is_empty() => {
                tracing::info!("media of clients are read in processes without files, network and programs");
            }
            Ok(Ok((Head { refused: None, open, .. }, _))) => {
                let open = open.join(", ");
                tracing::warn!(%open, "media processes are limited in memory and time alone: this system has no Landlock or no seccomp");
            }
            _ => tracing::error!("media processes do not work here: pictures and clips of clients will be refused"),
        }
    }

    /// Does a task. `field` is for the message.
    pub async fn read(&self, task: Task, bytes: Bytes, field: &str) -> Result<Readied, ApiError> {
        let _place = self.room.acquire().await.map_err(ApiError::internal)?;
        let answer = match &self.program {
            Some(program) => match tokio::time::timeout(WALL, ask(program, task, &bytes)).await {
                Ok(Ok(answer)) => Some(answer),
                // Killed by its limits, or crashed: the input is to blame.
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a media process ended without an answer");
                    None
                }
                Err(_) => None,
            },
            None => tokio::task::spawn_blocking(move || child::perform(task, &bytes)).await.ok(),
        };
        let (head, bytes) = answer.unwrap_or_else(|| (child::refusal(task), Bytes::new()));
        match head.refused {
            Some(reason) => Err(ApiError::invalid(field, reason)),
            None => Ok(Readied { bytes, width: head.width, height: head.height, seconds: head.seconds }),
        }
    }
}

/// One process, one question, one answer.
async fn ask(program: &ProcessSpec, task: Task, bytes: &Bytes) -> std::io::Result<(Head, Bytes)> {
    let mut command = Command::new(&program.program);
    command
        .args(&program.args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    // The libraries may lie where only this variable says.
    command.envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)));
    let mut child = command.spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let question = wire::head(&task, bytes.len() as u64).map_err(std::io::Error::other)?;
    let write = async {
        if let Some(mut pipe) = stdin {
            // A process that has refused early does not read to the end.
            let _ = async {
                pipe.write_all(&question).await?;
                pipe.write_all(bytes).await?;
                pipe.shutdown().await
            }
            .await;
        }
    };
    let read = async {
        let mut answer = Vec::new();
        if let Some(pipe) = stdout {
            pipe.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        }
        Ok::<_, std::io::Error>(answer)
    };
    let ((), answer) = tokio::join!(write, read);
    child.wait().await?;
    wire::split(answer?.into())
}

/// The API's own limit of what is handed to a media process.
pub(crate) fn check_size(bytes: &Bytes, limit: u64, field: &str) -> Result<(), ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::invalid(field, "the file is empty: give one with something in it"));
    }
    if bytes.len() as u64 > limit {
        let message = format!("the file has {} bytes, at most {limit} are allowed: give a smaller one", bytes.len());
        return Err(ApiError { field: Some(field.into()), ..ApiError::new(ApiErrorKind::InvalidArgument, message) });
    }
    Ok(())
}
