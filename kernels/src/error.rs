//! What can go wrong on a device.

/// Errors of the kernels; each names the operation or the value.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Shapes that do not fit together.
    #[error("{op}: {what}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What was expected and what was found.
        what: String,
    },
    /// A device that this build or this machine does not have.
    #[error("device \"{0}\" is not available: use cpu or reference")]
    Device(String),
    /// A storage format that the operation does not take.
    #[error("{op}: weights of type {format} are not supported on {backend}")]
    Format {
        /// The operation.
        op: &'static str,
        /// The format's name.
        format: String,
        /// The backend's name.
        backend: &'static str,
    },
    /// An error of candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
