//! What can go wrong with a request, and the one bridge to exit codes and protocols.

use std::sync::Arc;

use borealis_kernels::KernelError;
use borealis_media::MediaError;
use borealis_model::ModelError;
use borealis_tokenizers::TokenizerError;
use borealis_weights::WeightsError;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, EngineError>;

/// Errors of the engine. A message names the field, the value and the remedy, on one line.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A field of the request that makes no sense.
    #[error("{field}: {problem}: {remedy}")]
    Invalid {
        /// The field of the request.
        field: &'static str,
        /// What is wrong, with the value.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// Something that this checkpoint was not made for.
    #[error("the model \"{model}\" {what}: {remedy}")]
    Unsupported {
        /// Name of the checkpoint.
        model: String,
        /// What it lacks.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// A picture, clip or sound of the request that cannot be used.
    #[error("{field}: {source}")]
    Input {
        /// The field of the request.
        field: &'static str,
        /// What is wrong with it.
        source: MediaError,
    },
    /// A request that is larger than the memory.
    #[error("the request takes {} of memory ({detail}), {} are allowed: {remedy}", mebibytes(*.needed), mebibytes(*.limit))]
    Memory {
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that are allowed.
        limit: u64,
        /// Where they go.
        detail: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A model that is larger than the memory, even with nearly all experts left in its files.
    #[error(
        "the model \"{model}\" takes {} of memory, and at least {} ({detail}); {} are there: {remedy}",
        mebibytes(*.all), mebibytes(*.least), mebibytes(*.memory)
    )]
    ModelMemory {
        /// Name of the checkpoint.
        model: String,
        /// Bytes that it takes with everything loaded.
        all: u64,
        /// Bytes that it takes with one expert of each layer loaded.
        least: u64,
        /// Bytes that there are.
        memory: u64,
        /// Where the least go.
        detail: String,
        /// What to do.
        remedy: String,
    },
    /// Cancelled by the user.
    #[error("cancelled")]
    Cancelled,
    /// Logits that are not numbers: the weights are broken.
    #[error(
        "step {step}: the model \"{model}\" computed logits that are not numbers: its weights are damaged, or too large for dtype {dtype}"
    )]
    NotANumber {
        /// Name of the checkpoint.
        model: String,
        /// Forward pass of the request.
        step: usize,
        /// How the weights are kept.
        dtype: &'static str,
    },
    /// The worker thread is gone.
    #[error("the engine has stopped after an internal failure: start it anew")]
    Stopped,
    /// A thread that the system refused.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// A checkpoint that cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A failure of the tokenizers.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A failure of the model. Shared: a step serves several requests.
    #[error("{0}")]
    Model(Arc<ModelError>),
    /// A failure while writing the output.
    #[error("output: {0}")]
    Output(MediaError),
}

/// The kinds of failure that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong: change it.
    InvalidArgument,
    /// A file or a model is not there.
    NotFound,
    /// Not enough memory, disk or time.
    ResourceExhausted,
    /// The user cancelled.
    Cancelled,
    /// The checkpoint or the device cannot do it.
    Unsupported,
    /// A fault of ours or of the files.
    Internal,
}

impl EngineError {
    /// Which kind it is: maps to an exit code, an HTTP status, a gRPC code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Memory { .. } | Self::ModelMemory { .. } => ErrorKind::ResourceExhausted,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Input { source, .. } if is_missing(source) => ErrorKind::NotFound,
            Self::Input { .. } => ErrorKind::InvalidArgument,
            Self::Weights(source) if is_missing(source) => ErrorKind::NotFound,
            Self::Model(source) => match **source {
                ModelError::CacheFull { .. } | ModelError::Kernel(KernelError::OutOfMemory { .. }) => {
                    ErrorKind::ResourceExhausted
                }
                ModelError::Kernel(KernelError::Unavailable { .. }) => ErrorKind::Unsupported,
                _ => ErrorKind::Internal,
            },
            _ => ErrorKind::Internal,
        }
    }

    /// Whether the model is lost with it: a rank is gone or hangs, and only a new process brings all ranks back.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Model(source) if matches!(**source, ModelError::Rank { .. } | ModelError::Ranks(_)))
    }

    /// A wrong field.
    pub(crate) fn invalid(field: &'static str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Invalid { field, problem: problem.into(), remedy: remedy.into() }
    }
}

impl From<ModelError> for EngineError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Weights(error) => Self::Weights(error),
            error => Self::Model(Arc::new(error)),
        }
    }
}

/// Whether an error is, at bottom, a file that is not there.
fn is_missing(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(e) = next {
        if e.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::NotFound) {
            return true;
        }
        next = e.source();
    }
    false
}

/// `1234 MiB`.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
