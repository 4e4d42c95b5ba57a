//! The task dialect of resellers: `{"model", "input"}`, `GET /v1/tasks/{id}`, `callback_url`.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::body::{Media, Payload, flag, list, whole};
use super::translate::{one_of, resolve, within};
use super::{Answer, Caller, Flavor, errors, images, time, videos};
use crate::service::{Account, ApiError, Dialect, Idempotency, Job, JobKind, JobState, MediaKind, Service, Spec};

const RATIOS: &[&str] = &["2:3", "3:2", "1:1", "16:9", "9:16"];
/// Longest prompt of this dialect, characters.
const MAX_PROMPT: usize = 5000;
/// Most seconds made in one piece.
const PIECE: u32 = 15;

/// A task as it is sent.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct TaskRequest {
    /// `grok-imagine-text-to-video`, `grok-imagine-image-to-video`, or any video model.
    pub model: Option<String>,
    /// What to make.
    pub input: TaskInput,
    /// Told when the task has ended.
    pub callback_url: Option<String>,
}

/// What a task makes.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct TaskInput {
    /// At most 5,000 characters; may be empty when pictures are given. `@image1` names the first one.
    #[serde(default)]
    pub prompt: String,
    /// `2:3`, `3:2`, `1:1`, `16:9`, `9:16`; a single picture decides it itself.
    #[schema(default = "2:3")]
    pub aspect_ratio: Option<String>,
    /// Seconds, 6 to 30; longer than 15 is made by continuing.
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<i32>, minimum = 6, maximum = 30, default = 6)]
    pub duration: Option<i128>,
    /// `480p` or `720p`.
    #[schema(default = "480p")]
    pub resolution: Option<String>,
    /// `fun`, `normal`, `spicy` (text only, and only where the operator allows it).
    #[schema(default = "normal")]
    pub mode: Option<String>,
    /// 1 to 7 pictures: one is the first frame, several are references.
    #[serde(default, deserialize_with = "list")]
    #[schema(value_type = Vec<String>, max_items = 7, required = false)]
    pub image_urls: Vec<Media>,
    /// Cannot switch the operator's rules off; accepted.
    #[serde(default, deserialize_with = "flag")]
    #[schema(default = true)]
    #[allow(dead_code, reason = "checked for its type only: a client cannot switch the operator's rules off")]
    pub nsfw_checker: Option<bool>,
    /// The same seed makes the same clip (ours).
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<u64>)]
    pub seed: Option<i128>,
}

/// Starts a task.
pub(super) async fn create(
    service: &Service,
    account: &Account,
    payload: Payload,
    idempotency: Option<Idempotency>,
) -> Answer {
    let spec = translate(service, account, payload).await?;
    let id = service.submit(account, spec, idempotency).await?;
    let job = service.job(account, &id).await?;
    Ok(Json(object(service, &job, Flavor::default()).await?))
}

async fn translate(service: &Service, account: &Account, payload: Payload) -> Result<Spec, ApiError> {
    let request: TaskRequest = payload.parse()?;
    let input = request.input;
    let asked = request.model.unwrap_or_default();
    // The names of this dialect say the mode, not the checkpoint.
    let name = match asked.as_str() {
        "" | "grok-imagine-text-to-video" | "grok-imagine-image-to-video" => None,
        other => Some(other),
    };
    let model = service.resolve_model(name, JobKind::Video)?;
    check(&input, &asked)?;
    let duration = within("input.duration", input.duration, 6..=30u32)?.unwrap_or(6);
    let mode = one_of("input.mode", input.mode, &["fun", "normal", "spicy"])?.unwrap_or_else(|| "normal".into());
    if mode == "spicy" && !input.image_urls.is_empty() {
        return Err(ApiError::invalid("input.mode", "spicy is for text only: leave image_urls out, or use normal"));
    }
    let aspect = one_of("input.aspect_ratio", input.aspect_ratio, RATIOS)?;
    let mut spec = Spec::new(JobKind::Video, model.id.clone(), input.prompt);
    let pieces = pieces(duration);
    spec.seconds = pieces.first().copied();
    spec.chain_seconds = pieces.into_iter().skip(1).collect();
    spec.resolution = Some(one_of("input.resolution", input.resolution, &["480p", "720p"])?.unwrap_or("480p".into()));
    spec.seed = within("input.seed", input.seed.filter(|s| *s >= 0), 0..=u64::MAX)?;
    spec.webhook_url = request.callback_url.filter(|u| !u.is_empty());
    spec.dialect = Dialect::Task;
    spec.spicy = mode == "spicy";
    spec.extra = json!({"mode": mode, "model": asked});
    let mut assets = Vec::with_capacity(input.image_urls.len());
    for (i, media) in input.image_urls.iter().enumerate() {
        let field = format!("input.image_urls[{i}]");
        assets.push(resolve(service, account, &payload, media, MediaKind::Image, &field).await?);
    }
    if assets.len() == 1 {
        spec.image = assets.pop();
    } else {
        spec.references = assets;
        spec.aspect_ratio = Some(aspect.unwrap_or_else(|| "2:3".into()));
    }
    Ok(spec)
}

