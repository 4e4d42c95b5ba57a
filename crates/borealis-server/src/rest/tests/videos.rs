use serde_json::json;

use super::*;
use crate::testing::{bench, bench_with_worker};

const PATH: &str = "/v1/videos/generations";

async fn start(bench: &Bench, path: &str, body: Value) -> String {
    let got = post(bench, path, &body).await;
    assert_eq!(got.status, 200, "{body}: {}", got.json());
    got.json()["request_id"].as_str().unwrap().to_string()
}

#[tokio::test]
async fn from_pending_to_done() {
    let bench = bench_with_worker().await;
    let id = start(&bench, PATH, json!({"prompt": "a red ball", "duration": 1, "model": "grok-imagine-video"})).await;
    assert!(uuid::Uuid::parse_str(&id).is_ok());
    let got = ended(&bench, &format!("/v1/videos/{id}")).await;
    let body = got.json();
    assert_eq!((got.status, &body["status"], &body["progress"]), (200, &json!("done"), &json!(100)));
    assert_eq!(body["video"]["duration"], 1);
    assert_eq!(body["video"]["respect_moderation"], true);
    assert_eq!((&body["model"], &body["usage"]["cost_in_usd_ticks"]), (&json!("grok-imagine-video"), &json!(0)));
    let url = body["video"]["url"].as_str().unwrap().strip_prefix("http://127.0.0.1:8080").unwrap().to_string();
    let file = send(&bench, Request::builder().uri(&url).body(Body::empty()).unwrap()).await;
    assert_eq!((file.status, file.header("content-type")), (200, Some("video/mp4")));
    let inline = get(&bench, &format!("/inline/v1/videos/{id}")).await.json();
    assert_eq!(inline["video"]["url"], data_url("video/mp4", &file.bytes));
    let still = get(&bench, &format!("/v1/videos/{id}/frame")).await;
    assert_eq!((still.status, still.header("content-type")), (200, Some("image/png")));
    assert!(still.bytes.starts_with(b"\x89PNG"));
    for (query, status) in [
        ("at=first", 200),
        ("at=0.5", 200),
        ("at=99", 400),
        ("at=-1", 400),
        ("at=x", 400),
        ("variant=1", 404),
        ("variant=9", 400),
    ] {
        assert_eq!(get(&bench, &format!("/v1/videos/{id}/frame?{query}")).await.status, status, "{query}");
    }
}

#[tokio::test]
async fn pending_is_202_with_a_body() {
    let bench = bench_with_worker().await;
    let id = start(&bench, PATH, json!({"prompt": "slow"})).await;
    crate::testing::until(&bench, &id, |job| job.progress > 0).await;
    let got = get(&bench, &format!("/v1/videos/{id}")).await;
    let body = got.json();
    assert_eq!((got.status, &body["status"]), (202, &json!("pending")));
    assert!((1..=99).contains(&body["progress"].as_i64().unwrap()), "{body}");
    assert!(body["stream_url"].as_str().unwrap().contains("stream=1"));
    let stopped = delete(&bench, &format!("/v1/videos/{id}")).await.json();
    assert_eq!(stopped, json!({"request_id": id, "cancelled": true, "deleted": false}));
    let body = ended(&bench, &format!("/v1/videos/{id}")).await.json();
    assert_eq!((&body["status"], &body["error"]["code"]), (&json!("failed"), &json!("failed_precondition")));
    assert_eq!(delete(&bench, &format!("/v1/videos/{id}")).await.json()["deleted"], true);
    assert_eq!(get(&bench, &format!("/v1/videos/{id}")).await.status, 404);
}

