//! The ids of a step: which are drawn from which logits, and where they go. The model draws them where the logits lie; those that depend on others of their row are
//! drawn here.

use std::ops::Range;

use borealis_kernels::{Draw, Drawer, Draws, Noise};
use borealis_model::{Forward, Logits, ModelError};
use borealis_weights::Predict;

use crate::job::{Job, Sequence, What};
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

/// Asks for ids and puts them where they belong; holds scratch memory only.
#[derive(Default)]
pub(crate) struct Decider {
    drawer: Drawer,
    draws: Draws,
}

/// Logits that are not numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NotANumber;

/// One id of a decision: where the noise and the logits know it, and what it is.
struct Code {
    /// Position and number, for the noise.
    address: (u32, u32),
    /// Its number among the codes of the row.
    number: usize,
    /// First of the ids `[start, start + size)`.
    start: u32,
    size: usize,
}

/// Appends the draws of a step whose ids are not decided one after another: the model makes them where the logits lie.
pub(crate) fn ask(step: &mut Step, jobs: &[Job]) {
    for d in &step.decisions {
        if !is_depth(&jobs[d.job], d.what) {
            let codes = codes(&jobs[d.job], d.what);
            append(d, &jobs[d.job], (d.query, d.unconditional), codes, &mut step.batch.draws);
        }
    }
}

