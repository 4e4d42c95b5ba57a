//! `/openapi.json` and `/docs`.

use std::sync::OnceLock;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{ComponentsBuilder, RefOr};

use super::routes::{ROUTES, Route};
use super::{docs, openai, requests, tasks};
use crate::service::Service;

/// `POST /v1/videos/{id}/remix`.
#[derive(ToSchema)]
#[allow(dead_code, reason = "shown in the document only")]
struct RemixRequest {
    /// What changes.
    prompt: String,
}

/// `PATCH /v1/generations/{id}`.
#[derive(ToSchema)]
#[allow(dead_code, reason = "shown in the document only")]
struct MoveRequest {
    /// The folder; null: none.
    folder_id: Option<String>,
}

/// `POST /v1/folders`.
#[derive(ToSchema)]
#[allow(dead_code, reason = "shown in the document only")]
struct FolderRequest {
    /// 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
}

/// `POST /v1/files`, multipart/form-data.
#[derive(ToSchema)]
#[allow(dead_code, reason = "shown in the document only")]
struct UploadRequest {
    /// The file.
    #[schema(value_type = String, format = Binary)]
    file: String,
    /// What it is for; kept as it is.
    purpose: Option<String>,
    /// Seconds that it lives.
    #[schema(minimum = 1, maximum = 2_592_000)]
    expires_after: Option<i64>,
}

/// `POST /v1/files/{id}/public-url`.
#[derive(ToSchema)]
#[allow(dead_code, reason = "shown in the document only")]
struct PublishRequest {
    /// Seconds that the URL lives.
    #[schema(minimum = 3600, maximum = 2_592_000)]
    expires_after: Option<i64>,
}

/// `POST /v1/batches`.
#[derive(ToSchema)]
#[allow(dead_code, reason = "shown in the document only")]
struct BatchRequest {
    /// A name of yours.
    name: Option<String>,
    /// A file of lines `{"custom_id", "method": "POST", "url": "/v1/images/generations", "body"}`.
    input_file_id: String,
}

/// An error.
#[derive(ToSchema)]
#[allow(dead_code, reason = "shown in the document only")]
struct ErrorBody {
    /// `invalid-argument`, `imagine:content-moderated`, `unauthenticated`, `permission-denied`, `not-found`, `conflict`, `resource-exhausted`, ...
    code: String,
    /// One line: field, what is wrong, what to do.
    error: String,
}

/// Routes of this module; they need no key.
pub(super) fn router() -> Router<Service> {
    Router::new().route("/openapi.json", get(json)).route("/docs", get(page))
}

async fn json() -> impl IntoResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| document().to_string());
    ([(header::CONTENT_TYPE, "application/json")], text.as_str())
}

async fn page() -> impl IntoResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| docs::page(&document()));
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text.as_str())
}

/// Component schemas by name.
fn schemas() -> Value {
    macro_rules! all {
        ($($body:ty),* $(,)?) => {{
            let mut found = Vec::new();
            $(
                found.push((<$body as ToSchema>::name().into_owned(), <$body as utoipa::PartialSchema>::schema()));
                <$body as ToSchema>::schemas(&mut found);
            )*
            found
        }};
    }
    let found: Vec<(String, RefOr<utoipa::openapi::Schema>)> = all![
        requests::ImageRequest,
        requests::VideoRequest,
        requests::ClipRequest,
        requests::LocalRequest,
        openai::CreateVideoRequest,
        tasks::TaskRequest,
        RemixRequest,
        MoveRequest,
        FolderRequest,
        UploadRequest,
        PublishRequest,
        BatchRequest,
        ErrorBody,
    ];
    let components = ComponentsBuilder::new().schemas_from_iter(found).build();
    let mut schemas = serde_json::to_value(components).unwrap_or_default()["schemas"].take();
    // Every generation takes the fields of `LocalRequest`.
    let local = schemas["LocalRequest"]["properties"].as_object().cloned().unwrap_or_default();
    for name in ["ImageRequest", "VideoRequest", "ClipRequest"] {
        if let Some(properties) = schemas[name]["properties"].as_object_mut() {
            properties.extend(local.clone());
        }
    }
    schemas
}

/// The OpenAPI 3.1 document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let item = paths.entry(format!("/v1{}", route.path)).or_insert_with(|| json!({}));
        item[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Borealis",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Pictures, clips and sound from words, on this machine. The routes are xAI's Imagine API, OpenAI's images and videos, and a task \
                API; all of them are also under /inline/v1 (results as data: URLs) and /proxy/xai/v1.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "`borealis keys create`"}},
        },
    })
}

fn operation(route: &Route) -> Value {
    let place = |name: &str, place: &str| json!({"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}});
    let in_path = route.path.contains("{id}").then(|| place("id", "path"));
    let parameters: Vec<_> = in_path.into_iter().chain(route.query.iter().map(|name| place(name, "query"))).collect();
    let error = |text: &str| json!({"description": text, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}});
    let kinds = if route.answer.starts_with('{') { "application/json" } else { route.answer };
    let content: Map<String, Value> = kinds.split(", ").map(|kind| (kind.into(), json!({}))).collect();
    let mut responses = json!({
        route.status.to_string(): {"description": route.answer, "content": content},
        "400": error("A value that makes no sense, or a prompt that is not made"),
        "401": error("No key, or a wrong one"),
        "402": error("No credits left, where the operator has set prices; 403 or 429 by configuration"),
        "403": error("The key may not do this"),
        "404": error("No such thing, or somebody else's"),
        "409": error("The same Idempotency-Key or name for something else, or the job was cancelled"),
        "413": error("Too many bytes"),
        "429": error("Too many requests: see Retry-After"),
        "503": error("Not now: see Retry-After"),
        "507": error("The server's disk is full"),
    });
    if route.path.ends_with("/content") {
        responses["206"] = json!({"description": "A part of the bytes", "content": responses["200"]["content"]});
        responses["416"] = json!({"description": "The part is outside of the file"});
    }
    if route.path == "/videos/{id}" && route.method == "get" {
        responses["202"] = json!({"description": "{status: pending, progress}", "content": {"application/json": {}}});
    }
    let id = format!("{}{}", route.method, route.path.replace(['/', '-', ':'], "_").replace(['{', '}'], ""));
    let mut operation = json!({
        "operationId": id,
        "tags": [route.tag],
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses,
    });
    if !route.body.is_empty() {
        let schema = json!({"schema": {"$ref": format!("#/components/schemas/{}", route.body)}});
        let mut content = Map::new();
        if route.body != "UploadRequest" {
            content.insert("application/json".into(), schema.clone());
        }
        if matches!(route.body, "UploadRequest" | "CreateVideoRequest") || route.path == "/images/edits" {
            content.insert("multipart/form-data".into(), schema);
        }
        operation["requestBody"] = json!({"required": route.body != "PublishRequest", "content": content});
        operation["responses"]["415"] = error("A body that is neither JSON nor a form");
        operation["responses"]["422"] = error("A field of the wrong type, or a missing one");
    }
    operation
}
