//! Guesses for positions that no step has drawn yet: what stands at the place in the latent frame before, above, to the left, or what followed the same two ids before.
//! A wrong guess costs a row, never an id.

use crate::job::{Ahead, Job, Sequence};
use crate::plan::PlanRow;
use crate::work::Work;

/// Where guesses come from: the latent frame before, the row above, the left neighbour, an earlier occurrence of the last two ids.
const SOURCES: usize = 4;
/// How fast the score of a source follows what it would have guessed.
const FOLLOW: f32 = 0.1;

/// How often each source was right lately.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scores([f32; SOURCES]);

impl Scores {
    /// The best of the sources that have something to say.
    fn best<T>(&self, guesses: [Option<T>; SOURCES]) -> Option<T> {
        let rank = |(i, guess): (usize, Option<T>)| guess.map(|guess| (self.0[i], guess));
        // Of equals the first.
        guesses.into_iter().enumerate().filter_map(rank).reduce(|a, b| if b.0 > a.0 { b } else { a }).map(|best| best.1)
    }

    /// Compares what the sources say with what was drawn; whether the best of them was right.
    fn learn<T: Copy + PartialEq>(&mut self, guesses: [Option<T>; SOURCES], drawn: T) -> bool {
        let right = self.best(guesses) == Some(drawn);
        for (score, guess) in self.0.iter_mut().zip(guesses) {
            if let Some(guess) = guess {
                *score += FOLLOW * (f32::from(guess == drawn) - *score);
            }
        }
        right
    }
}

/// Fills in guesses where the units of the next step but the last have none yet.
pub(crate) fn guess(work: &Work, sequence: &mut Sequence, ahead: &Ahead) {
    if ahead.units < 2 {
        return;
    }
    let predicting = work.tail[sequence.tail..ahead.tail].iter().filter_map(|row| row.predicts);
    for (at, allowed) in (sequence.fields..).zip(predicting) {
        if at < sequence.scene.len() {
            continue;
        }
        let fits = |id: u32| (allowed.0..allowed.1).contains(&id).then_some(id);
        let guesses = tail_guesses(work, sequence, at).map(|guess| guess.and_then(fits));
        sequence.scene.push(sequence.scores.best(guesses).unwrap_or(allowed.0));
    }
    for group in sequence.guessed.max(sequence.group)..ahead.group {
        for row in work.plan.groups[group].rows.clone().map(|i| &work.plan.rows[i]) {
            let stream = &work.layout.streams[row.stream];
            let ids: Option<Vec<u32>> = sequence.scores.best(row_guesses(work, sequence, row)).map(<[u32]>::to_vec);
            // Nothing is known: any ids of the right ranges.
            let ids = ids.unwrap_or_else(|| (0..stream.slots).flat_map(|_| &stream.codes).map(|c| c.start).collect());
            if let Some(target) = Job::target(work, sequence, row).filter(|_| !row.forced) {
                target.copy_from_slice(&ids);
            }
        }
        sequence.guessed = group + 1;
    }
}

/// Learns from a field of the tail that was decided; whether it would have been guessed.
pub(crate) fn learn_field(work: &Work, sequence: &mut Sequence, at: usize) -> bool {
    let guesses = tail_guesses(work, sequence, at);
    sequence.scores.learn(guesses, sequence.scene[at])
}

/// Learns from a media row that was decided; whether it would have been guessed.
pub(crate) fn learn_row(work: &Work, sequence: &mut Sequence, row: &PlanRow) -> bool {
    let mut scores = sequence.scores;
    let guesses = row_guesses(work, sequence, row);
    let right = own(work, sequence, row).is_some_and(|drawn| scores.learn(guesses, drawn));
    sequence.scores = scores;
    right
}

/// What the sources say about field `at` of the tail.
fn tail_guesses(work: &Work, sequence: &Sequence, at: usize) -> [Option<u32>; SOURCES] {
    let before = |distance: usize| at.checked_sub(distance).map(|at| sequence.scene[at]);
    match work.open.as_ref().and_then(|open| open.columns) {
        Some(columns) => [None, before(columns), before(1), None],
        None => [None, None, before(1), echo(work, &sequence.scene[..at])],
    }
}

/// What followed the last two ids when they stood together before.
fn echo(work: &Work, decided: &[u32]) -> Option<u32> {
    let prompt = &work.prompts[0].codes;
    let first = work.tail.first().and_then(|row| row.id);
    let ids: Vec<u32> = prompt.iter().copied().chain(first).chain(decided.iter().copied()).collect();
    let (known, last) = (ids.get(..ids.len().checked_sub(1)?)?, ids.get(ids.len().checked_sub(2)?..)?);
    let at = known.windows(2).rposition(|pair| pair == last)?;
    ids.get(at + 2).copied()
}

/// What the sources say about the codes of a media row.
fn row_guesses<'a>(work: &'a Work, sequence: &'a Sequence, row: &PlanRow) -> [Option<&'a [u32]>; SOURCES] {
    let Some(latent) = row.latent else { return [None; SOURCES] };
    let (places, n) = (work.places(row.stream), work.layout.streams[row.stream].row_codes);
    let codes = &sequence.codes[row.stream];
    let place =
        |latent: usize, place: usize| codes.get((latent * places + place) * n..(latent * places + place + 1) * n);
    let width = work.plan.spec.grid.width;
    let before = match latent.checked_sub(1) {
        Some(before) => place(before, row.place),
        None => work.given.get(row.stream).and_then(|given| given.get(row.place * n..(row.place + 1) * n)),
    };
    let here = |distance: usize| row.place.checked_sub(distance).and_then(|at| place(latent, at));
    [before, here(width), here(1), None]
}

/// The codes of a media row.
fn own<'a>(work: &Work, sequence: &'a Sequence, row: &PlanRow) -> Option<&'a [u32]> {
    let (places, n) = (work.places(row.stream), work.layout.streams[row.stream].row_codes);
    let at = row.latent? * places + row.place;
    sequence.codes[row.stream].get(at * n..(at + 1) * n)
}
