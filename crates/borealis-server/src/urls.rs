//! Results under addresses that need no key: signed and expiring, or public because their owner said so.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE,
    RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;

use crate::auth::refuse;
use crate::error::ApiError;
use crate::secrets::Secret;
use crate::service::Service;
use crate::store::now_ms;
use crate::types::AssetRef;

/// What signatures of addresses are for.
const PURPOSE: &str = "url";

/// The ending of a file of that type.
pub(crate) fn ending(mime: &str) -> &'static str {
    match mime {
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "image/webp" => "webp",
        "video/mp4" => "mp4",
        "application/json" => "json",
        "application/jsonl" => "jsonl",
        _ => "bin",
    }
}

/// Path and query of an asset until `expires_at` (milliseconds).
pub(crate) fn signed_path(secret: &Secret, id: &str, mime: &str, expires_at: i64) -> String {
    let (name, until) = (format!("{id}.{}", ending(mime)), expires_at / 1000);
    let signature = secret.sign(PURPOSE, &format!("{name} {until}"));
    format!("/files/{name}?e={until}&s={signature}")
}

/// The asset id that a signed address of ours names, if its signature is right; it may have run out.
pub(crate) fn signed_id(secret: &Secret, url: &url::Url) -> Option<String> {
    let name = url.path().strip_prefix("/files/").or_else(|| url.path().split_once("/files/").map(|(_, name)| name))?;
    let of = |key: &str| url.query_pairs().find(|(k, _)| k == key).map(|(_, v)| v.into_owned());
    let (until, signature) = (of("e")?, of("s")?);
    let right = secret.verify(PURPOSE, &format!("{name} {until}"), &signature);
    right.then(|| name.rsplit_once('.').map_or(name, |(id, _)| id).to_string())
}

/// The query of a signed address.
#[derive(Deserialize)]
struct Signed {
    #[serde(default)]
    e: i64,
    #[serde(default)]
    s: String,
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    download: Option<String>,
}

/// Routes that need no key.
pub(crate) fn router() -> Router<Service> {
    Router::new().route("/files/{name}", get(signed)).route("/files/public/{name}", get(public))
}

async fn signed(
    State(service): State<Service>,
    Path(name): Path<String>,
    Query(query): Query<Signed>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let id = name.rsplit_once('.').map_or(name.as_str(), |(id, _)| id);
    if !service.secret().verify(PURPOSE, &format!("{name} {}", query.e), &query.s) || query.e < now_ms() / 1000 {
        return gone();
    }
    let found = match service.store().asset(id).await {
        Ok(found) => found,
        Err(error) => return refuse(&error.into(), false),
    };
    let Some((asset, _, _)) = found else {
        let live = query.stream.is_some_and(|flag| flag != "0");
        return if live { crate::live::watch(&service, id, &method).await } else { gone() };
    };
    let mut response = blob(&service, &asset.sha256, &asset.mime, &method, &headers).await;
    if query.download.is_some() {
        let value = format!("attachment; filename=\"{}.{}\"", asset.id, ending(&asset.mime));
        response.headers_mut().extend(HeaderValue::from_str(&value).ok().map(|value| (CONTENT_DISPOSITION, value)));
    }
    response
}

async fn public(
    State(service): State<Service>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let token = name.rsplit_once('.').map_or(name.as_str(), |(token, _)| token);
    match service.store().public_file(token).await {
        Ok(Some(file)) => blob(&service, &file.sha256, &file.mime, &method, &headers).await,
        Ok(None) => gone(),
        Err(error) => refuse(&error.into(), false),
    }
}

fn gone() -> Response {
    refuse(
        &ApiError::not_found("there is nothing under this address: it may have expired; ask for the job again"),
        false,
    )
}

