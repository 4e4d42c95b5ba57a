//! One request on its way through the model: how far it (`Job`) and its variants (`Sequence`) are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use borealis_model::{Forward, ModelError, SlotRange};

use crate::decode::{Finished, ToDecoder};
use crate::draft::{self, Scores};
use crate::event::{Event, Stage, Usage};
use crate::layout::Stream;
use crate::scheduler::Spent;
use crate::window::{Pace, Window};
use crate::work::Work;

/// Shortest time between two progress reports of a request.
const REPORT: Duration = Duration::from_millis(40);

/// One variant while it is generated. Its branches (conditional, unconditional) share the ids.
pub(crate) struct Sequence {
    pub variant: usize,
    /// A region for each branch.
    pub regions: Vec<SlotRange>,
    /// Fields of the tail: those that are decided, then guesses.
    pub scene: Vec<u32>,
    /// Fields decided so far.
    pub fields: usize,
    /// Rows of the tail computed so far.
    pub tail: usize,
    /// Groups of the plan computed so far.
    pub group: usize,
    /// Groups before this one are decided or guessed.
    pub guessed: usize,
    /// The first unit of the running step whose ids are not what was guessed.
    pub differs: usize,
    /// By stream: ids of all latent frames, decided or guessed.
    pub codes: Vec<Vec<u32>>,
    /// Latent frames (of a tail that is the output: ids) handed to the decoder.
    pub emitted: usize,
    /// Which guesses were right.
    pub scores: Scores,
}

/// The next rows of a variant: a window of units, each with the rows up to one field of the tail, or one group of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// At least 1. Only the first is sure to be decided: the others are computed from guesses.
    pub units: usize,
    /// End of the tail's rows.
    pub tail: usize,
    /// End of the groups.
    pub group: usize,
}

/// What a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A field of the scene plan, by its number.
    Field(usize),
    /// The codes of a media row, by its index in the plan.
    Codes(usize),
}

/// A request that holds slots.
pub(crate) struct Job {
    pub work: Arc<Work>,
    /// A range for each branch's prompt.
    pub prompts: Vec<SlotRange>,
    /// Prompt rows computed so far, by branch.
    pub prefilled: Vec<usize>,
    pub sequences: Vec<Sequence>,
    pub usage: Usage,
    /// Positions and fields decided so far.
    pub decided: usize,
    /// Of these, how many the reader has been told of.
    pub reported: usize,
    /// How often guesses are right.
    pub pace: Pace,
    /// Windows so far, over all variants, and the units that they decided.
    windows: (usize, usize),
    /// Sums over all steps while generating.
    bytes: f64,
    operations: f64,
    /// When its prefill began; `None` when that is over.
    started: Option<Instant>,
    told: Option<Instant>,
}

impl Job {
    /// Reserves the slots of a request; all or none.
    pub fn admit(work: Arc<Work>, model: &mut dyn Forward) -> Result<Self, ModelError> {
        let mut ranges = Vec::new();
        for slots in work.ranges() {
            match model.reserve(slots) {
                Ok(range) => ranges.push(range),
                Err(error) => {
                    release(ranges, model);
                    return Err(error);
                }
            }
        }
        let branches = work.prompts.len();
        let regions = ranges.split_off(branches);
        let codes = |s: usize| vec![0; work.plan.spec.latents * work.places(s) * work.layout.streams[s].row_codes];
        let sequence = |(variant, regions): (usize, &[SlotRange])| Sequence {
            variant,
            regions: regions.to_vec(),
            scene: Vec::new(),
            fields: 0,
            tail: 0,
            group: 0,
            guessed: 0,
            differs: usize::MAX,
            scores: Scores::default(),
            codes: (0..work.layout.streams.len()).map(codes).collect(),
            emitted: 0,
        };
        let mut sequences: Vec<Sequence> = regions.chunks(branches).enumerate().map(sequence).collect();
        let pictures = work.layout.streams.iter().position(|s| s.pictures);
        for (sequence, stream) in sequences.iter_mut().zip(std::iter::repeat(pictures)) {
            if let Some(stream) = stream {
                sequence.codes[stream][..work.forced.len()].copy_from_slice(&work.forced);
            }
        }
        let usage = Usage {
            prompt_tokens: work.prompt_tokens,
            queued_seconds: work.submitted.elapsed().as_secs_f64(),
            encode_seconds: work.encode_seconds,
            ..Usage::default()
        };
        Ok(Self {
            prompts: ranges,
            prefilled: vec![0; branches],
            sequences,
            usage,
            decided: 0,
            reported: 0,
            pace: Pace::default(),
            windows: (0, 0),
            bytes: 0.0,
            operations: 0.0,
            started: Some(Instant::now()),
            told: None,
            work,
        })
    }

