//! From the logits of a step to ids: guidance, then the sampler, for every decision of the step.

use std::ops::Range;

use borealis_model::{Forward, Logits, ModelError};
use borealis_weights::Predict;

use crate::guidance::{combine, log_softmax};
use crate::job::{Job, Sequence, What};
use crate::philox::Noise;
use crate::sampler::{Rule, Sampler};
use crate::scheduler::Step;
use crate::work::Work;

/// One position whose ids a step decides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decision {
    pub job: usize,
    pub sequence: usize,
    pub what: What,
    /// Which unit of the window it belongs to.
    pub unit: usize,
    /// The query of the conditional branch, and of the unconditional one.
    pub query: usize,
    pub unconditional: Option<usize>,
}

/// Draws ids; holds scratch memory only.
#[derive(Default)]
pub(crate) struct Decider {
    sampler: Sampler,
    combined: Vec<f32>,
    unconditional: Vec<f32>,
    seen: Vec<u32>,
}

/// Logits that are not numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NotANumber;

impl Decider {
    /// Makes all decisions of a step. Returns the jobs whose logits are not numbers.
    pub fn decide(
        &mut self,
        step: &Step,
        jobs: &mut [Job],
        model: &mut dyn Forward,
        logits: &mut Logits,
    ) -> Result<Vec<usize>, ModelError> {
        let mut broken = Vec::new();
        for d in &step.decisions {
            let codes = codes(&jobs[d.job], d.what);
            if self.draw(d, &mut jobs[d.job], logits, (d.query, d.unconditional), codes).is_err() && counts(d, jobs) {
                broken.push(d.job);
            }
        }
        self.depth(step, jobs, model, logits, &mut broken)?;
        broken.sort_unstable();
        broken.dedup();
        Ok(broken)
    }

    /// Codes that are decided one after another: round by round, for all rows of the step at once.
    fn depth(
        &mut self,
        step: &Step,
        jobs: &mut [Job],
        model: &mut dyn Forward,
        logits: &mut Logits,
        broken: &mut Vec<usize>,
    ) -> Result<(), ModelError> {
        // The model numbers these queries by themselves, in the order of the batch.
        let mut entries: Vec<(usize, usize)> = Vec::new();
        for (number, d) in step.decisions.iter().enumerate() {
            if is_depth(&jobs[d.job], d.what) {
                entries.extend([Some(d.query), d.unconditional].into_iter().flatten().map(|q| (q, number)));
            }
        }
        entries.sort_unstable();
        let entry = |query: usize| entries.binary_search_by_key(&query, |e| e.0).unwrap_or(0);
        let mut ids = Vec::new();
        let mut code = 0;
        while !entries.is_empty() {
            ids.clear();
            for &(_, number) in &entries {
                let d = &step.decisions[number];
                decided(&mut jobs[d.job], d, code, &mut ids);
            }
            if !model.depth_step(&ids, logits)? {
                break;
            }
            code += 1;
            for d in step.decisions.iter().filter(|d| is_depth(&jobs[d.job], d.what)).copied().collect::<Vec<_>>() {
                let at = (entry(d.query), d.unconditional.map(entry));
                if !logits.query(at.0).is_empty()
                    && self.draw(&d, &mut jobs[d.job], logits, at, code..code + 1).is_err()
                    && counts(&d, jobs)
                {
                    broken.push(d.job);
                }
            }
        }
        Ok(())
    }

    /// Draws the codes `codes` of every slot of one position from the logits `at` (conditional, unconditional).
    fn draw(
        &mut self,
        d: &Decision,
        job: &mut Job,
        logits: &Logits,
        at: (usize, Option<usize>),
        codes: Range<usize>,
    ) -> Result<(), NotANumber> {
        let work = job.work.clone();
        self.guide(logits, at, work.guidance, rule(&work, d.what));
        let sequence = &mut job.sequences[d.sequence];
        let noise = |stream: u32| Noise::new(work.seed, stream + 16 * sequence.variant as u32);
        match d.what {
            What::Field(tail) => {
                let start = work.tail[tail].predicts.map_or(0, |p| p.0);
                let noise = noise(0);
                if let Some((a, b)) = work.tail[tail].except {
                    let local = |id: u32| (id.saturating_sub(start) as usize).min(self.combined.len());
                    let range = local(a)..local(b).max(local(a));
                    self.combined[range].fill(f32::NEG_INFINITY);
                }
                let rule = rule(&work, d.what);
                self.look_back(&work, sequence, d, rule, (start, self.combined.len()));
                let id = start + self.one(0..self.combined.len(), rule, &noise, tail as u32, 0)?;
                match sequence.scene.get_mut(sequence.fields + d.unit) {
                    Some(guess) => settle(guess, id, d.unit, &mut sequence.differs),
                    None => sequence.scene.push(id),
                }
            }
            What::Codes(index) => {
                let row = &work.plan.rows[index];
                let stream = &work.layout.streams[row.stream];
                let (noise, all) = (noise(stream.noise), stream.codes.len());
                let rule = rule(&work, d.what);
                if row.latent.is_none() {
                    return Ok(());
                }
                let mut start = 0;
                for slot in 0..stream.slots {
                    for code in codes.clone() {
                        let range = stream.codes[code];
                        let end = start + range.size as usize;
                        let number = slot * all + code;
                        self.look_back(&work, sequence, d, rule, (range.start, range.size as usize));
                        let id = range.start + self.one(start..end, rule, &noise, row.index, number as u32)?;
                        let mut differs = sequence.differs;
                        if let Some(target) = Job::target(&work, sequence, row) {
                            settle(&mut target[number], id, d.unit, &mut differs);
                        }
                        sequence.differs = differs;
                        start = end;
                    }
                }
            }
        }
        Ok(())
    }

