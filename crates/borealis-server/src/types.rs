//! What a job is, free of any dialect: what the routers translate to, what the store keeps, what the worker reads.

mod job;
mod library;
mod spec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use job::*;
pub use library::*;
pub use spec::*;

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
