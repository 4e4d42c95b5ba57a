//! The model that a command works with: the one inside this program, or a folder.

use std::path::Path;

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
    if !folder.is_dir() {
        let what = if folder.exists() { "is not a folder" } else { "does not exist" };
        let remedy =
            if FILES.is_empty() { "give a model's folder" } else { "leave --model out for the built-in model" };
        return Err(CliError::Failed(format!("model \"{}\" {what}: {remedy}", folder.display())));
    }
    Checkpoint::open(folder).map_err(CliError::failed)
}
