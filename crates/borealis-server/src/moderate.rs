//! Moderation as it is configured.

use crate::config::ModerationConfig;
use crate::error::{Result, ServerError};
use crate::moderation::{Moderation, Policy};

/// The rules of a configuration: none, ours, or ours and the operator's.
pub(crate) fn open(config: &ModerationConfig) -> Result<Moderation> {
    if !config.enabled {
        return Ok(Moderation::off());
    }
    let opened = match &config.policy {
        Some(path) => Moderation::open(path),
        None => Moderation::new(Policy::default()),
    };
    opened.map_err(|error| ServerError::Config {
        field: "--policy",
        problem: error.to_string(),
        remedy: "correct the file, or leave it out".into(),
    })
}
