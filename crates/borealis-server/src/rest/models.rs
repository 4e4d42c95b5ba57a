//! Models, the key, the caller.

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::{Answer, Caller, time};
use crate::service::{Account, ApiError, ModelInfo, Service};

/// Longest prompt, as told to clients.
const MAX_PROMPT: u32 = 10_000;

pub(super) fn router() -> Router<Service> {
    Router::new()
        .route("/models", get(list))
        .route("/models/{id}", get(one))
        .route("/image-generation-models", get(image_list))
        .route("/image-generation-models/{id}", get(image_one))
        .route("/video-generation-models", get(video_list))
        .route("/video-generation-models/{id}", get(video_one))
        .route("/language-models", get(no_language))
        .route("/api-key", get(api_key))
        .route("/me", get(me))
}

/// A model by its id or another of its names, among those that `fits`.
fn find<'a>(service: &'a Service, id: &str, fits: fn(&ModelInfo) -> bool) -> Result<&'a ModelInfo, ApiError> {
    let named = |m: &&ModelInfo| fits(m) && (m.id == id || m.aliases.iter().any(|a| a == id));
    service.models().iter().find(named).ok_or_else(|| {
        let known: Vec<_> = service.models().iter().filter(|m| fits(m)).map(|m| m.id.as_str()).collect();
        let shown: String = id.chars().take(80).collect();
        ApiError::not_found(format!("there is no such model \"{shown}\": use one of {}", known.join(", ")))
    })
}

fn short(service: &Service, model: &ModelInfo) -> Value {
    let prices = &service.config().prices;
    let mut body = json!({"id": model.id, "created": model.created, "object": "model", "owned_by": model.owned_by});
    if model.image {
        body["image_price"] = prices.image_1k.into();
    }
    if model.video {
        body["video_price_per_second"] = json!({
            "480p": prices.video_480p, "720p": prices.video_720p, "1080p": prices.video_1080p,
        });
    }
    body
}

fn long(service: &Service, model: &ModelInfo, image: bool) -> Value {
    let mut body = json!({
        "id": model.id,
        "aliases": model.aliases,
        "created": model.created,
        "fingerprint": format!("fp_{}", model.checkpoint),
        "input_modalities": if image { json!(["text", "image"]) } else { json!(["text", "image", "video"]) },
        "output_modalities": [if image { "image" } else { "video" }],
        "object": "model",
        "owned_by": model.owned_by,
        "version": env!("CARGO_PKG_VERSION"),
    });
    if image {
        body["image_price"] = service.config().prices.image_1k.into();
        body["max_prompt_length"] = MAX_PROMPT.into();
    }
    body
}

async fn list(State(service): State<Service>) -> Json<Value> {
    let data: Vec<_> = service.models().iter().map(|m| short(&service, m)).collect();
    Json(json!({"object": "list", "data": data}))
}

async fn one(State(service): State<Service>, Path(id): Path<String>) -> Answer {
    Ok(Json(short(&service, find(&service, &id, |_| true)?)))
}

async fn image_list(State(service): State<Service>) -> Json<Value> {
    let models = service.models().iter().filter(|m| m.image).map(|m| long(&service, m, true));
    Json(json!({"models": models.collect::<Vec<_>>()}))
}

async fn image_one(State(service): State<Service>, Path(id): Path<String>) -> Answer {
    Ok(Json(long(&service, find(&service, &id, |m| m.image)?, true)))
}

async fn video_list(State(service): State<Service>) -> Json<Value> {
    let models = service.models().iter().filter(|m| m.video).map(|m| long(&service, m, false));
    Json(json!({"models": models.collect::<Vec<_>>()}))
}

async fn video_one(State(service): State<Service>, Path(id): Path<String>) -> Answer {
    Ok(Json(long(&service, find(&service, &id, |m| m.video)?, false)))
}

/// This server has no language models.
async fn no_language() -> Json<Value> {
    Json(json!({"models": []}))
}

fn key(account: &Account) -> Value {
    let made = time::rfc3339(account.created_at);
    json!({
        "redacted_api_key": account.redacted_key,
        "user_id": account.id,
        "name": account.name,
        "create_time": made,
        "modify_time": made,
        "modified_by": account.id,
        "team_id": account.id,
        "acls": account.acls,
        "api_key_id": account.key_id,
        "api_key_blocked": false,
        "api_key_disabled": false,
        "team_blocked": false,
    })
}

async fn api_key(Caller(account): Caller) -> Json<Value> {
    Json(key(&account))
}

async fn me(Caller(account): Caller) -> Json<Value> {
    Json(json!({
        "user_id": account.id,
        "team_id": account.id,
        "team_blocked": false,
        "zdr_status": "disabled",
        "api_key": key(&account),
        "oauth": null,
    }))
}
