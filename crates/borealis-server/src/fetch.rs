//! URLs that clients name: fetched, or sent to, without becoming a door into the network that the server stands in.
//!
//! One parsed [`Url`] is checked and used. Names are resolved by a resolver of ours that drops every address that is not public, at the moment of the
//! connection, so that a name cannot change between check and use; literal addresses, which no resolver sees, are checked before. No redirects, no proxies of
//! the environment, few seconds and few bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, RequestBuilder, Response, redirect};
use url::{Host, Url};

use crate::config::FetchPolicy;
use crate::service::{ApiError, ApiErrorKind, MediaKind};

/// Longest URL, bytes.
const MAX_URL: usize = 8 << 10;
/// Most bytes of a picture and of a clip.
const MAX_IMAGE: usize = 10 << 20;
const MAX_VIDEO: usize = 50 << 20;
/// Time for a picture, for a clip, for the answer to a post, and for a clip that is sent.
const IMAGE_TIME: Duration = Duration::from_secs(5);
const VIDEO_TIME: Duration = Duration::from_secs(30);
const POST_TIME: Duration = Duration::from_secs(15);
const PUT_TIME: Duration = Duration::from_secs(120);
/// Time to connect.
const STEP: Duration = Duration::from_secs(5);

/// Fetches and posts by the operator's policy.
pub struct Fetcher {
    policy: FetchPolicy,
    client: OnceLock<Result<Client, String>>,
}

/// The answer to what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted {
    /// HTTP status.
    pub status: u16,
    /// Seconds of `Retry-After`.
    pub retry_after: Option<u64>,
}

impl Fetcher {
    /// Nothing is opened before the first use.
    pub fn new(policy: FetchPolicy) -> Self {
        Self { policy, client: OnceLock::new() }
    }

    /// Whether a URL may be used: scheme, host and, for literal addresses, the address. Names are checked when they are resolved.
    ///
    /// # Errors
    /// What is wrong with it and what the policy allows.
    pub async fn check(&self, url: &str) -> Result<(), ApiError> {
        self.parse(url).map(drop)
    }

