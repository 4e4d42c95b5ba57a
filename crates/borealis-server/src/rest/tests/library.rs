use serde_json::json;

use super::*;
use crate::config::PaymentStyle;
use crate::testing::{bench, bench_with, bench_with_worker, until};

async fn upload(bench: &Bench, name: &str, bytes: &[u8]) -> Value {
    let parts: &[Part<'_>] =
        &[("expires_after", None, b"3600"), ("purpose", None, b"vision"), ("file", Some(name), bytes)];
    let got = form(bench, "/v1/files", parts).await;
    assert_eq!(got.status, 200, "{}", got.json());
    got.json()
}

#[tokio::test]
async fn files_from_upload_to_deletion() {
    let bench = bench().await;
    let file = upload(&bench, "a.png", &png()).await;
    assert_eq!(
        (&file["object"], &file["filename"], &file["purpose"]),
        (&json!("file"), &json!("a.png"), &json!("vision"))
    );
    assert_eq!(file["expires_at"].as_i64().unwrap() - file["created_at"].as_i64().unwrap(), 3600);
    let id = file["id"].as_str().unwrap();
    upload(&bench, "b.txt", b"hello").await;
    let first = get(&bench, "/v1/files?limit=1&order=asc").await.json();
    assert_eq!(first["data"][0]["id"], id);
    let token = first["pagination_token"].as_str().unwrap();
    let second = get(&bench, &format!("/v1/files?limit=1&order=asc&pagination_token={token}")).await.json();
    assert_eq!((&second["data"][0]["filename"], &second["has_more"]), (&json!("b.txt"), &json!(false)));
    // A page that nobody handed out is no empty page.
    for list in ["files", "batches", "generations"] {
        let lost = get(&bench, &format!("/v1/{list}?pagination_token=nobody%0A")).await;
        let body = lost.json().to_string();
        assert!(
            lost.status == 400 && body.contains("pagination_token \\\"nobody\\\" is none of this list"),
            "{list}: {body}"
        );
    }
    let content = get(&bench, &format!("/v1/files/{id}/content")).await;
    assert_eq!((&content.bytes[..], content.header("x-content-type-options")), (&png()[..], Some("nosniff")));
    assert_eq!(content.header("content-disposition"), Some("attachment"));
    played(&bench, &format!("/v1/files/{id}/content"), &png()).await;
    let public = post(&bench, &format!("/v1/files/{id}/public-url"), &json!({"expires_after": 3600})).await.json();
    let path = public["public_url"].as_str().unwrap().strip_prefix("http://127.0.0.1:8080").unwrap().to_string();
    let open = || Request::builder().uri(&path).body(Body::empty()).unwrap();
    assert_eq!(send(&bench, open()).await.status, 200);
    let revoked = send(
        &bench,
        request(&bench, "POST", &format!("/v1/files/{id}/public-url/revoke")).body(Body::empty()).unwrap(),
    )
    .await;
    assert_eq!(revoked.json(), json!({"id": id, "public_url": public["public_url"], "revoked": true}));
    assert_eq!(send(&bench, open()).await.status, 404);
    for seconds in [3599, 2_592_001] {
        let got = post(&bench, &format!("/v1/files/{id}/public-url"), &json!({"expires_after": seconds})).await;
        assert_eq!(got.status, 400);
    }
    let used = post(&bench, "/v1/videos/generations", &json!({"prompt": "a", "image": {"file_id": id}})).await;
    assert_eq!(used.status, 200, "{}", used.json());
    let (_, key) = bench.other().await;
    let theirs = Request::builder().uri(format!("/v1/files/{id}")).header("authorization", format!("Bearer {key}"));
    assert_eq!(send(&bench, theirs.body(Body::empty()).unwrap()).await.status, 404);
    assert_eq!(delete(&bench, &format!("/v1/files/{id}")).await.json()["deleted"], true);
    assert_eq!(get(&bench, &format!("/v1/files/{id}")).await.status, 404);
}

#[tokio::test]
async fn uploads_that_are_none() {
    let bench = bench().await;
    for parts in
        [&[("purpose", None, &b"x"[..])][..], &[("file", Some("a"), &b""[..])], &[("file", None, &b"text"[..])]]
    {
        assert_eq!(form(&bench, "/v1/files", parts).await.status, 400);
    }
    for (seconds, status) in [("2592000", 200), ("2592001", 400), ("0", 400), ("soon", 422)] {
        let parts: &[Part<'_>] = &[("expires_after", None, seconds.as_bytes()), ("file", Some("a"), b"x")];
        assert_eq!(form(&bench, "/v1/files", parts).await.status, status, "{seconds}");
    }
    let many: Vec<Part<'_>> = (0..65).map(|_| ("x", None, &b"y"[..])).collect();
    assert_eq!(form(&bench, "/v1/files", &many).await.status, 400);
}

#[tokio::test]
async fn batches_run_their_lines() {
    let bench = bench_with_worker().await;
    let line = |id: &str, path: &str, body: Value| {
        json!({"custom_id": id, "method": "POST", "url": path, "body": body}).to_string()
    };
    let lines = [
        line("picture", "/v1/images/generations", json!({"prompt": "a cat", "response_format": "b64_json"})),
        line("clip", "/v1/videos/generations", json!({"prompt": "a cat"})),
        line("wrong", "/v1/images/generations", json!({"prompt": "a cat", "n": 11})),
        line("elsewhere", "/v1/chat/completions", json!({})),
        line("failed", "/v1/images/generations", json!({"prompt": "fail"})),
    ];
    let file = upload(&bench, "lines.jsonl", lines.join("\n").as_bytes()).await;
    let batch = post(&bench, "/v1/batches", &json!({"name": "mine", "input_file_id": file["id"]})).await.json();
    assert_eq!((&batch["name"], &batch["state"]["num_requests"]), (&json!("mine"), &json!(5)), "{batch}");
    let path = format!("/v1/batches/{}", batch["batch_id"].as_str().unwrap());
    let state = loop {
        let state = get(&bench, &path).await.json()["state"].clone();
        if state["num_pending"] == 0 {
            break state;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!(
        state,
        json!({"num_requests": 5, "num_pending": 0, "num_success": 2, "num_error": 3, "num_cancelled": 0})
    );
    let results = get(&bench, &format!("{path}/results?limit=1000")).await.json()["results"].clone();
    let of = |id: &str| {
        let found = results.as_array().unwrap().iter().find(|r| r["batch_request_id"] == id);
        found.unwrap_or_else(|| panic!("{id}: {results}"))["batch_result"].clone()
    };
    assert!(of("picture")["response"]["image_generation"]["data"][0]["b64_json"].is_string());
    assert_eq!(of("clip")["response"]["video_generation"]["status"], "done");
    assert!(of("wrong")["error"]["message"].as_str().unwrap().contains("11"));
    assert!(of("elsewhere")["error"]["message"].as_str().unwrap().contains("chat/completions"));
    assert_eq!(of("failed")["error"]["message"], "the fake was told to fail");
    let list = get(&bench, "/v1/batches").await.json();
    assert_eq!(list["batches"][0]["batch_id"], batch["batch_id"]);
}

#[tokio::test]
async fn batches_are_cancelled_by_a_colon() {
    let bench = bench().await;
    let line = json!({"url": "/v1/images/generations", "body": {"prompt": "a"}}).to_string();
    let file = upload(&bench, "lines.jsonl", line.as_bytes()).await;
    let batch = post(&bench, "/v1/batches", &json!({"name": "mine", "input_file_id": file["id"]})).await.json();
    let id = batch["batch_id"].as_str().unwrap();
    let cancelled = post(&bench, &format!("/v1/batches/{id}:cancel"), &json!({})).await;
    assert_eq!(
        (cancelled.status, &cancelled.json()["state"]["num_cancelled"]),
        (200, &json!(1)),
        "{}",
        cancelled.json()
    );
    assert_eq!(post(&bench, &format!("/v1/batches/{id}:explode"), &json!({})).await.status, 404);
    assert_eq!(post(&bench, "/v1/batches/none:cancel", &json!({})).await.status, 404);
    assert_eq!(post(&bench, "/v1/batches", &json!({"input_file_id": "file_none"})).await.status, 404);
}

#[tokio::test]
async fn every_line_of_a_batch_counts_as_a_start() {
    let bench = bench_with(|config| config.requests_per_minute = 3, false).await;
    let line = json!({"url": "/v1/images/generations", "body": {"prompt": "a"}}).to_string();
    for (lines, status) in [(4, 400), (2, 200), (2, 429), (1, 200), (1, 429)] {
        let file = upload(&bench, "lines.jsonl", vec![line.as_str(); lines].join("\n").as_bytes()).await;
        let got = post(&bench, "/v1/batches", &json!({"name": "mine", "input_file_id": file["id"]})).await;
        assert_eq!(got.status, status, "{lines} lines: {}", got.json());
        assert_eq!(got.header("retry-after").is_some(), status == 429);
    }
    let started = post(&bench, "/v1/videos/generations", &json!({"prompt": "a"})).await;
    assert_eq!(started.status, 429, "jobs of batches and others have one limit");
    // What was refused has left nothing behind.
    assert_eq!(get(&bench, "/v1/batches").await.json()["batches"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn folders_hold_generations() {
    let bench = bench_with_worker().await;
    let folder = post(&bench, "/v1/folders", &json!({"name": "Balls"})).await;
    assert_eq!((folder.status, &folder.json()["count"]), (201, &json!(0)));
    let folder_id = folder.json()["id"].as_str().unwrap().to_string();
    let body = json!({"prompt": "a", "duration": 2, "folder_id": folder_id, "seed": 7});
    let id = post(&bench, "/v1/videos/generations", &body).await.json()["request_id"].as_str().unwrap().to_string();
    until(&bench, &id, |job| job.state.is_final()).await;
    post(&bench, "/v1/images/generations", &json!({"prompt": "elsewhere"})).await;
    let found = get(&bench, &format!("/v1/generations?folder_id={folder_id}")).await.json();
    let item = &found["data"][0];
    assert_eq!((found["data"].as_array().unwrap().len(), &item["id"], &item["seed"]), (1, &json!(id), &json!(7)));
    assert_eq!(
        (&item["status"], &item["outputs"][0]["width"], &item["kind"]),
        (&json!("done"), &json!(64), &json!("video"))
    );
    assert_eq!(item["request"]["path"], "/v1/videos/generations");
    assert_eq!(item["request"]["body"]["duration"], 2);
    assert_eq!(get(&bench, "/v1/generations?kind=image").await.json()["data"].as_array().unwrap().len(), 1);
    assert_eq!(get(&bench, "/v1/generations?folder_id=none").await.json()["data"].as_array().unwrap().len(), 1);
    let renamed = with(&bench, "PATCH", &format!("/v1/folders/{folder_id}"), &json!({"name": "Red"})).await.json();
    assert_eq!((&renamed["name"], &renamed["count"]), (&json!("Red"), &json!(1)));
    let moved = with(&bench, "PATCH", &format!("/v1/generations/{id}"), &json!({"folder_id": null})).await.json();
    assert_eq!(moved["folder_id"], Value::Null);
    for (name, status) in [(" ".to_string(), 400), ("x".repeat(100), 201), ("x".repeat(101), 400), ("a\nb".into(), 400)]
    {
        assert_eq!(post(&bench, "/v1/folders", &json!({"name": name})).await.status, status, "{name:?}");
    }
    assert_eq!(delete(&bench, &format!("/v1/folders/{folder_id}")).await.status, 200);
    assert_eq!(delete(&bench, &format!("/v1/folders/{folder_id}")).await.status, 404);
    assert_eq!(delete(&bench, &format!("/v1/generations/{id}")).await.json()["deleted"], true);
    assert_eq!(get(&bench, &format!("/v1/generations/{id}")).await.status, 404);
}

#[tokio::test]
async fn models_key_and_usage() {
    let bench = bench_with_worker().await;
    let models = get(&bench, "/v1/models").await.json();
    let ids: Vec<_> = models["data"].as_array().unwrap().iter().filter_map(|m| m["id"].as_str()).collect();
    assert!(["grok-imagine-image", "grok-imagine-video", "borealis-mini"].iter().all(|id| ids.contains(id)), "{ids:?}");
    assert_eq!(get(&bench, "/v1/models/grok-imagine-video").await.json()["object"], "model");
    assert_eq!(get(&bench, "/v1/models/none").await.status, 404);
    let image = get(&bench, "/v1/image-generation-models/grok-imagine-image-pro").await.json();
    assert_eq!((&image["id"], &image["output_modalities"]), (&json!("grok-imagine-image-quality"), &json!(["image"])));
    assert_eq!(get(&bench, "/v1/image-generation-models/grok-imagine-video").await.status, 404);
    assert!(get(&bench, "/v1/video-generation-models").await.json()["models"].as_array().unwrap().len() >= 3);
    assert_eq!(get(&bench, "/v1/language-models").await.json(), json!({"models": []}));
    let key = get(&bench, "/v1/api-key").await.json();
    assert_eq!((&key["name"], &key["api_key_disabled"]), (&json!("test"), &json!(false)));
    assert!(!key["redacted_api_key"].as_str().unwrap().contains(&bench.key[8..]));
    assert_eq!(get(&bench, "/v1/me").await.json()["api_key"], key);
    post(&bench, "/v1/images/generations", &json!({"prompt": "a", "n": 2})).await;
    let usage = get(&bench, "/v1/usage").await.json();
    assert_eq!(
        (&usage["jobs"], &usage["images"], &usage["credits_in_usd_ticks"]),
        (&json!(1), &json!(2), &Value::Null)
    );
    assert_eq!(get(&bench, "/v1/usage?days=0").await.status, 400);
}

#[tokio::test]
async fn what_is_made_is_paid_and_what_fails_is_not() {
    for (style, status, code) in [
        (PaymentStyle::PaymentRequired, 402, "payment-required"),
        (PaymentStyle::Forbidden, 403, "permission-denied"),
        (PaymentStyle::TooManyRequests, 429, "resource-exhausted"),
    ] {
        let bench = bench_with(|config| (config.prices.image_1k, config.payment) = (10, style), true).await;
        bench.service.store().set_credits(&bench.account.id, Some(25)).await.unwrap();
        let make = async |prompt: &str, n: u32| {
            post(&bench, "/v1/images/generations", &json!({"prompt": prompt, "n": n})).await
        };
        assert_eq!(make("a cat", 2).await.json()["usage"]["cost_in_usd_ticks"], 20);
        let refused = make("a cat", 1).await;
        assert_eq!((refused.status, refused.json()["code"].as_str()), (status, Some(code)));
        let usage = get(&bench, "/v1/usage").await.json();
        assert_eq!(
            (&usage["cost_in_usd_ticks"], &usage["credits_in_usd_ticks"], &usage["held_in_usd_ticks"]),
            (&json!(20), &json!(5), &json!(0))
        );
        bench.service.store().set_credits(&bench.account.id, Some(10)).await.unwrap();
        for prompt in ["fail", "moderate", "a nude child"] {
            assert_eq!(make(prompt, 1).await.status, 400);
        }
        assert_eq!(get(&bench, "/v1/usage").await.json()["credits_in_usd_ticks"], 10);
    }
}
