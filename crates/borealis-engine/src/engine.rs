//! The engine: a handle for callers, and the worker thread that owns the model.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use borealis_kernels::{DeviceSpec, KvFormat, QuantFormat};
use borealis_model::{CopyTotals, Forward, Logits};
use borealis_tokenizers::Tokenizers;
use borealis_weights::{Checkpoint, Manifest};
use crossbeam_channel::{Receiver, Sender, never, select, unbounded};

use crate::budget::{Budget, Share};
use crate::costs;
use crate::decode::{self, Line, ToDecoder};
use crate::error::{EngineError, Result};
use crate::layout::Layout;
use crate::memory::Memory;
use crate::request::Request;
use crate::scheduler::{Scheduler, Step};
use crate::stream::{EventStream, Outlet, Waker};
use crate::submit;
use crate::window::Window;
use crate::work::Work;

/// Where and how the engine computes.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Device of the transformer and of the video tokenizer.
    pub device: DeviceSpec,
    /// How weights are kept; `None`: as the device does it best.
    pub dtype: Option<QuantFormat>,
    /// How keys and values are kept; `None`: as suits the weights, see [`crate::keep_kv`].
    pub kv_dtype: Option<KvFormat>,
    /// Threads that compute; `None`: one for each core.
    pub threads: Option<usize>,
    /// Most bytes of the device that weights, caches and buffers may take together; `None`: what is free. Experts that do not fit are copied there on demand.
    pub memory: Option<u64>,
    /// Most bytes that a request may take beside the weights; `None`: a quarter of [`EngineConfig::memory`], or what the weights leave.
    pub memory_limit: Option<u64>,
    /// Folder where measured costs of steps are kept, for [`crate::Window::Auto`]; `None`: each engine that needs them measures.
    pub measurements: Option<PathBuf>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            device: DeviceSpec::Auto,
            dtype: None,
            kv_dtype: None,
            threads: None,
            memory: None,
            memory_limit: None,
            measurements: None,
        }
    }
}

/// What an engine is, for messages and reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Name of the checkpoint.
    pub model: String,
    /// Name of the backend that computes.
    pub backend: &'static str,
    /// How weights are kept.
    pub dtype: QuantFormat,
    /// Samples per second of generated sound; 0 = none.
    pub sample_rate: u32,
    /// Frames per second of generated clips; 0 = none.
    pub fps: u32,
    /// When not all experts fit the memory: how many of each layer do, and how many there are.
    pub experts: Option<(u64, u64)>,
}

/// A handle of a running engine; clones share it. The threads end when all handles are gone and all requests are done.
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
}

/// What all handles share.
pub(crate) struct Core {
    pub manifest: Manifest,
    pub tokenizers: Tokenizers,
    pub layout: Option<Arc<Layout>>,
    pub info: EngineInfo,
    pub memory: Memory,
    /// Most positions of a sequence, for models that are made for so many only.
    pub reach: Option<u32>,
    /// Windows change no bit on this device.
    pub windows: bool,
    commands: Sender<Command>,
    wakers: (Waker, Waker),
    next: AtomicU64,
    /// As [`Engine::expert_copies`].
    copies: Arc<Mutex<Option<CopyTotals>>>,
}

impl Core {
    /// The window of a request that decides one position after another.
    pub fn window(&self, asked: Window) -> Window {
        if self.windows { asked } else { Window::Fixed(1) }
    }

    /// Wakes the decoder thread.
    pub fn waker(&self) -> Waker {
        self.wakers.1.clone()
    }
}

/// A request, ready for the worker and for the decoder.
pub(crate) struct Command {
    pub work: Work,
    pub line: Line,
}

impl Engine {
    /// Loads a checkpoint and starts the threads.
    pub fn new(checkpoint: Checkpoint, config: EngineConfig) -> Result<Self> {
        let tokenizers = submit::open_tokenizers(&checkpoint, &config)?;
        let budget = Budget::new(&checkpoint, &config, Share::ALL)?;
        let mut model = borealis_model::load_with(&checkpoint, &config.device, &budget.options)?;
        submit::keep_kv(model.as_mut(), &config)?;
        let threads = budget.options.threads;
        let costs = config.measurements.as_ref().map(|folder| folder.join(costs::file_name(model.as_ref(), threads)));
        let (name, manifest) = (checkpoint.name().to_string(), checkpoint.manifest().clone());
        Self::start(name, manifest, tokenizers, model, (budget.requests, budget.experts), costs)
    }

    /// An engine around a model that is there already (another [`Forward`], a test).
    pub fn with_model(
        name: String,
        manifest: Manifest,
        tokenizers: Tokenizers,
        model: Box<dyn Forward>,
        memory_limit: Option<u64>,
    ) -> Result<Self> {
        Self::start(name, manifest, tokenizers, model, (memory_limit, None), None)
    }