    /// Gives all slots back.
    pub fn release(&mut self, model: &mut dyn Forward) {
        release(std::mem::take(&mut self.prompts), model);
        for sequence in &mut self.sequences {
            release(std::mem::take(&mut sequence.regions), model);
        }
    }

    /// A part of the prompt is not computed yet.
    pub fn is_prefilling(&self) -> bool {
        (0..self.prefilled.len()).any(|b| self.prefilled[b] < self.work.prompts[b].rows.len())
    }

    /// All ids of all variants are decided.
    pub fn is_finished(&self) -> bool {
        !self.is_prefilling() && self.sequences.iter().all(|s| self.upcoming(s, 1).is_none())
    }

    /// The prompt is computed; from now on ids are generated.
    pub fn begin(&mut self) {
        if let Some(started) = self.started.take() {
            self.usage.prefill_seconds = started.elapsed().as_secs_f64();
        }
    }

    /// Tells the reader how far the request is, not too often.
    pub fn tell(&mut self, stage: Stage, done: usize) {
        let total = match stage {
            Stage::Prefill => self.work.prompts.iter().map(|p| p.rows.len()).sum(),
            _ => self.work.total(),
        };
        let soon = self.told.is_some_and(|t| t.elapsed() < REPORT);
        if !soon || done == total {
            self.told = Some(Instant::now());
            self.work.outlet.send(Ok(Event::Progress { stage, done, total }));
        }
    }

    /// Counts rows of a step; `step`: what it took, once for each step. Time in which a request waits for its reader is not
    /// counted.
    pub fn book(&mut self, rows: usize, step: Option<Spent>) {
        self.usage.positions += rows;
        if let Some(Spent { took, cost, copies }) = step {
            self.usage.steps += 1;
            self.usage.generate_seconds += took.as_secs_f64();
            self.bytes += cost.weight_bytes + cost.kv_bytes;
            self.operations += 2.0 * cost.multiply_adds;
            self.usage.copies = self.usage.copies.and(&copies);
        }
    }

    /// A variant has computed a window: the units up to the first that differs from its guess are decided. Returns the rows that are kept. What is complete goes to
    /// the decoder.
    pub fn advance(&mut self, sequence: usize, ahead: &Ahead, out: &mut Vec<ToDecoder>) -> usize {
        let accepted = ahead.units.min(self.sequences[sequence].differs.saturating_add(1));
        self.windows = (self.windows.0 + 1, self.windows.1 + accepted);
        self.usage.window = self.usage.window.max(ahead.units);
        if ahead.units > 1 {
            (1..ahead.units.min(accepted + 1)).for_each(|unit| self.pace.see(unit < accepted));
        }
        let rows = if ahead.group > self.sequences[sequence].group {
            self.advance_groups(sequence, ahead, accepted, out)
        } else {
            self.advance_tail(sequence, ahead, accepted, out)
        };
        rows * self.prefilled.len()
    }

