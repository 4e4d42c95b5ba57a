//! Ranks as threads of one process, each with a backend of its own.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::exchange::{Exchange, Member, Parcel};
use crate::error::{ModelError, Result};

/// What comes back: the parcel with its results, or why there are none.
type Answer = std::result::Result<Parcel, String>;

/// The home's side. Dropping it ends the members.
#[derive(Debug)]
pub struct Threads {
    /// One for each rank from 1.
    links: Vec<(Sender<Parcel>, Receiver<Answer>)>,
    step: u64,
}

/// The side of one member.
#[derive(Debug)]
pub struct ThreadMember {
    parcels: Receiver<Parcel>,
    answers: Sender<Answer>,
}

impl Threads {
    /// A home and its `ranks - 1` members, for ranks 1, 2, ...
    pub fn new(ranks: usize) -> (Self, Vec<ThreadMember>) {
        let (mut links, mut members) = (Vec::new(), Vec::new());
        for _ in 1..ranks {
            let ((to, parcels), (answers, from)) = (channel(), channel());
            links.push((to, from));
            members.push(ThreadMember { parcels, answers });
        }
        (Self { links, step: 0 }, members)
    }

    fn ended(&self, rank: usize) -> ModelError {
        ModelError::Rank { rank, step: self.step, problem: "has ended: its thread is gone".into() }
    }
}

impl Exchange for Threads {
    fn ranks(&self) -> usize {
        self.links.len() + 1
    }

    fn dispatch(&mut self, to: usize, parcel: Parcel) -> Result<()> {
        self.step = parcel.step;
        self.links[to - 1].0.send(parcel).map_err(|_| self.ended(to))
    }

    fn combine(&mut self, from: usize) -> Result<Parcel> {
        match self.links[from - 1].1.recv() {
            Ok(Ok(parcel)) => Ok(parcel),
            Ok(Err(problem)) => {
                Err(ModelError::Rank { rank: from, step: self.step, problem: format!("failed: {problem}") })
            }
            Err(_) => Err(self.ended(from)),
        }
    }
}

impl Member for ThreadMember {
    fn receive(&mut self) -> Result<Option<Parcel>> {
        Ok(self.parcels.recv().ok())
    }

    fn answer(&mut self, parcel: Parcel) -> Result<()> {
        // A home that is gone wants no answer; the next `receive` ends the member.
        let _ = self.answers.send(Ok(parcel));
        Ok(())
    }

    fn fail(&mut self, problem: &str) -> Result<()> {
        let _ = self.answers.send(Err(problem.to_string()));
        Ok(())
    }
}
