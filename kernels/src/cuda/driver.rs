//! The CUDA driver: one device with one stream, its memory, copies and launches. Every call into the driver is in this file.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys;

use super::graphs::{GraphCounts, LONGEST, Launch, Recorder};
use super::{Args, program};
use crate::KernelError;
use crate::backend::Result;

/// Oldest driver that is used: CUDA 12.0.
const OLDEST_DRIVER: i32 = 12_000;
/// Oldest generation of devices that the kernels are written for, as compute capability: Ampere.
pub(super) const OLDEST_DEVICE: (i32, i32) = (8, 0);

/// A device, its primary context and a stream of its own. All work of one [`super::Cuda`] is ordered by the stream.
pub(super) struct Device {
    ordinal: usize,
    name: String,
    capability: (i32, i32),
    raw: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    module: sys::CUmodule,
    functions: Mutex<HashMap<&'static str, Function>>,
    recorder: Mutex<Recorder>,
    /// How often the host waited or wrote: see [`Device::segment`].
    segment: AtomicU64,
}

#[derive(Clone, Copy)]
struct Function(sys::CUfunction);

// SAFETY: the driver's handles may be used from any thread in which the context is current; every method makes it so first.
unsafe impl Send for Device {}
// SAFETY: as above; the driver locks its own state.
unsafe impl Sync for Device {}
// SAFETY: a handle of the driver, see `Device`.
unsafe impl Send for Function {}

/// Memory of a device; freed when dropped.
pub(super) struct Memory {
    device: Arc<Device>,
    pointer: u64,
    bytes: usize,
}

impl Device {
    /// Opens device `ordinal` and loads the kernels. Fails with [`KernelError::Unavailable`], saying why.
    pub(super) fn open(ordinal: usize) -> Result<Arc<Self>> {
        let why = |why: String| KernelError::Unavailable { device: format!("cuda:{ordinal}"), why };
        if !is_installed() {
            return Err(why("NVIDIA's driver (libcuda) is not installed".into()));
        }
        let asked =
            |result: sys::CUresult| if result == sys::CUresult::CUDA_SUCCESS { Ok(()) } else { Err(why(text(result))) };
        let (mut version, mut count, mut raw) = (0, 0, 0);
        // SAFETY: the library is there; all arguments are places for one number.
        unsafe {
            asked(sys::cuInit(0))?;
            asked(sys::cuDriverGetVersion(&mut version))?;
            asked(sys::cuDeviceGetCount(&mut count))?;
        }
        if version < OLDEST_DRIVER {
            let (major, minor) = (version / 1000, version % 1000 / 10);
            return Err(why(format!("the driver is for CUDA {major}.{minor}: 12.0 or newer is needed")));
        }
        let Some(number) = i32::try_from(ordinal).ok().filter(|n| *n < count) else {
            return Err(why(format!("this machine has {count} CUDA devices, numbered from 0")));
        };
        // SAFETY: the device exists.
        asked(unsafe { sys::cuDeviceGet(&mut raw, number) })?;
        let (name, capability) = (device_name(raw), capability(raw));
        if capability < OLDEST_DEVICE {
            let (major, minor) = capability;
            return Err(why(format!("{name} has compute capability {major}.{minor}: 8.0 (Ampere) or newer is needed")));
        }
        let (mut context, mut stream, mut module) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: a valid device; places for one handle each.
        unsafe {
            asked(sys::cuDevicePrimaryCtxRetain(&mut context, raw))?;
            asked(sys::cuCtxSetCurrent(context))?;
            asked(sys::cuStreamCreate(&mut stream, sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32))?;
        }
        program::load(capability, version, |image| {
            // SAFETY: the driver checks the image's header; the images that are handed in are whole.
            let result = unsafe { sys::cuModuleLoadData(&mut module, image.as_ptr().cast()) };
            result == sys::CUresult::CUDA_SUCCESS
        })
        .map_err(why)?;
        let functions = Mutex::default();
        let recorder = Mutex::new(Recorder::new(true));
        let segment = AtomicU64::new(1);
        Ok(Arc::new(Self { ordinal, name, capability, raw, context, stream, module, functions, recorder, segment }))
    }

    /// As the driver calls it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Number of the device.
    pub(super) fn ordinal(&self) -> usize {
        self.ordinal
    }

    /// Compute capability.
    pub(super) fn capability(&self) -> (i32, i32) {
        self.capability
    }

