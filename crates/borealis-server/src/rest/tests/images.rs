use serde_json::json;

use super::*;
use crate::testing::bench_with_worker;

const PATH: &str = "/v1/images/generations";

#[tokio::test]
async fn as_the_ai_sdk_asks() {
    let bench = bench_with_worker().await;
    let body = json!({"model": "grok-imagine-image", "prompt": "a cat", "n": 3, "response_format": "b64_json", "aspect_ratio": "16:9", "resolution": "1k", "user": "u1"});
    let got = post(&bench, PATH, &body).await;
    assert_eq!(got.status, 200, "{}", got.json());
    let body = got.json();
    let data = body["data"].as_array().unwrap();
    assert_eq!(data.len(), 3);
    for item in data {
        assert_eq!(item["mime_type"], "image/jpeg");
        assert!(STANDARD.decode(item["b64_json"].as_str().unwrap()).unwrap().starts_with(&[0xff, 0xd8]));
        assert!(item.get("url").is_none());
    }
    let usage = json!({
        "cost_in_usd_ticks": 0, "input_tokens": 3, "input_tokens_details": {"text_tokens": 3, "image_tokens": 0, "cached_tokens": 0},
        "output_tokens": 100, "output_tokens_details": {"text_tokens": 0, "image_tokens": 100, "reasoning_tokens": 0}, "total_tokens": 103,
    });
    assert_eq!(body["usage"], usage);
    assert!(body["created"].as_i64().unwrap() > 1_700_000_000);
}

#[tokio::test]
async fn urls_by_default_and_data_urls_inline() {
    let bench = bench_with_worker().await;
    let body = post(&bench, PATH, &json!({"prompt": "a cat"})).await.json();
    assert_eq!(body["data"].as_array().unwrap().len(), 1);
    let url = body["data"][0]["url"].as_str().unwrap();
    assert!(url.starts_with("http://127.0.0.1:8080/files/") && url.contains(".jpg?"), "{url}");
    let inline = post(&bench, "/inline/v1/images/generations", &json!({"prompt": "a cat"})).await.json();
    assert!(inline["data"][0]["url"].as_str().unwrap().starts_with("data:image/jpeg;base64,"));
}

#[tokio::test]
async fn every_number_at_its_end_and_one_beyond() {
    let bench = bench_with_worker().await;
    let image = data_url("image/png", &png());
    let edit = "/v1/images/edits";
    for (path, status, body) in [
        (PATH, 200, json!({"n": 10})),
        (PATH, 400, json!({"n": 11})),
        (PATH, 400, json!({"n": 0})),
        (PATH, 200, json!({"n": "2"})),
        (PATH, 200, json!({"aspect_ratio": "19.5:9"})),
        (PATH, 200, json!({"aspect_ratio": "auto"})),
        (PATH, 400, json!({"aspect_ratio": "7:5"})),
        (PATH, 200, json!({"resolution": "2k"})),
        (PATH, 400, json!({"resolution": "8k"})),
        (PATH, 200, json!({"quality": "low"})),
        (PATH, 400, json!({"quality": "ultra"})),
        (PATH, 400, json!({"response_format": "xml"})),
        (PATH, 200, json!({"size": "1024x1024", "style": "vivid", "sync_mode": true})),
        (PATH, 200, json!({"size": "huge"})),
        (PATH, 400, json!({"prompt": " "})),
        (PATH, 404, json!({"model": "no-such-model"})),
        (PATH, 400, json!({"model": "grok-imagine-video"})),
        (PATH, 200, json!({"model": "grok-imagine-image-pro"})),
        (PATH, 200, json!({"model": "borealis-mini"})),
        (PATH, 400, json!({"prompt": "a nude child"})),
        (PATH, 400, json!({"prompt": "fail"})),
        (PATH, 400, json!({"prompt": "moderate"})),
        (edit, 200, json!({"image": {"url": image, "type": "image_url"}})),
        (edit, 200, json!({"image": image})),
        (edit, 200, json!({"images": [{"url": image}]})),
        (edit, 200, json!({"images": [{"url": image}, {"url": image}, {"url": image}]})),
        (edit, 400, json!({"images": vec![json!({"url": image}); 4]})),
        (edit, 400, json!({"image": {"url": image}, "images": [{"url": image}]})),
        (edit, 400, json!({})),
        (edit, 400, json!({"images": []})),
        (edit, 400, json!({"model": "grok-imagine-image-pro", "images": [{"url": image}, {"url": image}]})),
    ] {
        let mut whole = json!({"prompt": "a cat"});
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let got = post(&bench, path, &whole).await;
        let shown: String = body.to_string().chars().take(100).collect();
        assert_eq!(got.status, status, "{path} {shown}: {}", got.json());
    }
    let blocked = post(&bench, PATH, &json!({"prompt": "moderate"})).await.json();
    assert_eq!(blocked["code"], "imagine:content-moderated");
    assert!(blocked["error"].as_str().unwrap().starts_with("Generated image rejected by content moderation."));
}

#[tokio::test]
async fn edits_as_openai_sends_them() {
    let bench = bench_with_worker().await;
    let picture = png();
    let parts: &[Part<'_>] = &[
        ("model", None, b"grok-imagine-image"),
        ("prompt", None, b"it turns blue"),
        ("n", None, b"2"),
        ("size", None, b"1024x1024"),
        ("response_format", None, b"b64_json"),
        ("mask", Some("mask.png"), &picture),
        ("image[]", Some("a.png"), &picture),
        ("image[]", Some("b.png"), &picture),
    ];
    let got = form(&bench, "/v1/images/edits", parts).await;
    assert_eq!(got.status, 200, "{}", got.json());
    assert_eq!(got.json()["data"].as_array().unwrap().len(), 2);
    let one = form(&bench, "/v1/images/edits", &[("prompt", None, b"blue"), ("image", Some("a.png"), &picture)]).await;
    assert_eq!(one.status, 200, "{}", one.json());
    let not_a_picture =
        form(&bench, "/v1/images/edits", &[("prompt", None, b"blue"), ("image", Some("a.png"), b"hello")]).await;
    assert_eq!(not_a_picture.status, 400);
    assert!(!not_a_picture.json()["error"].as_str().unwrap().to_lowercase().contains("ffmpeg"));
}

#[tokio::test]
async fn png_on_request() {
    let bench = bench_with_worker().await;
    assert_eq!(post(&bench, PATH, &json!({"prompt": "a", "output_format": "png"})).await.status, 200);
    let filter = crate::types::JobFilter::default();
    let page = bench.service.list(&bench.account, &filter).await.unwrap();
    assert_eq!(page.items[0].spec.format, crate::types::ImageFormat::Png);
}
