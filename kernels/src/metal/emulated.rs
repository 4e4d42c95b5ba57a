//! Metal where there is none: the kernels compiled for this machine's CPU (`kernels/metal/emulator`), found as a library on the system's search path.
//! `scripts/metal.sh --emulate` builds it and runs the tests with it; nothing else has it.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use libloading::Library;

use super::arguments::{Args, Bound};
use super::driver::unavailable;
use crate::KernelError;
use crate::backend::Result;

/// Bytes that the emulated device has.
const TOTAL: usize = 8 << 30;

type Launch = unsafe extern "C" fn(*const c_char, *const c_uint, c_uint, usize, *const *const c_void) -> c_int;

/// The library's functions; it stays loaded.
#[derive(Clone, Copy)]
struct Emulator {
    allocate: unsafe extern "C" fn(usize) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    launch: Launch,
}

pub(super) struct Device {
    emulator: Emulator,
}

pub(super) struct Memory {
    emulator: Emulator,
    pointer: *mut c_void,
}

// SAFETY: plain memory of this process; who writes to it holds a `&mut` of the buffer or promises it.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

fn emulator() -> Option<Emulator> {
    static FOUND: OnceLock<Option<Emulator>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: the library is ours; the symbols are those of libmetal.cpp.
        unsafe {
            let library = Box::leak(Box::new(Library::new("libborealis-metal.so").ok()?));
            Some(Emulator {
                allocate: *library.get(b"borealis_metal_allocate\0").ok()?,
                free: *library.get(b"borealis_metal_free\0").ok()?,
                launch: *library.get(b"borealis_metal_launch\0").ok()?,
            })
        }
    })
}

impl Device {
    pub(super) fn open() -> Result<Self> {
        let emulator = emulator().ok_or_else(|| unavailable("Metal is a part of macOS"))?;
        Ok(Self { emulator })
    }

    pub(super) fn name(&self) -> String {
        "emulated device".into()
    }

    pub(super) fn memory(&self) -> (usize, usize) {
        (TOTAL, TOTAL)
    }

    pub(super) fn allocate(&self, bytes: usize) -> Option<Memory> {
        // SAFETY: no condition.
        let pointer = unsafe { (self.emulator.allocate)(bytes) };
        (!pointer.is_null()).then_some(Memory { emulator: self.emulator, pointer })
    }

    /// Kernels run before `launch` returns. That `write` behaves as if they did not is what its way through the queue is tested with.
    pub(super) fn is_idle(&self) -> bool {
        false
    }

    pub(super) fn wait(&self) -> Result<()> {
        Ok(())
    }

    /// # Safety
    /// As [`super::driver::Device::launch`].
    pub(super) unsafe fn launch(
        &self,
        name: &'static str,
        grid: [usize; 3],
        threads: usize,
        shared: usize,
        args: &Args<'_>,
    ) -> Result<()> {
        let failed = |error: String| KernelError::Metal { what: name, error };
        let pointers: Vec<*const c_void> = args
            .bound()
            .map(|bound| match bound {
                Bound::Place(place) => place.memory.system().contents().wrapping_add(place.at).cast_const().cast(),
                Bound::Bytes(bytes) => bytes.as_ptr().cast(),
            })
            .collect();
        let text = CString::new(name).map_err(|e| failed(e.to_string()))?;
        let grid = grid.map(|n| n as c_uint);
        // SAFETY: the caller's promise.
        match unsafe {
            (self.emulator.launch)(text.as_ptr(), grid.as_ptr(), threads as c_uint, shared, pointers.as_ptr())
        } {
            0 => Ok(()),
            _ => Err(failed("there is no such kernel".into())),
        }
    }
}

impl Memory {
    pub(super) fn contents(&self) -> *mut u8 {
        self.pointer.cast()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated by the emulator, freed once.
        unsafe { (self.emulator.free)(self.pointer) };
    }
}
