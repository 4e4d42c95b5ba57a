//! Metal itself, through the bindings that candle brings. One queue; commands are collected in one encoder at a time, whose dispatches run one after
//! the other, and handed to the GPU when enough of them are there or when somebody waits.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSString;
use objc2_metal::{
    MTLBuffer, MTLCommandBuffer, MTLCommandBufferStatus, MTLCommandEncoder, MTLCommandQueue, MTLCompileOptions,
    MTLComputeCommandEncoder, MTLComputePipelineState, MTLCreateSystemDefaultDevice, MTLDevice, MTLGPUFamily,
    MTLLibrary, MTLResourceOptions, MTLSize,
};

use super::arguments::{Args, Bound};
use super::driver::unavailable;
use super::program;
use crate::KernelError;
use crate::backend::Result;

/// Dispatches of a command buffer: enough that handing them over costs little, few enough that the GPU starts soon.
const DISPATCHES: usize = 64;
/// Most bytes that a command can carry itself; Metal's limit.
const INLINE: usize = 4096;
/// Lanes of a simdgroup that the kernels are written for.
const LANES: usize = 32;

type Pipeline = Retained<ProtocolObject<dyn MTLComputePipelineState>>;
type Commands = Retained<ProtocolObject<dyn MTLCommandBuffer>>;

pub(super) struct Device {
    raw: Raw,
    queue: Retained<ProtocolObject<dyn MTLCommandQueue>>,
    library: Library,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pipelines: HashMap<&'static str, Pipeline>,
    /// Commands that are being collected, and how many.
    open: Option<(Commands, Retained<ProtocolObject<dyn MTLComputeCommandEncoder>>)>,
    dispatches: usize,
    /// Commands that were handed over and not yet seen to be done, in order.
    running: Vec<Commands>,
}

pub(super) struct Memory {
    raw: Retained<ProtocolObject<dyn MTLBuffer>>,
}

// SAFETY: devices, queues, libraries and pipelines of Metal may be used from any thread; command buffers and encoders are used under the lock alone.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}
// SAFETY: buffers of Metal may be used from any thread; who writes to their contents holds a `&mut` of the buffer or promises it.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

type Raw = Retained<ProtocolObject<dyn MTLDevice>>;
type Library = Retained<ProtocolObject<dyn MTLLibrary>>;

/// The system's device and its kernels, compiled once in a program however often it is opened.
fn kernels() -> Result<(Raw, Library)> {
    static COMPILED: OnceLock<(Raw, Library)> = OnceLock::new();
    match COMPILED.get() {
        Some(found) => Ok(found.clone()),
        None => {
            let made = compile()?;
            Ok(COMPILED.get_or_init(|| made).clone())
        }
    }
}

fn compile() -> Result<(Raw, Library)> {
    let raw = MTLCreateSystemDefaultDevice().ok_or_else(|| unavailable("this machine has no Metal device"))?;
    if !raw.supportsFamily(MTLGPUFamily::Apple7) {
        return Err(unavailable(format!("{}: Apple silicon (M1 or newer) is needed", raw.name())));
    }
    let options = MTLCompileOptions::new();
    // Nothing is reordered, and NaN is NaN. The newer setting is not known before macOS 15; this one is known everywhere.
    #[allow(deprecated)]
    options.setFastMathEnabled(false);
    let library = raw
        .newLibraryWithSource_options_error(&NSString::from_str(&program::source()), Some(&options))
        .map_err(|error| unavailable(first_error(&error.localizedDescription().to_string())))?;
    Ok((raw, library))
}

impl Device {
    pub(super) fn open() -> Result<Self> {
        let (raw, library) = kernels()?;
        let queue = raw.newCommandQueue().ok_or_else(|| unavailable("Metal gives no command queue"))?;
        Ok(Self { raw, queue, library, state: Mutex::default() })
    }

    pub(super) fn name(&self) -> String {
        self.raw.name().to_string()
    }

    /// Free and total bytes: of what Metal says can be used with good performance.
    pub(super) fn memory(&self) -> (usize, usize) {
        let total = self.raw.recommendedMaxWorkingSetSize() as usize;
        (total.saturating_sub(self.raw.currentAllocatedSize()), total)
    }

    pub(super) fn allocate(&self, bytes: usize) -> Option<Memory> {
        let raw = self.raw.newBufferWithLength_options(bytes, MTLResourceOptions::StorageModeShared)?;
        Some(Memory { raw })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic leaves at most commands that are not handed over yet.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        state.open.is_none() && state.running.is_empty()
    }

