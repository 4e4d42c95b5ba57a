//! Experts that do not all fit the device: some places for the hot ones, filled from the checkpoint's files when an expert is chosen.
//!
//! A step asks for the experts that its rows chose. Those that lie in a place are *hits*; each other one is copied into the place that was used least recently. More experts than
//! places come in rounds. What is computed does not depend on it: every choice is computed alone, and the sum of a row's choices has a fixed order (`ranks/spread.rs`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use borealis_kernels::Backend;

use crate::error::Result;
use crate::load::{Loader, Source};

/// What copying experts on demand has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyTotals {
    /// Experts that a layer of a step asked for and that were on the device.
    pub hits: u64,
    /// Experts that had to be copied first.
    pub misses: u64,
    /// Bytes of them on the device.
    pub bytes: u64,
    /// Time in which steps waited for copies.
    pub took: Duration,
}

impl CopyTotals {
    /// What has come since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            hits: self.hits - before.hits,
            misses: self.misses - before.misses,
            bytes: self.bytes - before.bytes,
            took: self.took - before.took,
        }
    }

    /// Both together.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            bytes: self.bytes + other.bytes,
            took: self.took + other.took,
        }
    }

    /// The share of asked experts that were on the device; `None` when none was asked for.
    pub fn hit_rate(&self) -> Option<f64> {
        let asked = self.hits + self.misses;
        (asked > 0).then(|| self.hits as f64 / asked as f64)
    }
}

/// [`CopyTotals`] of all layers, counted while steps run.
#[derive(Debug, Default)]
pub(crate) struct Copies(Mutex<CopyTotals>);

impl Copies {
    pub fn lock(&self) -> MutexGuard<'_, CopyTotals> {
        // Counters have no invariant that a panic could break.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One assignment of a row to an expert, and the matrix of a stack in which that expert lies now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Among the assignments that were asked for.
    pub assignment: u32,
    /// Of the stack.
    pub matrix: u32,
}

/// The experts of a layer, of which only some are on the device.
pub(crate) struct HotExperts<B: Backend> {
    gate_up: B::Weight,
    down: B::Weight,
    sources: [Source; 2],
    places: Places,
    copies: Arc<Copies>,
}

impl<B: Backend> HotExperts<B> {
    /// Room for `places` experts of those in `sources` (gate and up; down); none is copied yet.
    pub fn new(loader: &Loader<'_, B>, sources: [Source; 2], places: usize) -> Result<Self> {
        let [gate_up, down] = &sources;
        Ok(Self {
            gate_up: gate_up.room(loader.backend, loader.format, places)?,
            down: down.room(loader.backend, loader.format, places)?,
            places: Places::new(gate_up.len(), places),
            sources,
            copies: loader.copies.clone(),
        })
    }

    /// Experts that fit.
    pub fn places(&self) -> usize {
        self.places.places.len()
    }

    /// Bytes on the device.
    pub fn bytes(&self, b: &B) -> u64 {
        (b.weight_bytes(&self.gate_up) + b.weight_bytes(&self.down)) as u64
    }

    /// Calls `compute` with the assignments to `experts`, in rounds: in each of them the experts of the given assignments are in the given matrices of the stacks.
    pub fn each(
        &mut self,
        b: &B,
        experts: &[u32],
        mut compute: impl FnMut((&B::Weight, &B::Weight), &[Taken]) -> Result<()>,
    ) -> Result<()> {
        for round in self.places.plan(experts) {
            let start = Instant::now();
            for &(expert, place) in &round.loads {
                // Until both halves are there the place holds nothing.
                let copied = self.copy(b, expert as usize, place as usize);
                copied.inspect_err(|_| self.places.clear())?;
            }
            let mut totals = self.copies.lock();
            totals.hits += round.hits;
            totals.misses += round.loads.len() as u64;
            totals.bytes += round.loads.len() as u64 * self.bytes(b) / self.places() as u64;
            totals.took += if round.loads.is_empty() { Duration::ZERO } else { start.elapsed() };
            drop(totals);
            compute((&self.gate_up, &self.down), &round.taken)?;
        }
        Ok(())
    }

    fn copy(&mut self, b: &B, expert: usize, place: usize) -> Result<()> {
        self.sources[0].copy(b, expert, &mut self.gate_up, place)?;
        self.sources[1].copy(b, expert, &mut self.down, place)
    }
}

/// Experts that are computed together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Round {
    /// Experts that were there.
    hits: u64,
    /// Experts that are copied before, and where to.
    loads: Vec<(u32, u32)>,
    /// What can be computed then.
    taken: Vec<Taken>,
}

/// What lies in a place, and when it was used last: the number of the call, and how many rows chose it then.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    expert: Option<u32>,
    used: (u64, u32),
    /// Taken in this round.
    round: u64,
}

/// Which expert lies where.
#[derive(Debug)]
struct Places {
    /// The place of each expert.
    of: Vec<Option<u32>>,
    places: Vec<Place>,
    calls: u64,
    rounds: u64,
}

impl Places {
    fn new(experts: usize, places: usize) -> Self {
        Self { of: vec![None; experts], places: vec![Place::default(); places.max(1)], calls: 0, rounds: 0 }
    }

    /// Nothing lies anywhere.
    fn clear(&mut self) {
        *self = Self::new(self.of.len(), self.places.len());
    }

