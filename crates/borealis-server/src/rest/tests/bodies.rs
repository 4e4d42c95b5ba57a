use serde_json::json;

use super::*;
use crate::testing::{bench, bench_with};

const PATH: &str = "/v1/videos/generations";

async fn raw(bench: &Bench, kind: Option<&str>, body: impl Into<Body>) -> Got {
    let mut request = request(bench, "POST", PATH);
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    send(bench, request.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn bodies_that_are_no_request() {
    let bench = bench().await;
    let json_type = Some("application/json");
    for (kind, body, status, code) in [
        (None, r#"{"prompt": "a"}"#, 415, "unsupported-media-type"),
        (Some("text/plain"), r#"{"prompt": "a"}"#, 415, "unsupported-media-type"),
        (Some("application/x-www-form-urlencoded"), "prompt=a", 415, "unsupported-media-type"),
        (json_type, "", 415, "unsupported-media-type"),
        (json_type, "{", 400, "invalid-argument"),
        (json_type, "nonsense", 400, "invalid-argument"),
        (json_type, "[]", 422, "invalid-argument"),
        (json_type, "null", 422, "invalid-argument"),
        (json_type, "\"prompt\"", 422, "invalid-argument"),
        (json_type, r#"{"prompt": 5}"#, 422, "invalid-argument"),
        (json_type, r#"{"prompt": ["a"]}"#, 422, "invalid-argument"),
        (json_type, r#"{"prompt": "a", "duration": "six"}"#, 422, "invalid-argument"),
        (json_type, r#"{"prompt": "a", "duration": 6.5}"#, 422, "invalid-argument"),
        (json_type, r#"{"prompt": "a", "duration": true}"#, 422, "invalid-argument"),
        (json_type, r#"{"prompt": "a", "generate_audio": "maybe"}"#, 422, "invalid-argument"),
        (json_type, r#"{"prompt": "a", "reference_images": [{"url": "x", "file_id": "y"}]}"#, 422, "invalid-argument"),
        (json_type, r#"{"prompt": "a", "image": {}}"#, 422, "invalid-argument"),
        (json_type, r#"{"prompt": "a", "image": 5}"#, 422, "invalid-argument"),
        (Some("multipart/form-data"), "x", 400, "invalid-argument"),
    ] {
        let got = raw(&bench, kind, body).await;
        let said = got.json();
        assert_eq!((got.status, said["code"].as_str()), (status, Some(code)), "{kind:?} {body}: {said}");
        assert!(said["error"].is_string() && said.as_object().unwrap().len() == 2, "{said}");
    }
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(raw(&bench, json_type, deep).await.status, 400);
    assert_eq!(raw(&bench, json_type, vec![b'"', 0xff, b'"']).await.status, 400);
}

#[tokio::test]
async fn errors_name_the_field() {
    let bench = bench().await;
    for (body, said) in [
        (json!({"prompt": 5}), "prompt: invalid type: integer `5`, expected a string"),
        (json!({"prompt": "a", "n": "x"}), "n: expected a whole number, found \"x\""),
        (json!({"prompt": "a", "seed": []}), "seed: expected a whole number, found a list"),
        (json!({"prompt": "a", "storage_options": {}}), "storage_options: missing field `filename`"),
    ] {
        assert_eq!(post(&bench, PATH, &body).await.json()["error"], said);
    }
    let missing = post(&bench, "/v1/videos/edits", &json!({"prompt": "a"})).await;
    assert_eq!((missing.status, missing.json()["error"].clone()), (422, json!("missing field `video`")));
}

#[tokio::test]
async fn a_body_may_have_25_mib_and_no_byte_more() {
    let bench = bench().await;
    let most = crate::config::MAX_BODY as usize;
    let body = |length: usize| {
        let start = r#"{"prompt": "a", "junk": ""#;
        format!("{start}{}\"}}", "x".repeat(length - start.len() - 2))
    };
    assert_eq!(raw(&bench, Some("application/json"), body(most)).await.status, 200);
    let too_long = raw(&bench, Some("application/json"), body(most + 1)).await;
    assert_eq!((too_long.status, too_long.json()["code"].clone()), (413, json!("payload-too-large")));
    // Without a Content-Length the bytes are counted.
    let pieces =
        body(most + 1).into_bytes().chunks(1 << 20).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>();
    let stream = Body::from_stream(futures_util::stream::iter(pieces));
    assert_eq!(raw(&bench, Some("application/json"), stream).await.status, 413);
}

#[tokio::test]
async fn wrong_routes_and_methods() {
    let bench = bench().await;
    let nothing = get(&bench, "/v1/nothing").await;
    assert_eq!((nothing.status, nothing.json()["code"].clone()), (404, json!("not-found")));
    let method = with(&bench, "PUT", PATH, &json!({})).await;
    assert_eq!((method.status, method.json()["code"].clone()), (405, json!("method-not-allowed")));
    for prefix in ["/v1", "/inline/v1", "/proxy/xai/v1"] {
        assert_eq!(get(&bench, &format!("{prefix}/models")).await.status, 200, "{prefix}");
    }
}

#[tokio::test]
async fn nulls_are_absent_and_unknown_fields_ignored() {
    let bench = bench().await;
    let body = json!({
        "prompt": "a", "model": null, "duration": null, "aspect_ratio": null, "resolution": null, "image": null, "last_frame": null,
        "keyframes": null, "reference_images": null, "reference_audios": null, "generate_audio": null, "storage_options": null, "user": null,
        "output": null, "n": null, "seed": null, "guidance": null, "preset": null, "webhook_url": null, "folder_id": null,
        "pollIntervalMs": 5, "anything": {"at": ["all"]},
    });
    assert_eq!(post(&bench, PATH, &body).await.status, 200);
    assert_eq!(post(&bench, PATH, &json!({"prompt": null})).await.status, 400);
}

#[tokio::test]
async fn the_same_idempotency_key_is_the_same_job() {
    let bench = bench().await;
    let start = async |key: &str, prompt: &str| {
        let request =
            request(&bench, "POST", PATH).header("content-type", "application/json").header("idempotency-key", key);
        send(&bench, request.body(json!({"prompt": prompt}).to_string().into()).unwrap()).await
    };
    let first = start("aisdk_vid_1", "a").await.json()["request_id"].clone();
    assert_eq!(start("aisdk_vid_1", "a").await.json()["request_id"], first);
    assert_ne!(start("aisdk_vid_2", "a").await.json()["request_id"], first);
    let other = start("aisdk_vid_1", "b").await;
    assert_eq!((other.status, other.json()["code"].clone()), (409, json!("conflict")));
    assert_eq!(start(&"x".repeat(255), "a").await.status, 200);
    assert_eq!(start(&"x".repeat(256), "a").await.status, 400);
}

#[tokio::test]
async fn a_key_that_starts_too_much_is_told_when_to_come_back() {
    let bench = bench_with(|config| config.requests_per_minute = 2, false).await;
    for status in [200, 200, 429] {
        let got = post(&bench, PATH, &json!({"prompt": "a"})).await;
        assert_eq!(got.status, status);
        if status == 429 {
            assert_eq!(got.json()["code"], "resource-exhausted");
            assert!((1..=31).contains(&got.header("retry-after").unwrap().parse::<u64>().unwrap()));
        }
    }
    assert_eq!(get(&bench, "/v1/models").await.status, 200);
}
