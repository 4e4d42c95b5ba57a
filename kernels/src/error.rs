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
    /// A name that is no device.
    #[error("unknown device \"{0}\": use auto, cpu, cuda, cuda:N, metal, reference or reference:metal")]
    Device(String),
    /// A device that this machine does not have or that cannot be used.
    #[error("device \"{device}\" cannot be used: {why}")]
    Unavailable {
        /// The device.
        device: String,
        /// What is missing, and what to do when something can be done.
        why: String,
    },
    /// A device's memory is full.
    #[error(
        "{device} is out of memory: {bytes} bytes are needed, {free} are free; use --dtype int8, a smaller model or --device cpu"
    )]
    OutOfMemory {
        /// The device.
        device: String,
        /// Bytes that were asked for.
        bytes: usize,
        /// Bytes that are free.
        free: usize,
    },
    /// An error of the CUDA driver.
    #[error("CUDA, {what}: {error}")]
    Cuda {
        /// The call or the kernel.
        what: &'static str,
        /// What the driver says.
        error: String,
    },
    /// An error of Metal.
    #[error("Metal, {what}: {error}")]
    Metal {
        /// The call or the kernel.
        what: &'static str,
        /// What Metal says.
        error: String,
    },
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
    /// An operation that a backend does not have.
    #[error("{op}: {backend} does not have this operation: use another device")]
    Missing {
        /// The operation.
        op: &'static str,
        /// The backend's name.
        backend: &'static str,
    },
    /// An error of candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
