//! The model that a command works with: the one inside this program, a folder, or a model of the hub that was pulled.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use borealis_hub::{Hub, RepoId};
use borealis_tokenizers::codecs::{self, AudioCodec};
use borealis_weights::Checkpoint;

use crate::error::{CliError, Result};

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Opens the folder, or the model inside this program.
pub fn open(folder: Option<&Path>) -> Result<Checkpoint> {
    let Some(folder) = folder else {
        if FILES.is_empty() {
            let what = "this program was built without a model: give one with --model DIR";
            return Err(CliError::Failed(what.into()));
        }
        return Checkpoint::embedded(FILES).map_err(CliError::failed);
    };
    Checkpoint::open(&self::folder(folder)?).map_err(CliError::failed)
}

/// The audio codec in the folder, if that is what it holds.
pub fn codec(folder: Option<&Path>) -> Result<Option<Arc<dyn AudioCodec>>> {
    let Some(folder) = folder else { return Ok(None) };
    let folder = self::folder(folder)?;
    if !codecs::is_codec(&folder) {
        return Ok(None);
    }
    codecs::open_codec(&folder).map(Some).map_err(CliError::failed)
}

/// The folder itself, or that of OWNER/NAME in the hub's cache.
pub fn folder(given: &Path) -> Result<PathBuf> {
    if given.is_dir() {
        return Ok(given.to_path_buf());
    }
    let id = given.to_str().and_then(|text| text.parse::<RepoId>().ok());
    if let Some(id) = id.filter(|_| !given.exists()) {
        let hub = Hub::from_env().map_err(CliError::failed)?;
        return hub.find(&id).map_err(|error| CliError::Failed(format!("there is no folder {id}, and {error}")));
    }
    let what = if given.exists() { "is not a folder" } else { "does not exist" };
    let remedy = if FILES.is_empty() { "give a model's folder" } else { "leave --model out for the built-in model" };
    Err(CliError::Failed(format!("model \"{}\" {what}: {remedy}", given.display())))
}
