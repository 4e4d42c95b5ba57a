//! Work is written down until the host waits for it, and what was done before is replayed as one CUDA graph.
//!
//! A step of a model is some hundred launches, which cost the host more than the device needs for them. Here a launch is put on a list. When the host reads
//! something, the list is compared with those that were done before: one that comes for the second time is captured into a graph, and from then on handed to the
//! driver in one call. Lists are equal when every kernel, grid and argument is, so a replay does exactly what the launches would have done: lists of the host lie
//! at fixed places (uploads.rs) and buffers stay where they are, so that steps with the same number of rows and the same number of pieces of context are equal.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use cudarc::driver::sys;

use super::Args;
use super::driver::check;
use crate::backend::Result;

/// Most graphs that are kept.
const GRAPHS: usize = 64;
/// Lists whose first coming is remembered.
const REMEMBERED: usize = 4096;
/// Shorter lists are not worth a graph.
const SHORTEST: usize = 8;
/// Longest list; what comes then begins a new one.
pub(super) const LONGEST: usize = 8192;

/// A kernel to start.
#[derive(Clone)]
pub(super) struct Launch {
    pub(super) function: sys::CUfunction,
    pub(super) name: &'static str,
    pub(super) grid: [u32; 3],
    pub(super) threads: u32,
    pub(super) shared: u32,
    pub(super) args: Args,
}

impl Launch {
    /// What two launches must share to be the same.
    fn key(&self) -> (usize, [u32; 3], u32, u32, &[u64]) {
        (self.function as usize, self.grid, self.threads, self.shared, self.args.words())
    }

    /// Puts it into a stream.
    ///
    /// # Safety
    /// The context is current, the stream exists; the arguments are the kernel's, and what they address is there.
    unsafe fn start(&self, stream: sys::CUstream) -> Result<()> {
        let mut args = self.args.clone();
        let ([x, y, z], mut values) = (self.grid, args.pointers());
        let (values, extra) = (values.as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: the caller's promise.
        let result = unsafe {
            sys::cuLaunchKernel(self.function, x, y, z, self.threads, 1, 1, self.shared, stream, values, extra)
        };
        check(self.name, result)
    }
}

fn same(a: &[Launch], b: &[Launch]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.key() == b.key())
}

/// A list of commands as the driver keeps it.
struct Graph {
    commands: Vec<Launch>,
    exec: sys::CUgraphExec,
    used: u64,
}

/// How often what happened, for benches and tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GraphCounts {
    /// Lists that were replayed as graphs.
    pub replays: u64,
    /// Graphs made.
    pub graphs: u64,
    /// Launches handed to the driver one by one.
    pub commands: u64,
}

/// The list, and the graphs of earlier ones.
#[derive(Default)]
pub(super) struct Recorder {
    /// Without it every command goes to the stream at once.
    pub(super) on: bool,
    pub(super) counts: GraphCounts,
    commands: Vec<Launch>,
    graphs: Vec<Graph>,
    seen: HashSet<u64>,
    clock: u64,
}

// SAFETY: handles of the driver may be used from any thread in which the context is current; the device makes it so first.
unsafe impl Send for Recorder {}

impl Recorder {
    /// An empty list; `on`: see there.
    pub(super) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    /// Commands that are not yet in the stream.
    pub(super) fn pending(&self) -> usize {
        self.commands.len()
    }

    /// Puts a command on the list, or into the stream.
    ///
    /// # Safety
    /// As [`Launch::start`], until the list is flushed.
    pub(super) unsafe fn push(&mut self, command: Launch, stream: sys::CUstream) -> Result<()> {
        if self.on {
            self.commands.push(command);
            return Ok(());
        }
        self.counts.commands += 1;
        // SAFETY: the caller's promise.
        unsafe { command.start(stream) }
    }

    /// Puts the list into the stream, as a graph when it was there before.
    ///
    /// # Safety
    /// The context is current and the stream exists; everything that the commands address is there.
    pub(super) unsafe fn flush(&mut self, stream: sys::CUstream) -> Result<()> {
        let mut commands = std::mem::take(&mut self.commands);
        // SAFETY: the caller's promise.
        let result = unsafe { self.run(&commands, stream) };
        commands.clear();
        self.commands = commands;
        result
    }

    /// # Safety
    /// As [`Recorder::flush`].
    unsafe fn run(&mut self, commands: &[Launch], stream: sys::CUstream) -> Result<()> {
        self.clock += 1;
        if commands.len() >= SHORTEST {
            let known = self.graphs.iter().position(|g| same(&g.commands, commands));
            let at = match known {
                Some(at) => Some(at),
                // SAFETY: the caller's promise.
                None if !self.is_new(commands) => Some(unsafe { self.capture(commands, stream)? }),
                None => None,
            };
            if let Some(graph) = at.and_then(|at| self.graphs.get_mut(at)) {
                graph.used = self.clock;
                self.counts.replays += 1;
                // SAFETY: instantiated and not destroyed; what it addresses is there, as the same commands say.
                return check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(graph.exec, stream) });
            }
        }
        self.counts.commands += commands.len() as u64;
        // SAFETY: the caller's promise.
        commands.iter().try_for_each(|command| unsafe { command.start(stream) })
    }

    /// Whether a list comes for the first time; remembers it.
    fn is_new(&mut self, commands: &[Launch]) -> bool {
        let mut hash = DefaultHasher::new();
        commands.iter().for_each(|command| command.key().hash(&mut hash));
        if self.seen.len() >= REMEMBERED {
            self.seen.clear();
        }
        self.seen.insert(hash.finish())
    }

    /// Makes a graph; its place among the graphs.
    ///
    /// # Safety
    /// As [`Recorder::flush`].
    unsafe fn capture(&mut self, commands: &[Launch], stream: sys::CUstream) -> Result<usize> {
        let (mut graph, mut exec) = (std::ptr::null_mut(), std::ptr::null_mut());
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the caller's promise; places for one handle each; the capture is ended whatever happens in it.
        unsafe {
            check("cuStreamBeginCapture", sys::cuStreamBeginCapture_v2(stream, mode))?;
            let started = commands.iter().try_for_each(|command| command.start(stream));
            let ended = check("cuStreamEndCapture", sys::cuStreamEndCapture(stream, &mut graph));
            started.and(ended)?;
            let made = check("cuGraphInstantiate", sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0));
            sys::cuGraphDestroy(graph);
            made?;
        }
        self.counts.graphs += 1;
        let new = Graph { commands: commands.to_vec(), exec, used: self.clock };
        let oldest = self.graphs.iter().enumerate().min_by_key(|(_, g)| g.used).map(|(i, _)| i);
        match oldest.filter(|_| self.graphs.len() >= GRAPHS) {
            Some(at) => {
                let old = std::mem::replace(&mut self.graphs[at], new);
                // SAFETY: instantiated once, destroyed once; the driver waits for a run that goes on.
                unsafe { sys::cuGraphExecDestroy(old.exec) };
                Ok(at)
            }
            None => {
                self.graphs.push(new);
                Ok(self.graphs.len() - 1)
            }
        }
    }

    /// Destroys all graphs.
    ///
    /// # Safety
    /// The context is current.
    pub(super) unsafe fn clear(&mut self) {
        for graph in self.graphs.drain(..) {
            // SAFETY: as above.
            unsafe { sys::cuGraphExecDestroy(graph.exec) };
        }
    }
}
