//! What can go wrong: [`ServerError`] ends the process, [`ApiError`] answers one call.

use std::fmt;
use std::path::PathBuf;

/// Result of starting and running the server.
pub type Result<T> = std::result::Result<T, ServerError>;

/// Failures of the server itself. A message names the thing, the value and the remedy, on one line.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}: choose another with --address, or stop what uses it")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A value of the configuration that makes no sense.
    #[error("{field}: {problem}: {remedy}")]
    Config {
        /// The option.
        field: &'static str,
        /// What is wrong, with the value.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// A file or folder of the data folder.
    #[error("cannot use \"{}\": {source}: check the folder, its permissions and the disk", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database refused something.
    #[error("the database failed: {0}: check the data folder and the disk")]
    Store(#[from] sqlx::Error),
    /// The database's tables could not be made.
    #[error(
        "the database cannot be brought up to date: {0}: use the newer program that wrote it, or another --data folder"
    )]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The store of results refused something.
    #[error(
        "the store of results failed: {0}: check the data folder and its disk, or the bucket that --store names and its keys"
    )]
    Blobs(#[from] object_store::Error),
    /// The model could not be loaded, or a job could not be made.
    #[error(transparent)]
    Engine(#[from] borealis_engine::EngineError),
    /// A rank of the model is gone or hangs: the message says which, and in which step.
    #[error("the model is lost: {0}")]
    Lost(String),
    /// A job's stored description cannot be read.
    #[error("a stored {what} cannot be read: {source}: it was written by another version")]
    Stored {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Anything else of the system: threads, sockets, signals.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The kinds of answers that are not a success. B maps them to HTTP, C to gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiErrorKind {
    /// A value that makes no sense: 400, INVALID_ARGUMENT.
    InvalidArgument,
    /// No key, or a wrong one: 401, UNAUTHENTICATED.
    Unauthenticated,
    /// The key may not do this: 403, PERMISSION_DENIED.
    PermissionDenied,
    /// No such job, file, model, route, or not this account's: 404, NOT_FOUND.
    NotFound,
    /// The same idempotency key with another body, or still in flight: 409, ALREADY_EXISTS.
    Conflict,
    /// Too many bytes: 413, INVALID_ARGUMENT.
    PayloadTooLarge,
    /// A kind of body that is not read: 415, INVALID_ARGUMENT.
    UnsupportedMediaType,
    /// A body of the wrong shape: 422, INVALID_ARGUMENT.
    Unprocessable,
    /// Refused by moderation: 400 `imagine:content-moderated`, INVALID_ARGUMENT.
    ContentModerated,
    /// Rate limit or queue limit: 429 with Retry-After, RESOURCE_EXHAUSTED.
    ResourceExhausted {
        /// Seconds until another try makes sense.
        retry_after: u64,
    },
    /// No credits left: 402, or xAI's 403/429 by configuration; RESOURCE_EXHAUSTED.
    PaymentRequired,
    /// Cannot serve now: 503 with Retry-After, UNAVAILABLE.
    Unavailable,
    /// No room on the disk: 507, RESOURCE_EXHAUSTED.
    StorageFull,
    /// An input URL that could not be fetched: 400, DATA_LOSS.
    Fetch,
    /// A fault of ours: 500, INTERNAL.
    Internal,
}

/// An answer that is not a success, free of any dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Which status it becomes.
    pub kind: ApiErrorKind,
    /// One line for the user: field, value, remedy.
    pub message: String,
    /// The field of the request that is at fault.
    pub field: Option<String>,
}

impl ApiError {
    /// An error of that kind.
    pub fn new(kind: ApiErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), field: None }
    }

    /// A wrong value of a field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: ApiErrorKind::InvalidArgument, message: message.into(), field: Some(field.into()) }
    }

    /// Something that is not there, or not this account's.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ApiErrorKind::NotFound, message)
    }

    /// A fault of ours; the cause goes to the log, not to the client.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        Self::new(ApiErrorKind::Internal, "an internal error happened: try again, and report it if it stays")
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// SQLite's result codes of a full disk and of a database that stays locked.
const SQLITE_FULL: &str = "13";
const SQLITE_BUSY: &str = "5";

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|e| e.code()).unwrap_or_default().into_owned();
        if code == SQLITE_FULL {
            return Self::new(ApiErrorKind::StorageFull, "the server's disk is full: nothing was accepted");
        }
        if code == SQLITE_BUSY || matches!(error, sqlx::Error::PoolTimedOut) {
            return Self::new(ApiErrorKind::Unavailable, "the database is busy: try again in a moment");
        }
        Self::internal(error)
    }
}

impl From<ServerError> for ApiError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Store(error) => error.into(),
            ServerError::Blobs(error) if is_full(&error) => {
                Self::new(ApiErrorKind::StorageFull, "the server's disk is full: nothing was accepted")
            }
            error => Self::internal(error),
        }
    }
}

/// Whether an error is, at bottom, a disk without room.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(e) = next {
        if e.downcast_ref::<std::io::Error>()
            .is_some_and(|io| matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
        {
            return true;
        }
        next = e.source();
    }
    false
}
