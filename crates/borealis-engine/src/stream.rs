//! The two ends of a running request: what its user holds, and what the threads share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};

use crate::error::{EngineError, Result};
use crate::event::Event;

/// Events that may wait for the reader before the decoder pauses: a second and a third of video.
pub(crate) const ROOM: usize = 32;
/// Latent frames that may wait for the decoder before the worker pauses the request.
pub(crate) const BACKLOG: usize = 8;

/// Wakes a thread that sleeps; never blocks.
#[derive(Debug, Clone)]
pub(crate) struct Waker(Sender<()>);

impl Waker {
    /// A waker and what the sleeper waits for.
    pub fn new() -> (Self, Receiver<()>) {
        let (tx, rx) = crossbeam_channel::bounded(1);
        (Self(tx), rx)
    }

    pub fn wake(&self) {
        // Full: it will wake anyway. Disconnected: it has ended.
        let _ = self.0.try_send(());
    }
}

/// What worker, decoder and reader share of one request. No thread ever blocks on another: a full queue pauses the request, and whoever makes room wakes
/// the thread that paused it.
#[derive(Debug)]
struct Shared {
    cancelled: AtomicBool,
    /// The decoder waits until the reader has taken something.
    starved: AtomicBool,
    /// Latent frames at the decoder, over all variants.
    backlog: AtomicUsize,
    worker: Waker,
    decoder: Waker,
}

impl Shared {
    fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.worker.wake();
        self.decoder.wake();
    }
}

/// The end of a request that worker and decoder hold. When all of them are gone without a last event, the reader learns that the engine has stopped.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    shared: Arc<Shared>,
    events: Sender<Result<Event>>,
}

impl Outlet {
    /// Both ends of a new request.
    pub fn new(variants: usize, worker: Waker, decoder: Waker) -> (Self, EventStream) {
        let (events, receiver) = unbounded();
        let shared = Arc::new(Shared {
            cancelled: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            backlog: AtomicUsize::new(0),
            worker,
            decoder,
        });
        (Self { shared: shared.clone(), events }, EventStream { events: receiver, shared, variants, ended: false })
    }

    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// Ends the request from the inside.
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    /// Hands an event to the reader; a reader that is gone has cancelled.
    pub fn send(&self, event: Result<Event>) {
        let _ = self.events.send(event);
    }

    /// Whether the reader keeps up, so that more may be decoded. If not, the decoder is woken when it does.
    pub fn has_room(&self) -> bool {
        if self.events.len() < ROOM {
            return true;
        }
        self.shared.starved.store(true, Ordering::SeqCst);
        // Taken in the meantime: the reader may not have seen the flag.
        self.events.len() < ROOM
    }

    /// Whether the decoder keeps up, so that more may be generated.
    pub fn keeps_up(&self, variants: usize) -> bool {
        self.shared.backlog.load(Ordering::SeqCst) < BACKLOG * variants
    }

    /// The worker hands a latent frame to the decoder.
    pub fn begin_decode(&self) {
        self.shared.backlog.fetch_add(1, Ordering::SeqCst);
    }

    /// The decoder is done with a latent frame.
    pub fn end_decode(&self) {
        self.shared.backlog.fetch_sub(1, Ordering::SeqCst);
        self.shared.worker.wake();
    }
}

/// The events of one request, in order. Dropping it cancels the request and frees what it holds at the next step.
#[derive(Debug)]
pub struct EventStream {
    events: Receiver<Result<Event>>,
    shared: Arc<Shared>,
    variants: usize,
    ended: bool,
}

impl EventStream {
    /// Stops the request. Events that wait are still delivered; the last is [`EngineError::Cancelled`].
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    /// Variants that the request makes.
    pub fn variants(&self) -> usize {
        self.variants
    }

    /// A handle that cancels from elsewhere, such as a signal handler.
    pub fn canceller(&self) -> Canceller {
        Canceller(self.shared.clone())
    }

    /// The next event if there is one now. `None`: none yet, or [`EventStream::is_ended`].
    pub fn try_recv(&mut self) -> Option<Result<Event>> {
        if self.ended {
            return None;
        }
        match self.events.try_recv() {
            Ok(event) => Some(self.took(event)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(self.stopped()),
        }
    }

    /// Whether the last event has been delivered.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Events that wait to be read.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.events.len()
    }

    fn stopped(&mut self) -> Result<Event> {
        self.ended = true;
        Err(if self.shared.cancelled.load(Ordering::SeqCst) { EngineError::Cancelled } else { EngineError::Stopped })
    }

    fn took(&mut self, event: Result<Event>) -> Result<Event> {
        self.ended = matches!(event, Err(_) | Ok(Event::Done(_)));
        if self.shared.starved.swap(false, Ordering::SeqCst) {
            self.shared.decoder.wake();
        }
        event
    }
}

impl Iterator for EventStream {
    type Item = Result<Event>;

    /// Waits for the next event. After [`Event::Done`] or an error there are no more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.events.recv() {
            Ok(event) => Some(self.took(event)),
            Err(_) => Some(self.stopped()),
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.shared.cancel();
    }
}

/// Cancels a request from another thread.
#[derive(Debug, Clone)]
pub struct Canceller(Arc<Shared>);

impl Canceller {
    /// As [`EventStream::cancel`].
    pub fn cancel(&self) {
        self.0.cancel();
    }
}