    /// Fetches a picture or clip: its declared type and its bytes.
    ///
    /// # Errors
    /// A URL that the policy refuses, a server that does not answer 200 in time, too many bytes.
    pub async fn get(&self, url: &str, kind: MediaKind) -> Result<(Option<String>, Bytes), ApiError> {
        let url = self.parse(url)?;
        let (limit, time) = match kind {
            MediaKind::Image => (MAX_IMAGE, IMAGE_TIME),
            MediaKind::Video => (MAX_VIDEO, VIDEO_TIME),
        };
        let answer = self.client()?.get(url).timeout(time).send().await.map_err(|e| unfetched(&e))?;
        let status = answer.status();
        if status != reqwest::StatusCode::OK {
            let what = if status.is_redirection() { "it redirects, which is not followed" } else { "not 200" };
            return Err(fetch(format!(
                "the URL answered {} ({what}): give the address of the file itself",
                status.as_u16()
            )));
        }
        let mime = answer.headers().get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_string);
        Ok((mime, body(answer, limit).await?))
    }

    /// Posts a body with those headers.
    ///
    /// # Errors
    /// A URL that the policy refuses, a server that does not answer.
    pub async fn post(
        &self,
        url: &str,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    ) -> Result<Posted, ApiError> {
        let request = self.client()?.post(self.parse(url)?).timeout(POST_TIME).body(body);
        Self::send(headers.into_iter().fold(request, |request, (name, value)| request.header(name, value))).await
    }

    /// Puts a file at a URL.
    ///
    /// # Errors
    /// As [`Fetcher::post`].
    pub async fn put(&self, url: &str, mime: &str, body: Bytes) -> Result<Posted, ApiError> {
        let request = self.client()?.put(self.parse(url)?).timeout(PUT_TIME);
        Self::send(request.header(http::header::CONTENT_TYPE, mime).body(body)).await
    }

    async fn send(request: RequestBuilder) -> Result<Posted, ApiError> {
        let answer = request.send().await.map_err(|e| unfetched(&e))?;
        let retry_after = answer.headers().get(http::header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|v| v.to_str().ok()?.trim().parse().ok());
        Ok(Posted { status: answer.status().as_u16(), retry_after })
    }

    fn parse(&self, text: &str) -> Result<Url, ApiError> {
        let wrong = |message: String| ApiError::new(ApiErrorKind::InvalidArgument, message);
        if text.len() > MAX_URL {
            return Err(wrong(format!("the URL is longer than {MAX_URL} bytes: give a shorter one")));
        }
        let url = Url::parse(text)
            .map_err(|e| wrong(format!("the URL cannot be read ({e}): give a whole one, https://...")))?;
        let allowed: &[&str] = match self.policy {
            FetchPolicy::Off => &[],
            FetchPolicy::Https => &["https"],
            FetchPolicy::Http | FetchPolicy::Local => &["https", "http"],
        };
        if !allowed.contains(&url.scheme()) {
            return Err(wrong(if allowed.is_empty() {
                "this server uses no URLs of others (start it with --fetch https to allow it): upload the file, or send a data: URL".into()
            } else {
                format!("{}: URLs are not used here: give one with {}:", url.scheme(), allowed.join(": or "))
            }));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("the URL has a user name in it: give one without".into()));
        }
        let literal = match url.host() {
            None => return Err(wrong("the URL has no host: give a whole one, https://...".into())),
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        };
        match literal {
            Some(ip) if !self.reachable(ip) => Err(wrong(PRIVATE.into())),
            _ => Ok(url),
        }
    }

    fn reachable(&self, ip: IpAddr) -> bool {
        self.policy == FetchPolicy::Local || is_public(ip)
    }

    fn client(&self) -> Result<&Client, ApiError> {
        let build = || {
            let resolver = PublicOnly { everything: self.policy == FetchPolicy::Local };
            Client::builder()
                .user_agent(concat!("borealis/", env!("CARGO_PKG_VERSION")))
                .no_proxy()
                .redirect(redirect::Policy::none())
                .connect_timeout(STEP)
                .pool_max_idle_per_host(0)
                .dns_resolver(Arc::new(resolver))
                .build()
                .map_err(|e| e.to_string())
        };
        self.client.get_or_init(build).as_ref().map_err(|cause| {
            tracing::error!(%cause, "no client for URLs");
            ApiError::new(ApiErrorKind::Unavailable, "this server cannot fetch URLs now: upload the file instead")
        })
    }
}

const PRIVATE: &str = "the URL does not lead to a public address: upload the file, or send a data: URL";

fn fetch(message: String) -> ApiError {
    ApiError::new(ApiErrorKind::Fetch, message)
}

/// What a client may know of a failure: nothing that tells one closed door from another.
fn unfetched(error: &reqwest::Error) -> ApiError {
    tracing::debug!(error = %error.to_string().split(" for url ").next().unwrap_or_default(), "a URL was not fetched");
    fetch(if error.is_timeout() {
        "the URL did not answer in time: give a faster one, or upload the file".into()
    } else {
        "the URL cannot be reached: check it, or upload the file".into()
    })
}

/// At most `limit` bytes of an answer.
async fn body(mut answer: Response, limit: usize) -> Result<Bytes, ApiError> {
    let too_large = || fetch(format!("the file behind the URL has more than {} MiB: give a smaller one", limit >> 20));
    if answer.content_length().is_some_and(|n| n > limit as u64) {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    while let Some(piece) = answer.chunk().await.map_err(|e| unfetched(&e))? {
        if bytes.len() + piece.len() > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// Resolves names to their public addresses.
struct PublicOnly {
    /// Any address.
    everything: bool,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let everything = self.everything;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|a| everything || is_public(a.ip())).collect();
            if allowed.is_empty() {
                return Err(PRIVATE.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the open Internet.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => public_v4(ip),
        IpAddr::V6(ip) => public_v6(ip),
    }
}

/// IANA's special-purpose registry for IPv4.
fn public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special
}

/// Global unicast (2000::/3) without what tunnels to IPv4 (Teredo, 6to4) or is for documents and protocols; NAT64, mapped, unique-local and link-local addresses
/// lie outside of it.
fn public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    let special = (a == 0x2001 && (b < 0x0200 || b == 0x0db8)) || a == 0x2002 || (a == 0x3fff && b < 0x1000);
    (0x2000..=0x3fff).contains(&a) && !special
}

#[cfg(test)]
mod tests;
