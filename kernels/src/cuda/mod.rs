//! NVIDIA GPUs: own kernels (`kernels/cuda/`) through the CUDA driver, which is looked for when a device is opened and never linked.
//!
//! All work of a [`Cuda`] goes into one stream in the order of the calls and is done when something is read back. Lists that come from the host
//! (ids, slots, spans) are sent once a step: all layers share them. What a step starts is written down and replayed as one CUDA graph when it comes
//! again (`graphs.rs`).
//!
//! A product has one definition that does not mention the number of rows (`kernels/cuda/matmul.cuh`), so the kernel for one to eight rows and the
//! one for many give the same bits; attention and experts are built the same way.
#![allow(unsafe_code)]

mod arguments;
mod attention;
mod backend;
mod driver;
mod graphs;
mod limits;
mod matmul;
mod moe;
mod program;
mod rows;
mod sample;
mod uploads;
pub(crate) mod weight;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::arguments::{Args, Argument, args};
use self::driver::{Device, Memory};
use self::uploads::Uploads;
use crate::backend::Result;
use crate::check;

pub use attention::CudaKv;
pub use graphs::GraphCounts;
pub use moe::CudaRouting;
pub use weight::CudaWeight;

/// An NVIDIA GPU. Clones share its stream; every [`Cuda::open`] has a stream of its own.
#[derive(Clone)]
pub struct Cuda {
    device: Arc<Device>,
    state: Arc<Mutex<State>>,
}

/// What operations keep on the device from call to call. Held while an operation is put into the stream: the next one that writes to the same
/// memory comes later in the stream.
#[derive(Default)]
struct State {
    uploads: Uploads,
    /// Partial results of attention.
    partial: Option<Memory>,
    /// Of the experts: inner vectors, results, lists.
    inner: Option<Memory>,
    part: Option<Memory>,
    lists: Option<Memory>,
    /// A painted frame.
    picture: Option<Memory>,
    /// Ids that were drawn.
    drawn: Option<Memory>,
}

/// A buffer of [`Cuda`]: f32 numbers.
pub struct CudaBuffer {
    memory: Memory,
    len: usize,
}

/// Name of a kernel that exists for every format of weights.
macro_rules! by_format {
    ($format:expr, $before:literal, $after:literal) => {
        match $format {
            crate::QuantFormat::F32 => concat!($before, "f32", $after),
            crate::QuantFormat::Bf16 => concat!($before, "bf16", $after),
            crate::QuantFormat::Int8 => concat!($before, "int8", $after),
            crate::QuantFormat::Int4 => concat!($before, "int4", $after),
        }
    };
}
pub(crate) use by_format;

impl Cuda {
    /// Opens device `ordinal`. Fails with [`crate::KernelError::Unavailable`], which says why: no driver, too old a driver, no such device, a device
    /// older than Ampere, no machine code for it.
    pub fn open(ordinal: usize) -> Result<Self> {
        Ok(Self { device: Device::open(ordinal)?, state: Arc::default() })
    }

    /// Whether repeated work is replayed as CUDA graphs (it is, unless this says otherwise), or every kernel is started when it is asked for. Results have the
    /// same bits.
    pub fn graphs(&self, on: bool) -> Result<()> {
        self.device.set_graphs(on)
    }

    /// How much was replayed as CUDA graphs so far.
    pub fn graph_counts(&self) -> GraphCounts {
        self.device.graph_counts()
    }

    /// Whether this machine has NVIDIA's driver, whatever can be done with it.
    pub fn driver_is_installed() -> bool {
        driver::is_installed()
    }

    /// The device's name, number and compute capability, for people.
    pub fn describe(&self) -> String {
        let (major, minor) = self.device.capability();
        format!("{} (cuda:{}, compute capability {major}.{minor})", self.device.name(), self.device.ordinal())
    }

    /// Free and total bytes of the device's memory.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.device.memory()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Scratch has no invariant that a panic could break.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kernel of one thread for each of `len` numbers.
    ///
    /// # Safety
    /// As [`Device::launch`].
    unsafe fn each(&self, name: &'static str, len: usize, args: Args) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.device.launch(name, [len.div_ceil(256), 1, 1], 256, 0, args) }
    }
}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cuda").field(&self.describe()).finish()
    }
}

/// The scratch memory in `place`, of at least `bytes` bytes.
fn room<'a>(device: &Arc<Device>, place: &'a mut Option<Memory>, bytes: usize) -> Result<&'a Memory> {
    if place.as_ref().is_none_or(|m| m.bytes() < bytes) {
        // The old one goes first: both may not fit.
        *place = None;
        *place = Some(device.allocate(bytes)?);
    }
    place.as_ref().ok_or_else(|| check::shape("scratch", "no memory"))
}

impl CudaBuffer {
    /// Address of number `at`, when `len` numbers follow.
    fn get(&self, op: &'static str, at: usize, len: usize) -> Result<u64> {
        check::at_least(op, "a buffer", self.len, at.saturating_add(len))?;
        Ok(self.memory.pointer() + 4 * at as u64)
    }
}

impl std::fmt::Debug for CudaBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CudaBuffer({})", self.len)
    }
}

/// Bytes of a slice of numbers.
pub(crate) fn bytes(data: &[f32]) -> &[u8] {
    // SAFETY: f32 has no padding, every byte of it is initialised, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), size_of_val(data)) }
}

pub(crate) fn bytes_mut(data: &mut [f32]) -> &mut [u8] {
    // SAFETY: as `bytes`; every pattern of bytes is an f32.
    unsafe { std::slice::from_raw_parts_mut(data.as_mut_ptr().cast(), size_of_val(data)) }
}
