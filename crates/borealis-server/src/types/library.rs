//! What an account keeps and looks up: models, files, batches, folders, usage.

use serde::Serialize;

use super::{Job, JobError, Spec};

/// A name under which a checkpoint can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Canonical id, echoed in answers.
    pub id: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// Makes pictures under this name.
    pub image: bool,
    /// Makes clips under this name.
    pub video: bool,
    /// `xai` for names of xAI's, `borealis` for checkpoints.
    pub owned_by: &'static str,
    /// Seconds since 1970.
    pub created: i64,
    /// Name of the checkpoint that serves it.
    pub checkpoint: String,
}

/// A file of the Files API.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredFile {
    /// `file_...`
    pub id: String,
    /// As the client named it.
    pub filename: String,
    /// As the client said; empty for gRPC.
    pub purpose: String,
    /// Guessed from the content.
    pub mime: String,
    /// SHA-256 of the bytes, hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Milliseconds since 1970.
    pub expires_at: Option<i64>,
    /// Public URL, when there is one.
    pub public_url: Option<String>,
    /// Milliseconds since 1970.
    pub public_expires_at: Option<i64>,
}

/// A batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `batch_...`
    pub id: String,
    /// As the client named it.
    pub name: String,
    /// File with its lines.
    pub input_file: Option<String>,
    /// The key that made it.
    pub key_id: String,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Milliseconds since 1970: 24 h later.
    pub expires_at: i64,
    /// Milliseconds since 1970.
    pub cancelled_at: Option<i64>,
    /// Requests by state.
    pub counts: BatchCounts,
}

/// Requests of a batch by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchCounts {
    /// All.
    pub total: i64,
    /// Not ended.
    pub pending: i64,
    /// Done.
    pub success: i64,
    /// Failed, moderated or never valid.
    pub error: i64,
    /// Cancelled.
    pub cancelled: i64,
}

/// A line to add to a batch: a valid job, or why it is none.
#[derive(Debug, Clone)]
pub struct BatchLine {
    /// The client's `custom_id` / `batch_request_id`; `None`: given by the server.
    pub id: Option<String>,
    /// `/v1/images/generations`, ...
    pub endpoint: String,
    /// The job, already translated and resolved.
    pub spec: std::result::Result<Spec, crate::error::ApiError>,
}

/// One request of a batch with its job.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchItem {
    /// The client's id.
    pub id: String,
    /// `/v1/images/generations`, ...
    pub endpoint: String,
    /// The job; `None` when the line was never valid.
    pub job: Option<Job>,
    /// Why the line was never valid.
    pub error: Option<JobError>,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

/// A folder of generated items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Folder {
    /// `folder_...`
    pub id: String,
    /// Chosen by the user; unique in the account.
    pub name: String,
    /// Jobs in it.
    pub items: i64,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

/// What an account used over a time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct UsageReport {
    /// Jobs that are done.
    pub jobs: i64,
    /// Pictures made.
    pub images: i64,
    /// Seconds of clips made.
    pub video_seconds: f64,
    /// Ticks charged.
    pub cost_ticks: i64,
    /// Ticks left; `None`: no limit.
    pub credits_ticks: Option<i64>,
    /// Ticks held for jobs that have not ended.
    pub held_ticks: i64,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// In order.
    pub items: Vec<T>,
    /// Hand it back to go on; `None`: that was all.
    pub next: Option<String>,
}

/// Which frame of a clip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FrameAt {
    /// The last one.
    Last,
    /// The one that is on the screen at that second.
    Second(f64),
}
