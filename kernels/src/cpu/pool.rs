//! One small thread pool: parallel regions over fixed chunks.
//!
//! [`Pool::run`] publishes a job; workers that are awake join it and take chunks from one atomic cursor, and so does the
//! caller. The caller never waits for a worker that did not join: when another program holds a core, the others do its
//! share. Idle workers look for work for some microseconds (the gap between two operations of a step) and then sleep.
//! A region that is started while another one runs (from a second thread, or from inside a chunk) runs on its caller alone.
//!
//! Which thread computes a chunk never changes what is computed.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;

/// Looks at the state before sleeping: about 20 microseconds.
const SPINS: usize = 400;
/// In [`Shared::state`]: workers inside the job (bits 0-15), job open for joining, number of the job (above).
const OPEN: u64 = 1 << 16;
const NUMBER: u64 = 1 << 17;
const INSIDE: u64 = OPEN - 1;

#[derive(Clone, Copy)]
struct Job {
    chunk: *const (dyn Fn(usize) + Sync),
    chunks: usize,
}

struct Shared {
    state: AtomicU64,
    cursor: AtomicUsize,
    /// Written by the caller while the job is closed and nobody is inside; read by those inside.
    job: UnsafeCell<Option<Job>>,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    work: Condvar,
    done: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is only written when no other thread can read it (see its comment); its closure is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// Threads that share parallel regions with their caller.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    turn: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

fn locked<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// `threads` threads in all, the caller among them. Fewer when the system refuses to start one.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            cursor: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            lock: Mutex::new(()),
            work: Condvar::new(),
            done: Condvar::new(),
            panic: Mutex::new(None),
        });
        let start = |i: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("borealis-cpu-{i}")).spawn(move || shared.serve()).ok()
        };
        let workers = (1..threads.min(1024)).map_while(start).collect();
        Self { shared, turn: Mutex::new(()), workers }
    }

    /// Threads, the caller included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `chunk(0)` .. `chunk(chunks - 1)`, each once, on any thread, and returns when all are done.
    /// A panic in a chunk comes out here; chunks that nobody took yet are then skipped.
    pub(crate) fn run(&self, chunks: usize, chunk: &(dyn Fn(usize) + Sync)) {
        let alone = chunks <= 1 || self.workers.is_empty();
        let turn = match self.turn.try_lock() {
            Ok(turn) if !alone => turn,
            Err(TryLockError::Poisoned(turn)) if !alone => turn.into_inner(),
            _ => return (0..chunks).for_each(chunk),
        };
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes, and the job ends before this function does: below we wait until it is closed and empty.
        let job = Job { chunk: unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), _>(chunk) }, chunks };
        // SAFETY: we hold the turn, the last job is closed and nobody is inside.
        unsafe { *shared.job.get() = Some(job) };
        shared.cursor.store(0, Relaxed);
        let number = shared.state.load(Relaxed) / NUMBER;
        shared.state.store(number.wrapping_add(1).wrapping_mul(NUMBER) | OPEN, SeqCst);
        let sleepers = shared.sleepers.load(SeqCst);
        if sleepers > 0 {
            // A worker between its last look and its sleep holds the lock.
            drop(locked(&shared.lock));
            for _ in 0..sleepers.min(chunks - 1) {
                shared.work.notify_one();
            }
        }
        shared.work_on(job);
        shared.state.fetch_and(!OPEN, SeqCst);
        shared.wait_until_empty();
        let panic = locked(&shared.panic).take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        drop(locked(&self.shared.lock));
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its chunks; there is nothing to report.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn work_on(&self, job: Job) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let i = self.cursor.fetch_add(1, Relaxed);
                if i >= job.chunks {
                    break;
                }
                // SAFETY: the caller of `run` keeps the closure alive while somebody is inside.
                unsafe { (*job.chunk)(i) };
            }
        }));
        if let Err(panic) = result {
            self.cursor.store(job.chunks, Relaxed);
            locked(&self.panic).get_or_insert(panic);
        }
    }

    fn wait_until_empty(&self) {
        let empty = || self.state.load(SeqCst) & INSIDE == 0;
        for _ in 0..SPINS {
            if empty() {
                return;
            }
            std::hint::spin_loop();
        }
        let mut guard = locked(&self.lock);
        while !empty() {
            guard = self.done.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Joins the open job unless it is number `last`.
    fn join(&self, last: u64) -> Option<u64> {
        let mut state = self.state.load(SeqCst);
        while state & OPEN != 0 && state / NUMBER != last {
            match self.state.compare_exchange_weak(state, state + 1, SeqCst, SeqCst) {
                Ok(_) => return Some(state / NUMBER),
                Err(now) => state = now,
            }
        }
        None
    }

    fn leave(&self) {
        let before = self.state.fetch_sub(1, SeqCst);
        if before & OPEN == 0 && before & INSIDE == 1 {
            drop(locked(&self.lock));
            self.done.notify_all();
        }
    }

    /// A worker's life.
    fn serve(&self) {
        let mut last = 0;
        loop {
            let Some(number) = self.next(last) else { return };
            last = number;
            // SAFETY: we are inside: the job is not written until we leave.
            if let Some(job) = unsafe { *self.job.get() } {
                self.work_on(job);
            }
            self.leave();
        }
    }

    /// Waits for a job and joins it; `None` at the end.
    fn next(&self, last: u64) -> Option<u64> {
        for _ in 0..SPINS {
            if let Some(number) = self.join(last) {
                return Some(number);
            }
            std::hint::spin_loop();
        }
        let mut guard = locked(&self.lock);
        loop {
            self.sleepers.fetch_add(1, SeqCst);
            let joined = self.join(last);
            let stop = self.stop.load(SeqCst);
            if joined.is_none() && !stop {
                guard = self.work.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleepers.fetch_sub(1, SeqCst);
            if joined.is_some() || stop {
                return joined;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_runs_once() {
        let pool = Pool::new(3);
        for chunks in [0usize, 1, 2, 7, 1000] {
            let counts: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..50 {
                pool.run(chunks, &|i| {
                    counts[i].fetch_add(1, Relaxed);
                });
            }
            assert!(counts.iter().all(|c| c.load(Relaxed) == 50));
        }
    }

    #[test]
    fn panics_come_out_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let result = catch_unwind(AssertUnwindSafe(|| pool.run(100, &|i| assert_ne!(i, 37, "chunk 37"))));
        assert!(result.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(100, &|i| {
            sum.fetch_add(i, Relaxed);
        });
        assert_eq!(sum.load(Relaxed), 4950);
    }

    #[test]
    fn regions_nest_and_come_from_many_threads() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(4, &|_| {
                            pool.run(4, &|_| {
                                sum.fetch_add(1, Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(sum.load(Relaxed), 4 * 200 * 16);
    }
}
