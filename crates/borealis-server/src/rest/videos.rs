//! xAI's `/v1/videos/...`: start, poll, cancel. Bodies of other dialects on the same paths are passed on.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use serde_json::{Value, json};

use super::body::Payload;
use super::translate::{self, marked};
use super::{Answer, Caller, Flavor, Params, errors, images, openai, plain_id, tasks};
use crate::service::{Account, ApiError, Dialect, FrameAt, Job, JobState, Service};

/// `POST /v1/videos/generations`: xAI's, or a task when the body has an object `input`.
pub(super) async fn generate(State(service): State<Service>, Caller(account): Caller, payload: Payload) -> Answer {
    let idempotency = payload.idempotency("videos/generations");
    if payload.fields.get("input").is_some_and(Value::is_object) {
        return tasks::create(&service, &account, payload, idempotency).await;
    }
    let spec = marked(translate::video(&service, &account, payload).await?, Dialect::Xai);
    let id = service.submit(&account, spec, idempotency).await?;
    Ok(Json(json!({"request_id": id})))
}

/// Whether a body on a shared path is OpenAI's: a form, or a clip named by its id.
fn is_openai(payload: &Payload) -> bool {
    payload.is_form || payload.fields.get("video").is_some_and(|v| v.get("id").is_some())
}

/// `POST /v1/videos/edits`.
pub(super) async fn edit(State(service): State<Service>, Caller(account): Caller, payload: Payload) -> Response {
    let idempotency = payload.idempotency("videos/edits");
    if is_openai(&payload) {
        return openai::edit(&service, &account, payload, idempotency).await.into_response();
    }
    let start = async {
        let spec = marked(translate::edit(&service, &account, payload).await?, Dialect::Xai);
        service.submit(&account, spec, idempotency).await
    };
    start.await.map(|id| Json(json!({"request_id": id}))).into_response()
}

/// `POST /v1/videos/extensions`.
pub(super) async fn extend(State(service): State<Service>, Caller(account): Caller, payload: Payload) -> Response {
    let idempotency = payload.idempotency("videos/extensions");
    if is_openai(&payload) {
        return openai::extend(&service, &account, payload, idempotency).await.into_response();
    }
    let start = async {
        let spec = marked(translate::extension(&service, &account, payload).await?, Dialect::Xai);
        service.submit(&account, spec, idempotency).await
    };
    start.await.map(|id| Json(json!({"request_id": id}))).into_response()
}

/// `GET /v1/videos/{id}`: OpenAI's shape for `video_...`, xAI's for the rest.
pub(super) async fn get(
    State(service): State<Service>,
    Caller(account): Caller,
    Extension(flavor): Extension<Flavor>,
    Path(id): Path<String>,
) -> Response {
    if id.starts_with("video_") {
        return openai::retrieve(&service, &account, &id).await.into_response();
    }
    match poll(&service, &account, &id, flavor).await {
        Ok((status, body)) => (status, Json(body)).into_response(),
        Err(error) => error.into_response(),
    }
}

/// A clip of this account, 404 for everything else.
pub(super) async fn clip(service: &Service, account: &Account, id: &str) -> Result<Job, ApiError> {
    let unknown = || ApiError::not_found(format!("there is no video \"{}\"", id.chars().take(80).collect::<String>()));
    let job = service.job(account, plain_id(id)).await?;
    if job.spec.kind.is_still() { Err(unknown()) } else { Ok(job) }
}

async fn poll(service: &Service, account: &Account, id: &str, flavor: Flavor) -> Result<(StatusCode, Value), ApiError> {
    let job = clip(service, account, id).await?;
    let body = match job.state {
        JobState::Queued | JobState::Running => {
            let mut body = json!({"status": "pending", "progress": job.progress.min(99), "model": job.spec.model});
            show_live(service, &job, &mut body);
            return Ok((StatusCode::ACCEPTED, body));
        }
        JobState::Done => done(service, account, &job, flavor).await?,
        JobState::Expired => json!({"status": "expired"}),
        JobState::Moderated => {
            return Err(errors::job_error(&job, "video").unwrap_or_else(|| ApiError::not_found("gone")));
        }
        JobState::Failed | JobState::Cancelled => {
            let (code, message) = failure(&job);
            json!({
                "status": "failed",
                "error": {"code": code, "message": message},
                "video": {"duration": 0, "respect_moderation": true},
                "model": "",
                "progress": 0,
            })
        }
    };
    Ok((StatusCode::OK, body))
}