    /// Rounds in which all assignments to `experts` can be computed. What is there already comes first; later rounds take the colder half of the places, so
    /// that a step of many rows, which asks for all experts, leaves the hot ones where they are.
    fn plan(&mut self, experts: &[u32]) -> Vec<Round> {
        self.calls += 1;
        let mut rows = vec![0u32; self.of.len()];
        experts.iter().for_each(|e| rows[*e as usize] += 1);
        let (there, mut missing): (Vec<u32>, Vec<u32>) =
            (0..rows.len() as u32).filter(|e| rows[*e as usize] > 0).partition(|e| self.of[*e as usize].is_some());
        // From the end: the experts of the fewest rows first, which the others may then push out.
        missing.sort_unstable_by_key(|e| std::cmp::Reverse((rows[*e as usize], *e)));
        self.rounds += 1;
        for expert in &there {
            let place = &mut self.places[self.of[*expert as usize].unwrap_or(0) as usize];
            (place.used, place.round) = ((self.calls, rows[*expert as usize]), self.rounds);
        }
        let mut round = Round { hits: there.len() as u64, ..Round::default() };
        let mut room = self.places.len() - there.len();
        let mut rounds = Vec::new();
        loop {
            for expert in missing.split_off(missing.len().saturating_sub(room)).into_iter().rev() {
                let place = self.take(expert, rows[expert as usize]);
                round.loads.push((expert, place));
            }
            self.fill(&mut round, experts);
            rounds.push(std::mem::take(&mut round));
            if missing.is_empty() {
                return rounds;
            }
            self.rounds += 1;
            room = self.places.len().div_ceil(2);
        }
    }

    /// Puts an expert in the place that was used least recently, and is not used in this round.
    fn take(&mut self, expert: u32, rows: u32) -> u32 {
        let round = self.rounds;
        let free = self.places.iter().enumerate().filter(|(_, p)| p.round != round);
        let place = free.min_by_key(|(i, p)| (p.used, *i)).map_or(0, |(i, _)| i);
        if let Some(old) = self.places[place].expert {
            self.of[old as usize] = None;
        }
        self.places[place] = Place { expert: Some(expert), used: (self.calls, rows), round };
        self.of[expert as usize] = Some(place as u32);
        place as u32
    }

    /// The assignments to the experts of this round.
    fn fill(&self, round: &mut Round, experts: &[u32]) {
        for (i, expert) in experts.iter().enumerate() {
            let place = self.of[*expert as usize].filter(|p| self.places[*p as usize].round == self.rounds);
            round.taken.extend(place.map(|matrix| Taken { assignment: i as u32, matrix }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Experts that are asked for in one call, with one row each.
    fn ask(places: &mut Places, experts: &[u32]) -> (u64, usize) {
        let rounds = places.plan(experts);
        (rounds.iter().map(|r| r.hits).sum(), rounds.iter().map(|r| r.loads.len()).sum())
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut places = Places::new(8, 3);
        assert_eq!(ask(&mut places, &[0, 1, 2]), (0, 3));
        assert_eq!(ask(&mut places, &[0, 2]), (2, 0));
        assert_eq!(ask(&mut places, &[2, 3]), (1, 1));
        assert_eq!(ask(&mut places, &[0, 2, 3]), (3, 0), "1 was pushed out, nobody else");
        assert_eq!(ask(&mut places, &[1]), (0, 1));
    }

    /// An expert of every call stays, whatever passes through beside it.
    #[test]
    fn hot_experts_stay() {
        let mut places = Places::new(64, 4);
        ask(&mut places, &[7, 9]);
        for i in 0..100 {
            let cold = 10 + i % 50;
            let (hits, loads) = ask(&mut places, &[7, 9, cold]);
            assert_eq!((hits, loads), (2, 1), "call {i}");
        }
    }

    /// A step of many rows asks for every expert; the two that most rows chose are there afterwards.
    #[test]
    fn many_rows_leave_the_hot_experts_there() {
        let mut places = Places::new(16, 4);
        let mut all: Vec<u32> = (0..16).collect();
        all.extend([5, 5, 5, 11, 11, 11]);
        all.sort_unstable();
        let rounds = places.plan(&all);
        assert_eq!(rounds.iter().map(|r| r.taken.len()).sum::<usize>(), all.len());
        assert_eq!(ask(&mut places, &[5, 11]), (2, 0));
    }

    proptest! {
        /// Every assignment is computed once, in a round in which its expert lies in the place that is named, and no place holds two experts in a round.
        #[test]
        fn every_assignment_is_computed_where_its_expert_is(
            places in 1usize..9,
            calls in prop::collection::vec(prop::collection::vec(0u32..12, 0..30), 1..12),
        ) {
            let mut lru = Places::new(12, places);
            // What the device holds.
            let mut device: Vec<Option<u32>> = vec![None; places];
            for mut experts in calls {
                experts.sort_unstable();
                let mut done = vec![false; experts.len()];
                for round in lru.plan(&experts) {
                    for (expert, place) in round.loads {
                        prop_assert!(device[place as usize] != Some(expert), "copied again");
                        device[place as usize] = Some(expert);
                    }
                    for t in round.taken {
                        prop_assert_eq!(device[t.matrix as usize], Some(experts[t.assignment as usize]));
                        prop_assert!(!std::mem::replace(&mut done[t.assignment as usize], true));
                    }
                }
                prop_assert!(done.iter().all(|d| *d));
            }
        }
    }
}
