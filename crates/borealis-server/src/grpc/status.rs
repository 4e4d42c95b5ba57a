//! Errors as gRPC sees them.

use tonic::{Code, Status};

use crate::service::{ApiError, ApiErrorKind, Job, JobError, JobState};

/// The status code of each kind of error.
///
/// Only UNAVAILABLE is retried by the SDK, five times within two seconds: it never follows work that was accepted.
fn code(kind: ApiErrorKind) -> Code {
    use ApiErrorKind as Kind;
    match kind {
        Kind::InvalidArgument
        | Kind::PayloadTooLarge
        | Kind::UnsupportedMediaType
        | Kind::Unprocessable
        | Kind::ContentModerated => Code::InvalidArgument,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::NotFound => Code::NotFound,
        Kind::Conflict => Code::AlreadyExists,
        Kind::ResourceExhausted { .. } | Kind::PaymentRequired | Kind::StorageFull => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Fetch => Code::DataLoss,
        Kind::Internal => Code::Internal,
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let code = code(error.kind);
        let mut status = match (&error.field, error.kind) {
            (_, ApiErrorKind::ContentModerated) => {
                Self::new(code, format!("imagine:content-moderated: {}", error.message))
            }
            (Some(field), _) if !error.message.starts_with(field.as_str()) => {
                Self::new(code, format!("{field}: {}", error.message))
            }
            _ => Self::new(code, error.message),
        };
        if let ApiErrorKind::ResourceExhausted { retry_after } = error.kind {
            status.metadata_mut().insert("retry-after", retry_after.into());
        }
        status
    }
}

/// Why a job failed, as a status: what a synchronous call answers.
pub(super) fn of_job(error: &JobError) -> Status {
    let code = match error.code.as_str() {
        "invalid_argument" => Code::InvalidArgument,
        "permission_denied" => Code::PermissionDenied,
        "failed_precondition" => Code::FailedPrecondition,
        // Not UNAVAILABLE: the SDK would send the same request again.
        _ => Code::Internal,
    };
    Status::new(code, error.message.clone())
}

/// The error of a job that ended without outputs.
pub(super) fn job_error(job: &Job) -> JobError {
    job.error.clone().unwrap_or_else(|| {
        let (code, message) = match job.state {
            JobState::Cancelled => ("failed_precondition", "it was cancelled by its owner"),
            _ => ("internal_error", "the job failed without a reason: try again"),
        };
        JobError { code: code.into(), message: message.into() }
    })
}