    pub(super) fn wait(&self) -> Result<()> {
        autoreleasepool(|_| {
            let mut state = self.state();
            state.hand_over();
            let running = std::mem::take(&mut state.running);
            // In order: when the last one is done, all are.
            if let Some(last) = running.last() {
                last.waitUntilCompleted();
            }
            match running.iter().find(|commands| commands.status() == MTLCommandBufferStatus::Error) {
                None => Ok(()),
                Some(failed) => {
                    let error = failed.error().map(|e| e.localizedDescription().to_string());
                    Err(KernelError::Metal { what: "a kernel", error: error.unwrap_or_else(|| "no reason".into()) })
                }
            }
        })
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
        autoreleasepool(|_| {
            let mut state = self.state();
            let pipeline = self.pipeline(&mut state, name, threads)?;
            let encoder = self.encoder(&mut state, name)?;
            encoder.setComputePipelineState(&pipeline);
            for (index, bound) in args.bound().enumerate() {
                self.bind(&encoder, index, bound, name)?;
            }
            if shared > 0 {
                // SAFETY: at most what every device has; the kernel has one such argument.
                unsafe { encoder.setThreadgroupMemoryLength_atIndex(shared, 0) };
            }
            let [width, height, depth] = grid;
            let size = |width, height, depth| MTLSize { width, height, depth };
            encoder.dispatchThreadgroups_threadsPerThreadgroup(size(width, height, depth), size(threads, 1, 1));
            state.dispatches += 1;
            if state.dispatches >= DISPATCHES {
                state.hand_over();
            }
            Ok(())
        })
    }

    fn pipeline(&self, state: &mut State, name: &'static str, threads: usize) -> Result<Pipeline> {
        let failed = |error: String| KernelError::Metal { what: name, error };
        if let Some(pipeline) = state.pipelines.get(name) {
            return Ok(pipeline.clone());
        }
        let function = self
            .library
            .newFunctionWithName(&NSString::from_str(name))
            .ok_or_else(|| failed("there is no such kernel".into()))?;
        let pipeline = self
            .raw
            .newComputePipelineStateWithFunction_error(&function)
            .map_err(|error| failed(error.localizedDescription().to_string()))?;
        let (most, lanes) = (pipeline.maxTotalThreadsPerThreadgroup(), pipeline.threadExecutionWidth());
        if most < threads || lanes != LANES {
            return Err(failed(format!(
                "it needs {threads} threads and simdgroups of {LANES}; this device gives {most} and {lanes}"
            )));
        }
        state.pipelines.insert(name, pipeline.clone());
        Ok(pipeline)
    }

    fn encoder(
        &self,
        state: &mut State,
        name: &'static str,
    ) -> Result<Retained<ProtocolObject<dyn MTLComputeCommandEncoder>>> {
        if let Some((_, encoder)) = &state.open {
            return Ok(encoder.clone());
        }
        let failed = || KernelError::Metal { what: name, error: "Metal gives no command buffer".into() };
        let commands = self.queue.commandBuffer().ok_or_else(failed)?;
        // Its dispatches run in order, each after the one before is done.
        let encoder = commands.computeCommandEncoder().ok_or_else(failed)?;
        state.open = Some((commands, encoder.clone()));
        Ok(encoder)
    }

    fn bind(
        &self,
        encoder: &ProtocolObject<dyn MTLComputeCommandEncoder>,
        index: usize,
        bound: Bound<'_>,
        name: &'static str,
    ) -> Result<()> {
        let bytes = match bound {
            Bound::Place(place) => {
                // SAFETY: the place is inside of its buffer, which the commands keep alive.
                unsafe { encoder.setBuffer_offset_atIndex(Some(&place.memory.system().raw), place.at, index) };
                return Ok(());
            }
            // Nothing may be bound of no bytes.
            Bound::Bytes([]) => &[0; 4],
            Bound::Bytes(bytes) => bytes,
        };
        let pointer = NonNull::from(bytes).cast::<c_void>();
        if bytes.len() <= INLINE {
            // SAFETY: so many bytes lie there; they are copied at once.
            unsafe { encoder.setBytes_length_atIndex(pointer, bytes.len(), index) };
            return Ok(());
        }
        let options = MTLResourceOptions::StorageModeShared;
        // SAFETY: as above.
        let copy = unsafe { self.raw.newBufferWithBytes_length_options(pointer, bytes.len(), options) };
        let full =
            || KernelError::Metal { what: name, error: format!("no memory for a list of {} bytes", bytes.len()) };
        let copy = copy.ok_or_else(full)?;
        // SAFETY: the commands keep the copy alive.
        unsafe { encoder.setBuffer_offset_atIndex(Some(&copy), 0, index) };
        Ok(())
    }
}

impl State {
    /// Gives the collected commands to the GPU.
    fn hand_over(&mut self) {
        if let Some((commands, encoder)) = self.open.take() {
            encoder.endEncoding();
            commands.commit();
            self.running.push(commands);
            self.dispatches = 0;
        }
        // What is done without an error is of no further interest.
        self.running.retain(|c| c.status() != MTLCommandBufferStatus::Completed);
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // An encoder must be ended before it goes.
        self.state().hand_over();
    }
}

impl Memory {
    pub(super) fn contents(&self) -> *mut u8 {
        self.raw.contents().as_ptr().cast()
    }
}

/// The compiler's first complaint, on one line.
fn first_error(text: &str) -> String {
    let line = text.lines().find(|l| l.contains("error")).or_else(|| text.lines().next()).unwrap_or("no message");
    format!("its compiler refuses the kernels: {}", line.trim())
}
