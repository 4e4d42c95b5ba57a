//! Batches: a file of requests, run when there is room.

use std::collections::HashSet;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Payload;
use super::translate::{self, marked};
use super::{Answer, Caller, Flavor, Params, errors, images, time, videos};
use crate::service::{Account, ApiError, ApiErrorKind, Batch, BatchItem, BatchLine, Dialect, JobState, Service, Spec};

/// Most lines of one file.
const MAX_LINES: usize = 10_000;
/// Longest name, characters.
const MAX_NAME: usize = 255;

pub(super) fn router() -> Router<Service> {
    Router::new()
        .route("/batches", post(create).get(list))
        .route("/batches/{id}", get(one).post(act))
        .route("/batches/{id}/cancel", post(cancel))
        .route("/batches/{id}/results", get(results))
}

#[derive(Debug, Deserialize)]
struct Create {
    #[serde(default)]
    name: String,
    input_file_id: String,
}

/// One line of the file.
#[derive(Debug, Deserialize)]
struct Line {
    custom_id: Option<String>,
    #[serde(default)]
    method: Option<String>,
    url: String,
    body: Value,
}

/// `POST /v1/batches {name, input_file_id}`.
async fn create(State(service): State<Service>, Caller(account): Caller, payload: Payload) -> Answer {
    let request: Create = payload.parse()?;
    Ok(Json(object(&of_file(&service, &account, &request.name, &request.input_file_id).await?)))
}

/// A batch of the lines of a file.
pub(crate) async fn of_file(service: &Service, account: &Account, name: &str, file: &str) -> Result<Batch, ApiError> {
    let name = if name.trim().is_empty() { "batch" } else { name };
    if name.chars().count() > MAX_NAME {
        return Err(ApiError::invalid("name", format!("it is too long: use at most {MAX_NAME} characters")));
    }
    let (_, bytes) = service.read_file(account, file).await?;
    let lines = parse(&bytes)?;
    service.may_start(account, lines.len())?;
    let batch = service.create_batch(account, name, Some(file)).await?;
    let mut translated = Vec::with_capacity(lines.len());
    for line in lines {
        translated.push(translate_line(service, account, line).await);
    }
    service.add_to_batch(account, &batch.id, translated).await
}

/// The lines of a JSONL file; the whole file is refused when a line is no request or an id occurs twice.
fn parse(bytes: &[u8]) -> Result<Vec<Line>, ApiError> {
    let field = "input_file_id";
    let text =
        std::str::from_utf8(bytes).map_err(|_| ApiError::invalid(field, "the file is not UTF-8 text: send JSONL"))?;
    let (mut lines, mut ids) = (Vec::new(), HashSet::new());
    for (i, text) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = i + 1;
        let line: Line = serde_json::from_str(text)
            .map_err(|e| ApiError::invalid(field, format!("line {number} of the file is no request: {e}")))?;
        if line.custom_id.as_ref().is_some_and(|id| !ids.insert(id.clone())) {
            return Err(ApiError::invalid(
                field,
                format!("line {number} of the file repeats a custom_id: make them differ"),
            ));
        }
        lines.push(line);
        if lines.len() > MAX_LINES {
            return Err(ApiError::invalid(
                field,
                format!("the file has more than {MAX_LINES} lines: send several batches"),
            ));
        }
    }
    if lines.is_empty() {
        return Err(ApiError::invalid(field, "the file has no lines: send one request per line"));
    }
    Ok(lines)
}

async fn translate_line(service: &Service, account: &Account, line: Line) -> BatchLine {
    let path = line.url.trim_start_matches("/v1/").trim_start_matches('/').to_string();
    let spec = match line.method.as_deref() {
        None | Some("POST" | "post") => spec(service, account, &path, line.body).await,
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            Err(ApiError::invalid("method", format!("\"{shown}\" is not possible in a batch: use POST")))
        }
    };
    BatchLine { id: line.custom_id, endpoint: format!("/v1/{path}"), spec }
}

/// The job that the body of a `POST` to `/v1/{path}` asks for: for batches, and for gRPC, whose messages become such bodies.
pub(crate) async fn spec(service: &Service, account: &Account, path: &str, body: Value) -> Result<Spec, ApiError> {
    let payload = Payload::from_value(body)?;
    let spec = match path {
        "images/generations" => translate::image(service, account, payload, false).await?,
        "images/edits" => translate::image(service, account, payload, true).await?,
        "videos/generations" => translate::video(service, account, payload).await?,
        "videos/edits" => translate::edit(service, account, payload).await?,
        "videos/extensions" => translate::extension(service, account, payload).await?,
        other => {
            let known = "/v1/images/generations, /v1/images/edits, /v1/videos/generations, /v1/videos/edits, /v1/videos/extensions";
            let shown: String = other.chars().take(80).collect();
            return Err(ApiError::invalid("url", format!("\"{shown}\" is not possible in a batch: use {known}")));
        }
    };
    Ok(marked(spec, Dialect::Batch))
}