    /// The logits of both branches become one row.
    fn guide(&mut self, logits: &Logits, at: (usize, Option<usize>), scale: f32, rule: &Rule) {
        self.combined.clear();
        self.combined.extend_from_slice(logits.query(at.0));
        let Some(other) = at.1 else { return };
        self.unconditional.clear();
        self.unconditional.extend_from_slice(logits.query(other));
        if rule.repetition_penalty != 1.0 {
            log_softmax(&mut self.combined);
            log_softmax(&mut self.unconditional);
        }
        combine(&mut self.combined, &self.unconditional, scale);
    }

    /// Collects the ids of `ids` (first, number of them) that the prompt holds or that were decided in units before, for the repetition penalty. The ids of this unit
    /// are left out: which are decided first must not matter.
    fn look_back(&mut self, work: &Work, sequence: &Sequence, d: &Decision, rule: &Rule, ids: (u32, usize)) {
        self.seen.clear();
        if rule.repetition_penalty == 1.0 {
            return;
        }
        let (first, count) = ids;
        let local = |id: &u32| id.checked_sub(first).filter(|&local| (local as usize) < count);
        self.seen.extend(work.prompts[0].codes.iter().filter_map(local));
        match d.what {
            What::Field(_) => self.seen.extend(sequence.scene[..sequence.fields + d.unit].iter().filter_map(local)),
            What::Codes(index) => {
                let stream = work.plan.rows[index].stream;
                let n = work.layout.streams[stream].row_codes;
                let before = work.plan.groups.get(sequence.group + d.unit).map_or(0, |group| group.rows.start);
                for row in work.plan.rows[..before].iter().filter(|row| row.stream == stream) {
                    let Some(latent) = row.latent else { continue };
                    let at = (latent * work.places(stream) + row.place) * n;
                    self.seen.extend(sequence.codes[stream][at..at + n].iter().filter_map(local));
                }
            }
        }
    }

    fn one(
        &mut self,
        range: Range<usize>,
        rule: &Rule,
        noise: &Noise,
        position: u32,
        code: u32,
    ) -> Result<u32, NotANumber> {
        self.combined
            .get(range)
            .and_then(|l| self.sampler.sample(l, rule, &self.seen, noise, position, code))
            .ok_or(NotANumber)
    }
}

/// Puts a drawn id where its guess was.
fn settle(guess: &mut u32, id: u32, unit: usize, differs: &mut usize) {
    if *guess != id {
        *guess = id;
        *differs = unit.min(*differs);
    }
}

/// Whether the inputs of a decision were right as far as is known: what wrong guesses lead to means nothing.
fn counts(d: &Decision, jobs: &[Job]) -> bool {
    d.unit <= jobs[d.job].sequences[d.sequence].differs
}

/// How the ids of a decision are drawn.
fn rule(work: &Work, what: What) -> &Rule {
    match what {
        What::Field(_) => &work.text_rule,
        What::Codes(index) => &work.rules[work.plan.rows[index].stream],
    }
}

/// The codes that the logits of a step are for.
fn codes(job: &Job, what: What) -> Range<usize> {
    match what {
        What::Field(_) => 0..1,
        What::Codes(_) if is_depth(job, what) => 0..1,
        What::Codes(index) => 0..job.work.layout.streams[job.work.plan.rows[index].stream].codes.len(),
    }
}

fn is_depth(job: &Job, what: What) -> bool {
    match what {
        What::Field(_) => false,
        What::Codes(index) => job.work.layout.streams[job.work.plan.rows[index].stream].predict == Predict::Depth,
    }
}

/// The ids that were decided for code `code` of each slot.
fn decided(job: &mut Job, d: &Decision, code: usize, ids: &mut Vec<u32>) {
    let What::Codes(index) = d.what else { return };
    let work = job.work.clone();
    let row = &work.plan.rows[index];
    let all = work.layout.streams[row.stream].codes.len();
    if let Some(target) = Job::target(&work, &mut job.sequences[d.sequence], row) {
        ids.extend(target.chunks_exact(all).map(|slot| slot[code.min(all - 1)]));
    }
}
