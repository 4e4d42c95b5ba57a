//! Bodies as clients send them: JSON or a form, read alike, forgiving where clients differ.
//!
//! A form becomes a JSON object: `video[id]` is an object's field, a repeated or `image[]` field is a list, a file is `{"upload": index}`. Nulls are
//! absent fields. Unknown fields are ignored.

use axum::extract::multipart::{Multipart, MultipartError};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use bytes::Bytes;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::service::{ApiError, ApiErrorKind, FrameAt, Idempotency, Input};

/// Most parts of a form.
const MAX_PARTS: usize = 64;
/// Longest `Idempotency-Key`.
const MAX_KEY: usize = 255;

/// A file of a form.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) filename: Option<String>,
    pub(crate) mime: Option<String>,
    pub(crate) bytes: Bytes,
}

/// A body that has been read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Payload {
    pub(crate) fields: Map<String, Value>,
    pub(crate) files: Vec<Upload>,
    pub(crate) is_form: bool,
    /// The client's `Idempotency-Key`.
    key: Option<String>,
}

impl<S: Send + Sync> FromRequest<S> for Payload {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (kind, key) = {
            let text = |name| request.headers().get(name).and_then(|v: &header::HeaderValue| v.to_str().ok());
            let kind = text(header::CONTENT_TYPE).unwrap_or_default().trim().to_ascii_lowercase();
            (kind, text(header::HeaderName::from_static("idempotency-key")).map(str::to_string))
        };
        if key.as_ref().is_some_and(|k| k.len() > MAX_KEY) {
            return Err(ApiError::invalid("Idempotency-Key", format!("it is too long: use at most {MAX_KEY} bytes")));
        }
        let payload = if kind.starts_with("multipart/form-data") {
            form(Multipart::from_request(request, state).await.map_err(|e| bad_form(e.status(), e.body_text()))?).await
        } else if is_json(&kind) {
            let bytes = Bytes::from_request(request, state).await.map_err(|e| bad_body(e.status()))?;
            Self::read_json(&bytes)
        } else {
            let got = if kind.is_empty() {
                "the request has no Content-Type".into()
            } else {
                format!("Content-Type is {kind}")
            };
            let message = format!("{got}: send application/json (or multipart/form-data to upload files)");
            Err(ApiError::new(ApiErrorKind::UnsupportedMediaType, message))
        };
        Ok(Self { key, ..payload? })
    }
}

fn is_json(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn bad_body(status: StatusCode) -> ApiError {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        let most = crate::config::MAX_BODY >> 20;
        let message = format!("the body is too long: at most {most} MiB are read; upload files first");
        return ApiError::new(ApiErrorKind::PayloadTooLarge, message);
    }
    ApiError::new(ApiErrorKind::InvalidArgument, "the body ended early: send it again")
}

fn bad_form(status: StatusCode, text: String) -> ApiError {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return bad_body(status);
    }
    ApiError::new(ApiErrorKind::InvalidArgument, format!("the form cannot be read: {text}"))
}

impl From<MultipartError> for ApiError {
    fn from(error: MultipartError) -> Self {
        bad_form(error.status(), error.body_text())
    }
}

/// The value without fields that are null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(list) => list.into_iter().map(without_nulls).collect(),
        value => value,
    }
}

/// Reads a form.
async fn form(mut parts: Multipart) -> Result<Payload, ApiError> {
    let mut payload = Payload { is_form: true, ..Payload::default() };
    let mut count = 0;
    while let Some(part) = parts.next_field().await? {
        count += 1;
        if count > MAX_PARTS {
            let message = format!("the form has more than {MAX_PARTS} parts: send fewer");
            return Err(ApiError::new(ApiErrorKind::InvalidArgument, message));
        }
        let Some(name) = part.name().map(str::to_string) else { continue };
        let filename = part.file_name().map(str::to_string);
        let mime = part.content_type().map(str::to_string);
        let bytes = part.bytes().await?;
        // A JSON object may come as a part of its own.
        let is_object = filename.is_none() && mime.as_deref().is_some_and(is_json);
        let value = if is_object {
            serde_json::from_slice(&bytes)
                .map_err(|e| ApiError::invalid(name.clone(), format!("the part is not JSON: {e}")))?
        } else if filename.is_none() {
            let text = String::from_utf8(bytes.to_vec());
            Value::String(text.map_err(|_| ApiError::invalid(name.clone(), "it is not UTF-8 text"))?)
        } else {
            payload.files.push(Upload { filename, mime, bytes });
            json!({"upload": payload.files.len() - 1})
        };
        put(&mut payload.fields, &name, without_nulls(value));
    }
    Ok(payload)
}

