//! The decoder thread: ids of latent frames to frames and samples, so that sampling never waits for pixels.

use std::collections::VecDeque;
use std::time::Instant;

use borealis_media::Frame;
use borealis_tokenizers::Output;
use crossbeam_channel::{Receiver, TryRecvError, bounded, never, select};

use crate::engine::spawn;
use crate::error::{EngineError, Result};
use crate::event::{Event, Stage, Usage};
use crate::inputs::Lead;
use crate::stream::{Outlet, Waker};

/// Ids of a variant by the name of their modality.
pub(crate) type NamedIds = Vec<(String, Vec<u32>)>;

/// What the worker tells the decoder thread.
pub(crate) enum ToDecoder {
    /// A request begins.
    Open(Box<Line>),
    /// The next latent frame of a variant: ids by stream.
    Latent { id: u64, variant: usize, ids: Vec<Vec<u32>> },
    /// All ids have been sent.
    Finish(Box<Finished>),
    /// The request has ended otherwise; its reader knows.
    Drop(u64),
}

/// The end of a request, as the worker saw it.
pub(crate) struct Finished {
    pub id: u64,
    pub usage: Usage,
    /// By variant.
    pub ids: Vec<NamedIds>,
}

/// Ids of latent frames to outputs: one for each variant.
pub(crate) trait Decode: Send {
    /// The next latent frame, ids by stream.
    fn push(&mut self, ids: &[Vec<u32>]) -> Result<Vec<Output>>;
    /// What was held back.
    fn finish(&mut self) -> Result<Vec<Output>>;
}

/// One request at the decoder.
pub(crate) struct Line {
    pub id: u64,
    pub outlet: Outlet,
    /// By variant.
    pub decoders: Vec<Box<dyn Decode>>,
    /// Frames and samples that come before what is generated (the clip that is continued), the same for every variant; `None` when they have come.
    lead: Option<LeadFrames>,
    /// What has arrived of them.
    next_lead: Option<(Frame, Vec<f32>)>,
    /// Latent frames of all variants.
    pub total: usize,
    queue: VecDeque<(usize, Vec<Vec<u32>>)>,
    /// Frames sent, by variant.
    sent: Vec<usize>,
    decoded: usize,
    busy: f64,
    finished: Option<Box<Finished>>,
    failed: Option<EngineError>,
}

/// Frames of a given clip with their samples, in order.
pub(crate) type LeadFrames = Receiver<Result<(Frame, Vec<f32>)>>;

/// Frames of a given clip that wait to be put out.
const LEAD: usize = 4;

/// Reads a given clip on a thread of its own, no faster than it is taken.
pub(crate) fn lead(clip: Lead, decoder: Waker) -> Result<LeadFrames> {
    let (sender, receiver) = bounded(LEAD);
    spawn("borealis-reader", move || {
        let result = clip.read(&mut |frame, samples| {
            let taken = sender.send(Ok((frame, samples))).is_ok();
            decoder.wake();
            taken
        });
        if let Err(error) = result {
            // A request that is gone needs no error.
            let _ = sender.send(Err(error));
        }
        drop(sender);
        decoder.wake();
    })?;
    Ok(receiver)
}

impl Line {
    /// A request with `total` latent frames over all variants.
    pub fn new(
        id: u64,
        outlet: Outlet,
        decoders: Vec<Box<dyn Decode>>,
        lead: Option<LeadFrames>,
        total: usize,
    ) -> Self {
        let sent = vec![0; decoders.len()];
        Self {
            id,
            outlet,
            decoders,
            lead,
            next_lead: None,
            total,
            queue: VecDeque::new(),
            sent,
            decoded: 0,
            busy: 0.0,
            finished: None,
            failed: None,
        }
    }

    /// Whether there is something to do now. While a given clip is still coming out, what is generated waits.
    fn has_work(&mut self) -> bool {
        match self.lead.as_ref().map(Receiver::try_recv) {
            _ if self.next_lead.is_some() || self.failed.is_some() => true,
            Some(Ok(Ok(next))) => {
                self.next_lead = Some(next);
                true
            }
            Some(Ok(Err(error))) => {
                self.failed = Some(error);
                true
            }
            Some(Err(TryRecvError::Empty)) => false,
            Some(Err(TryRecvError::Disconnected)) => {
                self.lead = None;
                self.has_work()
            }
            None => !self.queue.is_empty() || self.finished.is_some(),
        }
    }

