//! One request on its way through the model: what it is (`Work`), and how far it and its variants are (`Job`, `Sequence`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use borealis_kernels::Span;
use borealis_model::{Batch, Forward, ModelError, Query, Row, SlotRange};

use crate::decode::{Finished, ToDecoder};
use crate::event::{Event, Stage, Usage};
use crate::features::FeatureWriter;
use crate::layout::{Layout, Stream};
use crate::plan::{Input, Plan, PlanRow};
use crate::prompt::{PromptRows, text_row};
use crate::sampler::Rule;
use crate::stream::Outlet;

/// Shortest time between two progress reports of a request.
const REPORT: Duration = Duration::from_millis(40);

/// A text-like row that each variant has of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TailRow {
    /// Its id; `None`: the id decided for the field before.
    pub id: Option<u32>,
    /// The ids `[start, end)` that it predicts.
    pub predicts: Option<(u32, u32)>,
}

/// Everything that the worker needs to know of a request; never changes.
pub(crate) struct Work {
    /// Number of the request in this engine.
    pub id: u64,
    pub outlet: Outlet,
    pub layout: Arc<Layout>,
    pub plan: Plan,
    pub features: Option<FeatureWriter>,
    /// The conditional prompt and, with guidance, the unconditional one.
    pub prompts: Vec<PromptRows>,
    pub tail: Vec<TailRow>,
    pub variants: usize,
    pub seed: u64,
    pub guidance: f32,
    /// How text-like ids are drawn, and the codes of each stream.
    pub text_rule: Rule,
    pub rules: Vec<Rule>,
    /// By stream: ids of the latent frame before the first; empty = none.
    pub given: Vec<Vec<u32>>,
    /// By stream: ids of the latent frames of the source; empty = none.
    pub source: Vec<Vec<u32>>,
    /// Ids of the leading latent frames of pictures that are given.
    pub forced: Vec<u32>,
    /// Ids of the prompt, once.
    pub prompt_tokens: usize,
    pub encode_seconds: f64,
    pub submitted: Instant,
}

impl Work {
    /// Slots of every range that the request reserves: prompts, then the regions of each variant.
    pub fn ranges(&self) -> Vec<usize> {
        let prompts = self.prompts.iter().map(|p| p.rows.len());
        prompts.chain(std::iter::repeat_n(self.plan.region, self.variants * self.prompts.len())).collect()
    }

    /// Most rows that must be computed in one piece.
    pub fn widest(&self) -> usize {
        let prompt = self.prompts.iter().map(PromptRows::widest).max().unwrap_or(0);
        prompt.max(self.plan.widest + self.tail.len()).max(1)
    }

    /// Decisions to make: positions and fields, over all variants.
    pub fn total(&self) -> usize {
        self.variants * (self.plan.decided() + self.tail.iter().filter(|t| t.predicts.is_some()).count())
    }

    fn places(&self, stream: usize) -> usize {
        self.layout.streams[stream].places(self.plan.spec.grid)
    }
}

