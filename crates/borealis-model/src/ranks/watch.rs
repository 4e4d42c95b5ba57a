//! Who is still there: each rank and the home exchange heartbeats on a socket of their own, from threads that do nothing else.
//!
//! A process that dies closes its socket, which is seen at once. One that hangs as a whole (stopped, swapped out, its machine gone) is silent, which is seen after
//! [`SILENCE`] beats. Silence is counted in our own waits, not by a clock: whoever was stopped together with the others does not accuse them afterwards.
//!
//! A beat that is late must mean that the process is late. `mpirun --bind-to core` gives all threads of a rank one core, which its kernels keep busy: the threads here take back the
//! right to run on any. What is left is a machine on which a thread that wants to run for a moment gets no core for [`SILENCE`] beats: there a rank that is only starved counts as one that hangs.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{ModelError, Result};

/// Time between two beats.
const BEAT: Duration = Duration::from_millis(250);
/// Beats that may fail to come: three and a half seconds.
const SILENCE: u32 = 14;
/// What is said on the socket.
const ALIVE: u8 = 1;
const BYE: u8 = 2;
/// Of a rank whose socket ended or broke.
const DIED: &str = "has died: its process is gone";

/// What became of a rank.
#[derive(Debug, Clone)]
struct Failure {
    rank: usize,
    problem: String,
    /// It said farewell: it was told to end, as we may be.
    orderly: bool,
}

/// What is known of the other ranks.
#[derive(Debug, Default)]
pub(super) struct Health {
    failed: AtomicBool,
    failure: Mutex<Option<Failure>>,
    /// We go ourselves: the end of others is none of our business.
    leaving: AtomicBool,
    /// A session runs, in which nobody may leave.
    busy: AtomicBool,
    /// The step that runs.
    step: AtomicU64,
}

impl Health {
    /// The first rank that failed, as an error of the step that runs.
    pub fn failure(&self) -> Option<ModelError> {
        self.find(|_| true)
    }

    /// The first rank that died or hangs; not one that was told to end.
    pub fn death(&self) -> Option<ModelError> {
        self.find(|failure| !failure.orderly)
    }

    fn find(&self, wanted: impl Fn(&Failure) -> bool) -> Option<ModelError> {
        // One load while all is well.
        if !self.failed.load(Ordering::Acquire) {
            return None;
        }
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let Failure { rank, problem, .. } = failure.clone().filter(wanted)?;
        Some(ModelError::Rank { rank, step: self.step(), problem })
    }

    /// An error once some rank has failed.
    pub fn check(&self) -> Result<()> {
        self.failure().map_or(Ok(()), Err)
    }

    /// The step that runs from now on.
    pub fn at(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
    }

    pub fn step(&self) -> u64 {
        self.step.load(Ordering::Relaxed)
    }

    /// From now on nobody may leave, or everybody may.
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Release);
    }

    /// The first counts, but a death more than a farewell: whoever starts the ranks tells the others to end when one dies.
    fn report(&self, rank: usize, problem: &str, orderly: bool) {
        if self.leaving.load(Ordering::Acquire) || (orderly && !self.busy.load(Ordering::Acquire)) {
            return;
        }
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.as_ref().is_none_or(|f| f.orderly && !orderly) {
            *failure = Some(Failure { rank, problem: problem.to_string(), orderly });
        }
        drop(failure);
        self.failed.store(true, Ordering::Release);
    }
}

/// The heartbeats of this process.
#[derive(Debug)]
pub(super) struct Watch {
    pub health: Arc<Health>,
    sockets: Vec<TcpStream>,
}

impl Watch {
    /// Watches the ranks at the other ends of these sockets.
    pub fn start(peers: Vec<(usize, TcpStream)>) -> Result<Self> {
        let health = Arc::new(Health::default());
        let mut sockets = Vec::new();
        for (rank, socket) in peers {
            let trouble = |e: std::io::Error| ModelError::Ranks(format!("cannot watch rank {rank}: {e}"));
            socket.set_nodelay(true).map_err(trouble)?;
            socket.set_nonblocking(false).map_err(trouble)?;
            socket.set_read_timeout(Some(BEAT)).map_err(trouble)?;
            socket.set_write_timeout(Some(BEAT)).map_err(trouble)?;
            sockets.push(socket.try_clone().map_err(trouble)?);
            let health = health.clone();
            std::thread::Builder::new()
                .name(format!("borealis-watch-{rank}"))
                .spawn(move || beat(socket, rank, &health))
                .map_err(trouble)?;
        }
        Ok(Self { health, sockets })
    }