/// Puts a form's field where its name says: `a`, `a[]`, `a[b]`.
fn put(fields: &mut Map<String, Value>, name: &str, value: Value) {
    if value == Value::String(String::new()) {
        return;
    }
    let (outer, inner) = match name.strip_suffix(']').and_then(|n| n.split_once('[')) {
        Some((outer, inner)) => (outer, Some(inner)),
        None => (name, None),
    };
    let place = fields.entry(outer.to_string()).or_insert(Value::Null);
    match (inner, place) {
        (Some(""), Value::Array(list)) => list.push(value),
        (Some(""), place @ Value::Null) => *place = json!([value]),
        (Some(key), Value::Object(map)) if !key.is_empty() => {
            map.insert(key.to_string(), value);
        }
        (Some(key), place @ Value::Null) => *place = json!({ key: value }),
        (_, place @ Value::Null) => *place = value,
        (_, Value::Array(list)) => list.push(value),
        (_, place) => *place = json!([place.take(), value]),
    }
}

impl Payload {
    /// Reads a JSON object.
    pub(crate) fn read_json(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.is_empty() {
            let message = "the body is empty: send a JSON object";
            return Err(ApiError::new(ApiErrorKind::UnsupportedMediaType, message));
        }
        let value = serde_json::from_slice(bytes)
            .map_err(|e| ApiError::new(ApiErrorKind::InvalidArgument, format!("the body is not JSON: {e}")))?;
        match without_nulls(value) {
            Value::Object(fields) => Ok(Self { fields, ..Self::default() }),
            _ => {
                Err(ApiError::new(ApiErrorKind::Unprocessable, "the body is not a JSON object: send {\"prompt\": ...}"))
            }
        }
    }

    /// A body from a line of a batch.
    pub(crate) fn from_value(value: Value) -> Result<Self, ApiError> {
        match without_nulls(value) {
            Value::Object(fields) => Ok(Self { fields, ..Self::default() }),
            _ => Err(ApiError::new(ApiErrorKind::Unprocessable, "body: it is not a JSON object")),
        }
    }

    /// Gives fields their canonical names; a field that is there under both keeps the canonical one.
    pub(crate) fn rename(&mut self, names: &[(&str, &str)]) {
        for (from, to) in names {
            if let Some(value) = self.fields.remove(*from) {
                self.fields.entry(*to).or_insert(value);
            }
        }
    }

    /// The body as a request.
    ///
    /// # Errors
    /// 422 with the path of the field that has the wrong type or is missing.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_path_to_error::deserialize(Value::Object(self.fields.clone())).map_err(|e| {
            let path = e.path().to_string();
            let field = (path != ".").then_some(path);
            ApiError { kind: ApiErrorKind::Unprocessable, message: e.into_inner().to_string(), field }
        })
    }

    /// The idempotency of a call to `path`: the same key must come with the same content.
    pub(crate) fn idempotency(&self, path: &str) -> Option<Idempotency> {
        let mut hash = Sha256::new();
        hash.update(path.as_bytes());
        hash.update(Value::Object(self.fields.clone()).to_string().as_bytes());
        for file in &self.files {
            hash.update(Sha256::digest(&file.bytes));
        }
        Some(Idempotency { key: self.key.clone().filter(|k| !k.is_empty())?, request_hash: hash.finalize().into() })
    }
}

/// Where a picture or clip is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    Url(String),
    File(String),
    /// An earlier job of the account.
    Job(String),
    /// A file of the form.
    Upload(usize),
}

/// A picture or clip of a request: a string (a URL), or an object with one of `url`, `file_id`, `id`; `frame` takes a still out of a clip.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Media {
    pub(crate) source: Source,
    pub(crate) frame: Option<FrameAt>,
}

