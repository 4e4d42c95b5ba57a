//! Ranks as processes that `mpirun` started: parcels as MPI messages, and a socket to each for heartbeats.
//!
//! Nothing here blocks in MPI: sends and receives are started and polled, and every wait looks at the heartbeats, so that a rank that is gone or hangs ends the
//! run instead of holding it up.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use borealis_kernels::mpi::{Mpi as Library, Pending};

use super::exchange::{Exchange, Member, Parcel};
use super::identity::Identity;
use super::watch::{Health, Watch};
use super::wire::{self, Answer};
use crate::error::{ModelError, Result};

/// Tags of messages.
const MEET: u16 = 1;
const HELLO: u16 = 2;
const VERDICT: u16 = 3;
const TO_MEMBER: u16 = 4;
const TO_HOME: u16 = 5;

/// How long ranks wait for each other before the first step: a large checkpoint is read for its digest meanwhile.
const MEETING: Duration = Duration::from_secs(60);
/// How long a run may take to wind up.
const FAREWELL: Duration = Duration::from_secs(10);

/// The processes that `mpirun` started, of which this is one.
#[derive(Debug)]
pub struct MpiWorld {
    library: Arc<Library>,
    watch: Watch,
    /// Tells when the home's side of the last session is gone.
    session: Mutex<Option<Receiver<()>>>,
}

/// A wait that gives way: soon to others that compute, later for longer.
struct Patience(Instant);

impl Patience {
    fn new() -> Self {
        Self(Instant::now())
    }

