//! The Files API: what clients upload, and results that `storage_options` kept.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Payload, whole};
use super::translate::{MAX_LIFE, MIN_PUBLIC, within};
use super::{Answer, Caller, Params, time};
use crate::service::{ApiError, Service, StoredFile};
use crate::urls;

/// Longest purpose, characters.
const MAX_NAME: usize = 255;

pub(super) fn router() -> Router<Service> {
    Router::new()
        .route("/files", post(upload).get(list))
        .route("/files/{id}", get(one).delete(delete))
        .route("/files/{id}/content", get(content))
        .route("/files/{id}/public-url", post(publish))
        .route("/files/{id}/public-url/revoke", post(revoke))
}

/// Fields that take seconds.
#[derive(Debug, Default, Deserialize)]
struct Life {
    #[serde(default, deserialize_with = "whole")]
    expires_after: Option<i128>,
    #[serde(default)]
    purpose: String,
    #[serde(default)]
    filename: Option<String>,
}

/// `POST /v1/files`, multipart: `file`, `purpose`, `expires_after`.
async fn upload(State(service): State<Service>, Caller(account): Caller, mut payload: Payload) -> Answer {
    // OpenAI's `expires_after[anchor]`, `expires_after[seconds]`.
    let nested = payload.fields.get("expires_after").and_then(|v| v.get("seconds")).cloned();
    if let Some(seconds) = nested {
        payload.fields.insert("expires_after".into(), seconds);
    }
    let life: Life = payload.parse()?;
    let expires_after = within("expires_after", life.expires_after, 1..=MAX_LIFE)?;
    let missing = || ApiError::invalid("file", "there is no file: send multipart/form-data with a part \"file\"");
    let index = payload.fields.get("file").and_then(|f| f.get("upload")).and_then(Value::as_u64).ok_or_else(missing)?;
    let file = payload.files.get(index as usize).ok_or_else(missing)?;
    if file.bytes.is_empty() {
        return Err(ApiError::invalid("file", "it is empty: send a file with content"));
    }
    let name = life.filename.or_else(|| file.filename.clone()).filter(|n| !n.is_empty()).unwrap_or("file".into());
    if name.chars().count() > MAX_NAME || life.purpose.chars().count() > MAX_NAME {
        return Err(ApiError::invalid(
            "file",
            format!("its name or purpose is too long: use at most {MAX_NAME} characters"),
        ));
    }
    let stored = service.put_file(&account, &name, &life.purpose, file.bytes.clone(), expires_after).await?;
    Ok(Json(object(&stored)))
}

/// `GET /v1/files?limit&pagination_token&order`.
async fn list(State(service): State<Service>, Caller(account): Caller, params: Params) -> Answer {
    let limit = params.whole("limit", 1..=100)?.unwrap_or(20) as u32;
    let after = params.text("pagination_token").or(params.text("after"));
    let page = service.list_files(&account, limit, after, !params.descending(true)?).await?;
    Ok(Json(json!({
        "object": "list",
        "data": page.items.iter().map(object).collect::<Vec<_>>(),
        "has_more": page.next.is_some(),
        "pagination_token": page.next,
    })))
}

async fn one(State(service): State<Service>, Caller(account): Caller, Path(id): Path<String>) -> Answer {
    Ok(Json(object(&service.file(&account, &id).await?)))
}

async fn delete(State(service): State<Service>, Caller(account): Caller, Path(id): Path<String>) -> Answer {
    service.delete_file(&account, &id).await?;
    Ok(Json(json!({"id": id, "object": "file", "deleted": true})))
}

/// `GET /v1/files/{id}/content`: the bytes, to be saved, never to be rendered.
async fn content(
    State(service): State<Service>,
    Caller(account): Caller,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file = service.file(&account, &id).await?;
    let mut response = urls::blob(&service, &file.sha256, &file.mime, &method, &headers).await;
    response.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    Ok(response)
}

/// `POST /v1/files/{id}/public-url`; the body may be empty.
async fn publish(
    State(service): State<Service>,
    Caller(account): Caller,
    Path(id): Path<String>,
    body: axum::body::Bytes,
) -> Answer {
    let life: Life = if body.is_empty() { Life::default() } else { Payload::read_json(&body)?.parse()? };
    let expires_after = within("expires_after", life.expires_after, MIN_PUBLIC..=MAX_LIFE)?;
    let file = service.publish_file(&account, &id, expires_after).await?;
    Ok(Json(json!({"public_url": file.public_url, "expires_at": file.public_expires_at.map(time::seconds)})))
}

/// `POST /v1/files/{id}/public-url/revoke`.
async fn revoke(State(service): State<Service>, Caller(account): Caller, Path(id): Path<String>) -> Answer {
    let before = service.file(&account, &id).await?;
    service.unpublish_file(&account, &id).await?;
    let revoked = before.public_url.is_some();
    Ok(Json(json!({"id": id, "public_url": before.public_url, "revoked": revoked})))
}

/// A file as it is told; times are Unix seconds.
fn object(file: &StoredFile) -> Value {
    let mut body = json!({
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": time::seconds(file.created_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    });
    let set = [
        ("expires_at", file.expires_at.map(time::seconds).map(Value::from)),
        ("public_url", file.public_url.clone().map(Value::from)),
        ("public_url_expires_at", file.public_expires_at.map(time::seconds).map(Value::from)),
    ];
    for (name, value) in set {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    body
}

/// `file_output` of a result.
pub(super) fn output(file: &StoredFile, public: bool) -> Value {
    let mut body = json!({"file_id": file.id, "filename": file.filename});
    if let Some(at) = file.expires_at {
        body["expires_at"] = time::seconds(at).into();
    }
    match &file.public_url {
        Some(url) => body["public_url"] = url.clone().into(),
        None if public => body["public_url_error"] = "the file has no public URL (any more)".into(),
        None => {}
    }
    if let Some(at) = file.public_expires_at {
        body["public_url_expires_at"] = time::seconds(at).into();
    }
    body
}