    /// Makes the context current in this thread.
    fn enter(&self) -> Result<()> {
        // SAFETY: the context lives as long as `self`.
        check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.context) })
    }

    /// Free and total bytes.
    pub(super) fn memory(&self) -> Result<(usize, usize)> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: places for one number each.
        check("cuMemGetInfo", unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) })?;
        Ok((free, total))
    }

    /// `bytes` bytes, not cleared.
    pub(super) fn allocate(self: &Arc<Self>, bytes: usize) -> Result<Memory> {
        self.enter()?;
        let mut pointer = 0;
        // SAFETY: a place for one pointer; an allocation of 0 bytes is an error of the driver, hence at least 16.
        match unsafe { sys::cuMemAlloc_v2(&mut pointer, bytes.max(16)) } {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let free = self.memory().map_or(0, |m| m.0);
                Err(KernelError::OutOfMemory { device: format!("cuda:{}", self.ordinal), bytes, free })
            }
            result => {
                check("cuMemAlloc", result)?;
                Ok(Memory { device: Arc::clone(self), pointer, bytes })
            }
        }
    }

    /// `bytes` zero bytes.
    pub(super) fn zeroed(self: &Arc<Self>, bytes: usize) -> Result<Memory> {
        let memory = self.allocate(bytes)?;
        if bytes > 0 {
            // SAFETY: the memory was just allocated with so many bytes.
            check("cuMemsetD8Async", unsafe { sys::cuMemsetD8Async(memory.pointer, 0, bytes, self.stream) })?;
        }
        Ok(memory)
    }

    /// Number of the running segment: lists of the host that were sent in earlier ones may be overwritten.
    pub(super) fn segment(&self) -> u64 {
        self.segment.load(Ordering::Relaxed)
    }

    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        // A panic between two commands leaves a list that is shorter, and still in order.
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether work is written down, and replayed when it comes again.
    pub(super) fn set_graphs(&self, on: bool) -> Result<()> {
        self.flush()?;
        self.recorder().on = on;
        Ok(())
    }

    /// What was replayed so far.
    pub(super) fn graph_counts(&self) -> GraphCounts {
        self.recorder().counts
    }

    /// Puts what was written down into the stream.
    fn flush(&self) -> Result<()> {
        self.enter()?;
        // SAFETY: the context is current; memory that is dropped flushes first, so all that the commands address is there.
        unsafe { self.recorder().flush(self.stream) }
    }

    /// Ends a segment: lists that were sent in it are used no more by what is started from now on. Callers hold the state of their [`super::Cuda`], so that no
    /// operation is between its list and its kernel.
    fn end_segment(&self) -> Result<()> {
        self.flush()?;
        self.segment.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn push(&self, command: Launch) -> Result<()> {
        self.enter()?;
        let mut recorder = self.recorder();
        // SAFETY: the callers checked the command; see `flush`.
        unsafe { recorder.push(command, self.stream)? };
        if recorder.pending() < LONGEST {
            return Ok(());
        }
        drop(recorder);
        self.flush()
    }

    /// Copies `data` to byte `at` of `to`, after everything that was started before. The driver has read `data` when this returns.
    pub(super) fn upload(&self, to: &Memory, at: usize, data: &[u8]) -> Result<()> {
        to.contains(at, data.len())?;
        self.end_segment()?;
        self.send_to(to, at, data)
    }

    /// Copies `data` to the start of `to`, before what is on the list.
    pub(super) fn send(&self, to: &Memory, data: &[u8]) -> Result<()> {
        self.send_to(to, 0, data)
    }

    fn send_to(&self, to: &Memory, at: usize, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        to.contains(at, data.len())?;
        self.enter()?;
        let (pointer, from) = (to.pointer + at as u64, data.as_ptr().cast());
        // SAFETY: both ranges exist. Pageable host memory is staged before the call returns, as the driver's manual says.
        check("cuMemcpyHtoDAsync", unsafe { sys::cuMemcpyHtoDAsync_v2(pointer, from, data.len(), self.stream) })
    }

    /// Copies from byte `at` of `from` to `out`, after everything that was started before.
    pub(super) fn download(&self, from: &Memory, at: usize, out: &mut [u8]) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        from.contains(at, out.len())?;
        self.end_segment()?;
        let (pointer, to) = (from.pointer + at as u64, out.as_mut_ptr().cast());
        // SAFETY: both ranges exist, and the stream is waited for before `out` can go.
        check("cuMemcpyDtoHAsync", unsafe { sys::cuMemcpyDtoHAsync_v2(to, pointer, out.len(), self.stream) })?;
        self.wait()
    }

    /// Copies `bytes` bytes from the start of `from` to the start of `to`.
    pub(super) fn copy(&self, from: &Memory, to: &Memory, bytes: usize) -> Result<()> {
        from.contains(0, bytes)?;
        to.contains(0, bytes)?;
        self.flush()?;
        // SAFETY: both ranges exist and belong to different allocations.
        check("cuMemcpyDtoDAsync", unsafe { sys::cuMemcpyDtoDAsync_v2(to.pointer, from.pointer, bytes, self.stream) })
    }

    /// Waits until all that was started is done; errors of kernels show here.
    pub(super) fn wait(&self) -> Result<()> {
        self.end_segment()?;
        // SAFETY: the stream lives as long as `self`.
        check("a kernel", unsafe { sys::cuStreamSynchronize(self.stream) })
    }

    fn function(&self, name: &'static str) -> Result<Function> {
        let mut known = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = known.get(name) {
            return Ok(*function);
        }
        self.enter()?;
        let mut raw = std::ptr::null_mut();
        let text = CString::new(name).map_err(|e| KernelError::Cuda { what: name, error: e.to_string() })?;
        // SAFETY: the module is loaded; the name is a C string.
        check(name, unsafe { sys::cuModuleGetFunction(&mut raw, self.module, text.as_ptr()) })?;
        known.insert(name, Function(raw));
        Ok(Function(raw))
    }

    /// Starts a kernel. Nothing happens when the grid is empty.
    ///
    /// # Safety
    /// `args` are of exactly the kernel's parameter types, in order, and what they address is as large as the kernel takes for granted.
    pub(super) unsafe fn launch(
        &self,
        name: &'static str,
        grid: [usize; 3],
        threads: u32,
        shared: usize,
        args: Args,
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        let [x, y, z] = grid;
        if x > i32::MAX as usize || y > 65_535 || z > 65_535 || shared > 48 << 10 {
            let error = format!(
                "a grid of {x} x {y} x {z} blocks with {shared} bytes of shared memory: compute fewer rows at once"
            );
            return Err(KernelError::Cuda { what: name, error });
        }
        let Function(function) = self.function(name)?;
        let (grid, shared) = ([x as u32, y as u32, z as u32], shared as u32);
        self.push(Launch { function, name, grid, threads, shared, args })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        // SAFETY: handles of this object, used for the last time; memory holds the device, so none is left.
        unsafe {
            sys::cuStreamSynchronize(self.stream);
            self.recorder().clear();
            sys::cuModuleUnload(self.module);
            sys::cuStreamDestroy_v2(self.stream);
            sys::cuDevicePrimaryCtxRelease_v2(self.raw);
        }
    }
}

