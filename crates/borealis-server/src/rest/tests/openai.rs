use serde_json::json;

use super::*;
use crate::testing::{bench, bench_with_worker};

#[tokio::test]
async fn create_poll_download_delete() {
    let bench = bench_with_worker().await;
    let picture = png();
    let parts: &[Part<'_>] = &[
        ("prompt", None, b"a red ball"),
        ("model", None, b"sora-2"),
        ("seconds", None, b"4"),
        ("size", None, b"720x1280"),
        ("input_reference", Some("first.png"), &picture),
    ];
    let got = form(&bench, "/v1/videos", parts).await;
    let video = got.json();
    assert_eq!((got.status, &video["object"]), (200, &json!("video")), "{video}");
    assert_eq!((&video["seconds"], &video["size"]), (&json!("4"), &json!("720x1280")));
    let id = video["id"].as_str().unwrap();
    assert!(id.starts_with("video_"));
    let done = ended(&bench, &format!("/v1/videos/{id}")).await.json();
    assert_eq!((&done["status"], &done["progress"], &done["error"]), (&json!("completed"), &json!(100), &Value::Null));
    assert_eq!((&done["seconds"], &done["size"]), (&json!("1"), &json!("64x48")));
    let content = get(&bench, &format!("/v1/videos/{id}/content")).await;
    assert_eq!((content.status, content.header("content-type")), (200, Some("video/mp4")));
    played(&bench, &format!("/v1/videos/{id}/content"), &content.bytes).await;
    let thumbnail = get(&bench, &format!("/v1/videos/{id}/content?variant=thumbnail")).await;
    assert_eq!((thumbnail.status, thumbnail.header("content-type")), (200, Some("image/png")));
    assert_eq!(get(&bench, &format!("/v1/videos/{id}/content?variant=spritesheet")).await.status, 400);
    let remix = post(&bench, &format!("/v1/videos/{id}/remix"), &json!({"prompt": "at night"})).await.json();
    assert_eq!(remix["remixed_from_video_id"], id, "{remix}");
    let edit = post(&bench, "/v1/videos/edits", &json!({"prompt": "at night", "video": {"id": id}})).await.json();
    assert_eq!(edit["object"], "video", "{edit}");
    let list = get(&bench, "/v1/videos?limit=2").await.json();
    assert_eq!((&list["data"][0]["id"], &list["has_more"]), (&edit["id"], &json!(true)));
    let rest = get(&bench, &format!("/v1/videos?after={}", list["last_id"].as_str().unwrap())).await.json();
    assert_eq!((&rest["data"][0]["id"], &rest["has_more"]), (&json!(id), &json!(false)));
    let gone = delete(&bench, &format!("/v1/videos/{id}")).await.json();
    assert_eq!(gone, json!({"id": id, "object": "video.deleted", "deleted": true}));
    assert_eq!(get(&bench, &format!("/v1/videos/{id}")).await.status, 404);
}

#[tokio::test]
async fn edits_and_extensions_as_forms() {
    let bench = bench_with_worker().await;
    let clip = mp4(2);
    let edit = form(&bench, "/v1/videos/edits", &[("prompt", None, b"blue"), ("video", Some("a.mp4"), &clip)]).await;
    assert_eq!((edit.status, &edit.json()["object"]), (200, &json!("video")), "{}", edit.json());
    let parts: &[Part<'_>] = &[("prompt", None, b"on"), ("seconds", None, b"4"), ("video", Some("a.mp4"), &clip)];
    let extension = form(&bench, "/v1/videos/extensions", parts).await;
    assert_eq!((extension.status, &extension.json()["seconds"]), (200, &json!("4")), "{}", extension.json());
    let missing =
        form(&bench, "/v1/videos/extensions", &[("prompt", None, b"on"), ("video", Some("a.mp4"), &clip)]).await;
    assert_eq!((missing.status, &missing.json()["error"]["param"]), (400, &json!("seconds")));
}

#[tokio::test]
async fn waiting_and_errors_have_openais_shape() {
    let bench = bench().await;
    let video = post(&bench, "/v1/videos", &json!({"prompt": "a", "seconds": "8"})).await.json();
    assert_eq!(
        (&video["status"], &video["progress"], &video["model"]),
        (&json!("queued"), &json!(0), &json!("grok-imagine-video"))
    );
    let polled = get(&bench, &format!("/v1/videos/{}", video["id"].as_str().unwrap())).await;
    assert_eq!((polled.status, polled.header("openai-poll-after-ms")), (200, Some("1000")));
    assert_eq!(get(&bench, &format!("/v1/videos/{}/content", video["id"].as_str().unwrap())).await.status, 404);
    for (status, kind, code, body) in [
        (400, "invalid_request_error", "invalid_argument", json!({"prompt": "a", "seconds": "16"})),
        (400, "invalid_request_error", "invalid_argument", json!({"prompt": "a", "seconds": 0})),
        (400, "invalid_request_error", "invalid_argument", json!({"prompt": "a", "size": "100x100000"})),
        (400, "invalid_request_error", "content_moderated", json!({"prompt": "a nude child"})),
        (404, "invalid_request_error", "not_found", json!({"prompt": "a", "model": "none"})),
        (422, "invalid_request_error", "invalid_argument", json!({"seconds": 4})),
    ] {
        let got = post(&bench, "/v1/videos", &body).await;
        let error = got.json()["error"].clone();
        assert_eq!(
            (got.status, error["type"].as_str(), error["code"].as_str()),
            (status, Some(kind), Some(code)),
            "{body}: {error}"
        );
        assert!(error["message"].is_string() && error.get("param").is_some());
    }
    assert_eq!(get(&bench, "/v1/videos/video_none").await.json()["error"]["code"], "not_found");
}
