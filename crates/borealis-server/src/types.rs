//! What a job is, free of any dialect: what the routers translate to, what the store keeps, what the worker reads.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Ticks in a dollar, xAI's unit of cost.
pub const TICKS_PER_USD: i64 = 10_000_000_000;

/// Id of a job: a UUID in its usual form. Dialects put their own prefix before it (`video_`, `task_`).
pub type JobId = String;

/// Who calls; the authentication layer puts it into the extensions of every request that passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Id of the account; every job, file, batch and folder belongs to one.
    pub id: String,
    /// Id of the key that was used; rate limits count per key.
    pub key_id: String,
    /// Name of the key, chosen by the operator.
    pub name: String,
    /// `bk-AbCd...WxYz`, for `GET /v1/api-key`.
    pub redacted_key: String,
    /// What the key may do; `*` is everything.
    pub acls: Vec<String>,
    /// When the key was made, milliseconds since 1970.
    pub created_at: i64,
}

/// A picture, clip or sound as a client names it.
#[derive(Debug, Clone)]
pub enum Input {
    /// Bytes that came with the request (multipart, a decoded `data:` URL).
    Data {
        /// As declared; not believed.
        mime: Option<String>,
        /// The file.
        bytes: Bytes,
    },
    /// `data:`, a URL of this server, or http(s) where the policy allows it.
    Url(String),
    /// Id of an uploaded file.
    File(String),
}

/// What an input must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// PNG, JPEG or WebP.
    Image,
    /// MP4, MOV, WebM.
    Video,
}

/// A stored picture or clip. Everything that a job reads or writes is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssetRef {
    /// Id in the store and in URLs: `<job>-<n>` for the n-th output of a job, a ULID for inputs.
    pub id: String,
    /// SHA-256 of the bytes, hexadecimal: where the bytes lie.
    pub sha256: String,
    /// `image/jpeg`, `image/png`, `video/mp4`.
    pub mime: String,
    /// Bytes.
    pub size: u64,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Seconds; 0 for pictures.
    pub seconds: f64,
}

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Pictures from text, or from references.
    Image,
    /// Pictures from a picture.
    EditImage,
    /// A clip from text, from a first frame (`image`) or from `references`.
    Video,
    /// A clip from a clip.
    EditVideo,
    /// A clip and its continuation.
    Extend,
}

impl JobKind {
    /// Whether pictures come out.
    pub fn is_still(self) -> bool {
        matches!(self, Self::Image | Self::EditImage)
    }

    /// The name in the store and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::EditImage => "edit_image",
            Self::Video => "video",
            Self::EditVideo => "edit_video",
            Self::Extend => "extend",
        }
    }
}

/// File format of pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageFormat {
    /// `image/jpeg`.
    #[default]
    Jpeg,
    /// `image/png`.
    Png,
}

/// The spelling in which a job was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// xAI's REST.
    #[default]
    Xai,
    /// xAI's gRPC.
    Grpc,
    /// OpenAI's images and videos.
    OpenAi,
    /// `{model, input}` tasks.
    Task,
    /// A line of a batch.
    Batch,
}

/// One generation: what a job stores. `Spec::new` gives the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// What is made.
    pub kind: JobKind,
    /// Canonical id of the model, echoed in answers (`grok-imagine-video`, `borealis-mini`).
    pub model: String,
    /// Name of the checkpoint that serves it; filled in when the job is submitted.
    #[serde(default)]
    pub checkpoint: Option<String>,
    /// At most 10,000 characters.
    pub prompt: String,
    /// Pictures (1 to 10) or variants of a clip (1 to 4).
    pub n: u32,
    /// Length of a clip; for [`JobKind::Extend`] the seconds that are added (1 to 15). `None`: 6.
    #[serde(default)]
    pub seconds: Option<f32>,
    /// `16:9`, ...; `None` or `auto`: that of the input, else 1:1 for pictures and 16:9 for clips.
    #[serde(default)]
    pub aspect_ratio: Option<String>,
    /// `1k`, `2k` for pictures; `480p`, `720p`, `1080p` for clips. `None`: `1k`, `480p`. Pictures also take `WxH` (exact pixels, OpenAI's `size`).
    #[serde(default)]
    pub resolution: Option<String>,
    /// The picture to edit, or the first frame of a clip.
    #[serde(default)]
    pub image: Option<AssetRef>,
    /// Pictures that the prompt names, at most 7.
    #[serde(default)]
    pub references: Vec<AssetRef>,
    /// The clip to edit or to extend.
    #[serde(default)]
    pub video: Option<AssetRef>,
    /// Clips have sound.
    pub audio: bool,
    /// `None`: drawn when the job is submitted; the stored job always has one.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Guidance scale.
    #[serde(default)]
    pub guidance: Option<f32>,
    /// `quality` or `speed`.
    #[serde(default)]
    pub preset: Option<String>,
    /// Format of pictures.
    #[serde(default)]
    pub format: ImageFormat,
    /// Continuations after the first clip, seconds of each: how clips longer than 15 s are made.
    #[serde(default)]
    pub chain_seconds: Vec<f32>,
    /// Told when the job has ended.
    #[serde(default)]
    pub webhook_url: Option<String>,
    /// The task dialect's mode `spicy`; moderation may allow more.
    #[serde(default)]
    pub spicy: bool,
    /// The client's own name of its user; opaque.
    #[serde(default)]
    pub user: Option<String>,
    /// The spelling of the request.
    #[serde(default)]
    pub dialect: Dialect,
    /// Folder that the results are put into.
    #[serde(default)]
    pub folder: Option<String>,
    /// Keep the results as a file of the Files API.
    #[serde(default)]
    pub storage: Option<StorageOptions>,
    /// Whatever the dialect wants back when it answers (original fields of the request); at most 16 KiB.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub extra: serde_json::Value,
}

impl Spec {
    /// A job with the defaults: one output, sound, JPEG.
    pub fn new(kind: JobKind, model: impl Into<String>, prompt: impl Into<String>) -> Self {
        Self {
            kind,
            model: model.into(),
            checkpoint: None,
            prompt: prompt.into(),
            n: 1,
            seconds: None,
            aspect_ratio: None,
            resolution: None,
            image: None,
            references: Vec::new(),
            video: None,
            audio: true,
            seed: None,
            guidance: None,
            preset: None,
            format: ImageFormat::default(),
            chain_seconds: Vec::new(),
            webhook_url: None,
            spicy: false,
            user: None,
            dialect: Dialect::default(),
            folder: None,
            storage: None,
            extra: serde_json::Value::Null,
        }
    }
}

/// xAI's `storage_options`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageOptions {
    /// Name of the file.
    pub filename: String,
    /// Seconds that the file lives, at most 2,592,000.
    #[serde(default)]
    pub expires_after: Option<i64>,
    /// Make a public URL that lives so many seconds (`Some(None)`: as long as the file).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub public_url: Option<Option<i64>>,
}

/// A field that is there: `null` is `Some(None)`, not `None`.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Option<i64>>, D::Error> {
    Option::<i64>::deserialize(deserializer).map(Some)
}

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
