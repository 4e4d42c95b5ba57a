//! What a commit holds: names, sizes, hashes.

use std::path::{Component, Path};

use reqwest::header::LINK;
use serde::Deserialize;

use crate::error::chain;
use crate::fetch::Transfer;
use crate::verify::Hasher;
use crate::{HubError, RepoId, Result};

/// Most pages of a listing, of a thousand entries or so each.
const MAX_PAGES: usize = 100;

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// With forward slashes, inside the model's folder.
    pub path: String,
    pub size: u64,
    /// SHA-256 or git object id, see [`Hasher`].
    pub hash: String,
}

/// An entry as the hub writes it. (`hf-hub` has this type too, but looks for the SHA-256 under another name than the hub writes.)
#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<RawLfs>,
}

#[derive(Deserialize)]
struct RawLfs {
    oid: String,
    size: u64,
}

/// All files of `commit`.
pub(crate) async fn list(transfer: &Transfer, repo: &RepoId, commit: &str) -> Result<Vec<Entry>> {
    let endpoint = &transfer.hub.endpoint;
    let mut url = format!("{endpoint}/api/models/{}/tree/{commit}?recursive=true", repo.repo());
    let mut entries = Vec::new();
    for _ in 0..MAX_PAGES {
        let (text, next) = page(transfer, repo, &url).await?;
        let raws: Vec<Raw> = serde_json::from_str(&text).map_err(|e| HubError::network(&url, e))?;
        for raw in raws.into_iter().filter(|raw| raw.kind == "file") {
            entries.push(entry(raw).map_err(|problem| HubError::network(&url, problem))?);
        }
        match next {
            // The token goes to the hub alone.
            Some(next) if next.starts_with(&format!("{endpoint}/")) => url = next,
            Some(next) => return Err(HubError::network(&url, format!("the next page is elsewhere ({next})"))),
            None => return Ok(entries),
        }
    }
    Err(HubError::network(&url, "the listing does not end"))
}

async fn page(transfer: &Transfer, repo: &RepoId, url: &str) -> Result<(String, Option<String>)> {
    let response = transfer.get(repo, url, None).await?;
    let links = response.headers().get(LINK).and_then(|value| value.to_str().ok()).map(str::to_string);
    let text = response.text().await.map_err(|e| HubError::network(url, chain(&e)))?;
    Ok((text, links.as_deref().and_then(next_page)))
}

/// The address in `<...>; rel="next"`.
fn next_page(links: &str) -> Option<String> {
    let link = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(link.split_once('<')?.1.split_once('>')?.0.to_string())
}

/// Refuses names that lead out of the folder and hashes that are none.
fn entry(raw: Raw) -> std::result::Result<Entry, String> {
    let plain = Path::new(&raw.path).components().all(|c| matches!(c, Component::Normal(_)));
    if raw.path.is_empty() || !plain || raw.path.contains(['\\', '\0', ':']) || raw.path.starts_with('/') {
        return Err(format!("it lists a file \"{}\", which is no plain relative name", raw.path.escape_debug()));
    }
    let (size, hash) = match raw.lfs {
        Some(lfs) => (lfs.size, lfs.oid),
        None => (raw.size, raw.oid),
    };
    match Hasher::new(&hash, size) {
        Some(_) => Ok(Entry { path: raw.path, size, hash }),
        None => Err(format!("it gives no hash for {}", raw.path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(path: &str, oid: &str) -> std::result::Result<Entry, String> {
        entry(Raw { kind: "file".into(), path: path.into(), size: 3, oid: oid.into(), lfs: None })
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        let oid = "0".repeat(40);
        assert!(raw("a/b.json", &oid).is_ok());
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a\\b", "C:x", "a\0b"] {
            assert!(raw(path, &oid).is_err(), "{path:?}");
        }
        assert!(raw("a", "../../x").is_err() && raw("a", "").is_err());
    }

    #[test]
    fn pages_are_followed() {
        let links = "<https://h/x?a=1>; rel=\"first\", <https://h/x?cursor=abc>; rel=\"next\"";
        assert_eq!(next_page(links).as_deref(), Some("https://h/x?cursor=abc"));
        assert_eq!(next_page("<https://h/x>; rel=\"prev\""), None);
    }
}
