//! What a request is for the worker: everything that is decided before its first step.

use std::sync::Arc;
use std::time::Instant;

use crate::features::FeatureWriter;
use crate::layout::Layout;
use crate::plan::Plan;
use crate::prompt::PromptRows;
use crate::stream::Outlet;
use crate::window::Window;
use borealis_kernels::Rule;

/// A text-like row that each variant has of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TailRow {
    /// Its id; `None`: the id decided for the field before.
    pub id: Option<u32>,
    /// The ids `[start, end)` that it predicts.
    pub predicts: Option<(u32, u32)>,
    /// Of these, ids that are not drawn here.
    pub except: Option<(u32, u32)>,
}

impl TailRow {
    /// A row whose id is given, or else the one decided last, that predicts one of `predicts`.
    pub fn new(id: Option<u32>, predicts: Option<(u32, u32)>) -> Self {
        Self { id, predicts, except: None }
    }
}

/// A request whose tail is its output: each id goes to the decoder when it is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Open {
    /// What its ids are.
    pub name: &'static str,
    /// Ids that end a variant.
    pub stops: Vec<u32>,
    /// Places of a row of the picture that the ids draw; `None` for text.
    pub columns: Option<usize>,
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
    /// The tail is the output.
    pub open: Option<Open>,
    /// Positions of a variant that a step decides; more than 1 only where the plan decides one after another.
    pub window: Window,
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
        // The tail is cut after each row that predicts; what is left behind the last of them comes with the first group.
        let cuts = self.tail.split_inclusive(|row| row.predicts.is_some());
        let tail = cuts.map(<[TailRow]>::len).max().unwrap_or(0);
        prompt.max(self.plan.widest + tail).max(1)
    }

    /// Decisions to make: positions and fields, over all variants.
    pub fn total(&self) -> usize {
        self.variants * (self.plan.decided() + self.tail.iter().filter(|t| t.predicts.is_some()).count())
    }

    /// Positions of a latent frame of a stream.
    pub fn places(&self, stream: usize) -> usize {
        self.layout.streams[stream].places(self.plan.spec.grid)
    }
}
