//! Keys: made, looked up, asked for before anything else happens.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use subtle::ConstantTimeEq;

use crate::error::{ApiError, ApiErrorKind, Result};
use crate::secrets;
use crate::service::Service;
use crate::store::{NewKey, Store};
use crate::types::Account;

/// What every key starts with.
const START: &str = "bk-";
/// Characters of the public part after that.
const PUBLIC: usize = 10;
/// Keys that are remembered until something changes in the store.
const REMEMBERED: usize = 4096;

/// A key that was made; the only place where all of it is.
#[derive(Clone)]
pub struct CreatedKey {
    /// Its id, for `borealis keys revoke`.
    pub id: String,
    /// The key itself, shown once.
    pub key: String,
    /// The account that it opens.
    pub account: String,
}

/// Makes a key for the account of that name (made when needed).
pub(crate) async fn create(store: &Store, account: &str, name: &str) -> Result<CreatedKey> {
    let account_id = store.account(account).await?;
    let prefix = secrets::hex(&secrets::random()[..PUBLIC / 2]);
    let key = format!("{START}{prefix}-{}", secrets::token());
    let new = NewKey {
        redacted: format!("{START}{}...{}", &prefix[..4], &key[key.len() - 4..]),
        hash: secrets::hex(&secrets::sha256(key.as_bytes())),
        prefix,
        name: name.to_string(),
        acls: vec!["*".into()],
    };
    let id = store.insert_key(&account_id, new).await?;
    Ok(CreatedKey { id, key, account: account.to_string() })
}

/// Looks keys up, and remembers those that were right.
#[derive(Default)]
pub(crate) struct Keys {
    known: Mutex<(u64, HashMap<[u8; 32], Account>)>,
}

impl Keys {
    /// The account that a key opens.
    pub async fn look_up(&self, store: &Store, key: &str) -> std::result::Result<Account, ApiError> {
        let hash = secrets::sha256(key.as_bytes());
        let version = store.version();
        if let Some(account) = self.remembered(version, &hash) {
            return Ok(account);
        }
        let wrong = || {
            ApiError::new(
                ApiErrorKind::Unauthenticated,
                "this API key is not known here: check it, or make one with `borealis keys create`",
            )
        };
        let prefix = key.strip_prefix(START).and_then(|rest| rest.get(..PUBLIC)).ok_or_else(wrong)?;
        let row = store.key_by_prefix(prefix).await?.ok_or_else(wrong)?;
        let same: bool = row.hash.as_bytes().ct_eq(secrets::hex(&hash).as_bytes()).into();
        if !same {
            return Err(wrong());
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.1.len() >= REMEMBERED {
            known.1.clear();
        }
        if known.0 == version {
            known.1.insert(hash, row.account.clone());
        }
        Ok(row.account)
    }

    /// Forgets everything when something has changed: a key may have been revoked.
    fn remembered(&self, version: u64, hash: &[u8; 32]) -> Option<Account> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != version {
            *known = (version, HashMap::new());
        }
        known.1.get(hash).cloned()
    }
}

/// What needs no key: the page, its parts, health, documents, and files under signed or public addresses.
pub(crate) fn is_public(path: &str) -> bool {
    matches!(path, "/" | "/healthz" | "/readyz" | "/docs" | "/openapi.json" | "/favicon.ico")
        || path.starts_with("/assets/")
        || path.starts_with("/files/")
}

/// The layer over everything: puts the [`Account`] into the request, or answers 401 / UNAUTHENTICATED.
pub(crate) async fn layer(State(service): State<Service>, mut request: Request, next: Next) -> Response {
    if is_public(request.uri().path()) {
        return next.run(request).await;
    }
    match authenticate(&service, request.headers()).await {
        Ok(account) => {
            request.extensions_mut().insert(account);
            next.run(request).await
        }
        Err(error) => refuse(&error, is_grpc(request.headers())),
    }
}

/// Who sent these headers.
async fn authenticate(service: &Service, headers: &HeaderMap) -> std::result::Result<Account, ApiError> {
    let key = bearer(headers);
    if service.config().no_auth {
        return Ok(service.anybody().clone());
    }
    let key = key.ok_or_else(|| {
        let message = "there is no API key: send the header \"Authorization: Bearer KEY\"";
        ApiError::new(ApiErrorKind::Unauthenticated, message)
    })?;
    service.look_up_key(key).await
}

/// The key of `Authorization: Bearer KEY`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
}

/// Whether a request speaks gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// An answer in the caller's protocol: xAI's flat JSON, or a gRPC status.
pub(crate) fn refuse(error: &ApiError, grpc: bool) -> Response {
    let (status, code, name) = match error.kind {
        ApiErrorKind::Unauthenticated => (StatusCode::UNAUTHORIZED, tonic::Code::Unauthenticated, "unauthenticated"),
        ApiErrorKind::PayloadTooLarge => {
            (StatusCode::PAYLOAD_TOO_LARGE, tonic::Code::InvalidArgument, "payload-too-large")
        }
        ApiErrorKind::NotFound => (StatusCode::NOT_FOUND, tonic::Code::NotFound, "not-found"),
        ApiErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, tonic::Code::Unavailable, "unavailable"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, tonic::Code::Internal, "internal-error"),
    };
    if grpc {
        return tonic::Status::new(code, &error.message).into_http();
    }
    let body = serde_json::json!({ "code": name, "error": error.message });
    let mut response = (status, axum::Json(body)).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_open_their_account_until_they_are_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let one = create(&store, "ann", "laptop").await.unwrap();
        let two = create(&store, "bob", "laptop").await.unwrap();
        let keys = Keys::default();
        let ann = keys.look_up(&store, &one.key).await.unwrap();
        assert_ne!(ann.id, keys.look_up(&store, &two.key).await.unwrap().id);
        assert_eq!(ann, keys.look_up(&store, &one.key).await.unwrap());
        assert!(one.key.len() > 50 && !ann.redacted_key.contains(&one.key[8..]));
        let mut forged = one.key.clone();
        forged.pop();
        for wrong in ["", "bk-", "bk-äöüäöüäöüä", &forged, &format!("{}x", one.key), "sk-whatever"] {
            assert_eq!(keys.look_up(&store, wrong).await.unwrap_err().kind, ApiErrorKind::Unauthenticated, "{wrong}");
        }
        assert_eq!(store.revoke_key(&one.id).await.unwrap(), 1);
        assert!(keys.look_up(&store, &one.key).await.is_err());
        assert_eq!(store.revoke_key(&one.id).await.unwrap(), 0);
    }

    #[test]
    fn only_bearer_tokens_count() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(of("bearer  abc ").as_deref(), Some("abc"));
        assert_eq!((of("Basic abc"), of("Bearer "), of("Bearer"), of("abc")), (None, None, None, None));
    }

    #[test]
    fn what_is_public() {
        for path in ["/", "/healthz", "/assets/app.js", "/files/a.mp4", "/docs"] {
            assert!(is_public(path), "{path}");
        }
        for path in ["/v1/files", "/v1/models", "/metrics", "/filesx", "//", "/assets", "/xai_api.Image/GenerateImage"]
        {
            assert!(!is_public(path), "{path}");
        }
    }
}
