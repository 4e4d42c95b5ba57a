//! Which rows are computed in the next step, and what becomes of them.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use borealis_model::{Batch, CopyTotals, Forward, Logits, ModelError, StepCost};

use crate::costs::StepCosts;
use crate::decide::{self, Decider, Decision};
use crate::decode::ToDecoder;
use crate::draft;
use crate::error::{EngineError, Result};
use crate::event::Stage;
use crate::job::{Ahead, Job};
use crate::window::Window;
use crate::work::Work;

/// Most rows of a step; the cache holds buffers for as many.
pub(crate) const MAX_ROWS: usize = 256;
/// Rows of a prompt that are computed beside running clips in one step, so that these do not stall.
const PIECE: usize = 64;
/// Bytes that the KV cache takes at least, where the limit allows: several requests fit without making it anew.
const CACHE_BYTES: u64 = 16 << 20;

/// What a step took.
#[derive(Clone, Copy)]
pub(crate) struct Spent {
    /// Until everything was decided.
    pub took: Duration,
    /// By arithmetic.
    pub cost: StepCost,
    /// Experts that were copied to the device.
    pub copies: CopyTotals,
}

/// One forward pass: what is copied, computed and decided.
#[derive(Default)]
pub(crate) struct Step {
    /// Slots to copy before: (from, to, how many).
    pub moves: Vec<(u32, u32, u32)>,
    /// Rows and queries.
    pub batch: Batch,
    /// What its logits decide.
    pub decisions: Vec<Decision>,
    parts: Vec<Part>,
}

/// What a job contributed to a step.
struct Part {
    job: usize,
    kind: PartKind,
}

enum PartKind {
    Prefill { branch: usize, end: usize },
    Sequence { sequence: usize, ahead: Ahead },
}

impl Step {
    fn clear(&mut self) {
        self.moves.clear();
        self.batch.rows.clear();
        self.batch.codes.clear();
        self.batch.features.clear();
        self.batch.queries.clear();
        self.batch.draws.clear();
        self.decisions.clear();
        self.parts.clear();
    }
}

/// All requests, waiting and running.
pub(crate) struct Scheduler {
    waiting: VecDeque<Arc<Work>>,
    jobs: Vec<Job>,
    /// Who comes first in the next step: everybody gets a turn when not all fit.
    turn: usize,
    max_rows: usize,
    /// Bytes that cache and buffers may take.
    limit: u64,
    decider: Decider,
    /// What steps cost, when a request has asked for it; and the file that keeps it.
    costs: Option<StepCosts>,
    costs_file: Option<PathBuf>,
    /// Name of the checkpoint, for messages.
    name: String,
}

impl Scheduler {
    /// An empty scheduler for the checkpoint `name`; `limit` bounds the cache in bytes, `costs_file` keeps what steps cost.
    pub fn new(name: String, limit: u64, costs_file: Option<PathBuf>) -> Self {
        let (waiting, jobs) = (VecDeque::new(), Vec::new());
        let decider = Decider::default();
        Self { waiting, jobs, turn: 0, max_rows: 0, limit, decider, costs: None, costs_file, name }
    }

    /// Takes a request in; requests get slots in the order of their arrival.
    pub fn submit(&mut self, work: Arc<Work>) {
        self.waiting.push_back(work);
    }