#[tokio::test]
async fn failed_and_moderated() {
    let bench = bench_with_worker().await;
    let id = start(&bench, PATH, json!({"prompt": "fail"})).await;
    let got = ended(&bench, &format!("/v1/videos/{id}")).await;
    assert_eq!(got.status, 200);
    let error = json!({"code": "failed_precondition", "message": "the fake was told to fail"});
    let body = json!({"status": "failed", "error": error, "video": {"duration": 0, "respect_moderation": true}, "model": "", "progress": 0});
    assert_eq!(got.json(), body);
    let id = start(&bench, PATH, json!({"prompt": "moderate"})).await;
    let got = ended(&bench, &format!("/v1/videos/{id}")).await;
    let body = got.json();
    assert_eq!((got.status, &body["code"]), (400, &json!("imagine:content-moderated")));
    assert!(body["error"].as_str().unwrap().starts_with("Generated video rejected by content moderation."));
    assert_eq!(body["usage"]["cost_in_usd_ticks"], 0);
    let blocked = post(&bench, PATH, &json!({"prompt": "a nude child"})).await;
    assert_eq!((blocked.status, &blocked.json()["code"]), (400, &json!("imagine:content-moderated")));
}

#[tokio::test]
async fn nobody_sees_the_clips_of_others() {
    let bench = bench().await;
    let id = start(&bench, PATH, json!({"prompt": "a"})).await;
    let (_, key) = bench.other().await;
    for (method, path) in [
        ("GET", format!("/v1/videos/{id}")),
        ("GET", format!("/v1/videos/video_{id}")),
        ("GET", format!("/v1/tasks/task_{id}")),
        ("GET", format!("/v1/generations/{id}")),
        ("GET", format!("/v1/videos/{id}/frame")),
        ("GET", format!("/v1/videos/{id}/content")),
        ("DELETE", format!("/v1/videos/{id}")),
        ("DELETE", format!("/v1/generations/{id}")),
        ("DELETE", format!("/v1/tasks/{id}")),
        ("GET", "/v1/videos/no-such-id".into()),
        ("GET", "/v1/videos/%00".into()),
    ] {
        let request = Request::builder().method(method).uri(&path).header("authorization", format!("Bearer {key}"));
        assert_eq!(send(&bench, request.body(Body::empty()).unwrap()).await.status, 404, "{method} {path}");
    }
    assert_eq!(get(&bench, &format!("/v1/videos/{id}")).await.status, 202);
}

#[tokio::test]
async fn every_number_at_its_end_and_one_beyond() {
    let bench = bench().await;
    let image = data_url("image/png", &png());
    let references = |n: usize| json!(vec![json!({"url": image}); n]);
    for (status, body) in [
        (200, json!({"duration": 1})),
        (200, json!({"duration": 15})),
        (200, json!({"duration": "15"})),
        (200, json!({"seconds": 6.0})),
        (400, json!({"duration": 0})),
        (400, json!({"duration": 16})),
        (400, json!({"duration": -1})),
        (400, json!({"duration": 1e20})),
        (200, json!({"n": 4})),
        (400, json!({"n": 5})),
        (400, json!({"n": 0})),
        (200, json!({"resolution": "480p"})),
        (200, json!({"resolution": "720P"})),
        (400, json!({"resolution": "1080p"})),
        (200, json!({"resolution": "1080p", "model": "grok-imagine-video-1.5"})),
        (400, json!({"resolution": "4k"})),
        (200, json!({"aspect_ratio": "2:3"})),
        (400, json!({"aspect_ratio": "5:4"})),
        (200, json!({"image": {"url": image}})),
        (200, json!({"image": image, "prompt": ""})),
        (200, json!({"image_url": image})),
        (400, json!({"prompt": ""})),
        (400, json!({"image": {"url": "data:image/png;base64,AAAA"}})),
        (400, json!({"image": {"url": ""}})),
        (400, json!({"image": {"url": "https://example.org/a.png"}})),
        (404, json!({"image": {"file_id": "file_none"}})),
        (404, json!({"image": {"id": "none"}})),
        (200, json!({"reference_images": references(7)})),
        (400, json!({"reference_images": references(8)})),
        (200, json!({"reference_images": references(1), "duration": 10})),
        (400, json!({"reference_images": references(1), "duration": 11})),
        (200, json!({"reference_images": references(1), "duration": 15, "model": "grok-imagine-video-1.5"})),
        (400, json!({"reference_images": references(1), "image": {"url": image}})),
        (400, json!({"reference_images": references(1), "resolution": "1080p", "model": "grok-imagine-video-1.5"})),
        (400, json!({"last_frame": {"url": image}})),
        (400, json!({"keyframes": [{"image": {"url": image}, "timestamp_s": 1}]})),
        (400, json!({"reference_audios": [{"voice_id": "eve"}]})),
        (400, json!({"output": {"upload_url": "http://127.0.0.1/"}})),
        (404, json!({"model": "grok-imagine-nothing"})),
        (400, json!({"model": "grok-imagine-image"})),
        (200, json!({"seed": u64::MAX})),
        (200, json!({"seed": -1})),
        (400, json!({"seed": 1e29})),
        (200, json!({"guidance": 100})),
        (400, json!({"guidance": 100.1})),
        (200, json!({"preset": "speed"})),
        (400, json!({"preset": "warp"})),
        (200, json!({"storage_options": {"filename": "a.mp4", "expires_after": 2_592_000, "public_url": true}})),
        (400, json!({"storage_options": {"filename": "a.mp4", "expires_after": 2_592_001}})),
        (200, json!({"storage_options": {"filename": "a.mp4", "public_url": {"expires_after": 3600}}})),
        (400, json!({"storage_options": {"filename": "a.mp4", "public_url": {"expires_after": 3599}}})),
        (400, json!({"storage_options": {"filename": ""}})),
        (400, json!({"folder_id": "folder_none"})),
        (400, json!({"webhook_url": "https://example.org/hook"})),
        (200, json!({"prompt": "é".repeat(10_000)})),
        (400, json!({"prompt": "é".repeat(10_001)})),
    ] {
        let mut whole = json!({"prompt": "a red ball"});
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let got = post(&bench, PATH, &whole).await;
        let shown: String = body.to_string().chars().take(120).collect();
        assert_eq!(got.status, status, "{shown}: {}", got.json());
    }
    let long = json!({"prompt": "a", "reference_images": references(1), "duration": 15});
    let said = post(&bench, PATH, &long).await.json()["error"].clone();
    assert_eq!(said, "duration: Duration 15s exceeds the maximum allowed for reference-to-video, which is 10s.");
}

