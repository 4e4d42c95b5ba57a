//! What can go wrong between media and ids.

use std::fmt::Display;

use borealis_kernels::KernelError;
use borealis_media::MediaError;
use borealis_weights::WeightsError;

/// Errors of this crate; each names the thing, its value and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A tokenizer's configuration that is wrong or contradicts the model's.
    #[error("{file}: {field} {problem}")]
    Config {
        /// The file.
        file: String,
        /// The field, such as `channels[0]`.
        field: String,
        /// `is ...: must be ...`
        problem: String,
    },
    /// `tokenizer.json` does not work.
    #[error("tokenizer.json: {0}: use a file in the format of Hugging Face tokenizers")]
    Text(String),
    /// An impossible size.
    #[error("{name} {width}x{height}: {remedy}")]
    Size {
        /// What has that size.
        name: String,
        /// Pixels, cells or parts of a ratio.
        width: String,
        /// Pixels, cells or parts of a ratio.
        height: String,
        /// What it must be.
        remedy: String,
    },
    /// A code or id outside its range.
    #[error("{name}: code {code} is not below {limit}")]
    Code {
        /// Modality or codec.
        name: String,
        /// The code or id.
        code: u64,
        /// One past the largest.
        limit: usize,
    },
    /// Too many or too few codes.
    #[error("{name}: {found} codes, must be {expected}")]
    Length {
        /// Modality or codec.
        name: String,
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// Something that this checkpoint does not have.
    #[error("this checkpoint has no {what}: {remedy}")]
    Absent {
        /// What it lacks.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// An error of the checkpoint.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// An error of the device.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// An error of a picture, clip or sound.
    #[error(transparent)]
    Media(#[from] MediaError),
}

/// The tokenizers of open checkpoints compute with candle tensors.
impl From<borealis_kernels::candle::Error> for TokenizerError {
    fn from(error: borealis_kernels::candle::Error) -> Self {
        Self::Kernel(error.into())
    }
}

impl TokenizerError {
    pub(crate) fn config(file: &str, field: &str, problem: impl Display) -> Self {
        Self::Config { file: file.into(), field: field.into(), problem: problem.to_string() }
    }

    pub(crate) fn size(name: &str, width: impl Display, height: impl Display, remedy: &str) -> Self {
        Self::Size { name: name.into(), width: width.to_string(), height: height.to_string(), remedy: remedy.into() }
    }

    pub(crate) fn code(name: &str, code: u64, limit: usize) -> Self {
        Self::Code { name: name.into(), code, limit }
    }

    pub(crate) fn length(name: &str, found: usize, expected: usize) -> Self {
        Self::Length { name: name.into(), found, expected }
    }

    pub(crate) fn absent(what: impl Into<String>, remedy: &str) -> Self {
        Self::Absent { what: what.into(), remedy: remedy.into() }
    }
}
