//! `borealis bench latency`: how long a user waits for a clip, as articles about such services measure it: submit, ask every second, count until it is done.

use std::time::{Duration, Instant};

use borealis_server::ServerConfig;
use reqwest::{Client, Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::serve;
use crate::args::MachineArgs;
use crate::error::{CliError, Result};
use crate::{interrupt, output};

/// Time between two questions.
const POLL: Duration = Duration::from_secs(1);
/// Most time of one HTTP call.
const CALL: Duration = Duration::from_secs(60);

pub const EXAMPLES: &str = "\
Examples:
  A server of one's own, on a free port, in a temporary folder:
    borealis bench latency --local --runs 10
  One that runs already:
    BOREALIS_API_KEY=bk-... borealis bench latency --url http://127.0.0.1:8080 --seconds 8
  xAI's own, with its model's name:
    XAI_API_KEY=... borealis bench latency --url https://api.x.ai --model grok-imagine-video

Runs are made one after another. The key is read from BOREALIS_API_KEY, else XAI_API_KEY.";

/// Arguments of `borealis bench latency`.
#[derive(clap::Args)]
pub struct Args {
    /// Address of a server with xAI's API; /v1 is added when it is missing
    #[arg(long, value_name = "URL", required_unless_present = "local", conflicts_with = "local")]
    url: Option<String>,
    /// Start a server for this
    #[arg(long)]
    local: bool,
    /// Length of the clip, 1 to 15
    #[arg(long, value_name = "S", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=15))]
    seconds: u8,
    /// Size of the shorter side
    #[arg(long, value_name = "LINES", default_value = "720p", value_parser = ["480p", "720p", "1080p"])]
    resolution: String,
    /// Clips to make
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// What to ask for
    #[arg(long, value_name = "WORDS", default_value = "a red ball bounces on grass")]
    prompt: String,
    /// Give a clip up after so many seconds
    #[arg(long, value_name = "S", default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..=86400))]
    timeout: u32,
    /// With --local where and with what it computes; with --url --model is the name of the model to ask for
    #[command(flatten)]
    machine: MachineArgs,
    /// One JSON object on standard output
    #[arg(long, help_heading = "Messages")]
    pub json: bool,
}

/// What is told.
#[derive(Debug, Serialize)]
struct Report {
    url: String,
    seconds: u8,
    resolution: String,
    poll_seconds: f64,
    /// Seconds from the call that submits to the answer that says done, in the order of the runs.
    latencies: Vec<f64>,
    p50_seconds: f64,
    p95_seconds: f64,
    mean_seconds: f64,
    min_seconds: f64,
    max_seconds: f64,
}

/// Measures and tells.
pub fn run(args: &Args) -> Result<()> {
    // Whoever waits looks whether it has been interrupted, so that a server of our own and its folder go.
    let _watch = interrupt::watch(|| {});
    let runtime = serve::runtime()?;
    let report = if args.local {
        let folder = tempfile::tempdir().map_err(|error| {
            CliError::Failed(format!("cannot make a temporary folder: {error}: set TMPDIR to a folder with free space"))
        })?;
        let config = serve::local(folder.path(), args.machine.clone())?;
        runtime.block_on(local(args, config))?
    } else {
        runtime.block_on(remote(args))?
    };
    output::print(args.json, &report, |report| report.text() + "\n")
}

/// Against a server that is there.
async fn remote(args: &Args) -> Result<Report> {
    let key = ["BOREALIS_API_KEY", "XAI_API_KEY"].into_iter().find_map(|name| std::env::var(name).ok());
    let model = args.machine.model.as_ref().map(|model| model.to_string_lossy().into_owned());
    let url = args.url.clone().unwrap_or_default();
    Asker::new(args, &url, key, model)?.measure().await
}

/// Against a server that is started for it and ends with it.
async fn local(args: &Args, config: ServerConfig) -> Result<Report> {
    let (stop, stopped) = watch::channel(false);
    let (tell, told) = oneshot::channel();
    let server = tokio::spawn(borealis_server::serve(config, stopped, move |started| {
        // Nobody waits any more: the measurement has ended.
        let _ = tell.send(started.url.clone());
    }));
    let report = match told.await {
        Ok(url) => Asker::new(args, &url, None, None)?.measure().await,
        Err(_) => Err(CliError::Failed("the server did not start: see above".into())),
    };
    let _ = stop.send(true);
    let served = server.await.map_err(CliError::failed)?;
    served.map_err(CliError::failed)?;
    report
}

/// A client of one server.
struct Asker<'a> {
    args: &'a Args,
    client: Client,
    base: String,
    key: Option<String>,
    model: Option<String>,
}

