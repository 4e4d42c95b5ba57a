//! Which hub, which cache, which token.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::HFClient;

use crate::error::chain;
use crate::{HubError, Result};

/// Connections at once.
const PARALLEL: usize = 8;
/// How long a file's connection may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the hub may take to begin an answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(60);
/// Attempts in a row that bring nothing before a file is given up.
const ATTEMPTS: u32 = 6;

/// A hub and a cache.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Such as `https://huggingface.co`.
    pub endpoint: String,
    /// The folder with `models--OWNER--NAME/`.
    pub cache: PathBuf,
    /// Sent with every request to the hub.
    pub token: Option<String>,
    /// Never open a connection.
    pub offline: bool,
    /// Files that are fetched at once, at least 1.
    pub parallel: usize,
    /// How long a file's connection may be silent before it is opened again.
    pub patience: Duration,
    /// Attempts in a row that bring nothing before a file is given up, at least 1.
    pub attempts: u32,
}

impl Hub {
    /// A hub and a cache, without a token.
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: endpoint.into().trim_end_matches('/').to_string(),
            cache: cache.into(),
            token: None,
            offline: false,
            parallel: PARALLEL,
            patience: PATIENCE,
            attempts: ATTEMPTS,
        }
    }

    /// As the environment says: `HF_ENDPOINT`; `HF_HUB_CACHE`, else `HF_HOME`, else `~/.cache/huggingface`; `HF_TOKEN`, else the file that `hf auth login` writes; `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// [`HubError::Setting`] when `HF_ENDPOINT` is no address.
    pub fn from_env() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            let remedy = "give an address that begins with https://".to_string();
            return Err(HubError::Setting { name: "HF_ENDPOINT", value: endpoint, remedy });
        }
        let mut hub = Self::new(endpoint, hf_hub::resolve_cache_dir());
        let stored = || {
            let path = variable("HF_TOKEN_PATH").map_or_else(|| hf_hub::hf_home().join("token"), PathBuf::from);
            std::fs::read_to_string(path).ok()
        };
        if variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_none() {
            let token = variable("HF_TOKEN").or_else(stored).map(|token| token.trim().to_string());
            hub.token = token.filter(|token| !token.is_empty());
        }
        let yes = |value: String| ["1", "on", "true", "yes"].contains(&value.to_ascii_lowercase().as_str());
        hub.offline = variable("HF_HUB_OFFLINE").or_else(|| variable("TRANSFORMERS_OFFLINE")).is_some_and(yes);
        Ok(hub)
    }

    /// The cache's folder.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The `hf-hub` client of these settings.
    pub(crate) fn client(&self) -> Result<HFClient> {
        let builder = HFClient::builder().endpoint(&self.endpoint).cache_dir(&self.cache).user_agent(agent());
        let builder = match &self.token {
            Some(token) => builder.token(token),
            None => builder,
        };
        builder.build().map_err(|error| HubError::network(&self.endpoint, chain(&error)))
    }

    /// A runtime for one call.
    pub(crate) fn runtime(&self) -> Result<tokio::runtime::Runtime> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.map_err(HubError::io(&self.cache))
    }
}

/// Who asks.
pub(crate) fn agent() -> String {
    concat!("borealis/", env!("CARGO_PKG_VERSION")).to_string()
}
