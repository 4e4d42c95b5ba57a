//! `--json`: one event per line on standard output, for programs. The schema stands in README.md.

use std::io::Write;
use std::path::Path;

use borealis_engine::{CopyTotals, Stage, Usage};
use serde::Serialize;

use crate::error::{CliError, Result};

/// One line of `--json`. Fields are added in later versions, never renamed or removed.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line<'a> {
    /// The request was accepted.
    Started {
        width: u32,
        height: u32,
        fps: u32,
        frames: usize,
        sample_rate: u32,
        variants: usize,
        seed: u64,
        memory_bytes: u64,
    },
    /// How far it is; several a second at most.
    Progress { stage: &'static str, done: usize, total: usize, per_second: Option<f64>, seconds_left: Option<f64> },
    /// More text.
    Text { variant: usize, text: &'a str },
    /// A file is there, whole.
    File { variant: usize, path: &'a Path },
    /// The last line when all went well.
    Done {
        seconds: f64,
        first_frame_seconds: f64,
        encode_seconds: f64,
        finish_seconds: f64,
        /// Most memory that this process ever had; `None` where the system does not say.
        peak_memory_bytes: Option<u64>,
        usage: UsageLine,
    },
    /// The last line when it did not.
    Error { message: String, exit_code: u8 },
}

/// [`Usage`] in JSON.
#[derive(Serialize)]
pub struct UsageLine {
    prompt_tokens: usize,
    generated_tokens: usize,
    positions: usize,
    steps: usize,
    window: usize,
    accepted_length: f64,
    bytes_per_step: u64,
    operations_per_step: u64,
    positions_per_second: Option<f64>,
    queued_seconds: f64,
    encode_seconds: f64,
    prefill_seconds: f64,
    generate_seconds: f64,
    decode_seconds: f64,
    /// Only when experts are copied to the device on demand.
    #[serde(skip_serializing_if = "Option::is_none")]
    experts: Option<ExpertLine>,
}

/// Experts that a layer of a step asked for.
#[derive(Serialize)]
pub struct ExpertLine {
    hits: u64,
    misses: u64,
    hit_rate: f64,
    copied_bytes: u64,
    copy_seconds: f64,
}

impl ExpertLine {
    fn of(copies: &CopyTotals) -> Option<Self> {
        let CopyTotals { hits, misses, bytes, took } = *copies;
        let hit_rate = copies.hit_rate()?;
        Some(Self { hits, misses, hit_rate, copied_bytes: bytes, copy_seconds: took.as_secs_f64() })
    }
}

impl From<&Usage> for UsageLine {
    fn from(usage: &Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            generated_tokens: usage.generated_tokens,
            positions: usage.positions,
            steps: usage.steps,
            window: usage.window,
            accepted_length: usage.accepted_length,
            bytes_per_step: usage.bytes_per_step,
            operations_per_step: usage.operations_per_step,
            positions_per_second: rate(usage.positions, usage.generate_seconds),
            queued_seconds: usage.queued_seconds,
            encode_seconds: usage.encode_seconds,
            prefill_seconds: usage.prefill_seconds,
            generate_seconds: usage.generate_seconds,
            decode_seconds: usage.decode_seconds,
            experts: ExpertLine::of(&usage.copies),
        }
    }
}

/// Most bytes of memory that this process ever had, on Linux.
pub fn peak_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Units per second; `None` where there was no time to speak of.
pub fn rate(units: usize, seconds: f64) -> Option<f64> {
    (units > 0 && seconds > 1e-6).then(|| units as f64 / seconds)
}

/// The name of a stage in events and on the progress bar.
pub fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Queued => "queued",
        Stage::Encode => "encode",
        Stage::Prefill => "prefill",
        Stage::Generate => "generate",
        Stage::Decode => "decode",
    }
}

/// Writes one line and flushes it.
pub fn write(line: &Line<'_>) -> Result<()> {
    let mut text = serde_json::to_string(line).map_err(CliError::failed)?;
    text.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// The last line of a command that failed.
pub fn failed(error: &CliError) {
    let line = Line::Error { message: error.to_string(), exit_code: error.exit_code() };
    // The exit code and standard error still tell.
    let _ = write(&line);
}