#[tokio::test]
async fn edits_and_extensions() {
    let bench = bench_with_worker().await;
    let clip = |seconds: usize| data_url("video/mp4", &mp4(seconds));
    let (short, two, nine) = (clip(1), clip(2), clip(9));
    for (path, status, body) in [
        ("/v1/videos/edits", 200, json!({"video": {"url": two}})),
        ("/v1/videos/edits", 200, json!({"video_url": two, "n": 4})),
        ("/v1/videos/edits", 400, json!({"video": {"url": nine}})),
        ("/v1/videos/edits", 400, json!({"video": {"url": two}, "prompt": ""})),
        ("/v1/videos/edits", 422, json!({})),
        ("/v1/videos/edits", 400, json!({"video": {"url": data_url("image/png", &png())}})),
        ("/v1/videos/extensions", 200, json!({"video": {"url": two}})),
        ("/v1/videos/extensions", 200, json!({"video": {"url": nine}, "duration": 10})),
        ("/v1/videos/extensions", 200, json!({"video": {"url": two}, "duration": 1})),
        ("/v1/videos/extensions", 400, json!({"video": {"url": two}, "duration": 11})),
        ("/v1/videos/extensions", 400, json!({"video": {"url": two}, "duration": 0})),
        ("/v1/videos/extensions", 400, json!({"video": {"url": short}})),
        ("/v1/videos/extensions", 200, json!({"video": {"url": two}, "frame": 47})),
        ("/v1/videos/extensions", 200, json!({"video": {"url": two}, "frame": 30})),
        ("/v1/videos/extensions", 400, json!({"video": {"url": two}, "frame": 48})),
        ("/v1/videos/extensions", 422, json!({"prompt": "a"})),
    ] {
        let mut whole = json!({"prompt": "it turns blue"});
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let got = post(&bench, path, &whole).await;
        let shown: String = body.to_string().chars().take(60).collect();
        assert_eq!(got.status, status, "{path} {shown}: {}", got.json());
    }
    let id = start(&bench, "/v1/videos/extensions", json!({"prompt": "on", "video": {"url": two}, "frame": 30})).await;
    let job = crate::testing::until(&bench, &id, |job| job.state.is_final()).await;
    assert!((job.spec.video.unwrap().seconds - 31.0 / 24.0).abs() < 1e-6);
    // A result of ours chains by its URL, and a still of it by its id.
    let done = ended(&bench, &format!("/v1/videos/{id}")).await.json();
    start(&bench, "/v1/videos/edits", json!({"prompt": "again", "video": {"url": done["video"]["url"]}})).await;
    start(&bench, PATH, json!({"prompt": "from its end", "image": {"request_id": id, "frame": "last"}})).await;
    start(&bench, PATH, json!({"prompt": "from its end", "image": {"url": done["video"]["url"], "frame": 0.5}})).await;
}