    /// Tells the others that we go on purpose; from then on nobody's end is a failure.
    pub fn leave(&self) {
        self.health.leaving.store(true, Ordering::Release);
        for mut socket in &self.sockets {
            // Whoever is gone already needs no farewell.
            let _ = socket.write_all(&[BYE]);
            let _ = socket.shutdown(Shutdown::Write);
        }
    }
}

/// Beats and listens until one side leaves or the other fails.
fn beat(mut socket: TcpStream, rank: usize, health: &Health) {
    borealis_kernels::run_on_any_core();
    let (mut last, mut silent) = (None::<Instant>, 0);
    let mut heard = [0; 64];
    while !health.leaving.load(Ordering::Acquire) {
        if last.is_none_or(|t| t.elapsed() >= BEAT) {
            // A socket that takes no bytes is closed, which the next read tells, or full, which silence tells.
            let _ = socket.write_all(&[ALIVE]);
            last = Some(Instant::now());
        }
        match socket.read(&mut heard) {
            Ok(0) => return health.report(rank, DIED, false),
            Ok(n) if heard[..n].contains(&BYE) => return health.report(rank, "was told to end", true),
            Ok(_) => silent = 0,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                silent += 1;
                if silent >= SILENCE {
                    let seconds = (BEAT * SILENCE).as_secs_f32();
                    return health.report(rank, &format!("hangs: nothing was heard of it for {seconds} s"), false);
                }
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return health.report(rank, DIED, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, there)
    }

    fn wait(health: &Health) -> String {
        loop {
            if let Some(error) = health.failure() {
                return error.to_string();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_closed_socket_is_a_death_and_the_first_failure_counts() {
        let ((a, b), (c, d)) = (pair(), pair());
        let watch = Watch::start(vec![(3, a), (4, c)]).unwrap();
        watch.health.at(17);
        drop(b);
        assert_eq!(wait(&watch.health), "rank 3 has died: its process is gone (step 17): start all ranks again");
        drop(d);
        assert!(watch.health.check().is_err());
    }

    #[test]
    fn silence_is_a_failure() {
        let (a, _silent) = pair();
        let watch = Watch::start(vec![(1, a)]).unwrap();
        assert_eq!(
            wait(&watch.health),
            "rank 1 hangs: nothing was heard of it for 3.5 s (step 0): start all ranks again"
        );
    }

    /// A process that was starved or stopped for a second and goes on is not reported, however often it happens: each beat ends a silence.
    #[test]
    fn a_pause_is_no_failure() {
        let (a, mut b) = pair();
        let watch = Watch::start(vec![(1, a)]).unwrap();
        for _ in 0..5 {
            b.write_all(&[ALIVE]).unwrap();
            std::thread::sleep(4 * BEAT);
        }
        assert!(watch.health.failure().is_none(), "five seconds in all, a second at a time");
        assert!(wait(&watch.health).starts_with("rank 1 hangs"), "and then for good");
    }

    #[test]
    fn a_farewell_is_no_failure() {
        let (a, b) = pair();
        let (here, there) = (Watch::start(vec![(1, a)]).unwrap(), Watch::start(vec![(0, b)]).unwrap());
        there.leave();
        drop(there);
        // Longer than a beat: the other side has read the farewell and the end by then.
        std::thread::sleep(3 * BEAT);
        assert!(here.health.failure().is_none());
    }

    #[test]
    fn nobody_leaves_a_session_and_a_death_counts_more() {
        let ((a, b), (c, d)) = (pair(), pair());
        let (here, there) = (Watch::start(vec![(1, a), (2, c)]).unwrap(), Watch::start(vec![(0, b)]).unwrap());
        here.health.set_busy(true);
        there.leave();
        assert_eq!(wait(&here.health), "rank 1 was told to end (step 0): start all ranks again");
        assert!(here.health.death().is_none());
        drop(d);
        while here.health.death().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(wait(&here.health).starts_with("rank 2 has died"));
    }
}