/// `GET /v1/batches?limit&pagination_token`.
async fn list(State(service): State<Service>, Caller(account): Caller, params: Params) -> Answer {
    let limit = params.whole("limit", 1..=100)?.unwrap_or(20) as u32;
    let page = service.list_batches(&account, limit, params.text("pagination_token")).await?;
    Ok(Json(json!({
        "batches": page.items.iter().map(object).collect::<Vec<_>>(),
        "pagination_token": page.next,
    })))
}

async fn one(State(service): State<Service>, Caller(account): Caller, Path(id): Path<String>) -> Answer {
    Ok(Json(object(&service.batch(&account, &id).await?)))
}

/// `POST /v1/batches/{id}:cancel`: the colon is part of the last segment.
async fn act(State(service): State<Service>, Caller(account): Caller, Path(id): Path<String>) -> Answer {
    match id.strip_suffix(":cancel") {
        Some(id) => Ok(Json(object(&service.cancel_batch(&account, id).await?))),
        None => Err(ApiError::not_found("a batch is cancelled by POST /v1/batches/{id}:cancel")),
    }
}

/// `POST /v1/batches/{id}/cancel`, OpenAI's spelling.
async fn cancel(State(service): State<Service>, Caller(account): Caller, Path(id): Path<String>) -> Answer {
    Ok(Json(object(&service.cancel_batch(&account, &id).await?)))
}

/// `GET /v1/batches/{id}/results?limit&pagination_token`: requests that have ended.
async fn results(
    State(service): State<Service>,
    Caller(account): Caller,
    Path(id): Path<String>,
    params: Params,
) -> Answer {
    let limit = params.whole("limit", 1..=1000)?.unwrap_or(100) as u32;
    let page = service.batch_items(&account, &id, limit, params.text("pagination_token")).await?;
    let mut results = Vec::with_capacity(page.items.len());
    for item in &page.items {
        if let Some(result) = result(&service, &account, item).await? {
            results.push(result);
        }
    }
    Ok(Json(json!({"results": results, "pagination_token": page.next})))
}

/// What became of a request; `None` while it runs.
async fn result(service: &Service, account: &Account, item: &BatchItem) -> Result<Option<Value>, ApiError> {
    let id = &item.id;
    let failed = |code: &str, message: &str| {
        json!({
            "batch_request_id": id,
            "batch_result": {"error": {"code": code, "message": message}},
            "error_message": message,
        })
    };
    let Some(job) = &item.job else {
        let error =
            item.error.as_ref().map_or(("invalid_argument", "the request was never valid"), |e| (&e.code, &e.message));
        return Ok(Some(failed(error.0, error.1)));
    };
    let what = if job.spec.kind.is_still() { "image" } else { "video" };
    if let Some(error) = errors::job_error(job, what) {
        let code = match (error.kind, &job.error) {
            (ApiErrorKind::ContentModerated, _) => "imagine:content-moderated",
            (_, Some(error)) => &error.code,
            _ => "failed_precondition",
        };
        return Ok(Some(failed(code, &error.message)));
    }
    if job.state != JobState::Done {
        return Ok(None);
    }
    let flavor = Flavor::default();
    let response = if what == "image" {
        json!({"image_generation": images::answer(service, account, job, flavor).await?})
    } else {
        json!({"video_generation": videos::done(service, account, job, flavor).await?})
    };
    Ok(Some(json!({"batch_request_id": id, "batch_result": {"response": response}, "error_message": ""})))
}

/// A batch as it is told; times are RFC 3339.
fn object(batch: &Batch) -> Value {
    let counts = &batch.counts;
    json!({
        "batch_id": batch.id,
        "name": batch.name,
        "input_file_id": batch.input_file,
        "create_time": time::rfc3339(batch.created_at),
        "expire_time": time::rfc3339(batch.expires_at),
        "cancel_time": batch.cancelled_at.map(time::rfc3339),
        "create_api_key_id": batch.key_id,
        "state": {
            "num_requests": counts.total,
            "num_pending": counts.pending,
            "num_success": counts.success,
            "num_error": counts.error,
            "num_cancelled": counts.cancelled,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_lines() {
        let line = |id: &str| {
            format!(r#"{{"custom_id": "{id}", "method": "POST", "url": "/v1/images/generations", "body": {{}}}}"#)
        };
        assert_eq!(parse(format!("{}\n\n{}\r\n", line("a"), line("b")).as_bytes()).unwrap().len(), 2);
        let said = |text: &[u8]| parse(text).unwrap_err().message;
        assert_eq!(said(b"\n\n"), "the file has no lines: send one request per line");
        assert_eq!(said(&[0xff]), "the file is not UTF-8 text: send JSONL");
        assert!(said(b"{}").starts_with("line 1 of the file is no request: missing field `url`"));
        assert_eq!(
            said(format!("{}\n{}", line("a"), line("a")).as_bytes()),
            "line 2 of the file repeats a custom_id: make them differ"
        );
        let many = format!("{}\n", r#"{"url": "", "body": {}}"#).repeat(MAX_LINES);
        assert_eq!(parse(many.as_bytes()).unwrap().len(), MAX_LINES);
        assert!(parse((many + r#"{"url": "", "body": {}}"#).as_bytes()).is_err());
    }
}