#[tokio::test]
async fn every_variant_can_be_watched_while_it_grows() {
    let bench = bench_with_worker().await;
    let id = start(&bench, PATH, json!({"prompt": "half", "n": 2})).await;
    crate::testing::until(&bench, &id, |job| job.progress > 0).await;
    let body = get(&bench, &format!("/v1/videos/{id}")).await.json();
    let urls = body["stream_urls"].as_array().unwrap();
    assert_eq!((urls.len(), &urls[0]), (2, &body["stream_url"]));
    let mut streams = Vec::new();
    for url in urls {
        let path = url.as_str().unwrap().strip_prefix("http://127.0.0.1:8080").unwrap().to_string();
        let open = |method: &str| Request::builder().method(method).uri(&path).body(Body::empty()).unwrap();
        let head = send(&bench, open("HEAD")).await;
        assert_eq!((head.status, head.header("content-type")), (200, Some("video/mp4")));
        let answer = bench.app().oneshot(open("GET")).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        let mut stream = answer.into_body();
        let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(&first[4..8], b"ftyp");
        streams.push((first.to_vec(), stream));
    }
    let task = get(&bench, &format!("/v1/tasks/task_{id}")).await.json();
    assert_eq!((&task["status"], &task["stream_url"]), (&json!("processing"), &body["stream_url"]));
    assert_eq!(get(&bench, &format!("/v1/generations/{id}")).await.json()["stream_urls"], body["stream_urls"]);
    assert_eq!(get(&bench, &format!("/v1/videos/{id}")).await.status, 202, "it is not done yet");
    // Who watches is not kept when the job has ended.
    delete(&bench, &format!("/v1/videos/{id}")).await;
    let mut seen = Vec::new();
    for (mut bytes, mut stream) in streams {
        while let Some(Ok(piece)) = stream.frame().await {
            bytes.extend_from_slice(&piece.into_data().unwrap());
        }
        assert!(bytes.windows(4).any(|four| four == b"moof"), "there is something to see");
        seen.push(bytes);
    }
    assert_ne!(seen[0], seen[1]);
    let ended = send(&bench, Request::builder().uri(urls[1].as_str().unwrap()).body(Body::empty()).unwrap()).await;
    assert_eq!(ended.status, 404);
}

#[tokio::test]
async fn variants_are_all_there() {
    let bench = bench_with_worker().await;
    let id = start(&bench, PATH, json!({"prompt": "a", "n": 3})).await;
    let body = ended(&bench, &format!("/v1/videos/{id}")).await.json();
    let videos = body["videos"].as_array().unwrap();
    assert_eq!((videos.len(), &videos[0]), (3, &body["video"]));
}

#[tokio::test]
async fn results_are_kept_as_files() {
    let bench = bench_with_worker().await;
    let options = json!({"filename": "ball.mp4", "public_url": {"expires_after": 3600}});
    let id = start(&bench, PATH, json!({"prompt": "a", "storage_options": options})).await;
    let video = ended(&bench, &format!("/v1/videos/{id}")).await.json()["video"].clone();
    let file = &video["file_output"];
    assert_eq!(file["filename"], "ball.mp4", "{video}");
    assert!(file["public_url"].is_string() && file["public_url_expires_at"].is_i64(), "{video}");
    let kept = get(&bench, &format!("/v1/files/{}", file["file_id"].as_str().unwrap())).await;
    assert_eq!((kept.status, &kept.json()["filename"]), (200, &json!("ball.mp4")));
}
