//! The dialects from outside: every answer comes through the whole router.

mod bodies;
mod documents;
mod images;
mod library;
mod limits;
mod openai;
mod tasks;
mod videos;

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use borealis_media::{Frame, Mp4Writer, PixelFormat, VideoSpec, encode_png};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::testing::Bench;

/// An answer: status, headers, bytes.
struct Got {
    status: u16,
    headers: HeaderMap,
    bytes: Bytes,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("not JSON: {:?}", self.bytes))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }
}

async fn send(bench: &Bench, request: Request<Body>) -> Got {
    let answer = bench.app().oneshot(request).await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Got { status, headers, bytes: answer.into_body().collect().await.unwrap().to_bytes() }
}

fn request(bench: &Bench, method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("authorization", format!("Bearer {}", bench.key))
}

async fn post(bench: &Bench, path: &str, body: &Value) -> Got {
    let request = request(bench, "POST", path).header("content-type", "application/json");
    send(bench, request.body(body.to_string().into()).unwrap()).await
}

async fn with(bench: &Bench, method: &str, path: &str, body: &Value) -> Got {
    let request = request(bench, method, path).header("content-type", "application/json");
    send(bench, request.body(body.to_string().into()).unwrap()).await
}

async fn get(bench: &Bench, path: &str) -> Got {
    send(bench, request(bench, "GET", path).body(Body::empty()).unwrap()).await
}

async fn delete(bench: &Bench, path: &str) -> Got {
    send(bench, request(bench, "DELETE", path).body(Body::empty()).unwrap()).await
}

/// A call with further headers and no body.
async fn ask(bench: &Bench, method: &str, path: &str, headers: &[(&str, &str)]) -> Got {
    let request =
        headers.iter().fold(request(bench, method, path), |request, (name, value)| request.header(*name, *value));
    send(bench, request.body(Body::empty()).unwrap()).await
}

/// What a player does with the address of a clip: parts of it, its head, and nothing when it has it already.
async fn played(bench: &Bench, path: &str, whole: &[u8]) {
    let part = ask(bench, "GET", path, &[("range", "bytes=4-9")]).await;
    assert_eq!((part.status, &part.bytes[..]), (206, &whole[4..10]), "{path}");
    assert_eq!(part.header("content-range"), Some(format!("bytes 4-9/{}", whole.len()).as_str()));
    let head = ask(bench, "HEAD", path, &[]).await;
    assert_eq!((head.status, head.bytes.len()), (200, 0), "{path}");
    assert_eq!(head.header("content-length"), Some(whole.len().to_string().as_str()));
    assert_eq!(head.header("accept-ranges"), Some("bytes"));
    let beyond = ask(bench, "GET", path, &[("range", &format!("bytes={}-", whole.len()))]).await;
    assert_eq!((beyond.status, beyond.header("content-range").is_some()), (416, true), "{path}");
    let other = ask(bench, "GET", path, &[("range", "bytes=4-9"), ("if-range", "\"another\"")]).await;
    assert_eq!((other.status, &other.bytes[..]), (200, whole), "{path}");
}

/// A part of a form: name, file name, bytes.
type Part<'a> = (&'a str, Option<&'a str>, &'a [u8]);

async fn form(bench: &Bench, path: &str, parts: &[Part<'_>]) -> Got {
    let mut body = Vec::new();
    for (name, file, bytes) in parts {
        let file =
            file.map(|f| format!("; filename=\"{f}\"\r\nContent-Type: application/octet-stream")).unwrap_or_default();
        body.extend(format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").into_bytes());
        body.extend_from_slice(bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--XX--\r\n");
    let request = request(bench, "POST", path).header("content-type", "multipart/form-data; boundary=XX");
    send(bench, request.body(body.into()).unwrap()).await
}

/// Asks for a clip until it has ended.
async fn ended(bench: &Bench, path: &str) -> Got {
    loop {
        let got = get(bench, path).await;
        let status = got.json()["status"].as_str().unwrap_or_default().to_string();
        if !["pending", "queued", "in_progress", "processing"].contains(&status.as_str()) {
            return got;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn png() -> Vec<u8> {
    encode_png(&Frame::solid(64, 48, PixelFormat::Rgb8, [20, 200, 30])).unwrap()
}

fn data_url(mime: &str, bytes: &[u8]) -> String {
    format!("data:{mime};base64,{}", STANDARD.encode(bytes))
}

/// A clip of so many seconds.
fn mp4(seconds: usize) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let mut writer = Mp4Writer::create(&path, VideoSpec::new(64, 48, 24)).unwrap();
    let frame = Frame::solid(64, 48, PixelFormat::Rgb8, [20, 200, 30]);
    (0..24 * seconds).for_each(|_| writer.push_frame(&frame).unwrap());
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}
