//! Open a checkpoint, refuse it if it lies, hand out tensors by canonical name.
//!
//! A checkpoint (format: `weights.md`) comes from anywhere, so nothing in it is believed: a [`Checkpoint`] is opened by reading every
//! configuration and every safetensors header, and by checking each number in them against the others, before one byte of a tensor is touched.
//! What is opened can be used without further doubt: [`Manifest`] is fully typed, and a [`TensorSet`] hands out tensors whose bytes lie
//! inside their file, with the shape that the caller states.
//!
//! ```no_run
//! # fn main() -> Result<(), borealis_weights::WeightsError> {
//! let checkpoint = borealis_weights::Checkpoint::open("models/default".as_ref())?;
//! let hidden = 192;
//! let norm = checkpoint.tensors("")?.expect("model.norm.weight", &[hidden])?;
//! println!("{} modalities, {:?}", checkpoint.manifest().modalities.len(), norm.dtype);
//! # Ok(())
//! # }
//! ```

mod blocks;
mod checkpoint;
mod component;
mod convert;
mod error;
mod foreign;
mod header;
mod index;
mod json;
mod manifest;
mod names;
mod nearest;
mod shards;
mod stack;
mod storage;
mod synth;
mod tensors;
#[cfg(feature = "testing")]
pub mod testing;
mod writer;

pub use checkpoint::Checkpoint;
pub use component::Component;
pub use convert::{Converted, Target, convert, plan as plan_conversion};
pub use error::WeightsError;
pub use foreign::{FAMILIES, Family, ROPE_SCALING};
pub use json::{Node, parse_json};
pub use manifest::{
    CodeRange, Features, Field, Generation, Grid, InputMode, Manifest, Media, ModalitySpec, Mode, Near, ObjectFrame,
    PlanKind, Predict, PresetSpec, Quantization, SamplingSpec, Scene, Segment, Tables,
};
pub use names::{NameMap, Piece, Rule};
pub use nearest::nearest;
pub use stack::Stack;
pub use synth::{SynthShape, plan_synthesis, synthesise};
pub use tensors::{Tensor, TensorSet};

/// Result of everything here.
pub type Result<T> = std::result::Result<T, WeightsError>;