/// Code and message of a job that gave nothing.
pub(super) fn failure(job: &Job) -> (String, String) {
    match &job.error {
        Some(error) => (error.code.clone(), error.message.clone()),
        None if job.state == JobState::Cancelled => {
            ("failed_precondition".into(), "it was cancelled by its owner".into())
        }
        None => ("internal_error".into(), "the job failed without a reason: try again".into()),
    }
}

/// Adds where the clips of a running job can be watched: `stream_url`, and of several variants `stream_urls`.
pub(super) fn show_live(service: &Service, job: &Job, body: &mut Value) {
    if job.state != JobState::Running || job.spec.kind.is_still() {
        return;
    }
    let urls: Vec<String> = (0..job.spec.n as usize)
        .map(|n| {
            let url = service.output_url(job, n);
            format!("{url}{}stream=1", if url.contains('?') { '&' } else { '?' })
        })
        .collect();
    body["stream_url"] = urls.first().cloned().into();
    if urls.len() > 1 {
        body["stream_urls"] = urls.into();
    }
}

/// The body of a finished clip.
pub(super) async fn done(service: &Service, account: &Account, job: &Job, flavor: Flavor) -> Result<Value, ApiError> {
    let mut videos = Vec::with_capacity(job.outputs.len());
    for (n, output) in job.outputs.iter().enumerate() {
        let mut video = json!({
            "url": images::url(service, job, n, output, flavor).await?,
            "duration": output.asset.seconds.round() as i64,
            "respect_moderation": true,
        });
        images::keep_note(service, account, &job.spec, output, &mut video).await;
        videos.push(video);
    }
    let mut body = json!({
        "status": "done",
        "video": videos.first(),
        "model": job.spec.model,
        "usage": {"cost_in_usd_ticks": job.cost_ticks},
        "progress": 100,
    });
    if videos.len() > 1 {
        body["videos"] = videos.into();
    }
    Ok(body)
}

/// `DELETE /v1/videos/{id}`: a running job is cancelled, a finished one deleted (OpenAI's `video_...`: always deleted).
pub(super) async fn delete(
    State(service): State<Service>,
    Caller(account): Caller,
    Path(id): Path<String>,
) -> Response {
    if id.starts_with("video_") {
        return openai::delete(&service, &account, &id).await.into_response();
    }
    let stop = async {
        let job = clip(&service, &account, &id).await?;
        let cancelled = !job.state.is_final();
        if cancelled {
            service.cancel(&account, &job.id).await?;
        } else {
            service.delete(&account, &job.id).await?;
        }
        Ok::<_, ApiError>(Json(json!({"request_id": id, "cancelled": cancelled, "deleted": !cancelled})))
    };
    stop.await.into_response()
}

/// `GET /v1/videos/{id}/frame?at=last|first|SECONDS&variant=N`: a frame as a PNG.
pub(super) async fn frame(
    State(service): State<Service>,
    Caller(account): Caller,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let job = clip(&service, &account, &id).await?;
    let at = match params.text("at") {
        None | Some("last") => FrameAt::Last,
        Some("first") => FrameAt::Second(0.0),
        Some(text) => match text.parse::<f64>() {
            Ok(second) if second.is_finite() && second >= 0.0 => FrameAt::Second(second),
            _ => return Err(ApiError::invalid("at", format!("\"{text}\" is no place: use first, last or a second"))),
        },
    };
    let variant = params.whole("variant", 0..=3)?.unwrap_or(0) as usize;
    if let Some(error) = errors::job_error(&job, "video") {
        return Err(error);
    }
    let output = job.outputs.get(variant).ok_or_else(|| {
        ApiError::not_found(format!("the video \"{id}\" has no variant {variant} yet: ask again when it is done"))
    })?;
    Ok(png(service.frame_bytes(&output.asset, at).await?, &job.id))
}

/// A still of a job.
pub(super) fn png(bytes: Bytes, job: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "image/png".to_string()),
        (header::CONTENT_DISPOSITION, format!("inline; filename=\"{job}.png\"")),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".into()),
    ];
    (headers, Body::from(bytes)).into_response()
}
