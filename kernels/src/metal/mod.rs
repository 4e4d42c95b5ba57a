//! Apple's GPUs: own kernels (`kernels/metal/`), compiled by Metal where the program runs.
//!
//! All work of a [`Metal`] goes into one queue in the order of the calls and is done when something is read back. The host's lists (ids, slots, spans)
//! travel with the command that needs them. Memory is shared between host and GPU, so that weights are written once and never copied.
//!
//! A product has one definition that does not mention the number of rows (`kernels/metal/matmul.metal`), so the kernels for one to eight rows and the
//! one for many give the same bits; attention and experts are built the same way.
//!
//! **Nothing of this has run on a Mac yet**: the kernels pass the differential tests on an emulator (`scripts/metal.sh --emulate`) and the Rust code is
//! type-checked for macOS (`scripts/metal.sh`). Therefore [`Metal::open`] first lets a few kernels compute what the CPU knows, and refuses the device
//! when they do not agree.
#![allow(unsafe_code)]

#[cfg(target_os = "macos")]
mod apple;
mod arguments;
mod attention;
mod backend;
mod driver;
#[cfg(not(target_os = "macos"))]
mod emulated;
mod limits;
mod matmul;
mod moe;
mod paint;
mod program;
mod trial;
mod weight;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use self::arguments::{Args, Place, args};
use self::driver::{Device, Memory};
use crate::backend::Result;
use crate::check;
use crate::cuda::by_format;

pub use attention::MetalKv;
pub use moe::MetalRouting;
pub use weight::MetalWeight;

/// An Apple GPU. Clones share its queue; every [`Metal::open`] has a queue of its own.
#[derive(Clone)]
pub struct Metal {
    device: Arc<Device>,
    state: Arc<Mutex<State>>,
}

/// What operations keep on the device from call to call. Held while an operation is put into the queue: the next one that writes to the same
/// memory comes later.
#[derive(Default)]
struct State {
    /// Partial results of attention.
    partial: Option<Memory>,
    /// Of the experts: inner vectors, results, lists.
    inner: Option<Memory>,
    part: Option<Memory>,
    lists: Option<Memory>,
    /// A painted frame.
    picture: Option<Memory>,
}

/// A buffer of [`Metal`]: f32 numbers.
pub struct MetalBuffer {
    memory: Memory,
    len: usize,
}

impl Metal {
    /// Opens the system's GPU and compiles the kernels. Fails with [`crate::KernelError::Unavailable`], which says why: not macOS, no Apple silicon, kernels
    /// that its compiler refuses or that compute something else than the CPU.
    pub fn open() -> Result<Self> {
        static TRIED: OnceLock<()> = OnceLock::new();
        let metal = Self { device: Device::open()?, state: Arc::default() };
        if TRIED.get().is_none() {
            trial::run(&metal)?;
            TRIED.get_or_init(|| ());
        }
        Ok(metal)
    }

    /// The device's name, for people.
    pub fn describe(&self) -> String {
        format!("{} (metal)", self.device.name())
    }

    /// Free and total bytes of the memory that the device should use.
    pub fn memory(&self) -> (usize, usize) {
        self.device.memory()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Scratch has no invariant that a panic could break.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kernel of one thread for each of `len` things. Kernels count in 32 bits.
    ///
    /// # Safety
    /// As [`Device::launch`].
    unsafe fn each(&self, name: &'static str, len: usize, args: Args<'_>) -> Result<()> {
        if len > u32::MAX as usize {
            return Err(check::shape(name, format!("{len} numbers: at most {} at once on metal", u32::MAX)));
        }
        // SAFETY: the caller's promise.
        unsafe { self.device.launch(name, [len.div_ceil(256), 1, 1], 256, 0, args) }
    }

    /// Writes words to a place after everything that was started before. The place has room for them.
    fn put_words(&self, words: &[u32], to: Place<'_>) -> Result<()> {
        // SAFETY: the parameters of `copy_words`; the caller knows the size of the place.
        unsafe { self.each("copy_words", words.len(), args![words, words.len() as u32, to]) }
    }
}

impl std::fmt::Debug for Metal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Metal").field(&self.describe()).finish()
    }
}

/// The scratch memory in `place`, of at least `bytes` bytes.
fn room<'a>(device: &Device, place: &'a mut Option<Memory>, bytes: usize) -> Result<&'a Memory> {
    if place.as_ref().is_none_or(|m| m.bytes() < bytes) {
        // The old one goes first: both may not fit.
        *place = None;
        *place = Some(device.allocate(bytes)?);
    }
    place.as_ref().ok_or_else(|| check::shape("scratch", "no memory"))
}

impl MetalBuffer {
    /// The place of number `at`, when `len` numbers follow.
    fn get(&self, op: &'static str, at: usize, len: usize) -> Result<Place<'_>> {
        check::at_least(op, "a buffer", self.len, at.saturating_add(len))?;
        Ok(Place { memory: &self.memory, at: 4 * at })
    }
}

impl std::fmt::Debug for MetalBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MetalBuffer({})", self.len)
    }
}
