//! A Metal device as the backend sees it: memory, copies, launches. On macOS it is Metal; elsewhere it is the emulator, when that is found.

use std::sync::Arc;

#[cfg(target_os = "macos")]
use super::apple as system;
use super::arguments::{Args, Place};
#[cfg(not(target_os = "macos"))]
use super::emulated as system;
use crate::backend::Result;
use crate::{KernelError, check};

/// Threadgroup memory that every device has.
const MOST_SHARED: usize = 32 << 10;

/// The device with one queue. All work of one [`super::Metal`] is done in the order of the calls.
pub(super) struct Device {
    system: system::Device,
}

/// Memory of a device; freed when dropped, after the work that uses it.
pub(super) struct Memory {
    system: system::Memory,
    bytes: usize,
}

/// Why the device cannot be used.
pub(super) fn unavailable(why: impl Into<String>) -> KernelError {
    KernelError::Unavailable { device: "metal".into(), why: why.into() }
}

impl Device {
    /// Opens the system's default device and compiles the kernels. Fails with [`KernelError::Unavailable`], saying why.
    pub(super) fn open() -> Result<Arc<Self>> {
        Ok(Arc::new(Self { system: system::Device::open()? }))
    }

    /// As the system calls it.
    pub(super) fn name(&self) -> String {
        self.system.name()
    }

    /// Free and total bytes.
    pub(super) fn memory(&self) -> (usize, usize) {
        self.system.memory()
    }

    /// `bytes` bytes, not cleared.
    pub(super) fn allocate(&self, bytes: usize) -> Result<Memory> {
        let free = self.memory().0;
        let full = || KernelError::OutOfMemory { device: "metal".into(), bytes, free };
        if bytes > free {
            return Err(full());
        }
        // A buffer of no bytes is an error of Metal.
        Ok(Memory { system: self.system.allocate(bytes.max(16)).ok_or_else(full)?, bytes })
    }

    /// `bytes` zero bytes.
    pub(super) fn zeroed(&self, bytes: usize) -> Result<Memory> {
        let memory = self.allocate(bytes)?;
        // SAFETY: the memory was just allocated with so many bytes; nothing uses it.
        unsafe { memory.system.contents().write_bytes(0, bytes) };
        Ok(memory)
    }

    /// Whether all that was started is done.
    pub(super) fn is_idle(&self) -> bool {
        self.system.is_idle()
    }

    /// Waits until all that was started is done; errors of kernels show here.
    pub(super) fn wait(&self) -> Result<()> {
        self.system.wait()
    }

    /// Copies from byte `at` of `from` to `out`, after everything that was started before.
    pub(super) fn download(&self, from: &Memory, at: usize, out: &mut [u8]) -> Result<()> {
        from.contains(at, out.len())?;
        self.wait()?;
        // SAFETY: the range exists, and no kernel writes to it any more.
        unsafe { from.system.contents().add(at).copy_to_nonoverlapping(out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    /// Starts a kernel: a `grid` of threadgroups of `threads` threads with `shared` bytes of threadgroup memory. Nothing happens when the grid is empty.
    ///
    /// # Safety
    /// `args` are of exactly the kernel's parameter types, in order, and what they address is as large as the kernel takes for granted.
    pub(super) unsafe fn launch(
        &self,
        name: &'static str,
        grid: [usize; 3],
        threads: usize,
        shared: usize,
        args: Args<'_>,
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        let [x, y, z] = grid;
        if x > u32::MAX as usize || y > 65_535 || z > 65_535 || shared > MOST_SHARED {
            let error = format!(
                "a grid of {x} x {y} x {z} threadgroups with {shared} bytes of threadgroup memory: compute fewer rows at once"
            );
            return Err(KernelError::Metal { what: name, error });
        }
        // SAFETY: the caller's promise; sizes fit, as just checked.
        unsafe { self.system.launch(name, grid, threads, shared.next_multiple_of(16), &args) }
    }
}

impl Memory {
    /// Size.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its start.
    pub(super) fn place(&self) -> Place<'_> {
        Place { memory: self, at: 0 }
    }

    /// As the system knows it.
    pub(super) fn system(&self) -> &system::Memory {
        &self.system
    }

    /// Writes `data` to byte `at`, at once.
    ///
    /// # Safety
    /// No kernel that was started and may not be done uses these bytes.
    pub(super) unsafe fn fill(&self, at: usize, data: &[u8]) -> Result<()> {
        self.contains(at, data.len())?;
        // SAFETY: the range exists; the caller promises that nothing else uses it.
        unsafe { self.system.contents().add(at).copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        Ok(())
    }

    fn contains(&self, at: usize, len: usize) -> Result<()> {
        if at.checked_add(len).is_some_and(|end| end <= self.bytes) {
            return Ok(());
        }
        Err(check::shape("copy", format!("bytes {at}.. + {len} of {}", self.bytes)))
    }
}
