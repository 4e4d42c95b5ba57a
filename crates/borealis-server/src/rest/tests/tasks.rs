use serde_json::json;

use super::*;
use crate::testing::{bench, bench_with_worker};

const PATH: &str = "/v1/videos/generations";

#[tokio::test]
async fn from_input_to_results() {
    let bench = bench_with_worker().await;
    let body = json!({"model": "grok-imagine-text-to-video", "input": {"prompt": "a red ball", "duration": 20, "mode": "fun"}});
    let task = post(&bench, PATH, &body).await.json();
    let id = task["id"].as_str().unwrap();
    assert!(id.starts_with("task_"), "{task}");
    assert_eq!((&task["object"], &task["model"]), (&json!("video.generation.task"), &body["model"]));
    let job = bench.service.job(&bench.account, super::super::plain_id(id)).await.unwrap();
    assert_eq!((job.spec.seconds, job.spec.chain_seconds.as_slice()), (Some(10.0), &[10.0][..]));
    assert_eq!((job.spec.aspect_ratio.as_deref(), job.spec.resolution.as_deref()), (Some("2:3"), Some("480p")));
    let done = ended(&bench, &format!("/v1/tasks/{id}")).await.json();
    assert_eq!((&done["status"], &done["progress"], &done["error"]), (&json!("completed"), &json!(100), &Value::Null));
    assert!(done["results"][0].as_str().unwrap().contains("/files/"));
    let failed = post(&bench, PATH, &json!({"input": {"prompt": "moderate"}})).await.json();
    let failed = ended(&bench, &format!("/v1/tasks/{}", failed["id"].as_str().unwrap())).await.json();
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("imagine:content-moderated")));
}

#[tokio::test]
async fn every_number_at_its_end_and_one_beyond() {
    let bench = bench().await;
    let image = data_url("image/png", &png());
    let (text, picture) = ("grok-imagine-text-to-video", "grok-imagine-image-to-video");
    for (status, model, input) in [
        (200, text, json!({"duration": 6})),
        (200, text, json!({"duration": 30})),
        (400, text, json!({"duration": 5})),
        (400, text, json!({"duration": 31})),
        (200, text, json!({"aspect_ratio": "9:16", "resolution": "720p"})),
        (400, text, json!({"aspect_ratio": "4:3"})),
        (400, text, json!({"resolution": "1080p"})),
        (200, text, json!({"mode": "spicy"})),
        (400, text, json!({"mode": "wild"})),
        (400, text, json!({"prompt": ""})),
        (200, text, json!({"prompt": "x".repeat(5000)})),
        (400, text, json!({"prompt": "x".repeat(5001)})),
        (400, text, json!({"image_urls": [image]})),
        (200, picture, json!({"image_urls": [image], "prompt": ""})),
        (200, picture, json!({"image_urls": vec![&image; 7], "prompt": "@image1 and @image7"})),
        (400, picture, json!({"image_urls": vec![&image; 8]})),
        (400, picture, json!({})),
        (400, picture, json!({"image_urls": [image], "mode": "spicy"})),
        (422, text, json!({"prompt": 5})),
        (404, "no-model", json!({})),
        (200, "borealis-mini", json!({})),
    ] {
        let mut whole = json!({"prompt": "a red ball"});
        whole.as_object_mut().unwrap().extend(input.as_object().unwrap().clone());
        let got = post(&bench, PATH, &json!({"model": model, "input": whole})).await;
        let shown: String = input.to_string().chars().take(80).collect();
        assert_eq!(got.status, status, "{model} {shown}: {}", got.json());
    }
}

#[tokio::test]
async fn deleted_tasks_are_cancelled() {
    let bench = bench().await;
    let task = post(&bench, PATH, &json!({"input": {"prompt": "a"}})).await.json();
    let got = delete(&bench, &format!("/v1/tasks/{}", task["id"].as_str().unwrap())).await.json();
    assert_eq!((&got["status"], &got["error"]["code"]), (&json!("failed"), &json!("failed_precondition")));
}
