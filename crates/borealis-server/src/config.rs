//! The one configuration of the server; `borealis serve` fills it from its options.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Result, ServerError};
use crate::types::TICKS_PER_USD;

/// Most bytes of a request's body.
pub const MAX_BODY: u64 = 25 << 20;
/// Most bytes of an uploaded file.
pub const MAX_FILE: u64 = 50 << 20;
/// Most bytes of a body that carries a file, or a stream of gRPC messages.
pub const MAX_UPLOAD_BODY: u64 = 64 << 20;

/// How the server is set up. [`ServerConfig::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Folder of database, results and secrets.
    pub data: PathBuf,
    /// Bucket that results are kept in, `s3://BUCKET/FOLDER`; `None`: in the data folder.
    pub store: Option<String>,
    /// Address that clients see, without a slash at the end; `None`: where it listens.
    pub public_url: Option<String>,
    /// Let everybody in; refused on addresses that other machines can reach.
    pub no_auth: bool,
    /// How a worker process is started: program and arguments; ` --id ID` is added. `None`: workers are started elsewhere.
    pub worker: Option<ProcessSpec>,
    /// How a media process is started; `None`: media are read in this process (tests).
    pub media: Option<ProcessSpec>,
    /// The checkpoints that can be asked for; the first is the default.
    pub checkpoints: Vec<CheckpointInfo>,
    /// http(s) URLs that clients may name.
    pub fetch: FetchPolicy,
    /// Moderation.
    pub moderation: ModerationConfig,
    /// Prices; all 0: nothing is charged.
    pub prices: Prices,
    /// How an account without credits is told.
    pub payment: PaymentStyle,
    /// Requests per minute and key that start work; 0: no limit.
    pub requests_per_minute: u32,
    /// Most jobs of an account that wait.
    pub max_queued: u32,
    /// How long results are kept.
    pub retention: Duration,
    /// Most connections at once.
    pub max_connections: usize,
    /// How long a shutdown waits for calls and for the worker.
    pub grace: Duration,
}

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSpec {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// A checkpoint that can be asked for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Its name, such as `borealis-mini`.
    pub name: String,
    /// Modes of its manifest that make pictures are there.
    pub image: bool,
    /// Modes of its manifest that make clips are there.
    pub video: bool,
}

/// Which URLs the server fetches for clients; `data:`, own URLs and file ids work always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FetchPolicy {
    /// None.
    #[default]
    Off,
    /// `https:` on public addresses.
    Https,
    /// `https:` and `http:` on public addresses.
    Http,
    /// `https:` and `http:` on any address, this machine and its network included: for a server that only its owner uses.
    Local,
}

/// What is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModerationConfig {
    /// Off lets everything through.
    pub enabled: bool,
    /// The operator's own rules and classifier.
    pub policy: Option<PathBuf>,
}

impl Default for ModerationConfig {
    fn default() -> Self {
        Self { enabled: true, policy: None }
    }
}

/// Ticks (10^10 to a dollar) for one picture or one second of a clip.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prices {
    /// A picture of 1k.
    pub image_1k: i64,
    /// A picture of 2k.
    pub image_2k: i64,
    /// A second of 480p.
    pub video_480p: i64,
    /// A second of 720p.
    pub video_720p: i64,
    /// A second of 1080p.
    pub video_1080p: i64,
}

impl Prices {
    /// Prices in dollars, as the command line has them.
    pub fn from_usd(image: [f64; 2], video: [f64; 3]) -> Self {
        let ticks = |usd: f64| (usd * TICKS_PER_USD as f64).round() as i64;
        Self {
            image_1k: ticks(image[0]),
            image_2k: ticks(image[1]),
            video_480p: ticks(video[0]),
            video_720p: ticks(video[1]),
            video_1080p: ticks(video[2]),
        }
    }
}

/// How an account without credits is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PaymentStyle {
    /// 402 Payment Required.
    #[default]
    PaymentRequired,
    /// 403, as xAI does for teams without credits.
    Forbidden,
    /// 429, as xAI does for used-up credits.
    TooManyRequests,
}

impl ServerConfig {
    /// The defaults: loopback, port 8080, keys required, nothing fetched, nothing charged.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data: data.into(),
            store: None,
            public_url: None,
            no_auth: false,
            worker: None,
            media: None,
            checkpoints: vec![CheckpointInfo { name: "borealis-mini".into(), image: true, video: true }],
            fetch: FetchPolicy::default(),
            moderation: ModerationConfig::default(),
            prices: Prices::default(),
            payment: PaymentStyle::default(),
            requests_per_minute: 0,
            max_queued: 1000,
            retention: Duration::from_secs(24 * 3600),
            max_connections: 4096,
            grace: Duration::from_secs(15),
        }
    }

    /// Refuses what makes no sense, before anything is opened.
    pub fn check(&self) -> Result<()> {
        let bad = |field, problem: String, remedy: &str| {
            Err(ServerError::Config { field, problem, remedy: remedy.to_string() })
        };
        if self.no_auth && !is_loopback(self.address.ip()) {
            let problem = format!("{} can be reached by other machines", self.address.ip());
            return bad("--no-auth", problem, "listen on 127.0.0.1, or let clients use keys");
        }
        if let Some(url) = &self.public_url
            && !url::Url::parse(url).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && !url.ends_with('/'))
        {
            return bad(
                "--public-url",
                format!("\"{url}\" is no base address"),
                "give one such as https://media.example.org",
            );
        }
        if let Some(place) = &self.store {
            crate::blobs::check_place(place)?;
        }
        if self.checkpoints.is_empty() {
            return bad("--model", "there is no model".into(), "give one");
        }
        let day = Duration::from_secs(24 * 3600);
        if self.retention < Duration::from_secs(60) || self.retention > 365 * day {
            return bad(
                "--keep",
                format!("{} seconds are out of range", self.retention.as_secs()),
                "use a minute to a year",
            );
        }
        if !(1..=100_000).contains(&self.max_queued) || !(1..=65_536).contains(&self.max_connections) {
            return bad("--max-queued", "it is out of range".into(), "use 1 to 100000 jobs and 1 to 65536 connections");
        }
        Ok(())
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_let_in_from_outside_without_a_key() {
        let mut config = ServerConfig { no_auth: true, ..ServerConfig::new("/nowhere") };
        for (address, fine) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.168.1.2:1", false),
        ] {
            config.address = address.parse().unwrap();
            assert_eq!(config.check().is_ok(), fine, "{address}");
        }
    }

    #[test]
    fn a_dollar_has_ten_billion_ticks() {
        let prices = Prices::from_usd([0.02, 0.0], [0.05, 0.07, 0.25]);
        assert_eq!((prices.image_1k, prices.video_720p), (200_000_000, 700_000_000));
    }
}