/// A blob with Range and HEAD. Its type is ours, never the client's, and the browser must not guess another.
pub(crate) async fn blob(
    service: &Service,
    sha256: &str,
    mime: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Response {
    let size = match service.blobs().size(sha256).await {
        Ok(size) => size,
        Err(crate::ServerError::Blobs(object_store::Error::NotFound { .. })) => return gone(),
        Err(error) => return refuse(&error.into(), false),
    };
    let tag = format!("\"{}\"", sha256.get(..32).unwrap_or(sha256));
    let asked = headers.get(RANGE).filter(|_| headers.get(IF_RANGE).is_none_or(|own| own.as_bytes() == tag.as_bytes()));
    let range = match asked.and_then(|value| value.to_str().ok()).map_or(Ok(None), |text| parse_range(text, size)) {
        Ok(range) => range,
        Err(()) => {
            let unsatisfied = [(CONTENT_RANGE, format!("bytes */{size}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, unsatisfied).into_response();
        }
    };
    let (start, end) = range.unwrap_or((0, size));
    let body = if *method == Method::HEAD || start == end {
        Body::empty()
    } else {
        match service.blobs().stream(sha256, start..end).await {
            Ok(stream) => Body::from_stream(stream),
            Err(error) => return refuse(&error.into(), false),
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut set = |name: HeaderName, value: String| {
        response.headers_mut().extend(HeaderValue::from_str(&value).ok().map(|value| (name, value)));
    };
    set(CONTENT_TYPE, safe_type(mime).to_string());
    set(CONTENT_LENGTH, (end - start).to_string());
    set(ACCEPT_RANGES, "bytes".into());
    set(ETAG, tag);
    set(CACHE_CONTROL, "private, max-age=3600".into());
    set(http::header::X_CONTENT_TYPE_OPTIONS, "nosniff".into());
    set(http::header::CONTENT_SECURITY_POLICY, "default-src 'none'; media-src 'self'; img-src 'self'; sandbox".into());
    if range.is_some() {
        set(CONTENT_RANGE, format!("bytes {start}-{}/{size}", end.saturating_sub(1)));
    }
    response
}

/// Only types that a browser shows without running anything.
fn safe_type(mime: &str) -> &str {
    let known = ["image/jpeg", "image/png", "image/webp", "video/mp4", "application/json", "application/jsonl"];
    if known.contains(&mime) { mime } else { "application/octet-stream" }
}

/// One range of `bytes=`, as (start, end). Several ranges, and units that we do not know, are answered with everything; a range outside is an error.
fn parse_range(text: &str, size: u64) -> Result<Option<(u64, u64)>, ()> {
    let Some(range) = text.strip_prefix("bytes=") else { return Ok(None) };
    let Some((first, last)) = range.split_once('-').filter(|_| !range.contains(',')) else { return Ok(None) };
    let number = |text: &str| text.trim().parse::<u64>();
    match (first.trim().is_empty(), last.trim().is_empty()) {
        (true, true) => Ok(None),
        (true, false) => {
            let Ok(n) = number(last) else { return Ok(None) };
            if n == 0 || size == 0 { Err(()) } else { Ok(Some((size.saturating_sub(n), size))) }
        }
        (false, open) => {
            let (Ok(start), Ok(end)) = (number(first), if open { Ok(u64::MAX) } else { number(last) }) else {
                return Ok(None);
            };
            if end < start {
                return Ok(None);
            }
            if start >= size { Err(()) } else { Ok(Some((start, end.saturating_add(1).min(size)))) }
        }
    }
}

/// The base address plus a path.
pub(crate) fn absolute(base: &str, path: &str) -> String {
    format!("{base}{path}")
}

/// The signed address of an asset.
pub(crate) fn of_asset(service: &Service, asset: &AssetRef, expires_at: i64) -> String {
    absolute(&service.base_url(), &signed_path(service.secret(), &asset.id, &asset.mime, expires_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, want) in [
            ("bytes=0-0", Ok(Some((0, 1)))),
            ("bytes=2-", Ok(Some((2, 10)))),
            ("bytes=-3", Ok(Some((7, 10)))),
            ("bytes=-30", Ok(Some((0, 10)))),
            ("bytes=5-99999999999999999999", Ok(None)),
            ("bytes=5-18446744073709551615", Ok(Some((5, 10)))),
            ("bytes=9-9", Ok(Some((9, 10)))),
            ("bytes=10-", Err(())),
            ("bytes=-0", Err(())),
            ("bytes=5-4", Ok(None)),
            ("bytes=0-1,3-4", Ok(None)),
            ("bytes=", Ok(None)),
            ("bytes=-", Ok(None)),
            ("lines=0-1", Ok(None)),
            ("bytes=a-b", Ok(None)),
        ] {
            assert_eq!(parse_range(text, 10), want, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Err(()));
    }

    #[test]
    fn addresses_are_signed() {
        let secret = Secret::fixed();
        let path = signed_path(&secret, "job-0", "video/mp4", 5_000_000);
        assert!(path.starts_with("/files/job-0.mp4?e=5000&s="), "{path}");
        let parse = |path: &str| url::Url::parse(&format!("http://localhost:1{path}")).unwrap();
        assert_eq!(signed_id(&secret, &parse(&path)).as_deref(), Some("job-0"));
        assert_eq!(signed_id(&secret, &parse(&path.replace("e=5000", "e=6000"))), None);
        assert_eq!(signed_id(&secret, &parse(&path.replace("job-0", "job-1"))), None);
        assert_eq!(signed_id(&secret, &parse("/files/job-0.mp4")), None);
        assert_eq!(signed_id(&secret, &parse("/other")), None);
    }

    #[test]
    fn nothing_is_served_that_runs() {
        assert_eq!(safe_type("text/html"), "application/octet-stream");
        assert_eq!(safe_type("image/svg+xml"), "application/octet-stream");
        assert_eq!(safe_type("video/mp4"), "video/mp4");
    }
}