fn check(input: &TaskInput, model: &str) -> Result<(), ApiError> {
    let length = input.prompt.chars().count();
    if length > MAX_PROMPT {
        let message = format!("{length} characters are too many: use at most {MAX_PROMPT}");
        return Err(ApiError::invalid("input.prompt", message));
    }
    let pictures = input.image_urls.len();
    if pictures > 7 {
        return Err(ApiError::invalid("input.image_urls", format!("{pictures} pictures are too many: give 1 to 7")));
    }
    if model == "grok-imagine-image-to-video" && pictures == 0 {
        return Err(ApiError::invalid(
            "input.image_urls",
            "there is no picture: give 1 to 7, or use grok-imagine-text-to-video",
        ));
    }
    if model == "grok-imagine-text-to-video" && pictures > 0 {
        return Err(ApiError::invalid(
            "input.image_urls",
            "this model takes no pictures: use grok-imagine-image-to-video",
        ));
    }
    if pictures != 1 && input.prompt.trim().is_empty() {
        return Err(ApiError::invalid("input.prompt", "it is empty: say what to make"));
    }
    Ok(())
}

/// The seconds of the first clip and of its continuations, as even as whole seconds allow.
fn pieces(duration: u32) -> Vec<f32> {
    let count = duration.div_ceil(PIECE);
    (0..count).map(|i| (duration / count + u32::from(i < duration % count)) as f32).collect()
}

/// `GET /v1/tasks/{id}`.
pub(super) async fn get(
    State(service): State<Service>,
    Caller(account): Caller,
    Extension(flavor): Extension<Flavor>,
    Path(id): Path<String>,
) -> Answer {
    let job = videos::clip(&service, &account, &id).await?;
    Ok(Json(object(&service, &job, flavor).await?))
}

/// `DELETE /v1/tasks/{id}`: cancels.
pub(super) async fn delete(State(service): State<Service>, Caller(account): Caller, Path(id): Path<String>) -> Answer {
    let job = videos::clip(&service, &account, &id).await?;
    let job = service.cancel(&account, &job.id).await?;
    Ok(Json(object(&service, &job, Flavor::default()).await?))
}

/// A task as it is told.
pub(crate) async fn object(service: &Service, job: &Job, flavor: Flavor) -> Result<Value, ApiError> {
    let status = match job.state {
        JobState::Queued => "pending",
        JobState::Running => "processing",
        JobState::Done => "completed",
        JobState::Failed | JobState::Cancelled | JobState::Moderated | JobState::Expired => "failed",
    };
    let mut results = Vec::with_capacity(job.outputs.len());
    for (n, output) in job.outputs.iter().enumerate() {
        results.push(images::url(service, job, n, output, flavor).await?);
    }
    let error = match job.state {
        JobState::Moderated | JobState::Expired => errors::job_error(job, "video").map(|e| {
            let flat = errors::flat(&e);
            json!({"code": flat["code"], "message": flat["error"]})
        }),
        JobState::Failed | JobState::Cancelled => {
            let (code, message) = videos::failure(job);
            Some(json!({"code": code, "message": message}))
        }
        _ => None,
    };
    let asked = job.spec.extra["model"].as_str().filter(|m| !m.is_empty()).unwrap_or(&job.spec.model);
    let mut body = json!({
        "id": format!("task_{}", job.id),
        "object": "video.generation.task",
        "model": asked,
        "status": status,
        "progress": if job.state == JobState::Done { 100 } else { job.progress.min(99) },
        "created": time::seconds(job.created_at),
        "results": results,
        "error": error,
        "usage": {"cost_in_usd_ticks": job.cost_ticks},
    });
    videos::show_live(service, job, &mut body);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up_and_are_short_enough() {
        for duration in 6..=30 {
            let pieces = pieces(duration);
            assert_eq!(pieces.iter().sum::<f32>(), duration as f32);
            assert!(pieces.iter().all(|p| (1.0..=15.0).contains(p)), "{pieces:?}");
        }
        assert_eq!(pieces(17), [9.0, 8.0]);
        assert_eq!(pieces(15), [15.0]);
    }
}