    /// Never yields: whoever yields a busy core waits for the whole slices of others, whoever sleeps is woken before them.
    fn pause(&self) {
        match self.0.elapsed() {
            t if t < Duration::from_micros(50) => std::hint::spin_loop(),
            t if t < Duration::from_millis(100) => std::thread::sleep(Duration::from_micros(20)),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Waits until a message is through.
fn finish(mut pending: Pending, health: &Health) -> Result<Vec<u8>> {
    let patience = Patience::new();
    while !pending.poll()? {
        health.check()?;
        patience.pause();
    }
    Ok(pending.into_bytes().unwrap_or_default())
}

/// Waits for the next message of a rank.
fn next(library: &Arc<Library>, from: usize, tag: u16, health: &Health) -> Result<Vec<u8>> {
    let patience = Patience::new();
    loop {
        if let Some(len) = library.probe(from, tag)? {
            return finish(library.receive(from, tag, len)?, health);
        }
        health.check()?;
        patience.pause();
    }
}

/// A number of the environment.
fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

impl MpiWorld {
    /// Joins the processes of `mpirun`; `None` when this process was started alone. Once in a process.
    pub fn join() -> Result<Option<Self>> {
        match (number("OMPI_COMM_WORLD_SIZE"), number("PMI_SIZE")) {
            (Some(0 | 1), _) | (None, None | Some(0 | 1)) => return Ok(None),
            (None, Some(_)) => {
                let what = "started by an MPI launcher that is not Open MPI's: use mpirun of Open MPI 4.1 or 5";
                return Err(ModelError::Ranks(what.into()));
            }
            (Some(_), _) => {}
        }
        let one_machine = number("OMPI_COMM_WORLD_LOCAL_SIZE") == number("OMPI_COMM_WORLD_SIZE");
        let library = Library::init()?;
        let peers = if library.rank() == 0 { invite(&library, one_machine)? } else { vec![(0, accept(&library)?)] };
        Ok(Some(Self { watch: Watch::start(peers)?, library, session: Mutex::new(None) }))
    }

    /// The number of this process.
    pub fn rank(&self) -> usize {
        self.library.rank()
    }

    /// How many processes there are.
    pub fn ranks(&self) -> usize {
        self.library.ranks()
    }

    /// Ranks on this machine, which share its cores.
    pub fn neighbours(&self) -> usize {
        number("OMPI_COMM_WORLD_LOCAL_SIZE").unwrap_or(1).max(1)
    }

    /// The number of this process among those of this machine.
    pub fn local_rank(&self) -> usize {
        number("OMPI_COMM_WORLD_LOCAL_RANK").unwrap_or(0)
    }

    /// Compares what the ranks run with; called by all of them before each session. An error names the rank that differs, on that rank and on the home.
    pub fn agree(&self, identity: &Identity) -> Result<()> {
        let (library, health) = (&self.library, &*self.watch.health);
        health.set_busy(true);
        if self.rank() > 0 {
            finish(library.send(0, HELLO, identity.to_bytes())?, health)?;
            let verdict = next(library, 0, VERDICT, health)?;
            return match verdict.is_empty() {
                true => Ok(()),
                false => Err(ModelError::Ranks(String::from_utf8_lossy(&verdict).into_owned())),
            };
        }
        let mut differs = String::new();
        for rank in 1..self.ranks() {
            let hello = Identity::from_bytes(&next(library, rank, HELLO, health)?);
            let difference = match hello {
                Some(other) => {
                    other.difference(identity).map(|what| format!("{what} (it: {other}; rank 0: {identity})"))
                }
                None => Some("speaks another version of the protocol: start the same file on all ranks".into()),
            };
            if let Some(difference) = difference.filter(|_| differs.is_empty()) {
                differs = format!("rank {rank} {difference}");
            }
        }
        for rank in 1..self.ranks() {
            finish(library.send(rank, VERDICT, differs.clone().into_bytes())?, health)?;
        }
        if differs.is_empty() { Ok(()) } else { Err(ModelError::Ranks(differs)) }
    }

    /// The home's side of a session (rank 0). Dropping it ends the members' side.
    pub fn home(&self) -> Mpi {
        let (done, gone) = channel();
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(gone);
        let out = (1..self.ranks()).map(|_| None).collect();
        Mpi { library: self.library.clone(), health: self.watch.health.clone(), out, memory: Vec::new(), _done: done }
    }

    /// A member's side of a session (ranks from 1).
    pub fn member(&self) -> MpiMember {
        MpiMember {
            library: self.library.clone(),
            health: self.watch.health.clone(),
            out: None,
            memory: (Parcel::default(), Vec::new()),
        }
    }

    /// The rank that died or hangs, if one does: known at once, or within `wait`.
    pub fn failure(&self, wait: Duration) -> Option<ModelError> {
        let begin = Instant::now();
        loop {
            let failure = self.watch.health.death();
            if failure.is_some() || begin.elapsed() >= wait {
                return failure;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a rank was told to end in the middle of a session, and none died: the others need say nothing.
    pub fn was_left(&self) -> bool {
        self.watch.health.failure().is_some() && self.watch.health.death().is_none()
    }

    /// Tells the others that this process ends on purpose, though before the others.
    pub fn leave(&self) {
        self.watch.leave();
    }

    /// Waits until the home's side of the last session is gone, which its owner ends: the members are free then.
    pub fn end_session(&self) -> Result<()> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        match session.map(|gone| gone.recv_timeout(FAREWELL)) {
            Some(Err(RecvTimeoutError::Timeout)) => {
                Err(ModelError::Ranks(format!("the model is still in use after {} s", FAREWELL.as_secs())))
            }
            Some(Err(RecvTimeoutError::Disconnected)) => self.watch.health.check(),
            _ => Ok(()),
        }
    }

    /// Leaves in good order, together with all others; ends the process if they never come.
    pub fn finish(&self) -> Result<()> {
        self.end_session()?;
        std::thread::spawn(|| {
            std::thread::sleep(FAREWELL);
            eprintln!("error: the other ranks did not end within {} s", FAREWELL.as_secs());
            std::process::exit(1);
        });
        self.leave();
        Ok(self.library.finalize()?)
    }
}

/// The home opens a port, tells it to all others by MPI, and waits for them.
fn invite(library: &Arc<Library>, one_machine: bool) -> Result<Vec<(usize, TcpStream)>> {
    let trouble = |e: std::io::Error| ModelError::Ranks(format!("cannot open a port for the ranks' heartbeats: {e}"));
    let listener = TcpListener::bind(if one_machine { "127.0.0.1:0" } else { "0.0.0.0:0" }).map_err(trouble)?;
    listener.set_nonblocking(true).map_err(trouble)?;
    let port = listener.local_addr().map_err(trouble)?.port();
    let host = match one_machine {
        true => "127.0.0.1".to_string(),
        false => std::fs::read_to_string("/proc/sys/kernel/hostname").map_err(trouble)?.trim().to_string(),
    };
    // Keeps out whoever finds the port by chance; it lets nobody do anything but beat.
    let token = secret();
    let nobody = Health::default();
    for rank in 1..library.ranks() {
        finish(library.send(rank, MEET, format!("{host}:{port} {token}").into_bytes())?, &nobody)?;
    }
    let (begin, mut peers) = (Instant::now(), Vec::new());
    while peers.len() + 1 < library.ranks() {
        match listener.accept() {
            Ok((socket, _)) => peers.extend(welcome(socket, &token, library.ranks())),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(2)),
            Err(e) => return Err(trouble(e)),
        }
        if begin.elapsed() > MEETING {
            let missing = (1..library.ranks()).find(|r| peers.iter().all(|(p, _)| p != r)).unwrap_or(0);
            let problem = format!("did not come to the meeting within {} s", MEETING.as_secs());
            return Err(ModelError::Rank { rank: missing, step: 0, problem });
        }
    }
    Ok(peers)
}

/// Reads `token rank` of a caller.
fn welcome(mut socket: TcpStream, token: &str, ranks: usize) -> Option<(usize, TcpStream)> {
    socket.set_nonblocking(false).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let mut said = vec![0; token.len() + 4];
    socket.read_exact(&mut said).ok()?;
    let (name, rank) = said.split_at(token.len());
    let rank = u32::from_le_bytes(*rank.first_chunk()?) as usize;
    (name == token.as_bytes() && (1..ranks).contains(&rank)).then_some((rank, socket))
}

/// A member calls where the home says.
fn accept(library: &Arc<Library>) -> Result<TcpStream> {
    let place = next(library, 0, MEET, &Health::default())?;
    let place = String::from_utf8_lossy(&place);
    let trouble = |e: std::io::Error| ModelError::Ranks(format!("cannot reach rank 0 at {place} for heartbeats: {e}"));
    let (address, token) = place.split_once(' ').unwrap_or((&place, ""));
    let mut socket = TcpStream::connect(address).map_err(trouble)?;
    let hello = [token.as_bytes(), &(library.rank() as u32).to_le_bytes()].concat();
    socket.write_all(&hello).map_err(trouble)?;
    Ok(socket)
}

/// Sixteen hexadecimal digits that nobody can guess: std's hasher is seeded by the system.
fn secret() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// The home's side: parcels as MPI messages.
pub struct Mpi {
    library: Arc<Library>,
    health: Arc<Health>,
    /// For each rank from 1 what it was handed and has not answered.
    out: Vec<Option<(Pending, Parcel)>>,
    /// Bytes to use again.
    memory: Vec<Vec<u8>>,
    /// Closed with the rest, which [`MpiWorld::end_session`] waits for.
    _done: Sender<()>,
}

impl Exchange for Mpi {
    fn ranks(&self) -> usize {
        self.library.ranks()
    }

    fn dispatch(&mut self, to: usize, parcel: Parcel) -> Result<()> {
        self.health.at(parcel.step);
        self.health.check()?;
        let bytes = wire::parcel(&parcel, self.memory.pop().unwrap_or_default());
        self.out[to - 1] = Some((self.library.send(to, TO_MEMBER, bytes)?, parcel));
        Ok(())
    }

    fn combine(&mut self, from: usize) -> Result<Parcel> {
        let failed = |problem: String| ModelError::Rank { rank: from, step: self.health.step(), problem };
        let Some((sent, mut parcel)) = self.out[from - 1].take() else {
            return Err(failed("was handed nothing to compute".into()));
        };
        self.memory.push(finish(sent, &self.health)?);
        let bytes = next(&self.library, from, TO_HOME, &self.health)?;
        match wire::read_answer(&bytes, std::mem::take(&mut parcel.results)) {
            Some(Answer::Results { step, layer, took, results }) => {
                (parcel.step, parcel.layer, parcel.took, parcel.results) = (step, layer, took, results);
                Ok(parcel)
            }
            Some(Answer::Failed(problem)) => Err(failed(format!("failed: {problem}"))),
            None => Err(failed(format!("answered {} bytes that make no sense", bytes.len()))),
        }
    }
}

impl Drop for Mpi {
    /// Ends the members' side, as far as they are there, and waits until they know: only then may anybody leave.
    fn drop(&mut self) {
        // Whoever was told may leave while others are being told.
        self.health.set_busy(false);
        for rank in 1..self.library.ranks() {
            let told = self.library.send(rank, TO_MEMBER, wire::end());
            let told = told.map_err(ModelError::from).and_then(|sent| finish(sent, &self.health));
            // Results that nobody waited for any more may come before.
            while told.is_ok() && next(&self.library, rank, TO_HOME, &self.health).is_ok_and(|m| m != wire::end()) {}
        }
    }
}

/// A member's side.
pub struct MpiMember {
    library: Arc<Library>,
    health: Arc<Health>,
    /// The last answer, on its way.
    out: Option<Pending>,
    memory: (Parcel, Vec<u8>),
}

impl MpiMember {
    fn send(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.out = Some(self.library.send(0, TO_HOME, bytes)?);
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        if let Some(sent) = self.out.take() {
            self.memory.1 = finish(sent, &self.health)?;
        }
        Ok(())
    }
}

impl Member for MpiMember {
    fn receive(&mut self) -> Result<Option<Parcel>> {
        self.settle()?;
        let bytes = next(&self.library, 0, TO_MEMBER, &self.health)?;
        let Some(parcel) = wire::read_parcel(&bytes, std::mem::take(&mut self.memory.0)) else {
            let problem = format!("sent {} bytes that make no sense", bytes.len());
            return Err(ModelError::Rank { rank: 0, step: self.health.step(), problem });
        };
        match &parcel {
            Some(parcel) => self.health.at(parcel.step),
            None => {
                self.health.set_busy(false);
                self.send(wire::end())?;
                self.settle()?;
            }
        }
        Ok(parcel)
    }

    fn answer(&mut self, parcel: Parcel) -> Result<()> {
        let bytes = wire::results(&parcel, std::mem::take(&mut self.memory.1));
        self.memory.0 = parcel;
        self.send(bytes)
    }

    fn fail(&mut self, problem: &str) -> Result<()> {
        self.send(wire::failed(problem))?;
        self.settle()
    }
}