impl<'de> Deserialize<'de> for Media {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = match Value::deserialize(deserializer)? {
            Value::String(url) => return Ok(Self { source: Source::Url(url), frame: None }),
            Value::Object(map) => map,
            _ => return Err(D::Error::custom("expected an object with url or file_id")),
        };
        let text = |key: &str| -> Result<Option<String>, D::Error> {
            match map.get(key) {
                None => Ok(None),
                Some(Value::String(text)) => Ok(Some(text.clone())),
                // `{"image_url": {"url": "..."}}`
                Some(Value::Object(inner)) => Ok(inner.get("url").and_then(Value::as_str).map(str::to_string)),
                Some(_) => Err(D::Error::custom(format!("{key} is not a string"))),
            }
        };
        let mut found = Vec::new();
        for (key, make) in [
            ("url", Source::Url as fn(String) -> Source),
            ("image_url", Source::Url),
            ("video_url", Source::Url),
            ("file_id", Source::File),
            ("id", Source::Job),
            ("request_id", Source::Job),
        ] {
            found.extend(text(key)?.map(make));
        }
        found.extend(map.get("upload").and_then(Value::as_u64).map(|n| Source::Upload(n as usize)));
        found.dedup();
        let frame = map.get("frame").map(frame_at).transpose().map_err(D::Error::custom)?;
        match (found.pop(), found.is_empty()) {
            (Some(source), true) => Ok(Self { source, frame }),
            (None, _) => Err(D::Error::custom("expected an object with url or file_id")),
            _ => Err(D::Error::custom("url and file_id exclude each other: give one")),
        }
    }
}

fn frame_at(value: &Value) -> Result<FrameAt, String> {
    let second = match value {
        Value::String(text) if text == "last" => return Ok(FrameAt::Last),
        Value::String(text) if text == "first" => return Ok(FrameAt::Second(0.0)),
        Value::String(text) => text.parse().ok(),
        value => value.as_f64(),
    };
    match second.filter(|s: &f64| s.is_finite() && *s >= 0.0) {
        Some(second) => Ok(FrameAt::Second(second)),
        None => Err("frame is \"first\", \"last\" or a second".into()),
    }
}

impl Media {
    /// What the service resolves; `None` for an earlier job.
    pub(crate) fn input(&self, files: &[Upload], field: &str) -> Result<Option<Input>, ApiError> {
        let empty = || ApiError::invalid(field, "it is empty: give a URL, a data: URL or a file_id");
        match &self.source {
            Source::Url(text) | Source::File(text) | Source::Job(text) if text.trim().is_empty() => Err(empty()),
            Source::Url(url) => Ok(Some(Input::Url(url.trim().to_string()))),
            Source::File(id) => Ok(Some(Input::File(id.clone()))),
            Source::Job(_) => Ok(None),
            Source::Upload(index) => {
                let file = files.get(*index).ok_or_else(empty)?;
                Ok(Some(Input::Data { mime: file.mime.clone(), bytes: file.bytes.clone() }))
            }
        }
    }
}

/// One or several.
pub(crate) fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Array(items) => {
            let one =
                |(i, v)| T::deserialize(v).map_err(|e: serde_json::Error| D::Error::custom(format!("[{i}]: {e}")));
            items.into_iter().enumerate().map(one).collect()
        }
        one => Ok(vec![T::deserialize(one).map_err(D::Error::custom)?]),
    }
}

/// A whole number, also as `6.0` or `"6"`.
pub(crate) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i128>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Number(n) => n
            .as_i64()
            .map(i128::from)
            .or(n.as_u64().map(i128::from))
            .or(n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e30).map(|f| f as i128)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.map(Some).ok_or_else(|| D::Error::custom(format!("expected a whole number, found {}", brief(&value))))
}

/// A number, also as a string.
pub(crate) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Number(n) => n.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|f: &f64| f.is_finite()),
        _ => None,
    };
    number.map(Some).ok_or_else(|| D::Error::custom(format!("expected a number, found {}", brief(&value))))
}

/// A truth value, also as `"true"`.
pub(crate) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    match &value {
        Value::Bool(flag) => Ok(Some(*flag)),
        Value::String(text) if text.eq_ignore_ascii_case("true") || text == "1" => Ok(Some(true)),
        Value::String(text) if text.eq_ignore_ascii_case("false") || text == "0" => Ok(Some(false)),
        _ => Err(D::Error::custom(format!("expected true or false, found {}", brief(&value)))),
    }
}

/// A value for a message.
fn brief(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".into(),
        Value::Array(_) => "a list".into(),
        value => {
            let text = value.to_string();
            if text.chars().count() > 40 { format!("{}...", text.chars().take(40).collect::<String>()) } else { text }
        }
    }
}
