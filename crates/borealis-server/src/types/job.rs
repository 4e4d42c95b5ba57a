//! What becomes of it: states, outputs, errors.

use serde::{Deserialize, Serialize};

use super::{AssetRef, Dialect, JobId, JobKind, Spec};

/// Where a job is. `Queued` and `Running` are the only ones that change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Accepted, waiting for a worker.
    Queued,
    /// Being made.
    Running,
    /// The outputs are there.
    Done,
    /// It cannot be made; `error` says why.
    Failed,
    /// Cancelled by its owner.
    Cancelled,
    /// It was done; the outputs have been removed since.
    Expired,
    /// The output was refused by moderation.
    Moderated,
}

impl JobState {
    /// Whether nothing will change any more (except that outputs expire).
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Moderated => "moderated",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled, Self::Expired, Self::Moderated]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// `invalid_argument`, `failed_precondition`, `permission_denied`, `service_unavailable`, `internal_error`.
    pub code: String,
    /// One line for the user.
    pub message: String,
}

/// One picture or clip that a job made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Where it is.
    pub asset: AssetRef,
    /// Frames; 1 for pictures.
    pub frames: u32,
    /// Its file in the Files API, when `storage` was asked for.
    #[serde(default)]
    pub file_id: Option<String>,
}

/// Counts of a finished job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobUsage {
    /// Ids of the text of the prompt.
    pub text_tokens: u64,
    /// Ids of pictures and clips that were given.
    pub image_tokens: u64,
    /// Ids generated, over all outputs.
    pub output_tokens: u64,
    /// Seconds waiting.
    pub queued_seconds: f64,
    /// Seconds from the first to the last step.
    pub compute_seconds: f64,
}

/// A job as its owner sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub account: String,
    /// Where it is.
    pub state: JobState,
    /// 0 to 99 while it runs, 100 when done.
    pub progress: u8,
    /// What was asked for.
    pub spec: Spec,
    /// What came out; empty until it is done, and for outputs that moderation refused.
    pub outputs: Vec<Output>,
    /// Why it failed.
    pub error: Option<JobError>,
    /// Counts.
    pub usage: JobUsage,
    /// What it cost, ticks; 0 unless prices are configured and the job is done.
    pub cost_ticks: i64,
    /// Times it was started.
    pub attempt: u32,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Milliseconds since 1970.
    pub started_at: Option<i64>,
    /// Milliseconds since 1970.
    pub finished_at: Option<i64>,
    /// When the outputs are removed, milliseconds since 1970.
    pub expires_at: Option<i64>,
}

/// The `Idempotency-Key` of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// As the client sent it; at most 255 bytes.
    pub key: String,
    /// SHA-256 of method, path and body: the same key with another body is refused.
    pub request_hash: [u8; 32],
}

/// Which jobs a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only these kinds; empty: all.
    pub kinds: Vec<JobKind>,
    /// Only this dialect.
    pub dialect: Option<Dialect>,
    /// Only jobs of this folder; `Some("")`: of none.
    pub folder: Option<String>,
    /// Most jobs; 0: 20, at most 100.
    pub limit: u32,
    /// Continue after this job.
    pub after: Option<JobId>,
    /// Oldest first.
    pub ascending: bool,
}
