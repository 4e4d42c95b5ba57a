//! REST: xAI's dialect, OpenAI's, a reseller's tasks, and what the page needs. All of it translates to [`Service`].
//!
//! The same routes are served under `/v1`, under `/inline/v1` (results come as `data:` URLs, for clients that refuse loopback addresses) and under
//! `/proxy/xai/v1` (ComfyUI's prefix).

mod batches;
mod body;
mod docs;
pub(crate) mod errors;
mod files;
mod generations;
mod images;
mod models;
mod openai;
pub(crate) mod openapi;
mod requests;
mod routes;
mod tasks;
#[cfg(test)]
mod tests;
mod time;
mod translate;
mod usage;
mod videos;

use std::convert::Infallible;

use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::http::request::Parts;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::Value;

pub(crate) use self::batches::{of_file as batch_of_file, spec};
pub(crate) use self::time::rfc3339;
use crate::service::{Account, ApiError, ApiErrorKind, Job, Service};

/// How results are named in answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flavor {
    /// `data:` URLs instead of addresses.
    pub(crate) inline: bool,
}

/// Answers of handlers: JSON, or an error in xAI's shape.
type Answer = Result<Json<Value>, ApiError>;

/// Every route of this module.
pub fn router() -> Router<Service> {
    Router::new()
        .nest("/v1", dialects(Flavor::default()))
        .nest("/inline/v1", dialects(Flavor { inline: true }))
        .nest("/proxy/xai/v1", dialects(Flavor::default()))
        .merge(openapi::router())
        .fallback(errors::no_route)
        .method_not_allowed_fallback(errors::no_method)
        // The layer around all routes limits bodies.
        .layer(DefaultBodyLimit::disable())
}

fn dialects(flavor: Flavor) -> Router<Service> {
    Router::new()
        .route("/images/generations", post(images::generate))
        .route("/images/edits", post(images::edit))
        .route("/videos/generations", post(videos::generate))
        .route("/videos/edits", post(videos::edit))
        .route("/videos/extensions", post(videos::extend))
        .route("/videos", post(openai::create).get(openai::list))
        .route("/videos/{id}", get(videos::get).delete(videos::delete))
        .route("/videos/{id}/content", get(openai::content))
        .route("/videos/{id}/frame", get(videos::frame))
        .route("/videos/{id}/remix", post(openai::remix))
        .route("/tasks/{id}", get(tasks::get).delete(tasks::delete))
        .merge(models::router())
        .merge(files::router())
        .merge(batches::router())
        .merge(generations::router())
        .route("/usage", get(usage::get))
        .layer(Extension(flavor))
}

/// A task as its `callback_url` is told.
pub(crate) async fn task_object(service: &Service, job: &Job) -> Result<Value, ApiError> {
    tasks::object(service, job, Flavor::default()).await
}

/// The job's own id behind a dialect's prefix.
pub(crate) fn plain_id(id: &str) -> &str {
    id.strip_prefix("video_").or_else(|| id.strip_prefix("task_")).unwrap_or(id)
}

/// Who calls, as the authentication layer said.
pub(crate) struct Caller(pub(crate) Account);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Account>().cloned().map(Self).ok_or_else(|| {
            let message = "there is no API key: send the header Authorization: Bearer KEY";
            ApiError::new(ApiErrorKind::Unauthenticated, message)
        })
    }
}

/// The query of an address, forgiving: the last value of each name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

impl Params {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// A whole number in its range.
    fn whole(&self, name: &str, range: std::ops::RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number =
            text.parse::<i128>().map_err(|_| ApiError::invalid(name, format!("\"{text}\" is not a number")))?;
        translate::within(name, Some(number), range)
    }

    fn descending(&self, default: bool) -> Result<bool, ApiError> {
        match self.text("order") {
            None => Ok(default),
            Some("asc" | "ascending") => Ok(false),
            Some("desc" | "descending") => Ok(true),
            Some(other) => Err(ApiError::invalid("order", format!("\"{other}\" is not known: use asc or desc"))),
        }
    }
}
