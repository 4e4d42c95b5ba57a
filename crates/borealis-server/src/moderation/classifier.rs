//! The hook for a classifier of pictures: a program of the operator's.
//!
//! For each picture the program is started once with a PNG on its standard input. It prints one line of JSON, `{"allowed": true}` or
//! `{"allowed": false, "category": "...", "reason": "..."}`, and exits with 0. A program that fails, or says nothing within its time, blocks: a broken filter
//! must not be an open one.

use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::Blocked;

/// Most that a classifier may print.
const MAX_ANSWER: u64 = 64 << 10;

/// How the classifier is started.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Seconds that it may take for a picture; 20 when it is not given.
    #[serde(default = "twenty")]
    pub timeout_seconds: u64,
    /// Frames of a clip that it sees, evenly spaced; 8 when it is not given.
    #[serde(default = "eight")]
    pub frames: usize,
}

fn twenty() -> u64 {
    20
}

fn eight() -> usize {
    8
}

#[derive(Deserialize)]
struct Answer {
    allowed: bool,
    #[serde(default)]
    category: String,
    #[serde(default)]
    reason: String,
}

/// Asks the program about one picture.
pub(super) async fn classify(config: &ClassifierConfig, png: &[u8]) -> Result<(), Blocked> {
    let broken = |what: String| Blocked {
        category: "classifier".into(),
        reason: format!("the operator's image classifier {what}, so nothing passes it"),
    };
    let limit = Duration::from_secs(config.timeout_seconds);
    let answer = tokio::time::timeout(limit, run(config, png)).await;
    let answer = answer.map_err(|_| broken(format!("did not answer in {} s", config.timeout_seconds)))?;
    let answer = answer.map_err(|e| {
        tracing::warn!(error = %e, "the image classifier failed");
        broken("failed".into())
    })?;
    if answer.allowed {
        return Ok(());
    }
    let or = |text: String, other: &str| if text.is_empty() { other.to_string() } else { text };
    Err(Blocked {
        category: or(answer.category, "classifier"),
        reason: or(answer.reason, "the operator's image classifier rejected a picture"),
    })
}

async fn run(config: &ClassifierConfig, png: &[u8]) -> std::io::Result<Answer> {
    let (program, arguments) = config.command.split_first().ok_or(std::io::ErrorKind::NotFound)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let write = async {
        if let Some(mut pipe) = stdin {
            // A program that has seen enough may close its end early.
            let _ = pipe.write_all(png).await;
        }
    };
    let read = async {
        let mut text = Vec::new();
        if let Some(pipe) = stdout {
            pipe.take(MAX_ANSWER).read_to_end(&mut text).await?;
        }
        Ok::<_, std::io::Error>(text)
    };
    let ((), text) = tokio::join!(write, read);
    let text = text?;
    let status = child.wait().await?;
    if !status.success() {
        return Err(std::io::Error::other(format!("it ended with {status}")));
    }
    serde_json::from_slice(&text).map_err(std::io::Error::other)
}
