//! What an account has made, and its folders: for the page and for scripts that tidy up.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, patch};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Payload;
use super::{Answer, Caller, Params, errors, images, time, videos};
use crate::service::{Account, ApiError, Dialect, Folder, Job, JobFilter, JobKind, JobState, Service, Spec};

/// Longest name of a folder, characters.
const MAX_NAME: usize = 100;

pub(super) fn router() -> Router<Service> {
    Router::new()
        .route("/generations", get(list))
        .route("/generations/{id}", get(one).patch(change).delete(delete))
        .route("/folders", get(folders).post(create_folder))
        .route("/folders/{id}", patch(rename_folder).delete(delete_folder))
}

/// `GET /v1/generations?folder_id&kind&limit&pagination_token&order`, newest first.
async fn list(State(service): State<Service>, Caller(account): Caller, params: Params) -> Answer {
    let kinds = match params.text("kind") {
        None => Vec::new(),
        Some("image") => vec![JobKind::Image, JobKind::EditImage],
        Some("video") => vec![JobKind::Video, JobKind::EditVideo, JobKind::Extend],
        Some(_) => return Err(ApiError::invalid("kind", "it is not known: use image or video")),
    };
    let filter = JobFilter {
        kinds,
        // `none`: what lies in no folder.
        folder: params.text("folder_id").map(|id| if id == "none" { "" } else { id }.to_string()),
        limit: params.whole("limit", 1..=100)?.unwrap_or(20) as u32,
        after: params.text("pagination_token").map(str::to_string),
        ascending: !params.descending(true)?,
        ..JobFilter::default()
    };
    let page = service.list(&account, &filter).await?;
    let mut data = Vec::with_capacity(page.items.len());
    for job in &page.items {
        data.push(object(&service, &account, job).await?);
    }
    Ok(Json(json!({"data": data, "pagination_token": page.next})))
}

async fn one(State(service): State<Service>, Caller(account): Caller, Path(id): Path<String>) -> Answer {
    let job = service.job(&account, super::plain_id(&id)).await?;
    Ok(Json(object(&service, &account, &job).await?))
}

#[derive(Debug, Deserialize)]
struct Change {
    folder_id: Option<String>,
}

/// `PATCH /v1/generations/{id} {"folder_id": ...}`; null takes it out of its folder.
async fn change(
    State(service): State<Service>,
    Caller(account): Caller,
    Path(id): Path<String>,
    payload: Payload,
) -> Answer {
    let change: Change = payload.parse()?;
    let folder = change.folder_id.filter(|f| !f.is_empty());
    let job = service.move_job(&account, super::plain_id(&id), folder.as_deref()).await?;
    Ok(Json(object(&service, &account, &job).await?))
}

/// `DELETE /v1/generations/{id}`: stops what runs, removes what has ended.
async fn delete(State(service): State<Service>, Caller(account): Caller, Path(id): Path<String>) -> Answer {
    let job = service.job(&account, super::plain_id(&id)).await?;
    let running = !job.state.is_final();
    if running {
        service.cancel(&account, &job.id).await?;
    } else {
        service.delete(&account, &job.id).await?;
    }
    Ok(Json(json!({"id": job.id, "cancelled": running, "deleted": !running})))
}

/// A job with everything that its owner may want to see.
async fn object(service: &Service, account: &Account, job: &Job) -> Result<Value, ApiError> {
    let status = match job.state {
        JobState::Queued => "queued",
        JobState::Running => "pending",
        state => state.name(),
    };
    let mut outputs = Vec::with_capacity(job.outputs.len());
    for (n, output) in job.outputs.iter().enumerate() {
        let asset = &output.asset;
        let mut item = json!({
            "url": service.output_url(job, n),
            "mime_type": asset.mime,
            "width": asset.width,
            "height": asset.height,
            "duration": asset.seconds,
            "frames": output.frames,
            "bytes": asset.size,
        });
        images::keep_note(service, account, &job.spec, output, &mut item).await;
        outputs.push(item);
    }
    let mut body = json!({
        "id": job.id,
        "kind": job.spec.kind,
        "status": status,
        "progress": job.progress,
        "prompt": job.spec.prompt,
        "model": job.spec.model,
        "aspect_ratio": job.spec.aspect_ratio,
        "resolution": job.spec.resolution,
        "seed": job.spec.seed,
        "n": job.spec.n,
        "folder_id": service.folder_of(account, &job.id).await?,
        "created_at": time::seconds(job.created_at),
        "finished_at": job.finished_at.map(time::seconds),
        "expires_at": job.expires_at.map(time::seconds),
        "outputs": outputs,
        "error": problem(job),
        "usage": images::usage(job),
        "request": request(&job.spec),
    });
    videos::show_live(service, job, &mut body);
    Ok(body)
}

