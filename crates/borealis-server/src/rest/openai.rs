//! OpenAI's videos: create, retrieve, content, list, delete, remix, edits, extensions. Pictures share xAI's routes.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::body::{Media, Payload, whole};
use super::errors::{self, OpenAiError};
use super::translate::{self, marked, one_of, pixels, prompt, resolve, within};
use super::{Caller, Params, plain_id, time, videos};
use crate::service::{
    Account, ApiError, Dialect, FrameAt, Idempotency, Job, JobFilter, JobKind, JobState, MediaKind, Service, Spec,
};
use crate::urls;

type Answer = Result<Json<Value>, OpenAiError>;

/// How often `create_and_poll` of OpenAI's clients should ask, milliseconds.
const POLL_MS: &str = "1000";

/// `POST /v1/videos`.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct CreateVideoRequest {
    /// What to make.
    pub prompt: String,
    /// `sora-...` names and nothing at all mean the server's default.
    pub model: Option<String>,
    /// Seconds, 1 to 15, as a string or a number.
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<String>, default = "4")]
    pub seconds: Option<i128>,
    /// `1280x720`, `720x1280`, ...: a known aspect ratio with 480, 720 or 1,080 lines.
    #[schema(default = "1280x720")]
    pub size: Option<String>,
    /// The first frame: a file, or `{"image_url"}` / `{"file_id"}`.
    #[schema(value_type = Option<super::requests::MediaRequest>)]
    pub input_reference: Option<Media>,
    /// The same seed makes the same clip (ours).
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<u64>)]
    pub seed: Option<i128>,
    /// Your name of your user.
    pub user: Option<String>,
}

/// `POST /v1/videos`.
pub(super) async fn create(State(service): State<Service>, Caller(account): Caller, payload: Payload) -> Answer {
    let idempotency = payload.idempotency("videos");
    let request: CreateVideoRequest = payload.parse()?;
    prompt(&request.prompt, Some("say what to make"))?;
    let model = service.resolve_model(known(request.model.as_deref()), JobKind::Video)?;
    let mut spec = Spec::new(JobKind::Video, model.id.clone(), request.prompt);
    spec.seconds = Some(within("seconds", request.seconds, 1..=15u32)?.unwrap_or(4) as f32);
    let size = request.size.filter(|s| !s.is_empty() && s != "auto").unwrap_or_else(|| "1280x720".into());
    let (aspect, resolution) = frame_size(&size)?;
    spec.resolution = Some(resolution.into());
    spec.seed = within("seed", request.seed.filter(|s| *s >= 0), 0..=u64::MAX)?;
    spec.user = request.user;
    spec.aspect_ratio = Some(aspect.into());
    if let Some(media) = &request.input_reference {
        spec.image = Some(resolve(&service, &account, &payload, media, MediaKind::Image, "input_reference").await?);
    }
    spec.extra = json!({"size": size});
    start(&service, &account, spec, idempotency).await
}

/// OpenAI's own model names mean the default.
fn known(model: Option<&str>) -> Option<&str> {
    model.filter(|m| !m.is_empty() && !m.starts_with("sora"))
}

/// Aspect ratio and lines of a size in pixels.
fn frame_size(size: &str) -> Result<(&'static str, &'static str), ApiError> {
    let wrong = |what: &str| {
        ApiError::invalid(
            "size",
            format!("\"{}\" {what}: use 1280x720, 720x1280, ...", size.chars().take(40).collect::<String>()),
        )
    };
    let (w, h) = pixels(size).ok_or_else(|| wrong("is no size"))?;
    let ratio = f64::from(w) / f64::from(h);
    let value = |name: &str| {
        let (a, b) = name.split_once(':')?;
        Some(a.parse::<f64>().ok()? / b.parse::<f64>().ok()?)
    };
    let near = |name: &&&str| value(name).is_some_and(|v| (ratio / v - 1.0).abs() < 0.03);
    let aspect = translate::VIDEO_RATIOS.iter().find(near).ok_or_else(|| wrong("has no known aspect ratio"))?;
    let resolution = match w.min(h) {
        ..=480 => "480p",
        481..=720 => "720p",
        _ => "1080p",
    };
    Ok((aspect, resolution))
}

async fn start(service: &Service, account: &Account, spec: Spec, idempotency: Option<Idempotency>) -> Answer {
    let id = service.submit(account, marked(spec, Dialect::OpenAi), idempotency).await?;
    let job = service.job(account, &id).await?;
    Ok(Json(object(&job)))
}

/// `POST /v1/videos/edits` of this dialect.
pub(super) async fn edit(
    service: &Service,
    account: &Account,
    payload: Payload,
    idempotency: Option<Idempotency>,
) -> Answer {
    let spec = translate::edit(service, account, payload).await?;
    start(service, account, spec, idempotency).await
}

/// `POST /v1/videos/extensions` of this dialect: `seconds` must be given.
pub(super) async fn extend(
    service: &Service,
    account: &Account,
    payload: Payload,
    idempotency: Option<Idempotency>,
) -> Answer {
    if !payload.fields.contains_key("seconds") && !payload.fields.contains_key("duration") {
        return Err(ApiError::invalid("seconds", "it is missing: say how many seconds to add, 1 to 10").into());
    }
    let spec = translate::extension(service, account, payload).await?;
    start(service, account, spec, idempotency).await
}