    fn advance_tail(&mut self, sequence: usize, ahead: &Ahead, accepted: usize, out: &mut Vec<ToDecoder>) -> usize {
        let work = self.work.clone();
        let sequence = &mut self.sequences[sequence];
        let start = sequence.tail;
        let ends = (start..ahead.tail).filter(|&at| work.tail[at].predicts.is_some());
        sequence.tail = ends.take(accepted).last().map_or(ahead.tail, |at| at + 1);
        let rows = sequence.tail - start;
        for at in sequence.fields..sequence.fields + accepted {
            self.decided += 1;
            sequence.fields = at + 1;
            if work.window != Window::Fixed(1) {
                let guessed = draft::learn_field(&work, sequence, at);
                if ahead.units == 1 {
                    self.pace.see(guessed);
                }
            }
            let Some(open) = &work.open else { continue };
            let id = sequence.scene[at];
            work.outlet.begin_decode();
            out.push(ToDecoder::Latent { id: work.id, variant: sequence.variant, ids: vec![vec![id]] });
            if open.stops.contains(&id) {
                // What was guessed behind the end does not exist.
                (sequence.tail, sequence.group) = (work.tail.len(), work.plan.groups.len());
                sequence.scene.truncate(sequence.fields);
                break;
            }
        }
        rows
    }

    fn advance_groups(&mut self, sequence: usize, ahead: &Ahead, accepted: usize, out: &mut Vec<ToDecoder>) -> usize {
        let work = self.work.clone();
        let mut rows = ahead.tail - self.sequences[sequence].tail;
        self.sequences[sequence].tail = ahead.tail;
        for _ in 0..accepted {
            let group = self.sequences[sequence].group;
            rows += work.plan.groups[group].rows.len();
            self.decided += work.plan.decided_in(group);
            if work.window != Window::Fixed(1) && work.plan.continues(&work.layout, group) {
                let row = &work.plan.rows[work.plan.groups[group].rows.start];
                let guessed = draft::learn_row(&work, &mut self.sequences[sequence], row);
                if ahead.units == 1 {
                    self.pace.see(guessed);
                }
            }
            self.emit(sequence, out);
        }
        rows
    }

    /// The next group is decided: latent frames that are complete after it go to the decoder.
    fn emit(&mut self, sequence: usize, out: &mut Vec<ToDecoder>) {
        let work = self.work.clone();
        let sequence = &mut self.sequences[sequence];
        let complete = work.plan.groups[sequence.group].complete;
        sequence.group += 1;
        for latent in sequence.emitted..complete {
            let ids = |(index, stream): (usize, &Stream)| {
                let n = work.places(index) * stream.row_codes;
                let shown = if stream.offset <= 0 { latent * n..(latent + 1) * n } else { 0..0 };
                sequence.codes[index][shown].to_vec()
            };
            let ids = work.layout.streams.iter().enumerate().map(ids).collect();
            work.outlet.begin_decode();
            out.push(ToDecoder::Latent { id: work.id, variant: sequence.variant, ids });
        }
        sequence.emitted = complete.max(sequence.emitted);
    }

    /// Counts and all ids, when everything is decided.
    pub fn finished(self) -> Finished {
        let mut usage = self.usage;
        usage.accepted_length = self.windows.1 as f64 / self.windows.0.max(1) as f64;
        let steps = usage.steps.max(1) as f64;
        (usage.bytes_per_step, usage.operations_per_step) =
            ((self.bytes / steps) as u64, (self.operations / steps) as u64);
        let work = &self.work;
        let given = work.forced.len();
        usage.generated_tokens =
            self.sequences.iter().map(|s| s.scene.len() + s.codes.iter().map(Vec::len).sum::<usize>() - given).sum();
        let names = |s: Sequence| {
            let tail = work.open.as_ref().map_or("scene", |open| open.name);
            let mut ids = vec![(tail.to_string(), s.scene)];
            ids.retain(|(_, ids)| !ids.is_empty());
            ids.extend(work.layout.streams.iter().map(|s| s.name.clone()).zip(s.codes));
            ids
        };
        let ids = self.sequences.into_iter().map(names).collect();
        Finished { id: work.id, usage, ids }
    }
}

fn release(ranges: Vec<SlotRange>, model: &mut dyn Forward) {
    for range in ranges {
        // It was reserved by this job and is released once: failure would be a bug of the cache, and nothing better can be done here.
        let released = model.release(range);
        debug_assert!(released.is_ok(), "{released:?}");
    }
}