impl Memory {
    /// Address on the device.
    pub(super) fn pointer(&self) -> u64 {
        self.pointer
    }

    /// Size.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn contains(&self, at: usize, len: usize) -> Result<()> {
        if at.checked_add(len).is_some_and(|end| end <= self.bytes) {
            return Ok(());
        }
        Err(crate::check::shape("copy", format!("bytes {at}.. + {len} of {}", self.bytes)))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // What is on the list may still use it. An error of that work shows at the next wait.
        let _ = self.device.flush();
        if self.device.enter().is_ok() {
            // SAFETY: allocated by `allocate`, freed once; the driver waits for kernels that still use it.
            unsafe { sys::cuMemFree_v2(self.pointer) };
        }
    }
}

/// Whether the driver's library is there.
pub(super) fn is_installed() -> bool {
    // SAFETY: looks for a library, calls nothing in it.
    unsafe { sys::is_culib_present() }
}

pub(super) fn check(what: &'static str, result: sys::CUresult) -> Result<()> {
    if result == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    Err(KernelError::Cuda { what, error: text(result) })
}

/// What the driver says about an error.
fn text(error: sys::CUresult) -> String {
    let read = |get: unsafe fn(sys::CUresult, *mut *const std::ffi::c_char) -> sys::CUresult| {
        let mut text = std::ptr::null();
        // SAFETY: a place for one pointer; texts are static C strings, or the pointer stays null.
        unsafe {
            get(error, &mut text);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    };
    match (read(sys::cuGetErrorString), read(sys::cuGetErrorName)) {
        (Some(text), Some(name)) => format!("{text} ({name})"),
        _ => format!("{error:?}"),
    }
}

fn device_name(raw: sys::CUdevice) -> String {
    let mut name = [0u8; 128];
    // SAFETY: a valid device; the driver writes at most so many bytes, the last of them 0.
    let result = unsafe { sys::cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as i32, raw) };
    let text = CStr::from_bytes_until_nul(&name).map(|t| t.to_string_lossy().into_owned());
    text.ok().filter(|t| !t.is_empty() && result == sys::CUresult::CUDA_SUCCESS).unwrap_or_else(|| "CUDA device".into())
}

fn capability(raw: sys::CUdevice) -> (i32, i32) {
    use sys::CUdevice_attribute_enum as Attribute;
    let get = |attribute| {
        let mut value = 0;
        // SAFETY: a place for one number; 0 when the driver does not know.
        unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, raw) };
        value
    };
    (
        get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
        get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
    )
}
