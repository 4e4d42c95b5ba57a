//! The page at `/`: HTML, style sheets and ES modules that are part of the program. It talks to the REST routes like any other client.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

/// Nothing but what this server sends may run, be shown or be called; text never becomes HTML (trusted types), and no other page may frame this one.
/// `blob:` and `data:` are what a user drops on the page, before it is sent.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// One embedded file.
struct Asset {
    name: &'static str,
    mime: &'static str,
    text: &'static str,
}

macro_rules! assets {
    ($($name:literal: $mime:expr),+ $(,)?) => {
        [$(Asset { name: $name, mime: $mime, text: include_str!(concat!("../playground/", $name)) }),+]
    };
}

/// Everything under `/assets/`; the first one is `/` as well.
static ASSETS: [Asset; 19] = assets![
    "index.html": HTML,
    "icon.svg": "image/svg+xml",
    "base.css": STYLE,
    "layout.css": STYLE,
    "parts.css": STYLE,
    "api.js": SCRIPT,
    "app.js": SCRIPT,
    "composer.js": SCRIPT,
    "controls.js": SCRIPT,
    "dialogs.js": SCRIPT,
    "dom.js": SCRIPT,
    "gallery.js": SCRIPT,
    "inputs.js": SCRIPT,
    "library.js": SCRIPT,
    "modes.js": SCRIPT,
    "request.js": SCRIPT,
    "settings.js": SCRIPT,
    "stage.js": SCRIPT,
    "theme.js": SCRIPT,
];

/// Routes `/` and `/assets/{name}`; neither needs a key.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|headers: HeaderMap| async move { answer(&ASSETS[0], &headers) }))
        .route("/assets/{name}", get(asset))
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => answer(asset, &headers),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The file, or 304 when the browser has this very version. It always asks: after an update the old page must not call the new server.
fn answer(asset: &Asset, request: &HeaderMap) -> Response {
    let digest = Sha256::digest(asset.text.as_bytes());
    let tag = format!("\"{}\"", digest[..12].iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let known = request.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { asset.text.into_response() };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, asset.mime),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("permissions-policy", HeaderValue::from_static("camera=(), geolocation=(), microphone=()"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names() -> BTreeSet<&'static str> {
        ASSETS.iter().map(|asset| asset.name).collect()
    }

    /// What stands between `start` and the next `"`, wherever `start` occurs.
    fn quoted<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
        text.split(start).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn every_file_of_the_folder_is_embedded() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("playground");
        let entries = std::fs::read_dir(folder).expect("the folder of the page");
        let files: BTreeSet<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        assert_eq!(files.iter().map(String::as_str).collect::<BTreeSet<_>>(), names());
    }

    #[test]
    fn everything_that_the_page_names_is_there() {
        let mut named = 0;
        for asset in &ASSETS {
            let local =
                if asset.mime == SCRIPT { quoted(asset.text, "from \"./") } else { quoted(asset.text, "\"/assets/") };
            named += local.len();
            for name in local {
                assert!(names().contains(name), "{} names {name}", asset.name);
            }
        }
        assert!(named > 20, "only {named} names were found");
    }

    #[test]
    fn the_page_keeps_to_its_policy() {
        assert!(!POLICY.contains("unsafe") && !POLICY.contains('*') && !POLICY.contains("http"));
        let page = ASSETS[0].text;
        for inline in ["<style", " style=\"", " onclick", "javascript:", "http://", "https://cdn"] {
            assert!(!page.contains(inline), "index.html contains {inline}");
        }
        // Every script element loads a file: `<script` is always followed by `src` before it closes.
        for tag in page.split("<script").skip(1) {
            assert!(tag.split('>').next().is_some_and(|tag| tag.contains("src=\"/assets/")), "<script{tag}");
        }
        for asset in ASSETS.iter().filter(|asset| asset.mime == SCRIPT) {
            for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
                assert!(!asset.text.contains(sink), "{} contains {sink}", asset.name);
            }
        }
    }

    #[test]
    fn answers_have_their_type_and_policy_and_are_known_again() {
        for asset in &ASSETS {
            let first = answer(asset, &HeaderMap::new());
            assert_eq!(first.status(), StatusCode::OK);
            assert_eq!(first.headers()[header::CONTENT_TYPE], asset.mime);
            assert_eq!(first.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
            let mut again = HeaderMap::new();
            again.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
            assert_eq!(answer(asset, &again).status(), StatusCode::NOT_MODIFIED, "{}", asset.name);
        }
    }
}