impl Decider {
    /// Takes the ids that a step has drawn, and draws those that depend on others of their row. Returns the jobs whose logits are not numbers.
    pub fn decide(
        &mut self,
        step: &Step,
        jobs: &mut [Job],
        model: &mut dyn Forward,
        logits: &mut Logits,
    ) -> Result<Vec<usize>, ModelError> {
        let mut broken = Vec::new();
        let mut ids = logits.ids.iter().copied();
        for d in step.decisions.iter().filter(|d| !is_depth(&jobs[d.job], d.what)).copied().collect::<Vec<_>>() {
            let codes = codes(&jobs[d.job], d.what);
            if take(&d, &mut jobs[d.job], codes, &mut ids).is_err() && counts(&d, jobs) {
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
        let decisions: Vec<Decision> =
            step.decisions.iter().filter(|d| is_depth(&jobs[d.job], d.what)).copied().collect();
        // The model numbers these queries by themselves, in the order of the batch.
        let mut entries: Vec<(usize, usize)> = Vec::new();
        for (number, d) in decisions.iter().enumerate() {
            entries.extend([Some(d.query), d.unconditional].into_iter().flatten().map(|q| (q, number)));
        }
        entries.sort_unstable();
        let entry = |query: usize| entries.binary_search_by_key(&query, |e| e.0).unwrap_or(0);
        let (mut ids, mut code) = (Vec::new(), 0);
        while !entries.is_empty() {
            for d in &decisions {
                // The first codes' logits came with the step.
                let at = match code {
                    0 => (d.query, d.unconditional),
                    _ => (entry(d.query), d.unconditional.map(entry)),
                };
                if !logits.query(at.0).is_empty()
                    && self.draw(d, &mut jobs[d.job], logits, at, code..code + 1).is_err()
                    && counts(d, jobs)
                {
                    broken.push(d.job);
                }
            }
            ids.clear();
            for &(_, number) in &entries {
                let d = &decisions[number];
                decided(&mut jobs[d.job], d, code, &mut ids);
            }
            if !model.depth_step(&ids, logits)? {
                break;
            }
            code += 1;
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
        self.draws.clear();
        append(d, job, at, codes.clone(), &mut self.draws);
        let (drawer, draws) = (&mut self.drawer, &self.draws);
        take(d, job, codes, &mut draws.list.iter().map(|draw| logits.draw(drawer, draw, draws.seen(draw))))
    }
}

/// The ids that one position decides in the codes `codes` of every slot, in the order of their logits.
fn each(d: &Decision, job: &Job, codes: Range<usize>) -> Vec<Code> {
    let work = &job.work;
    match d.what {
        What::Field(tail) => {
            let (start, end) = work.tail[tail].predicts.unwrap_or_default();
            vec![Code { address: (tail as u32, 0), number: 0, start, size: (end - start) as usize }]
        }
        What::Codes(index) => {
            let row = &work.plan.rows[index];
            let stream = &work.layout.streams[row.stream];
            let (slots, all) = (if row.latent.is_some() { stream.slots } else { 0 }, stream.codes.len());
            let code = |slot: usize, code: usize| {
                let (number, range) = (slot * all + code, stream.codes[code]);
                Code { address: (row.index, number as u32), number, start: range.start, size: range.size as usize }
            };
            (0..slots).flat_map(|slot| codes.clone().map(move |c| (slot, c))).map(|(s, c)| code(s, c)).collect()
        }
    }
}

/// Appends the draws of one position from the logits `at` (conditional, unconditional).
fn append(d: &Decision, job: &Job, at: (usize, Option<usize>), codes: Range<usize>, draws: &mut Draws) {
    let (work, sequence) = (&job.work, &job.sequences[d.sequence]);
    let (rule, stream, except) = match d.what {
        What::Field(tail) => (work.text_rule, 0, work.tail[tail].except),
        What::Codes(index) => {
            let stream = work.plan.rows[index].stream;
            (work.rules[stream], work.layout.streams[stream].noise, None)
        }
    };
    let noise = Noise::new(work.seed, stream + 16 * sequence.variant as u32);
    let mut from = 0;
    for code in each(d, job, codes) {
        let local = |id: u32| id.saturating_sub(code.start) as usize;
        let seen = draws.seen.len();
        if rule.repetition_penalty != 1.0 {
            look_back(work, sequence, d, &code, &mut draws.seen);
        }
        draws.list.push(Draw {
            row: at.0,
            against: at.1,
            guidance: work.guidance,
            part: (from, from + code.size),
            except: except.map_or((0, 0), |(a, b)| (local(a), local(b))),
            rule,
            seen: (seen, draws.seen.len()),
            noise,
            position: code.address.0,
            code: code.address.1,
        });
        from += code.size;
    }
}

/// Puts the drawn ids of one position where they belong.
fn take(
    d: &Decision,
    job: &mut Job,
    codes: Range<usize>,
    ids: &mut impl Iterator<Item = Option<u32>>,
) -> Result<(), NotANumber> {
    let mut result = Ok(());
    let all = each(d, job, codes);
    let work = job.work.clone();
    let sequence = &mut job.sequences[d.sequence];
    for code in all {
        let Some(local) = ids.next().flatten() else {
            result = Err(NotANumber);
            continue;
        };
        let (id, mut differs) = (code.start + local, sequence.differs);
        let guess = match d.what {
            What::Field(_) => {
                let at = sequence.fields + d.unit;
                if at >= sequence.scene.len() {
                    sequence.scene.push(id);
                }
                sequence.scene.get_mut(at)
            }
            What::Codes(index) => {
                Job::target(&work, sequence, &work.plan.rows[index]).and_then(|target| target.get_mut(code.number))
            }
        };
        if let Some(guess) = guess {
            settle(guess, id, d.unit, &mut differs);
        }
        sequence.differs = differs;
    }
    result
}

/// Appends the local ids of a code that the prompt holds or that were decided in units before, for the repetition penalty. The ids of this unit are left out: which are
/// decided first must not matter. Units before this one may be guesses yet: an id that was drawn beside a wrong guess does not count.
fn look_back(work: &Work, sequence: &Sequence, d: &Decision, code: &Code, seen: &mut Vec<u32>) {
    let local = |id: &u32| id.checked_sub(code.start).filter(|&local| (local as usize) < code.size);
    seen.extend(work.prompts[0].codes.iter().filter_map(local));
    match d.what {
        What::Field(_) => {
            let before = (sequence.fields + d.unit).min(sequence.scene.len());
            seen.extend(sequence.scene[..before].iter().filter_map(local));
        }
        What::Codes(index) => {
            let stream = work.plan.rows[index].stream;
            let n = work.layout.streams[stream].row_codes;
            let before = work.plan.groups.get(sequence.group + d.unit).map_or(0, |group| group.rows.start);
            for row in work.plan.rows[..before].iter().filter(|row| row.stream == stream) {
                let Some(latent) = row.latent else { continue };
                let at = (latent * work.places(stream) + row.place) * n;
                seen.extend(sequence.codes[stream][at..at + n].iter().filter_map(local));
            }
        }
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
