//! Errors in the shapes of the dialects: xAI's flat `{"code", "error"}` and OpenAI's nested `{"error": {...}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::service::{ApiError, ApiErrorKind, Job, JobError, JobState};

/// Seconds until a client should try again when nobody knows better.
const RETRY_AFTER: u64 = 2;

/// HTTP status, xAI's code, OpenAI's type.
fn row(kind: ApiErrorKind) -> (StatusCode, &'static str, &'static str) {
    use ApiErrorKind as K;
    match kind {
        K::InvalidArgument | K::Fetch => (StatusCode::BAD_REQUEST, "invalid-argument", "invalid_request_error"),
        K::ContentModerated => (StatusCode::BAD_REQUEST, "imagine:content-moderated", "invalid_request_error"),
        K::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated", "authentication_error"),
        K::PaymentRequired => (StatusCode::PAYMENT_REQUIRED, "payment-required", "insufficient_quota"),
        K::PermissionDenied => (StatusCode::FORBIDDEN, "permission-denied", "permission_error"),
        K::NotFound => (StatusCode::NOT_FOUND, "not-found", "invalid_request_error"),
        K::Conflict => (StatusCode::CONFLICT, "conflict", "invalid_request_error"),
        K::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", "invalid_request_error"),
        K::UnsupportedMediaType => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "invalid_request_error")
        }
        K::Unprocessable => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-argument", "invalid_request_error"),
        K::ResourceExhausted { .. } => (StatusCode::TOO_MANY_REQUESTS, "resource-exhausted", "rate_limit_error"),
        K::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "server_error"),
        K::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, "resource-exhausted", "server_error"),
        K::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "server_error"),
    }
}

/// The message, with the field that it is about.
fn text(error: &ApiError) -> String {
    match &error.field {
        Some(field) if !error.message.starts_with(field.as_str()) => format!("{field}: {}", error.message),
        _ => error.message.clone(),
    }
}

fn respond(kind: ApiErrorKind, body: Value) -> Response {
    let mut response = (row(kind).0, Json(body)).into_response();
    let headers = response.headers_mut();
    match kind {
        ApiErrorKind::ResourceExhausted { retry_after } => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
        }
        ApiErrorKind::Unavailable => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
        }
        ApiErrorKind::Unauthenticated => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        _ => {}
    }
    response
}

/// xAI's shape. Nothing is billed for what was refused, and a blocked request says so.
pub(crate) fn flat(error: &ApiError) -> Value {
    let mut body = json!({"code": row(error.kind).1, "error": text(error)});
    if error.kind == ApiErrorKind::ContentModerated {
        body["usage"] = json!({"cost_in_usd_ticks": 0});
    }
    body
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        respond(self.kind, flat(&self))
    }
}

/// An error in OpenAI's shape.
#[derive(Debug)]
pub(super) struct OpenAiError(pub(super) ApiError);

impl From<ApiError> for OpenAiError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        let (_, code, kind) = row(self.0.kind);
        let error = json!({
            "message": text(&self.0),
            "type": kind,
            "param": self.0.field,
            "code": code.rsplit(':').next().unwrap_or(code).replace('-', "_"),
        });
        respond(self.0.kind, json!({"error": error}))
    }
}

/// No such route.
pub(super) async fn no_route(uri: axum::http::Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}: see /docs for what there is", uri.path()))
}

/// The route exists, the method does not.
pub(super) async fn no_method(method: axum::http::Method, uri: axum::http::Uri) -> Response {
    let error = format!("{} does not take {method}: see /docs for what it takes", uri.path());
    (StatusCode::METHOD_NOT_ALLOWED, Json(json!({"code": "method-not-allowed", "error": error}))).into_response()
}

/// Why a job that has ended gave nothing: `what` is "image" or "video". `None` for a job that is done.
pub(crate) fn job_error(job: &Job, what: &str) -> Option<ApiError> {
    let failed = |error: &JobError| {
        let kind = match error.code.as_str() {
            "invalid_argument" | "failed_precondition" => ApiErrorKind::InvalidArgument,
            "permission_denied" => ApiErrorKind::PermissionDenied,
            "service_unavailable" => ApiErrorKind::Unavailable,
            _ => ApiErrorKind::Internal,
        };
        ApiError::new(kind, error.message.clone())
    };
    match job.state {
        JobState::Queued | JobState::Running | JobState::Done => None,
        JobState::Moderated => {
            let reason = job.error.as_ref().map(|e| format!(" {}", e.message)).unwrap_or_default();
            let message = format!("Generated {what} rejected by content moderation.{reason}");
            Some(ApiError::new(ApiErrorKind::ContentModerated, message))
        }
        JobState::Failed => Some(job.error.as_ref().map_or_else(
            || ApiError::new(ApiErrorKind::Internal, "the job failed without a reason: try again"),
            failed,
        )),
        JobState::Cancelled => Some(ApiError::new(ApiErrorKind::Conflict, "the job was cancelled by its owner")),
        JobState::Expired => {
            Some(ApiError::not_found(format!("the {what} has been removed at the end of its time: make it again")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ApiErrorKind) -> ApiError {
        ApiError { kind, message: "x".into(), field: None }
    }

    #[test]
    fn every_kind_has_its_status_code_and_headers() {
        use ApiErrorKind as K;
        for (kind, status, code, header) in [
            (K::InvalidArgument, 400, "invalid-argument", None),
            (K::Fetch, 400, "invalid-argument", None),
            (K::ContentModerated, 400, "imagine:content-moderated", None),
            (K::Unauthenticated, 401, "unauthenticated", Some(("www-authenticate", "Bearer"))),
            (K::PaymentRequired, 402, "payment-required", None),
            (K::PermissionDenied, 403, "permission-denied", None),
            (K::NotFound, 404, "not-found", None),
            (K::Conflict, 409, "conflict", None),
            (K::PayloadTooLarge, 413, "payload-too-large", None),
            (K::UnsupportedMediaType, 415, "unsupported-media-type", None),
            (K::Unprocessable, 422, "invalid-argument", None),
            (K::ResourceExhausted { retry_after: 7 }, 429, "resource-exhausted", Some(("retry-after", "7"))),
            (K::Unavailable, 503, "unavailable", Some(("retry-after", "2"))),
            (K::StorageFull, 507, "resource-exhausted", None),
            (K::Internal, 500, "internal", None),
        ] {
            assert_eq!(flat(&error(kind))["code"], code);
            let response = error(kind).into_response();
            assert_eq!(response.status(), status);
            for name in ["www-authenticate", "retry-after"] {
                let wanted = header.filter(|(n, _)| *n == name).map(|(_, value)| value);
                assert_eq!(response.headers().get(name).map(|v| v.to_str().unwrap()), wanted, "{kind:?} {name}");
            }
        }
    }

    #[test]
    fn the_field_is_named_once() {
        let named = |message: &str| flat(&ApiError::invalid("n", message))["error"].clone();
        assert_eq!(named("0 is too small"), "n: 0 is too small");
        assert_eq!(named("n: 0 is too small"), "n: 0 is too small");
    }
}