fn problem(job: &Job) -> Option<Value> {
    match job.state {
        JobState::Failed => {
            let (code, message) = videos::failure(job);
            Some(json!({"code": code, "message": message}))
        }
        JobState::Moderated => {
            let what = if job.spec.kind.is_still() { "image" } else { "video" };
            let flat = errors::flat(&errors::job_error(job, what)?);
            Some(json!({"code": flat["code"], "message": flat["error"]}))
        }
        _ => None,
    }
}

/// The call that makes the same again, in xAI's spelling. What was given as a file is named by an address of ours.
fn request(spec: &Spec) -> Value {
    let path = match spec.kind {
        JobKind::Image => "/v1/images/generations",
        JobKind::EditImage => "/v1/images/edits",
        JobKind::Video => "/v1/videos/generations",
        JobKind::EditVideo => "/v1/videos/edits",
        JobKind::Extend => "/v1/videos/extensions",
    };
    let mut body = json!({"model": spec.model, "prompt": spec.prompt, "n": spec.n, "seed": spec.seed});
    let set = [
        ("duration", spec.seconds.map(|s| json!(s.round() as i64))),
        ("aspect_ratio", spec.aspect_ratio.clone().map(Value::from)),
        ("resolution", spec.resolution.clone().map(Value::from)),
        ("guidance", spec.guidance.map(Value::from)),
        ("preset", spec.preset.clone().map(Value::from)),
        ("generate_audio", (!spec.kind.is_still() && !spec.audio).then_some(Value::from(false))),
    ];
    for (name, value) in set {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    let complete = spec.image.is_none() && spec.video.is_none() && spec.references.is_empty();
    json!({"path": path, "body": body, "complete": complete && spec.dialect != Dialect::Task})
}

/// `GET /v1/folders`.
async fn folders(State(service): State<Service>, Caller(account): Caller) -> Answer {
    let folders = service.folders(&account).await?;
    Ok(Json(json!({"data": folders.iter().map(folder).collect::<Vec<_>>()})))
}

fn folder(folder: &Folder) -> Value {
    json!({
        "id": folder.id,
        "name": folder.name,
        "count": folder.items,
        "created_at": time::seconds(folder.created_at),
    })
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

fn name(payload: &Payload) -> Result<String, ApiError> {
    let name = payload.parse::<Named>()?.name.trim().to_string();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(ApiError::invalid("name", format!("use 1 to {MAX_NAME} characters on one line")));
    }
    Ok(name)
}

async fn create_folder(
    State(service): State<Service>,
    Caller(account): Caller,
    payload: Payload,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let made = service.create_folder(&account, &name(&payload)?).await?;
    Ok((StatusCode::CREATED, Json(folder(&made))))
}

async fn rename_folder(
    State(service): State<Service>,
    Caller(account): Caller,
    Path(id): Path<String>,
    payload: Payload,
) -> Answer {
    let renamed = service.rename_folder(&account, &id, &name(&payload)?).await?;
    Ok(Json(folder(&renamed)))
}

/// `DELETE /v1/folders/{id}`: what lies in it stays, in no folder.
async fn delete_folder(State(service): State<Service>, Caller(account): Caller, Path(id): Path<String>) -> Answer {
    service.delete_folder(&account, &id).await?;
    Ok(Json(json!({"id": id, "deleted": true})))
}
