//! The rows of a job's next step: of its prompt, and of its variants.

use borealis_kernels::Span;
use borealis_model::{Batch, Query, Row};

use crate::job::{Ahead, Job, Sequence, What};
use crate::plan::{Input, PlanRow};
use crate::prompt::text_row;
use crate::work::Work;

impl Job {
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
        batch.features.extend_from_slice(
            &prompt.features[first_feature..until(|r| r.features, prompt.features.len()).max(first_feature)],
        );
        batch.rows.extend(prompt.rows[start..end].iter().map(|row| Row {
            codes: row.codes.map(|c| c - first_code + codes),
            features: row.features.map(|f| f - first_feature + features),
            slot: base + row.slot,
            sees: Span { prefix: (base + row.sees.prefix.0, base + row.sees.prefix.1), recent: (0, 0) },
            ..row.clone()
        }));
        end
    }

    /// The next rows of a variant: a window of at most `most` units, one at least. `None` when all is decided.
    pub fn upcoming(&self, sequence: &Sequence, most: usize) -> Option<Ahead> {
        let (tail, plan) = (&self.work.tail, &self.work.plan);
        let mut ahead = Ahead { units: 0, tail: sequence.tail, group: sequence.group };
        while ahead.units < most.max(1) {
            let Some(rows) = tail[ahead.tail..].iter().position(|row| row.predicts.is_some()) else { break };
            ahead.units += 1;
            ahead.tail += rows + 1;
        }
        if ahead.units > 0 {
            return Some(ahead);
        }
        ahead.tail = tail.len();
        while ahead.group < plan.groups.len()
            && (ahead.units == 0 || ahead.units < most && plan.continues(&self.work.layout, ahead.group))
        {
            ahead.units += 1;
            ahead.group += 1;
        }
        (ahead.units > 0).then_some(ahead)
    }

    /// How many rows [`Job::append`] adds.
    pub fn width(&self, sequence: &Sequence, ahead: &Ahead) -> usize {
        let groups: usize = self.work.plan.groups[sequence.group..ahead.group].iter().map(|g| g.rows.len()).sum();
        self.prefilled.len() * (ahead.tail - sequence.tail + groups)
    }

    /// Appends the next rows of a variant, for all branches. `decide` learns each decision (what, unit) with its query and the query of the unconditional branch.
    pub fn append(
        &self,
        sequence: &Sequence,
        ahead: &Ahead,
        batch: &mut Batch,
        moves: &mut Vec<(u32, u32, u32)>,
        mut decide: impl FnMut((What, usize), usize, Option<usize>),
    ) {
        let media = ahead.group > sequence.group;
        let first_query = batch.queries.len();
        let mut asked = Vec::new();
        let shared = self.media_inputs(sequence, ahead, batch);
        for branch in 0..self.prefilled.len() {
            let (prompt, region) = (self.prompts[branch], sequence.regions[branch]);
            let sees = |end: usize| Span {
                prefix: (prompt.start, prompt.end()),
                recent: (region.start, region.start + end as u32),
            };
            let mut field = sequence.fields;
            for at in sequence.tail..ahead.tail {
                let tail = self.work.tail[at];
                let last = field.checked_sub(1).map(|field| sequence.scene[field]);
                let id = tail.id.or(last).unwrap_or(0);
                let p = self.work.prompts[branch].next + at as f32;
                let row = text_row(&self.work.layout, id, p, region.start + at as u32, sees(at + 1), &mut batch.codes);
                if tail.predicts.is_some() {
                    let modality = self.work.layout.modality(tail.predicts.map_or(id, |ids| ids.0));
                    batch.queries.push(Query { row: batch.rows.len(), modality, allowed: tail.predicts });
                    asked.extend((branch == 0).then_some((What::Field(at), field - sequence.fields)));
                    field += 1;
                }
                batch.rows.push(row);
            }
            if !media {
                continue;
            }
            // The groups that follow in a window have none.
            let first = &self.work.plan.groups[sequence.group];
            moves.extend(
                first.moves.iter().map(|m| (region.start + m.from as u32, region.start + m.to as u32, m.len as u32)),
            );
            for ((index, unit), template) in self.media_rows(sequence, ahead).zip(&shared) {
                let row = &self.work.plan.rows[index];
                if row.latent.is_some() && !row.forced {
                    batch.queries.push(Query { row: batch.rows.len(), modality: template.modality, allowed: None });
                    asked.extend((branch == 0).then_some((What::Codes(index), unit)));
                }
                batch.rows.push(Row { slot: region.start + row.slot as u32, sees: sees(row.end), ..template.clone() });
            }
        }
        let guided = self.prefilled.len() > 1;
        for (i, &what) in asked.iter().enumerate() {
            decide(what, first_query + i, guided.then_some(first_query + asked.len() + i));
        }
    }

    /// The rows of the groups of a window, each with the number of its unit.
    fn media_rows(&self, sequence: &Sequence, ahead: &Ahead) -> impl Iterator<Item = (usize, usize)> {
        let groups = self.work.plan.groups[sequence.group..ahead.group].iter().enumerate();
        groups.flat_map(|(unit, group)| group.rows.clone().map(move |row| (row, unit)))
    }

    /// Codes and features of the next groups, written once for all branches; the rows still lack slots.
    fn media_inputs(&self, sequence: &Sequence, ahead: &Ahead, batch: &mut Batch) -> Vec<Row> {
        if ahead.group == sequence.group {
            return Vec::new();
        }
        let scene = self.work.layout.scene_condition.then(|| append(&mut batch.codes, &sequence.scene));
        let mut condition: Option<(i32, usize, Option<usize>)> = None;
        self.media_rows(sequence, ahead)
            .map(|(i, _)| Row { scene, ..self.media_row(sequence, &self.work.plan.rows[i], &mut condition, batch) })
            .collect()
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
