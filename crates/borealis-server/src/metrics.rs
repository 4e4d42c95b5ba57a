//! Counters in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

/// Upper bounds of the duration buckets, seconds.
const BUCKETS: [f64; 8] = [0.001, 0.005, 0.02, 0.05, 0.25, 1.0, 10.0, 60.0];

/// What the server counts. Labels never hold ids, prompts or keys.
#[derive(Debug, Default)]
pub struct Metrics {
    answers: Mutex<BTreeMap<(&'static str, u16), Durations>>,
    /// Times that a worker process ended without being asked to.
    pub worker_exits: AtomicU64,
    /// Connections that are open.
    pub connections: AtomicU64,
    /// Webhooks delivered.
    pub webhooks_sent: AtomicU64,
    /// Webhooks that were refused or not reached.
    pub webhooks_failed: AtomicU64,
    /// Inputs that the media process refused.
    pub media_refused: AtomicU64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Durations {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

/// The part of the server that a path belongs to.
pub(crate) fn area(path: &str) -> &'static str {
    const AREAS: [(&str, &str); 11] = [
        ("/v1/images", "images"),
        ("/v1/videos", "videos"),
        ("/v1/files", "files"),
        ("/v1/batches", "batches"),
        ("/v1/tasks", "tasks"),
        ("/v1/", "v1"),
        ("/inline/", "inline"),
        ("/proxy/", "proxy"),
        ("/files/", "results"),
        ("/assets/", "page"),
        ("/xai_api.", "grpc"),
    ];
    AREAS.iter().find(|(start, _)| path.starts_with(start)).map_or("other", |(_, name)| name)
}

impl Metrics {
    /// Counts an answer.
    pub fn answered(&self, area: &'static str, status: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let durations = answers.entry((area, status)).or_default();
        for (bucket, bound) in durations.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
        durations.count += 1;
        durations.sum += seconds;
    }

    /// Everything as text. `jobs` are the jobs by state, `workers` what those that are alive tell of themselves, as JSON.
    pub fn text(&self, jobs: &[(String, i64)], workers: &[String]) -> String {
        let mut out = String::from("# TYPE borealis_http_request_duration_seconds histogram\n");
        let name = "borealis_http_request_duration_seconds";
        for ((area, status), d) in self.answers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = format!("area=\"{area}\",status=\"{status}\"");
            for (bucket, bound) in d.buckets.iter().zip(BUCKETS) {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {bucket}");
            }
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", d.count);
            let _ = writeln!(out, "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {}", d.sum, d.count);
        }
        out += "# TYPE borealis_jobs gauge\n";
        for (state, n) in jobs {
            let _ = writeln!(out, "borealis_jobs{{state=\"{state}\"}} {n}");
        }
        let _ = writeln!(out, "# TYPE borealis_workers gauge\nborealis_workers {}", workers.len());
        experts(workers, &mut out);
        for (name, kind, value) in [
            ("borealis_connections", "gauge", &self.connections),
            ("borealis_worker_exits_total", "counter", &self.worker_exits),
            ("borealis_webhooks_sent_total", "counter", &self.webhooks_sent),
            ("borealis_webhooks_failed_total", "counter", &self.webhooks_failed),
            ("borealis_media_refused_total", "counter", &self.media_refused),
        ] {
            let _ = writeln!(out, "# TYPE {name} {kind}\n{name} {}", value.load(Ordering::Relaxed));
        }
        out
    }
}

/// Experts that were there when a step asked for them, and those that had to be copied to the device first, by process.
fn experts(workers: &[String], out: &mut String) {
    let told = workers.iter().filter_map(|info| serde_json::from_str::<Value>(info).ok());
    let told: Vec<_> = told.filter(|info| info["experts"].is_object()).collect();
    for (name, key) in [
        ("borealis_expert_hits_total", "hits"),
        ("borealis_expert_misses_total", "misses"),
        ("borealis_expert_copied_bytes_total", "copied_bytes"),
        ("borealis_expert_copy_seconds_total", "copy_seconds"),
    ] {
        if !told.is_empty() {
            let _ = writeln!(out, "# TYPE {name} counter");
        }
        for info in &told {
            let _ = writeln!(out, "{name}{{process=\"{}\"}} {}", info["process"], info["experts"][key]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up() {
        let metrics = Metrics::default();
        for ms in [2, 30, 3000] {
            metrics.answered(area("/v1/videos/x"), 200, Duration::from_millis(ms));
        }
        let text = metrics.text(
            &[("queued".into(), 2)],
            &[
                r#"{"process":7,"experts":{"hits":9,"misses":1,"copied_bytes":5,"copy_seconds":0.5}}"#.into(),
                "{}".into(),
            ],
        );
        let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        has("borealis_http_request_duration_seconds_bucket{area=\"videos\",status=\"200\",le=\"0.001\"} 0");
        has("borealis_http_request_duration_seconds_bucket{area=\"videos\",status=\"200\",le=\"0.005\"} 1");
        has("borealis_http_request_duration_seconds_bucket{area=\"videos\",status=\"200\",le=\"10\"} 3");
        has("borealis_http_request_duration_seconds_count{area=\"videos\",status=\"200\"} 3");
        has("borealis_workers 2");
        has("borealis_expert_hits_total{process=\"7\"} 9");
        has("borealis_expert_copy_seconds_total{process=\"7\"} 0.5");
        has("borealis_jobs{state=\"queued\"} 2");
    }
}