/// `POST /v1/videos/{id}/remix`.
pub(super) async fn remix(
    State(service): State<Service>,
    Caller(account): Caller,
    Path(id): Path<String>,
    mut payload: Payload,
) -> Answer {
    let idempotency = payload.idempotency(&format!("videos/{id}/remix"));
    videos::clip(&service, &account, &id).await?;
    payload.fields.insert("video".into(), json!({"id": id}));
    let mut spec = translate::edit(&service, &account, payload).await?;
    spec.extra = json!({"remixed_from_video_id": format!("video_{}", plain_id(&id))});
    start(&service, &account, spec, idempotency).await
}

/// `GET /v1/videos/video_...`.
pub(super) async fn retrieve(service: &Service, account: &Account, id: &str) -> Result<Response, OpenAiError> {
    let job = videos::clip(service, account, id).await?;
    let body = Json(object(&job));
    if job.state.is_final() {
        return Ok(body.into_response());
    }
    Ok(([("openai-poll-after-ms", POLL_MS)], body).into_response())
}

/// `GET /v1/videos/{id}/content?variant=video|thumbnail`: the bytes, with Range and HEAD as under a signed address.
pub(super) async fn content(
    State(service): State<Service>,
    Caller(account): Caller,
    Path(id): Path<String>,
    params: Params,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, OpenAiError> {
    let job = videos::clip(&service, &account, &id).await?;
    if let Some(error) = errors::job_error(&job, "video") {
        return Err(error.into());
    }
    let Some(output) = job.outputs.first() else {
        let message = format!("the video is not ready ({} %): ask again when its status is completed", job.progress);
        return Err(ApiError::not_found(message).into());
    };
    let kind = params.text("variant").map(str::to_string);
    if one_of("variant", kind, &["video", "thumbnail"])?.as_deref() == Some("thumbnail") {
        return Ok(videos::png(service.frame_bytes(&output.asset, FrameAt::Second(0.0)).await?, &job.id));
    }
    Ok(urls::blob(&service, &output.asset.sha256, &output.asset.mime, &method, &headers).await)
}

/// `GET /v1/videos?limit&after&order`.
pub(super) async fn list(State(service): State<Service>, Caller(account): Caller, params: Params) -> Answer {
    let filter = JobFilter {
        kinds: vec![JobKind::Video, JobKind::EditVideo, JobKind::Extend],
        limit: params.whole("limit", 1..=100)?.unwrap_or(20) as u32,
        after: params.text("after").map(|id| plain_id(id).to_string()),
        ascending: !params.descending(true)?,
        ..JobFilter::default()
    };
    let page = service.list(&account, &filter).await?;
    let data: Vec<_> = page.items.iter().map(object).collect();
    Ok(Json(json!({
        "object": "list",
        "first_id": data.first().map(|v| v["id"].clone()),
        "last_id": data.last().map(|v| v["id"].clone()),
        "has_more": page.next.is_some(),
        "data": data,
    })))
}

/// `DELETE /v1/videos/video_...`: cancels what runs and removes it.
pub(super) async fn delete(service: &Service, account: &Account, id: &str) -> Answer {
    let job = videos::clip(service, account, id).await?;
    service.delete(account, &job.id).await?;
    Ok(Json(json!({"id": id, "object": "video.deleted", "deleted": true})))
}

/// A clip as OpenAI tells it.
fn object(job: &Job) -> Value {
    let status = match job.state {
        JobState::Queued => "queued",
        JobState::Running => "in_progress",
        JobState::Done | JobState::Expired => "completed",
        JobState::Failed | JobState::Cancelled | JobState::Moderated => "failed",
    };
    let error = match job.state {
        JobState::Failed | JobState::Cancelled => {
            let (code, message) = videos::failure(job);
            Some(json!({"code": code, "message": message}))
        }
        JobState::Moderated => {
            errors::job_error(job, "video").map(|e| json!({"code": "content_moderated", "message": e.message}))
        }
        _ => None,
    };
    let output = job.outputs.first().map(|o| &o.asset);
    let size = output.map(|a| format!("{}x{}", a.width, a.height));
    let asked = job.spec.extra["size"].as_str().map(str::to_string);
    let seconds = output.map(|a| a.seconds).or(job.spec.seconds.map(f64::from)).unwrap_or_default();
    json!({
        "id": format!("video_{}", job.id),
        "object": "video",
        "created_at": time::seconds(job.created_at),
        "completed_at": job.finished_at.filter(|_| status == "completed").map(time::seconds),
        "expires_at": job.expires_at.map(time::seconds),
        "status": status,
        "model": job.spec.model,
        "progress": if status == "completed" { 100 } else { job.progress.min(99) },
        "prompt": job.spec.prompt,
        "seconds": format!("{}", seconds.round()),
        "size": size.or(asked).unwrap_or_default(),
        "quality": "standard",
        "remixed_from_video_id": job.spec.extra["remixed_from_video_id"],
        "error": error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_become_ratio_and_lines() {
        for (size, wanted) in [
            ("1280x720", Some(("16:9", "720p"))),
            ("720x1280", Some(("9:16", "720p"))),
            ("1792x1024", Some(("16:9", "1080p"))),
            ("1024x1792", Some(("9:16", "1080p"))),
            ("854x480", Some(("16:9", "480p"))),
            ("640x480", Some(("4:3", "480p"))),
            ("480x480", Some(("1:1", "480p"))),
            ("1280x300", None),
            ("4096x4096", None),
            ("big", None),
            ("0x0", None),
            ("-1x5", None),
        ] {
            assert_eq!(frame_size(size).ok(), wanted, "{size}");
        }
    }
}
