//! What can go wrong between the hub and the cache.

use std::path::PathBuf;

/// Errors of this crate: each is one line that names the model or file, what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Not a model's name.
    #[error("\"{text}\" is no model of the hub: {problem}: give OWNER/NAME or OWNER/NAME@REVISION")]
    Id {
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A setting that makes no sense.
    #[error("{name} is \"{value}\": {remedy}")]
    Setting {
        /// Environment variable or option.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        remedy: String,
    },
    /// The hub does not know it.
    #[error("the hub has no {what}: check the name; a private model needs HF_TOKEN")]
    NotFound {
        /// Model, revision or file.
        what: String,
    },
    /// The hub wants to know who asks, or says no.
    #[error("{repo}: the hub refuses ({reason}): {remedy}")]
    Refused {
        /// The model.
        repo: String,
        /// What the hub says.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The hub cannot be reached, or answers nonsense.
    #[error("{url}: {problem}: try again later")]
    Network {
        /// What was asked for.
        url: String,
        /// What happened.
        problem: String,
    },
    /// `HF_HUB_OFFLINE` is set.
    #[error("{repo} is not in the cache and HF_HUB_OFFLINE is set: unset it and run: borealis pull {repo}")]
    Offline {
        /// The model.
        repo: String,
    },
    /// The model has nothing that is read here, or was asked for what is not read.
    #[error("{repo}: {problem}: {remedy}")]
    Unsafe {
        /// The model.
        repo: String,
        /// Which files are refused.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// No file is to be fetched.
    #[error("{repo} has no file that matches {patterns}: it has {files}")]
    NoMatch {
        /// The model.
        repo: String,
        /// What was asked for.
        patterns: String,
        /// Some of what is there.
        files: String,
    },
    /// Bytes that are not those that the hub announced.
    #[error("{file}: {problem}: it was thrown away, pull again")]
    Corrupt {
        /// The file.
        file: String,
        /// Size or hash, found and expected.
        problem: String,
    },
    /// Not in the cache.
    #[error("{repo} is not in the cache: run: borealis pull {repo}")]
    NotCached {
        /// The model.
        repo: String,
    },
    /// The system could not read or write the cache.
    #[error("{}: {source}: check the disk and HF_HOME", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl HubError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn network(url: &str, problem: impl std::fmt::Display) -> Self {
        Self::Network { url: url.to_string(), problem: problem.to_string() }
    }
}

/// The message of an error followed by those of its sources, leaving out what has been said already: `reqwest` says why only in its sources.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
