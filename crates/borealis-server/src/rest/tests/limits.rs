//! Every number that has no test beside its route: at its end, and one beyond.

use serde_json::json;

use super::*;
use crate::config::MAX_FILE;
use crate::testing::{bench, bench_with_worker};

#[tokio::test]
async fn numbers_of_queries() {
    let bench = bench().await;
    let batch = post(&bench, "/v1/batches", &json!({"input_file_id": lines(&bench, 1).await})).await.json();
    let results = format!("/v1/batches/{}/results", batch["batch_id"].as_str().unwrap());
    for (path, name, least, most) in [
        ("/v1/files", "limit", 1, 100),
        ("/v1/batches", "limit", 1, 100),
        (results.as_str(), "limit", 1, 1000),
        ("/v1/videos", "limit", 1, 100),
        ("/v1/generations", "limit", 1, 100),
        ("/v1/usage", "days", 1, 3650),
        ("/v1/usage", "since", 0, 253_402_300_799_i64),
    ] {
        for (value, status) in
            [(least, 200), (most, 200), (least - 1, 400), (most + 1, 400), (i64::MIN, 400), (i64::MAX, 400)]
        {
            let got = get(&bench, &format!("{path}?{name}={value}")).await;
            assert_eq!(got.status, status, "{path} {name} {value}: {}", got.json());
        }
        for text in ["x", "1.5", "99999999999999999999999999999999999999999", "-"] {
            assert_eq!(get(&bench, &format!("{path}?{name}={text}")).await.status, 400, "{path} {name} {text}");
        }
    }
    for order in ["up", "asc;"] {
        assert_eq!(get(&bench, &format!("/v1/videos?order={order}")).await.status, 400);
    }
}

/// The id of a file of so many lines that are no jobs.
async fn lines(bench: &Bench, count: usize) -> Value {
    let text = vec![r#"{"url": "/v1/nothing", "body": {}}"#; count].join("\n");
    form(bench, "/v1/files", &[("file", Some("lines.jsonl"), text.as_bytes())]).await.json()["id"].clone()
}

#[tokio::test]
async fn batches_have_so_many_lines_and_no_more() {
    let bench = bench().await;
    for (count, status) in [(10_000, 200), (10_001, 400), (0, 400)] {
        let file = if count == 0 {
            form(&bench, "/v1/files", &[("file", Some("a"), b"\n")]).await.json()["id"].clone()
        } else {
            lines(&bench, count).await
        };
        let got = post(&bench, "/v1/batches", &json!({"name": "many", "input_file_id": file})).await;
        assert_eq!(got.status, status, "{count}: {}", got.json());
        if status == 200 {
            assert_eq!(got.json()["state"]["num_error"], 10_000);
        }
    }
    let file = lines(&bench, 1).await;
    for (name, status) in [("x".repeat(255), 200), ("x".repeat(256), 400), ("a\nb".into(), 400)] {
        let got = post(&bench, "/v1/batches", &json!({"name": name, "input_file_id": file})).await;
        assert_eq!(got.status, status, "{}: {}", name.len(), got.json());
    }
}

#[tokio::test]
async fn what_is_kept_has_a_name_and_a_life() {
    let bench = bench_with_worker().await;
    for (path, more) in [("/v1/images/generations", json!({})), ("/v1/videos/generations", json!({"duration": 1}))] {
        for (status, options) in [
            (200, json!({"filename": "ä".repeat(255)})),
            (400, json!({"filename": "ä".repeat(256)})),
            (400, json!({"filename": " "})),
            (200, json!({"filename": "a", "expires_after": 1})),
            (400, json!({"filename": "a", "expires_after": 0})),
            (200, json!({"filename": "a", "expires_after": 2_592_000})),
            (400, json!({"filename": "a", "expires_after": 2_592_001})),
            (200, json!({"filename": "a", "public_url": {"expires_after": 3600}})),
            (400, json!({"filename": "a", "public_url": {"expires_after": 3599}})),
            (200, json!({"filename": "a", "public_url": {"expires_after": 2_592_000}})),
            (400, json!({"filename": "a", "public_url": {"expires_after": 2_592_001}})),
            (422, json!({"filename": 5})),
        ] {
            let mut body = json!({"prompt": "a ball", "storage_options": options});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let got = post(&bench, path, &body).await;
            assert_eq!(got.status, status, "{path} {options}: {}", got.json());
        }
    }
    for (length, status) in [(10_000, 200), (10_001, 400)] {
        let got = post(&bench, "/v1/images/generations", &json!({"prompt": "é".repeat(length)})).await;
        assert_eq!(got.status, status, "{length}");
    }
}

#[tokio::test]
async fn files_and_pictures_have_so_many_bytes_and_no_more() {
    let bench = bench().await;
    let file = async |bytes: Vec<u8>| form(&bench, "/v1/files", &[("file", Some("a.png"), &bytes)]).await;
    assert_eq!(file(vec![7; MAX_FILE as usize]).await.status, 200);
    assert_eq!(file(vec![7; MAX_FILE as usize + 1]).await.status, 413);
    for (length, status) in [(20 << 20, 200), ((20 << 20) + 1, 400)] {
        let mut picture = png();
        picture.resize(length, 0);
        let id = file(picture).await.json()["id"].clone();
        let got = post(&bench, "/v1/videos/generations", &json!({"prompt": "a", "image": {"file_id": id}})).await;
        assert_eq!(got.status, status, "{length}: {}", got.json());
        if status == 400 {
            assert!(
                got.json()["error"].as_str().unwrap().starts_with("image: the file has 20971521 bytes"),
                "{}",
                got.json()
            );
        }
    }
}

#[tokio::test]
async fn clips_have_so_many_seconds_and_no_more() {
    let bench = bench().await;
    for (path, seconds, status) in [
        ("/v1/videos/edits", 8, 200),
        ("/v1/videos/edits", 9, 400),
        ("/v1/videos/extensions", 1, 400),
        ("/v1/videos/extensions", 2, 200),
        ("/v1/videos/extensions", 30, 200),
        ("/v1/videos/extensions", 31, 400),
    ] {
        let clip = data_url("video/mp4", &mp4(seconds));
        let got = post(&bench, path, &json!({"prompt": "on", "video": {"url": clip}})).await;
        assert_eq!(got.status, status, "{path} {seconds} s: {}", got.json());
    }
    let clip = data_url("video/mp4", &mp4(2));
    for (frame, status) in [(0, 200), (47, 200), (48, 400), (720, 400), (721, 400), (-1, 400)] {
        let got =
            post(&bench, "/v1/videos/extensions", &json!({"prompt": "on", "video": {"url": clip}, "frame": frame}))
                .await;
        assert_eq!(got.status, status, "frame {frame}: {}", got.json());
    }
}