impl<'a> Asker<'a> {
    fn new(args: &'a Args, url: &str, key: Option<String>, model: Option<String>) -> Result<Self> {
        let base = url.trim_end_matches('/');
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(CliError::usage(format!(
                "--url \"{url}\" is no address: give one such as http://127.0.0.1:8080"
            )));
        }
        let base = if base.ends_with("/v1") { base.to_string() } else { format!("{base}/v1") };
        let client = Client::builder().timeout(CALL).build().map_err(CliError::failed)?;
        Ok(Self { args, client, base, key, model })
    }

    async fn measure(&self) -> Result<Report> {
        let mut latencies = Vec::new();
        for run in 1..=self.args.runs {
            let seconds = self.wait().await?;
            eprintln!("run {run} of {}: {seconds:.1} s", self.args.runs);
            latencies.push(seconds);
        }
        Ok(Report::new(self.base.clone(), self.args, latencies))
    }

    /// Submits a clip and asks every second until it is done: seconds.
    async fn wait(&self) -> Result<f64> {
        let args = self.args;
        let mut body = json!({"prompt": args.prompt, "duration": args.seconds, "resolution": args.resolution});
        if let Some(model) = &self.model {
            body["model"] = json!(model);
        }
        let begin = Instant::now();
        let (_, answer) = self.call(Method::POST, "videos/generations", Some(&body)).await?;
        let Some(id) = answer["request_id"].as_str() else {
            return Err(self.odd("has no request_id", &answer));
        };
        loop {
            tokio::time::sleep(POLL).await;
            interrupt::check()?;
            let (status, answer) = self.call(Method::GET, &format!("videos/{id}"), None).await?;
            let seconds = begin.elapsed().as_secs_f64();
            match answer["status"].as_str() {
                Some("done") => return Ok(seconds),
                Some("pending") => {}
                // xAI says 202 while it works.
                None if status == StatusCode::ACCEPTED => {}
                Some("failed" | "expired") => return Err(self.odd("says that the clip failed", &answer)),
                _ => return Err(self.odd("is none of pending, done, failed, expired", &answer)),
            }
            if seconds > f64::from(args.timeout) {
                let message = format!("no clip after {seconds:.0} s: give it more time with --timeout");
                return Err(CliError::Failed(message));
            }
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value)> {
        let mut request = self.client.request(method, format!("{}/{path}", self.base));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(CliError::failed)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(CliError::failed)?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            let message =
                format!("{} answers {status}: set BOREALIS_API_KEY (or XAI_API_KEY) to a key of it", self.base);
            return Err(CliError::Failed(message));
        }
        if !status.is_success() {
            return Err(self.odd(&format!("has status {status}"), &answer));
        }
        Ok((status, answer))
    }

    /// An answer that is not as it must be, with its own words, cut short.
    fn odd(&self, what: &str, answer: &Value) -> CliError {
        let text: String = answer.to_string().chars().take(300).collect();
        CliError::Failed(format!("the answer of {} {what}: {text}", self.base))
    }
}

impl Report {
    fn new(url: String, args: &Args, latencies: Vec<f64>) -> Self {
        let mut sorted = latencies.clone();
        sorted.sort_by(f64::total_cmp);
        let (min_seconds, max_seconds) = (percentile(&sorted, 0), percentile(&sorted, 100));
        Self {
            url,
            seconds: args.seconds,
            resolution: args.resolution.clone(),
            poll_seconds: POLL.as_secs_f64(),
            p50_seconds: percentile(&sorted, 50),
            p95_seconds: percentile(&sorted, 95),
            mean_seconds: sorted.iter().sum::<f64>() / sorted.len().max(1) as f64,
            min_seconds,
            max_seconds,
            latencies,
        }
    }

    fn text(&self) -> String {
        format!(
            "{} clips of {} s, {}, asked every second\nP50 {:.1} s, P95 {:.1} s (mean {:.1}, {:.1} to {:.1})",
            self.latencies.len(),
            self.seconds,
            self.resolution,
            self.p50_seconds,
            self.p95_seconds,
            self.mean_seconds,
            self.min_seconds,
            self.max_seconds
        )
    }
}

/// The smallest of the values that at least `percent` of them do not exceed (nearest rank); `sorted` ascends.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!([0, 50, 95, 100].map(|p| percentile(&values, p)), [1.0, 10.0, 19.0, 20.0]);
        assert_eq!([0, 50, 95, 100].map(|p| percentile(&[7.0], p)), [7.0; 4]);
        assert_eq!(percentile(&values[..3], 50), 2.0);
    }
}