    /// Nothing waits and nothing runs.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.jobs.is_empty()
    }

    /// Removes cancelled requests and frees what they hold, then admits waiting ones while there is room.
    pub fn admit(&mut self, model: &mut dyn Forward, out: &mut Vec<ToDecoder>) {
        let mut cancel = |work: &Work| {
            let gone = work.outlet.is_cancelled();
            if gone {
                work.outlet.send(Err(EngineError::Cancelled));
                out.push(ToDecoder::Drop(work.id));
            }
            gone
        };
        self.waiting.retain(|work| !cancel(work));
        self.jobs.retain_mut(|job| {
            let gone = cancel(&job.work);
            if gone {
                job.release(model);
            }
            !gone
        });
        while let Some(work) = self.waiting.front().cloned() {
            match self.start(work.clone(), model) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    work.outlet.send(Err(error));
                    out.push(ToDecoder::Drop(work.id));
                }
            }
            self.waiting.pop_front();
        }
    }

    /// Reserves the slots of a request; false: it must wait until others have ended.
    fn start(&mut self, work: Arc<Work>, model: &mut dyn Forward) -> Result<bool> {
        let need: usize = work.ranges().iter().sum();
        if self.jobs.is_empty() && work.window == Window::Auto && self.costs.is_none() {
            // Measuring may leave a cache that is too small behind.
            self.max_rows = 0;
            self.costs = Some(StepCosts::find(model, &work.layout, self.costs_file.as_deref())?);
        }
        if self.jobs.is_empty() && (model.slots().0 < need || self.max_rows < work.widest()) {
            self.max_rows = work.widest().max(MAX_ROWS).max(self.max_rows);
            let fixed = model.cache_bytes(0, self.max_rows);
            let each = (model.cache_bytes(1024, self.max_rows) - fixed).div_ceil(1024).max(1);
            let room = CACHE_BYTES.min(self.limit.saturating_sub(fixed)) / each;
            model.allocate(need.max(room as usize), self.max_rows)?;
        }
        if self.max_rows < work.widest() {
            return Ok(false);
        }
        match Job::admit(work, model) {
            Ok(mut job) => {
                job.tell(Stage::Prefill, 0);
                self.jobs.push(job);
                Ok(true)
            }
            Err(ModelError::CacheFull { .. }) if !self.jobs.is_empty() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Fills the next step; false when every request waits for its reader or for the decoder.
    pub fn next(&mut self, step: &mut Step) -> bool {
        step.clear();
        let n = self.jobs.len();
        self.turn = self.turn.wrapping_add(1);
        for index in (0..n).map(|i| (self.turn + i) % n) {
            let room = self.max_rows.saturating_sub(step.batch.rows.len());
            let job = &mut self.jobs[index];
            if job.is_prefilling() {
                prefill(index, job, if n > 1 { room.min(PIECE) } else { room }, step);
            } else if job.work.outlet.keeps_up(job.work.variants) {
                generate(index, job, self.max_rows, self.costs.as_ref(), self.turn, step);
            }
        }
        decide::ask(step, &self.jobs);
        !step.parts.is_empty()
    }

    /// Copies, computes and decides a step. What the decoder can go on with goes to `out`; an error ends the requests of the step.
    pub fn run(&mut self, step: &Step, model: &mut dyn Forward, logits: &mut Logits, out: &mut Vec<ToDecoder>) {
        let begin = Instant::now();
        let (cost, before) = (model.costs(&step.batch), model.copies().unwrap_or_default());
        let result =
            forward(step, model, logits).and_then(|()| self.decider.decide(step, &mut self.jobs, model, logits));
        let copies = model.copies().unwrap_or_default().since(&before);
        self.advance(step, Spent { took: begin.elapsed(), cost, copies }, out);
        match result {
            Ok(broken) => {
                let dtype = model.format().name();
                for job in broken.into_iter().rev() {
                    let step = self.jobs[job].usage.steps;
                    let error = EngineError::NotANumber { model: self.name.clone(), step, dtype };
                    self.end(job, Err(error), model, out);
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                let mut jobs: Vec<usize> = step.parts.iter().map(|p| p.job).collect();
                jobs.sort_unstable();
                jobs.dedup();
                for job in jobs.into_iter().rev() {
                    self.end(job, Err(EngineError::Model(error.clone())), model, out);
                }
            }
        }
        for job in (0..self.jobs.len()).rev().filter(|&j| self.jobs[j].is_finished()).collect::<Vec<_>>() {
            self.end(job, Ok(()), model, out);
        }
    }

    /// Books what a step has computed, and hands complete latent frames on.
    fn advance(&mut self, step: &Step, spent: Spent, out: &mut Vec<ToDecoder>) {
        let mut last = None;
        for part in &step.parts {
            let job = &mut self.jobs[part.job];
            match part.kind {
                PartKind::Prefill { branch, end } => {
                    job.prefilled[branch] = end;
                    let done = job.prefilled.iter().sum();
                    job.tell(Stage::Prefill, done);
                }
                PartKind::Sequence { sequence, ahead } => {
                    let first = last.replace(part.job) != Some(part.job);
                    let rows = job.advance(sequence, &ahead, out);
                    job.book(rows, first.then_some(spent));
                }
            }
        }
        for job in &mut self.jobs {
            if job.decided > job.reported {
                job.reported = job.decided;
                job.tell(Stage::Generate, job.decided);
            }
        }
    }

    /// Removes a job and frees its slots.
    fn end(&mut self, index: usize, result: Result<()>, model: &mut dyn Forward, out: &mut Vec<ToDecoder>) {
        let mut job = self.jobs.swap_remove(index);
        job.release(model);
        match result {
            Ok(()) => out.push(ToDecoder::Finish(Box::new(job.finished()))),
            Err(error) => {
                job.work.outlet.send(Err(error));
                out.push(ToDecoder::Drop(job.work.id));
            }
        }
    }
}

fn forward(step: &Step, model: &mut dyn Forward, logits: &mut Logits) -> std::result::Result<(), ModelError> {
    for &(from, to, len) in &step.moves {
        model.copy_slots(from, to, len)?;
    }
    model.step(&step.batch, logits)
}

fn prefill(index: usize, job: &Job, mut room: usize, step: &mut Step) {
    // The branches do not see each other: both may be in one step.
    for branch in 0..job.prefilled.len() {
        if room == 0 || job.prefilled[branch] == job.work.prompts[branch].rows.len() {
            continue;
        }
        let before = step.batch.rows.len();
        let end = job.prefill(branch, room, &mut step.batch);
        let rows = step.batch.rows.len() - before;
        room = room.saturating_sub(rows);
        step.parts.push(Part { job: index, kind: PartKind::Prefill { branch, end } });
    }
}

fn generate(index: usize, job: &mut Job, max_rows: usize, costs: Option<&StepCosts>, turn: usize, step: &mut Step) {
    job.begin();
    let n = job.sequences.len();
    let window = match job.work.window {
        Window::Fixed(window) => window,
        Window::Auto => costs.map_or(1, |c| job.pace.choose(c, step.batch.rows.len(), job.prefilled.len() * n)),
    };
    // The variants take turns, too.
    for number in (0..n).map(|i| (turn + i) % n) {
        let (sequence, before) = (&job.sequences[number], step.batch.rows.len());
        // One always fits: what is wider than the buffers is computed in pieces. A window is made as small as it must be.
        let fits = |ahead: &Ahead| before + job.width(sequence, ahead) <= max_rows;
        let sizes = (1..=window).rev().filter_map(|most| job.upcoming(sequence, most));
        let Some(ahead) = sizes.into_iter().find(|ahead| ahead.units == 1 && before == 0 || fits(ahead)) else {
            continue;
        };
        let work = job.work.clone();
        let sequence = &mut job.sequences[number];
        sequence.differs = usize::MAX;
        draft::guess(&work, sequence, &ahead);
        let Step { batch, moves, decisions, parts } = &mut *step;
        job.append(&job.sequences[number], &ahead, batch, moves, |(what, unit), query, unconditional| {
            decisions.push(Decision { job: index, sequence: number, what, unit, query, unconditional });
        });
        parts.push(Part { job: index, kind: PartKind::Sequence { sequence: number, ahead } });
    }
}
