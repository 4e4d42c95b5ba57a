//! `POST /v1/images/generations` and `/v1/images/edits`: answers when the pictures are there.

use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::body::Payload;
use super::translate::{self, marked};
use super::{Answer, Caller, Flavor, errors, files, time};
use crate::service::{Account, ApiError, ApiErrorKind, CancelOnDrop, Dialect, Job, Output, Service, Spec};

/// The longest that a call waits; Node's clients give up after 300 s.
const WAIT: Duration = Duration::from_secs(280);

/// `POST /v1/images/generations`.
pub(super) async fn generate(
    State(service): State<Service>,
    Caller(account): Caller,
    Extension(flavor): Extension<Flavor>,
    payload: Payload,
) -> Answer {
    run(service, account, flavor, payload, "images/generations", false).await
}

/// `POST /v1/images/edits`, JSON or multipart.
pub(super) async fn edit(
    State(service): State<Service>,
    Caller(account): Caller,
    Extension(flavor): Extension<Flavor>,
    payload: Payload,
) -> Answer {
    run(service, account, flavor, payload, "images/edits", true).await
}

async fn run(service: Service, account: Account, flavor: Flavor, payload: Payload, path: &str, edit: bool) -> Answer {
    let idempotency = payload.idempotency(path);
    let dialect = if payload.is_form { Dialect::OpenAi } else { Dialect::Xai };
    let spec = marked(translate::image(&service, &account, payload, edit).await?, dialect);
    let repeatable = idempotency.is_some();
    let id = service.submit(&account, spec, idempotency).await?;
    let guard = CancelOnDrop::new(&service, &account, &id, repeatable);
    let job = service.wait(&account, &id, WAIT).await?;
    if !job.state.is_final() {
        let message = "the pictures are not ready after 280 s, the server is busy: try again later, or ask for fewer";
        return Err(ApiError::new(ApiErrorKind::Unavailable, message));
    }
    guard.release();
    if let Some(error) = errors::job_error(&job, "image") {
        return Err(error);
    }
    answer(&service, &account, &job, flavor).await.map(Json)
}

/// The body of a finished picture job.
pub(super) async fn answer(service: &Service, account: &Account, job: &Job, flavor: Flavor) -> Result<Value, ApiError> {
    let base64 = job.spec.extra["base64"] == true;
    let mut data = Vec::with_capacity(job.outputs.len());
    for (n, output) in job.outputs.iter().enumerate() {
        let mut item = json!({"mime_type": output.asset.mime, "respect_moderation": true});
        if base64 {
            item["b64_json"] = STANDARD.encode(service.read_asset(&output.asset).await?).into();
        } else {
            item["url"] = url(service, job, n, output, flavor).await?.into();
        }
        keep_note(service, account, &job.spec, output, &mut item).await;
        data.push(item);
    }
    Ok(json!({
        "created": time::seconds(job.created_at),
        "model": job.spec.model,
        "data": data,
        "usage": usage(job),
    }))
}

/// Where an output is: an address, or the bytes themselves.
pub(super) async fn url(
    service: &Service,
    job: &Job,
    n: usize,
    output: &Output,
    flavor: Flavor,
) -> Result<String, ApiError> {
    if flavor.inline {
        let bytes = service.read_asset(&output.asset).await?;
        return Ok(format!("data:{};base64,{}", output.asset.mime, STANDARD.encode(bytes)));
    }
    Ok(service.output_url(job, n))
}

/// Adds `file_output` or `storage_error` when the request had `storage_options`.
pub(super) async fn keep_note(service: &Service, account: &Account, spec: &Spec, output: &Output, item: &mut Value) {
    let Some(storage) = &spec.storage else { return };
    let kept = match &output.file_id {
        Some(id) => service.file(account, id).await,
        None => Err(ApiError::not_found("the result could not be kept as a file")),
    };
    match kept {
        Ok(file) => item["file_output"] = files::output(&file, storage.public_url.is_some()),
        Err(error) => item["storage_error"] = error.message.into(),
    }
}

/// Complete, because clients reject what is not.
pub(super) fn usage(job: &Job) -> Value {
    let usage = &job.usage;
    let input = usage.text_tokens + usage.image_tokens;
    json!({
        "cost_in_usd_ticks": job.cost_ticks,
        "input_tokens": input,
        "input_tokens_details": {"text_tokens": usage.text_tokens, "image_tokens": usage.image_tokens, "cached_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": usage.output_tokens, "reasoning_tokens": 0},
        "total_tokens": input + usage.output_tokens,
    })
}
