//! SIMD kernels on one thread pool.
//!
//! Buffers are plain f32 arrays; weights and the KV slab have layouts of their own (see `weight.rs` and `kv.rs`).
//! Every kernel is written once and compiled for some sets of instructions (AVX-512 with VNNI, AVX2 + FMA + F16C, none); which one runs is decided
//! when the backend is made. Scratch memory is kept by the backend (or by the thread, for a chunk's own) and grows to the
//! largest size that was ever needed: a step allocates nothing.
//!
//! Every output element is computed in one order that depends on nothing but its operation's inner size, so results are
//! equal to the bit for any number of rows and threads, and with any instructions. Products with int8 and int4 weights round their rows to
//! eight bits first (`codes.rs`), each row on its own.
#![allow(unsafe_code)]

mod attend;
mod attention;
mod avx2;
mod avx512;
mod backend;
mod codes;
mod dots;
mod dots_plain;
mod dots_x86;
mod experts;
mod heads;
mod image;
mod kv;
mod matmul;
pub(crate) mod memory;
mod paint;
mod pool;
mod route;
mod rows;
mod rowwise;
pub(crate) mod simd;
mod tile;
mod tile_x86;
mod weight;

use std::sync::{Arc, Mutex, TryLockError};

use self::memory::Aligned;
use self::pool::Pool;
use self::simd::Level;
use crate::backend::Result;
use crate::check;

pub use kv::CpuKv;
pub use route::CpuRouting;
pub use simd::Instructions;
pub use weight::CpuWeight;

/// The CPU: SIMD kernels and a pool of threads. Clones share the pool.
#[derive(Clone)]
pub struct Cpu {
    level: Level,
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    codes: Mutex<codes::Scratch>,
    experts: Mutex<experts::Scratch>,
    attention: Mutex<attention::Scratch>,
    paint: Mutex<paint::Scratch>,
}

/// A buffer of [`Cpu`]: f32 numbers from a cache line on.
#[derive(Debug)]
pub struct CpuBuffer(Aligned<f32>);

/// Numbers of an element-wise operation that a chunk covers.
const CHUNK: usize = 1 << 14;

impl Cpu {
    /// With `threads` threads in all (at least 1), the caller's among them.
    pub fn new(threads: usize) -> Self {
        Self::with_level(threads, Level::detect())
    }

    /// With these instructions, or fewer when the processor has fewer. For tests and benches: results have the same bits.
    pub fn with_instructions(threads: usize, most: Instructions) -> Self {
        Self::with_level(threads, Level::at_most(most))
    }

    fn with_level(threads: usize, level: Level) -> Self {
        let inner = Inner {
            pool: Pool::new(threads),
            codes: Mutex::default(),
            experts: Mutex::default(),
            attention: Mutex::default(),
            paint: Mutex::default(),
        };
        Self { level, inner: Arc::new(inner) }
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.inner.pool.threads()
    }

    /// The instructions in use.
    pub fn instructions(&self) -> Instructions {
        self.level.instructions()
    }

    /// Calls `chunk(from, to)` for parts of `n` items, in parallel when they are many; `width` numbers an item.
    fn split(&self, n: usize, width: usize, chunk: impl Fn(usize, usize) + Sync) {
        let size = (CHUNK / width.max(1)).max(1);
        self.inner.pool.run(n.div_ceil(size), &|c| chunk(c * size, n.min((c + 1) * size)));
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cpu").field("instructions", &self.instructions()).field("threads", &self.threads()).finish()
    }
}

/// Calls `f` with the kept scratch, or with new scratch while another thread uses it.
fn with<T: Default, R>(kept: &Mutex<T>, f: impl FnOnce(&mut T) -> R) -> R {
    match kept.try_lock() {
        Ok(mut scratch) => f(&mut scratch),
        Err(TryLockError::Poisoned(scratch)) => f(&mut scratch.into_inner()),
        Err(TryLockError::WouldBlock) => f(&mut T::default()),
    }
}

impl CpuBuffer {
    /// `len` numbers from `at` on.
    fn get(&self, op: &'static str, at: usize, len: usize) -> Result<&[f32]> {
        check::at_least(op, "a buffer", self.0.len(), at + len)?;
        Ok(&self.0[at..at + len])
    }

    fn get_mut(&mut self, op: &'static str, at: usize, len: usize) -> Result<&mut [f32]> {
        check::at_least(op, "a buffer", self.0.len(), at + len)?;
        Ok(&mut self.0[at..at + len])
    }
}