    /// [`Engine::with_model`] with a model that was loaded as a budget says.
    pub fn with_budget(
        checkpoint: &Checkpoint,
        tokenizers: Tokenizers,
        model: Box<dyn Forward>,
        budget: &Budget,
    ) -> Result<Self> {
        let (name, manifest) = (checkpoint.name().to_string(), checkpoint.manifest().clone());
        Self::start(name, manifest, tokenizers, model, (budget.requests, budget.experts), None)
    }

    fn start(
        name: String,
        manifest: Manifest,
        tokenizers: Tokenizers,
        model: Box<dyn Forward>,
        (memory_limit, experts): (Option<u64>, Option<(u64, u64)>),
        costs: Option<PathBuf>,
    ) -> Result<Self> {
        let info = EngineInfo {
            model: name.clone(),
            backend: model.backend(),
            dtype: model.format(),
            sample_rate: tokenizers.sample_rate(),
            fps: manifest.media.as_ref().map_or(0, |m| m.fps),
            experts,
        };
        let memory = Memory::new(model.as_ref(), memory_limit);
        let reach = model.config().rope.reach;
        let (commands, orders) = unbounded();
        let (messages, inbox) = unbounded();
        let ((worker, woken), (decoder, roused)) = (Waker::new(), Waker::new());
        spawn("borealis-decoder", move || {
            borealis_media::run_in_background();
            decode::run(inbox, roused)
        })?;
        let windows = model.rows_are_independent();
        let scheduler = Scheduler::new(name, memory.limit(), costs);
        let copies = Arc::new(Mutex::new(model.copies()));
        let told = copies.clone();
        spawn("borealis-worker", move || Worker { model, scheduler, messages, told }.run(orders, woken))?;
        let layout = Layout::new(&manifest).map(Arc::new);
        let core = Core {
            manifest,
            tokenizers,
            layout,
            info,
            memory,
            reach,
            windows,
            commands,
            wakers: (worker, decoder),
            next: AtomicU64::new(0),
            copies,
        };
        Ok(Self { core: Arc::new(core) })
    }

    /// Checks a request, encodes what it brings (on the calling thread) and queues it. Its events arrive as they happen; dropping the stream cancels it.
    pub fn submit(&self, request: Request) -> Result<EventStream> {
        let (worker, decoder) = self.core.wakers.clone();
        let (outlet, stream) = Outlet::new(request.variants, worker, decoder);
        let id = self.core.next.fetch_add(1, Ordering::Relaxed);
        let command = submit::prepare(&self.core, request, id, outlet)?;
        self.core.commands.send(command).map_err(|_| EngineError::Stopped)?;
        Ok(stream)
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// What runs.
    pub fn info(&self) -> &EngineInfo {
        &self.core.info
    }

    /// What copying experts to the device has cost since the engine was made; `None` when all experts lie there.
    pub fn expert_copies(&self) -> Option<CopyTotals> {
        *self.core.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the checkpoint says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.core.manifest
    }

    /// The tokenizers of the checkpoint.
    pub fn tokenizers(&self) -> &Tokenizers {
        &self.core.tokenizers
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("info", &self.core.info).finish_non_exhaustive()
    }
}

/// Starts a thread that nobody waits for.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new().name(name.to_string()).spawn(body).map(drop).map_err(EngineError::Thread)
}

/// The thread that owns the model and its cache.
struct Worker {
    model: Box<dyn Forward>,
    scheduler: Scheduler,
    messages: Sender<ToDecoder>,
    told: Arc<Mutex<Option<CopyTotals>>>,
}

impl Worker {
    /// Schedule, forward, sample, push; until all handles are gone and all requests are done.
    fn run(mut self, mut orders: Receiver<Command>, woken: Receiver<()>) {
        let (mut step, mut logits, mut out) = (Step::default(), Logits::default(), Vec::new());
        let mut open = true;
        while open || !self.scheduler.is_idle() {
            for command in orders.try_iter() {
                self.accept(command);
            }
            self.scheduler.admit(self.model.as_mut(), &mut out);
            let busy = self.scheduler.next(&mut step);
            if busy {
                self.scheduler.run(&step, self.model.as_mut(), &mut logits, &mut out);
                *self.told.lock().unwrap_or_else(PoisonError::into_inner) = self.model.copies();
            }
            for message in out.drain(..) {
                // The decoder outlives the worker; without it nobody could see what is generated.
                if self.messages.send(message).is_err() {
                    return;
                }
            }
            if busy {
                continue;
            }
            select! {
                recv(orders) -> command => match command {
                    Ok(command) => self.accept(command),
                    Err(_) => (open, orders) = (false, never()),
                },
                recv(woken) -> _ => {}
            }
        }
    }

    fn accept(&mut self, command: Command) {
        // The decoder knows a request before its first ids arrive.
        if self.messages.send(ToDecoder::Open(Box::new(command.line))).is_ok() {
            self.scheduler.submit(Arc::new(command.work));
        }
    }
}
