//! `borealis bench latency`: against a server of its own, and against one that is scripted here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::run::{borealis, said, succeed};

#[test]
fn a_server_of_its_own_with_the_model_inside() {
    let mut command = borealis();
    command.args(["bench", "latency", "--local", "--seconds", "1", "--resolution", "480p", "--runs", "2", "--json"]);
    let output = succeed(&mut command);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let latencies: Vec<f64> =
        report["latencies"].as_array().unwrap().iter().map(|seconds| seconds.as_f64().unwrap()).collect();
    // Asked after a second for the first time.
    assert!(latencies.len() == 2 && latencies.iter().all(|seconds| *seconds >= 1.0), "{report}");
    assert!(report["p95_seconds"].as_f64().unwrap() >= report["p50_seconds"].as_f64().unwrap(), "{report}");
    assert!(said(&output).contains("run 2 of 2: "), "{}", said(&output));
}

/// What was asked: the request line, the key, the body.
type Asked = (String, String, String);

/// Answers requests in their order, one connection each.
fn script(answers: Vec<(&'static str, Value)>) -> (String, std::thread::JoinHandle<Vec<Asked>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = move || {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut key, mut length) = (String::new(), String::new(), 0);
            reader.read_line(&mut first).unwrap();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim();
                match line.split_once(": ") {
                    Some((name, value)) if name.eq_ignore_ascii_case("authorization") => key = value.into(),
                    Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                        length = value.parse().unwrap()
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            let mut sent = vec![0; length];
            reader.read_exact(&mut sent).unwrap();
            let body = body.to_string();
            let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            (&stream).write_all((head + &body).as_bytes()).unwrap();
            asked.push((first.trim().to_string(), key, String::from_utf8(sent).unwrap()));
        }
        asked
    };
    (url, std::thread::spawn(answer))
}

#[test]
fn any_server_with_the_same_api() {
    let (url, server) = script(vec![
        ("200 OK", json!({"request_id": "r1"})),
        ("202 Accepted", json!({"status": "pending", "progress": 50})),
        ("200 OK", json!({"status": "done", "video": {"url": "http://localhost/v.mp4"}})),
    ]);
    let mut command = borealis();
    command.args(["bench", "latency", "--runs", "1", "--seconds", "8", "--model", "grok-imagine-video", "--url", &url]);
    let output = succeed(command.env("BOREALIS_API_KEY", "bk-1"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("1 clips of 8 s, 720p, asked every second\nP50 "), "{text}");
    let asked = server.join().unwrap();
    let body: Value = serde_json::from_str(&asked[0].2).unwrap();
    assert_eq!(
        body,
        json!({"prompt": "a red ball bounces on grass", "duration": 8, "resolution": "720p", "model": "grok-imagine-video"})
    );
    assert_eq!(asked[0].0, "POST /v1/videos/generations HTTP/1.1");
    assert!(asked[1..].iter().all(|(line, _, _)| line == "GET /v1/videos/r1 HTTP/1.1"), "{asked:?}");
    assert!(asked.iter().all(|(_, key, _)| key == "Bearer bk-1"), "{asked:?}");
}

#[test]
fn servers_that_refuse_or_fail_are_quoted() {
    for (answers, wanted) in [
        (
            vec![("401 Unauthorized", json!({}))],
            "401 Unauthorized: set BOREALIS_API_KEY (or XAI_API_KEY) to a key of it\n",
        ),
        (
            vec![("400 Bad Request", json!({"error": "no such model"}))],
            "has status 400 Bad Request: {\"error\":\"no such model\"}\n",
        ),
        (
            vec![("200 OK", json!({"request_id": "r"})), ("200 OK", json!({"status": "failed", "error": "no"}))],
            "says that the clip failed: {\"error\":\"no\",\"status\":\"failed\"}\n",
        ),
    ] {
        let (url, server) = script(answers);
        let output = borealis().args(["bench", "latency", "--url", &url]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).ends_with(wanted), "{}", said(&output));
        server.join().unwrap();
    }
}
