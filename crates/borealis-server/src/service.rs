//! The one thing that every dialect talks to: [`Service`]. REST, gRPC and the page translate to it and nothing else.
//!
//! The methods (all `async` ones return `Result<_, ApiError>`, take the caller's [`Account`] first and answer `NotFound` for what belongs to another account):
//!
//! ```text
//! resolve(&Account, Input, MediaKind, field: &str) -> AssetRef         own URLs, file ids, data:, policy fetch -> media process -> stored
//! submit(&Account, Spec, Option<Idempotency>) -> JobId                 durable when it returns; moderation, limits and credits are checked here
//! job(&Account, &str) -> Job              wait(&Account, &str, Duration) -> Job     (the job as it is when the time is over)
//! cancel(&Account, &str) -> Job           delete(&Account, &str) -> ()              (delete cancels, too)
//! list(&Account, &JobFilter) -> Page<Job>
//! read_asset(&AssetRef) -> Bytes          last frame: frame(&Account, &AssetRef, FrameAt) -> AssetRef   (a PNG)
//! signed_url(&AssetRef, expires_at_ms: Option<i64>) -> String          output_url(&Job, n: usize) -> String  (also of a running job: live with ?stream=1)
//! models() -> &[ModelInfo]                resolve_model(Option<&str>, JobKind) -> Result<&ModelInfo, ApiError>   (not async)
//! put_file(&Account, filename, purpose, Bytes, expires_after: Option<i64>) -> StoredFile
//! file(&Account, id) · list_files(&Account, limit, after: Option<&str>, ascending) -> Page<StoredFile> · delete_file · read_file(&Account, id) -> (StoredFile, Bytes)
//! publish_file(&Account, id, expires_after: Option<i64>) -> StoredFile · unpublish_file(&Account, id) -> StoredFile
//! create_batch(&Account, name, input_file: Option<&str>) -> Batch · add_to_batch(&Account, id, Vec<BatchLine>) -> Batch · batch · list_batches(&Account, limit, after)
//! cancel_batch -> Batch · batch_items(&Account, id, limit, after: Option<&str>) -> Page<BatchItem> · batch_item(&Account, id, request_id) -> BatchItem
//! create_folder(&Account, name) -> Folder · rename_folder(&Account, id, name) · folders(&Account) -> Vec<Folder> · delete_folder(&Account, id)
//! move_job(&Account, job, folder: Option<&str>) -> Job · usage(&Account, since_ms) -> UsageReport
//! config() -> &ServerConfig · base_url() -> String · metrics() -> &Metrics
//! ```
//!
//! What it calls of its neighbours (B):
//!
//! ```text
//! fetch::Fetcher::new(policy: FetchPolicy) -> Fetcher                   (FetchPolicy is in config.rs: Off | Https | Http)
//!   async get(&self, url: &str, kind: MediaKind) -> Result<(Option<String>, Bytes), ApiError>
//!   async post(&self, url: &str, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Result<Posted { status: u16, retry_after: Option<u64> }, ApiError>
//!   check(&self, url: &str) -> Result<(), ApiError>                     before a webhook_url is accepted
//! moderation::Moderation::open(&ModerationConfig) -> Result<Moderation, ServerError>      (config.rs: enabled, policy file, classifier command)
//!   prompt(&self, &str) -> Result<(), ApiError>                         ContentModerated with its reason
//!   picture(&self, &borealis_media::Frame) -> Result<(), String>        blocking; inputs in the API, sampled output frames in the worker
//! ```

pub use crate::error::{ApiError, ApiErrorKind};
pub use crate::types::*;