    /// Does one piece of work: a latent frame, say. True when the request is done.
    fn work(&mut self) -> bool {
        let begin = Instant::now();
        let result = self.piece();
        self.busy += begin.elapsed().as_secs_f64();
        match result {
            Ok(None) => false,
            Ok(Some(mut usage)) => {
                usage.decode_seconds = self.busy;
                self.outlet.send(Ok(Event::Done(usage)));
                true
            }
            Err(error) => {
                self.outlet.send(Err(error));
                // The worker must not go on with a request that nobody can decode.
                self.outlet.cancel();
                true
            }
        }
    }

    fn piece(&mut self) -> Result<Option<Usage>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if let Some((frame, samples)) = self.next_lead.take() {
            for variant in 0..self.sent.len() {
                self.send(variant, vec![Output::Frame(frame.clone()), Output::Pcm(samples.clone())]);
            }
            return Ok(None);
        }
        if let Some((variant, ids)) = self.queue.pop_front() {
            let outputs = self.decoders[variant].push(&ids);
            self.outlet.end_decode();
            self.send(variant, outputs?);
            self.decoded += 1;
            if self.finished.is_some() {
                self.outlet.send(Ok(Event::Progress { stage: Stage::Decode, done: self.decoded, total: self.total }));
            }
            return Ok(None);
        }
        let Some(finished) = self.finished.take() else { return Ok(None) };
        for variant in 0..self.sent.len() {
            let outputs = self.decoders[variant].finish()?;
            self.send(variant, outputs);
        }
        for (variant, ids) in finished.ids.into_iter().enumerate() {
            self.outlet.send(Ok(Event::Ids { variant, ids }));
        }
        Ok(Some(finished.usage))
    }

    fn send(&mut self, variant: usize, outputs: Vec<Output>) {
        for output in outputs {
            let event = match output {
                Output::Frame(frame) => {
                    let index = self.sent[variant];
                    self.sent[variant] += 1;
                    Event::Frame { variant, index, frame }
                }
                Output::Pcm(samples) if samples.is_empty() => continue,
                Output::Pcm(samples) => Event::Audio { variant, samples },
                Output::Text(text) => Event::Text { variant, text },
            };
            self.outlet.send(Ok(event));
        }
    }
}

/// The decoder thread: takes messages, works on the requests in turn, one piece at a time; ends when the worker has ended and everything is decoded.
pub(crate) fn run(messages: Receiver<ToDecoder>, woken: Receiver<()>) {
    let mut lines: Vec<Line> = Vec::new();
    let mut messages = messages;
    let (mut open, mut turn) = (true, 0);
    loop {
        for message in messages.try_iter() {
            take(message, &mut lines);
        }
        lines.retain(|line| !line.outlet.is_cancelled());
        turn = if lines.is_empty() { 0 } else { (turn + 1) % lines.len() };
        let order = (turn..lines.len()).chain(0..turn);
        let ready = order.into_iter().find(|&i| lines[i].outlet.has_room() && lines[i].has_work());
        if let Some(index) = ready {
            if lines[index].work() {
                lines.swap_remove(index);
            }
            continue;
        }
        if !open {
            // Nothing more will arrive for requests that have no work now.
            lines.retain_mut(|line| line.lead.is_some() || line.has_work());
            if lines.is_empty() {
                return;
            }
        }
        select! {
            recv(messages) -> message => match message {
                Ok(message) => take(message, &mut lines),
                Err(_) => (open, messages) = (false, never()),
            },
            recv(woken) -> _ => {}
        }
    }
}

fn take(message: ToDecoder, lines: &mut Vec<Line>) {
    let at = |id: u64, lines: &[Line]| lines.iter().position(|l| l.id == id);
    match message {
        ToDecoder::Open(line) => lines.push(*line),
        // A request that is not there any more was cancelled or has failed.
        ToDecoder::Latent { id, variant, ids } => {
            if let Some(i) = at(id, lines) {
                lines[i].queue.push_back((variant, ids));
            }
        }
        ToDecoder::Finish(finished) => {
            if let Some(i) = at(finished.id, lines) {
                lines[i].finished = Some(finished);
            }
        }
        ToDecoder::Drop(id) => lines.retain(|l| l.id != id),
    }
}
