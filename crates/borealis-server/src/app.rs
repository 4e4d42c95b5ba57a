//! All routes, and the layers around them.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body_util::Limited;
use serde_json::json;

use crate::auth::{is_grpc, refuse};
use crate::config::{MAX_BODY, MAX_UPLOAD_BODY};
use crate::error::{ApiError, ApiErrorKind};
use crate::service::Service;
use crate::{auth, grpc, metrics, playground, rest, urls};

/// Everything on the port. From the outside in: count, limit the body, ask for a key, then gRPC or REST.
pub(crate) fn router(service: Service) -> Router {
    let own = Router::new()
        .route("/healthz", get(|| async { Json(json!({ "status": "ok" })) }))
        .route("/readyz", get(ready))
        .route("/metrics", get(counters));
    let http = own.merge(urls::router()).merge(playground::router()).merge(rest::router()).with_state(service.clone());
    grpc::beside(http, service.clone())
        .layer(middleware::from_fn_with_state(service.clone(), auth::layer))
        .layer(middleware::from_fn(limit))
        .layer(middleware::from_fn_with_state(service, count))
}

/// 200 when work can be done, else 503 with the reason; says whether pictures are looked at by a classifier.
async fn ready(State(service): State<Service>) -> Response {
    let classifier = service.moderation().has_classifier();
    match service.ready().await {
        Ok(workers) => {
            let workers: Vec<_> =
                workers.iter().filter_map(|info| serde_json::from_str::<serde_json::Value>(info).ok()).collect();
            Json(json!({ "status": "ready", "workers": workers, "image_classifier": classifier })).into_response()
        }
        Err(error) => {
            let body = json!({ "status": "not ready", "reason": error.message, "image_classifier": classifier });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

async fn counters(State(service): State<Service>) -> Response {
    let counted =
        async { Ok::<_, crate::ServerError>((service.store().counts().await?, service.store().workers().await?)) };
    match counted.await {
        Ok((jobs, workers)) => {
            let text = service.metrics().text(&jobs, &workers);
            ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
        }
        Err(error) => refuse(&error.into(), false),
    }
}

/// Refuses bodies that say that they are too long, and cuts those that do not.
async fn limit(request: Request, next: Next) -> Response {
    let grpc = is_grpc(request.headers());
    let most = most(request.uri().path(), grpc);
    if declared(request.headers()).is_some_and(|length| length > most) {
        let message = format!("the body is too long: at most {most} bytes are read");
        return refuse(&ApiError::new(ApiErrorKind::PayloadTooLarge, message), grpc);
    }
    let limited =
        request.map(|body| axum::body::Body::new(Limited::new(body, usize::try_from(most).unwrap_or(usize::MAX))));
    next.run(limited).await
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Most bytes of a body: files, and streams of gRPC messages, may be longer.
fn most(path: &str, grpc: bool) -> u64 {
    let files = ["/v1/files", "/inline/v1/files", "/proxy/xai/v1/files"];
    if grpc || files.contains(&path) { MAX_UPLOAD_BODY } else { MAX_BODY }
}

/// Counts and logs every answer; addresses without their queries, which hold signatures.
async fn count(State(service): State<Service>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), begin.elapsed());
    service.metrics().answered(metrics::area(&path), status, took);
    tracing::debug!(%method, path, status, ms = took.as_millis() as u64, "answered");
    response
}