/// One variant while it is generated. Its branches (conditional, unconditional) share the ids.
pub(crate) struct Sequence {
    pub variant: usize,
    /// A region for each branch.
    regions: Vec<SlotRange>,
    /// Fields of the scene plan decided so far.
    pub scene: Vec<u32>,
    /// Rows of the tail computed so far.
    pub tail: usize,
    /// Groups of the plan computed so far.
    pub group: usize,
    /// By stream: ids of all latent frames.
    pub codes: Vec<Vec<u32>>,
    /// Latent frames handed to the decoder.
    pub emitted: usize,
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
    prompts: Vec<SlotRange>,
    /// Prompt rows computed so far, by branch.
    pub prefilled: Vec<usize>,
    pub sequences: Vec<Sequence>,
    pub usage: Usage,
    /// Positions and fields decided so far.
    pub decided: usize,
    /// Bytes read in all steps while generating.
    bytes: f64,
    started: Instant,
    generating: Option<Instant>,
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
            tail: 0,
            group: 0,
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
            bytes: 0.0,
            started: Instant::now(),
            generating: None,
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
        !self.is_prefilling() && self.sequences.iter().all(|s| self.upcoming(s).is_none())
    }

    /// The prompt is computed: time counts as generating from now on.
    pub fn begin(&mut self) {
        if self.generating.is_none() {
            self.usage.prefill_seconds = self.started.elapsed().as_secs_f64();
            self.generating = Some(Instant::now());
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

    /// Counts rows of a step; `bytes`: what the step read, once for each step.
    pub fn book(&mut self, rows: usize, bytes: Option<f64>) {
        self.usage.positions += rows;
        if let Some(bytes) = bytes {
            self.usage.steps += 1;
            self.bytes += bytes;
        }
    }

    /// A variant has computed its tail up to `tail` and perhaps a group; complete latent frames go to the decoder.
    pub fn advance(&mut self, sequence: usize, tail: usize, media: bool, out: &mut Vec<ToDecoder>) {
        let work = self.work.clone();
        let sequence = &mut self.sequences[sequence];
        sequence.tail = tail;
        if !media {
            return;
        }
        let complete = work.plan.groups[sequence.group].complete;
        sequence.group += 1;
        for latent in sequence.emitted..complete {
            let ids = |(index, stream): (usize, &Stream)| {
                let n = work.places(index) * stream.row_codes;
                (stream.offset <= 0).then(|| sequence.codes[index][latent * n..(latent + 1) * n].to_vec()).unwrap_or_default()
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
        usage.generate_seconds = self.generating.map_or(0.0, |t| t.elapsed().as_secs_f64());
        usage.bytes_per_step = (self.bytes / usage.steps.max(1) as f64) as u64;
        let work = &self.work;
        let given = work.forced.len();
        usage.generated_tokens =
            self.sequences.iter().map(|s| s.scene.len() + s.codes.iter().map(Vec::len).sum::<usize>() - given).sum();
        let names = |s: Sequence| {
            let mut ids = vec![("scene".to_string(), s.scene)];
            ids.retain(|(_, ids)| !ids.is_empty());
            ids.extend(work.layout.streams.iter().map(|s| s.name.clone()).zip(s.codes));
            ids
        };
        let ids = self.sequences.into_iter().map(names).collect();
        Finished { id: work.id, usage, ids }
    }

    /// Appends the next rows of a prompt: at least one piece, then as many as `room` allows. Returns the new end.
    pub fn prefill(&self, branch: usize, room: usize, batch: &mut Batch) -> usize {
        let prompt = &self.work.prompts[branch];
        let start = self.prefilled[branch];
        let mut cuts = prompt.cuts.iter().copied().filter(|&c| c > start);
        let first = cuts.next().unwrap_or(prompt.rows.len());
        let end = cuts.take_while(|&c| c - start <= room).last().unwrap_or(first);
        let base = self.prompts[branch].start;
        let (codes, features) = (batch.codes.len(), batch.features.len());
        // Only what the piece uses: codes and features lie in the order of the rows.
        let from = |f: fn(&Row) -> Option<usize>| prompt.rows[start..].iter().find_map(f);
        let until = |f: fn(&Row) -> Option<usize>, all: usize| prompt.rows[end..].iter().find_map(f).unwrap_or(all);
        let first_code = from(|r| r.codes).unwrap_or(prompt.codes.len());
        let first_feature = from(|r| r.features).unwrap_or(prompt.features.len());
        batch.codes.extend_from_slice(&prompt.codes[first_code..until(|r| r.codes, prompt.codes.len())]);
        batch.features.extend_from_slice(&prompt.features[first_feature..until(|r| r.features, prompt.features.len()).max(first_feature)]);
        batch.rows.extend(prompt.rows[start..end].iter().map(|row| Row {
            codes: row.codes.map(|c| c - first_code + codes),
            features: row.features.map(|f| f - first_feature + features),
            slot: base + row.slot,
            sees: Span { prefix: (base + row.sees.prefix.0, base + row.sees.prefix.1), recent: (0, 0) },
            ..row.clone()
        }));
        end
    }

    /// The next rows of a variant: (end of its tail, whether a group of the plan comes with it).
    pub fn upcoming(&self, sequence: &Sequence) -> Option<(usize, bool)> {
        let tail = &self.work.tail;
        let mut end = sequence.tail;
        while end < tail.len() {
            end += 1;
            if tail[end - 1].predicts.is_some() {
                return Some((end, false));
            }
        }
        (sequence.group < self.work.plan.groups.len()).then_some((end, true))
    }

    /// How many rows [`Job::append`] adds.
    pub fn width(&self, sequence: &Sequence) -> usize {
        let Some((tail, media)) = self.upcoming(sequence) else { return 0 };
        let group = if media { self.work.plan.groups[sequence.group].rows.len() } else { 0 };
        self.prefilled.len() * (tail - sequence.tail + group)
    }

    /// Appends the next rows of a variant, for all branches. `decide` learns each decision with its query and the query of the unconditional branch.
    pub fn append(
        &self,
        sequence: &Sequence,
        batch: &mut Batch,
        moves: &mut Vec<(u32, u32, u32)>,
        mut decide: impl FnMut(What, usize, Option<usize>),
    ) {
        let Some((tail_end, media)) = self.upcoming(sequence) else { return };
        let first_query = batch.queries.len();
        let mut asked = Vec::new();
        let shared = self.media_inputs(sequence, media, batch);
        for branch in 0..self.prefilled.len() {
            let (prompt, region) = (self.prompts[branch], sequence.regions[branch]);
            let sees = |end: usize| Span { prefix: (prompt.start, prompt.end()), recent: (region.start, region.start + end as u32) };
            for at in sequence.tail..tail_end {
                let tail = self.work.tail[at];
                let id = tail.id.or(at.checked_sub(1).and_then(|f| sequence.scene.get(f).copied())).unwrap_or(0);
                let p = at as f32 - self.work.tail.len() as f32;
                let row = text_row(&self.work.layout, id, p, region.start + at as u32, sees(at + 1), &mut batch.codes);
                if tail.predicts.is_some() {
                    let modality = self.work.layout.text;
                    batch.queries.push(Query { row: batch.rows.len(), modality, allowed: tail.predicts });
                    asked.extend((branch == 0).then_some(What::Field(at)));
                }
                batch.rows.push(row);
            }
            if !media {
                continue;
            }
            let group = &self.work.plan.groups[sequence.group];
            moves.extend(group.moves.iter().map(|m| (region.start + m.from as u32, region.start + m.to as u32, m.len as u32)));
            for (index, template) in group.rows.clone().zip(&shared) {
                let row = &self.work.plan.rows[index];
                if row.latent.is_some() && !row.forced {
                    batch.queries.push(Query { row: batch.rows.len(), modality: template.modality, allowed: None });
                    asked.extend((branch == 0).then_some(What::Codes(index)));
                }
                batch.rows.push(Row { slot: region.start + row.slot as u32, sees: sees(row.end), ..template.clone() });
            }
        }
        let guided = self.prefilled.len() > 1;
        for (i, &what) in asked.iter().enumerate() {
            decide(what, first_query + i, guided.then_some(first_query + asked.len() + i));
        }
    }

    /// Codes and features of the next group, written once for all branches; the rows still lack slots.
    fn media_inputs(&self, sequence: &Sequence, media: bool, batch: &mut Batch) -> Vec<Row> {
        if !media {
            return Vec::new();
        }
        let group = self.work.plan.groups[sequence.group].rows.clone();
        let scene = self.work.layout.scene_condition.then(|| append(&mut batch.codes, &sequence.scene));
        let mut condition: Option<(i32, usize, Option<usize>)> = None;
        group.map(|i| Row { scene, ..self.media_row(sequence, &self.work.plan.rows[i], &mut condition, batch) }).collect()
    }

    fn media_row(
        &self,
        sequence: &Sequence,
        row: &PlanRow,
        last_condition: &mut Option<(i32, usize, Option<usize>)>,
        batch: &mut Batch,
    ) -> Row {
        let layout = &self.work.layout;
        let stream = &layout.streams[row.stream];
        let codes = self.ids(sequence, row.stream, row.input).map(|ids| append(&mut batch.codes, ids));
        let condition = stream.condition.and_then(|s| match *last_condition {
            // The rows of a block share their condition.
            Some((t, stream, at)) if (t, stream) == (row.t, s) => at,
            _ => {
                let at = self.ids(sequence, s, row.condition).map(|ids| append(&mut batch.codes, ids));
                *last_condition = Some((row.t, s, at));
                at
            }
        });
        let leads = stream.offset > 0;
        let features = self.work.features.as_ref().filter(|_| !leads).map(|f| {
            let at = batch.features.len();
            if stream.pictures {
                let near = layout.near.and_then(|s| self.ids(sequence, s, row.near));
                f.picture(row.place, row.t, near, &mut batch.features);
            } else {
                f.time(row.t, &mut batch.features);
            }
            at
        });
        Row {
            modality: stream.modality,
            kind: stream.kind(codes.is_some(), self.work.plan.spec.input),
            codes,
            condition,
            scene: None,
            features,
            position: row.position,
            slot: 0,
            sees: Span::default(),
        }
    }

    /// The ids of an input.
    fn ids<'a>(&'a self, sequence: &'a Sequence, stream: usize, input: Input) -> Option<&'a [u32]> {
        let (places, n) = (self.work.places(stream), self.work.layout.streams[stream].row_codes);
        let (all, at) = match input {
            Input::Bos => return None,
            Input::Own { latent, place } => (&sequence.codes[stream], latent * places + place),
            Input::Given { place } => (&self.work.given[stream], place),
            Input::Source { latent, place } => (&self.work.source[stream], latent * places + place),
        };
        all.get(at * n..(at + 1) * n)
    }

    /// Where the ids of a media row go.
    pub fn target<'a>(work: &Work, sequence: &'a mut Sequence, row: &PlanRow) -> Option<&'a mut [u32]> {
        let (places, n) = (work.places(row.stream), work.layout.streams[row.stream].row_codes);
        let at = row.latent? * places + row.place;
        sequence.codes[row.stream].get_mut(at * n..(at + 1) * n)
    }
}

fn append(codes: &mut Vec<u32>, ids: &[u32]) -> usize {
    codes.extend_from_slice(ids);
    codes.len() - ids.len()
}

fn release(ranges: Vec<SlotRange>, model: &mut dyn Forward) {
    for range in ranges {
        // It was reserved by this job and is released once: failure would be a bug of the cache, and nothing better can be done here.
        let released = model.release(range);
        debug_assert!(released.is_ok(), "{released:?}");
    }
}
