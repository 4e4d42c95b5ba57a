//! What the engine hands to the model for one step.

use borealis_kernels::{Draw, Drawer, Draws, Span};
use borealis_weights::{ModalitySpec, Predict};

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};

/// One position to compute: row of the transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Index of its modality in the manifest.
    pub modality: usize,
    /// Index into `row_kinds`; `None` where the checkpoint has none.
    pub kind: Option<u32>,
    /// Start of its input codes in [`Batch::codes`] (`slots * codes` ids); `None` = BOS.
    pub codes: Option<usize>,
    /// Start of its condition's codes in [`Batch::codes`] (`slots * codes` ids of the modality that its modality's `condition` names); `None` = none is added.
    pub condition: Option<usize>,
    /// Start of its scene plan in [`Batch::codes`] (one id for each field); `None` = none is added.
    pub scene: Option<usize>,
    /// Start of its features in [`Batch::features`] (F numbers); `None` = zeros.
    pub features: Option<usize>,
    /// Rotary position (t, y, x); text lies on the diagonal.
    pub position: [f32; 3],
    /// Slot of the KV slab that it is written to.
    pub slot: u32,
    /// Slots that it sees (its own included).
    pub sees: Span,
}

/// A row whose prediction is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Index into [`Batch::rows`].
    pub row: usize,
    /// The modality that is predicted (a text row predicts text-like ids, a video row video codes).
    pub modality: usize,
    /// For modalities with one code: ids `[start, end)` that are allowed; the head is sliced to them. `None`: the whole range of each code.
    pub allowed: Option<(u32, u32)>,
}

/// Rows of any number of sequences that are computed together. The result of a row depends on the row and on the slots it sees, never on its neighbours in the batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The rows.
    pub rows: Vec<Row>,
    /// Input ids of all rows.
    pub codes: Vec<u32>,
    /// Features of all rows.
    pub features: Vec<f32>,
    /// The rows that are asked for a prediction.
    pub queries: Vec<Query>,
    /// Ids that are drawn from the logits of queries, where these lie; a draw's row is the number of its query. Queries of a `depth` modality cannot be drawn from.
    pub draws: Draws,
}

/// What the queries of one step give: logits, one query after another, and the ids of its draws.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Logits {
    /// All numbers.
    pub values: Vec<f32>,
    /// Where query q starts; one more at the end. A multi-code query holds, slot by slot and code by code, `size` logits for each code's own range;
    /// a query of a `depth` modality holds one code of each slot, the one that is decided now (see [`crate::Forward::depth_step`]).
    /// Queries that ids are drawn from have none.
    pub offsets: Vec<usize>,
    /// The id of each draw of the batch, as [`borealis_kernels::Draw::part`] counts; `None` where a logit is not a number or nothing is left to draw.
    pub ids: Vec<Option<u32>>,
}

impl Logits {
    /// The logits of query `q`.
    pub fn query(&self, q: usize) -> &[f32] {
        &self.values[self.offsets[q]..self.offsets[q + 1]]
    }

    /// Draws an id from the logits that lie here; a draw's row is the number of a query.
    pub fn draw(&self, host: &mut Drawer, draw: &Draw, seen: &[u32]) -> Option<u32> {
        host.draw(self.query(draw.row), draw.against.map(|q| self.query(q)), draw, seen)
    }
}

impl Batch {
    /// Refuses rows and queries that do not fit the model, a cache of `slots` slots, or each other.
    pub(crate) fn check(&self, config: &ModelConfig, slots: usize) -> Result<()> {
        for (i, row) in self.rows.iter().enumerate() {
            self.check_row(config, slots, row).map_err(|what| ModelError::Batch(format!("row {i}: {what}")))?;
        }
        for (i, query) in self.queries.iter().enumerate() {
            let bad = |what: String| Err(ModelError::Batch(format!("query {i}: {what}")));
            let Some(spec) = config.modalities.get(query.modality) else {
                return bad(format!("modality {} of {}", query.modality, config.modalities.len()));
            };
            if query.row >= self.rows.len() {
                return bad(format!("row {} of {}", query.row, self.rows.len()));
            }
            match query.allowed {
                Some(_) if spec.predict != Predict::One => {
                    return bad(format!("{} has several codes, ids cannot be restricted", spec.name));
                }
                Some((start, end)) if start >= end || !in_head(config, spec, start, end) => {
                    return bad(format!("allowed ids {start}..{end} of {}", config.vocab_size));
                }
                _ => {}
            }
        }
        self.check_draws(config)
    }

    fn check_draws(&self, config: &ModelConfig) -> Result<()> {
        let mut last = 0;
        for (i, draw) in self.draws.list.iter().enumerate() {
            let bad = |what: String| Err(ModelError::Batch(format!("draw {i}: {what}")));
            let Some(query) = self.queries.get(draw.row) else {
                return bad(format!("query {} of {}", draw.row, self.queries.len()));
            };
            let spec = &config.modalities[query.modality];
            let alike = |other: &Query| (other.modality, other.allowed) == (query.modality, query.allowed);
            if spec.predict == Predict::Depth {
                return bad(format!("the codes of {} are decided one after another", spec.name));
            }
            if draw.row < last {
                return bad(format!("query {} after query {last}: draws go in ascending order", draw.row));
            }
            if draw.against.is_some_and(|q| !self.queries.get(q).is_some_and(alike)) {
                return bad(format!("query {} and its unconditional one predict other ids", draw.row));
            }
            last = draw.row;
        }
        Ok(())
    }

    fn check_row(&self, config: &ModelConfig, slots: usize, row: &Row) -> std::result::Result<(), String> {
        let spec = config
            .modalities
            .get(row.modality)
            .ok_or_else(|| format!("modality {} of {}", row.modality, config.modalities.len()))?;
        if let Some(start) = row.codes {
            self.check_codes(spec, start)?;
        }
        if let Some(start) = row.condition {
            let m = config.condition(row.modality).ok_or_else(|| format!("{} has no condition", spec.name))?;
            self.check_codes(&config.modalities[m], start)?;
        }
        if let Some(start) = row.scene {
            let scene = config.scene.ok_or("the checkpoint has no scene_rows")?;
            let ids = start.checked_add(scene.fields).and_then(|end| self.codes.get(start..end));
            let ids = ids.ok_or_else(|| format!("scene ids from {start} of {}", self.codes.len()))?;
            if let Some(id) = ids.iter().find(|id| !scene.range().contains(id)) {
                return Err(format!("id {id} is not a scene id ({:?})", scene.range()));
            }
        }
        if let Some(kind) = row.kind.filter(|k| *k as usize >= config.row_kinds) {
            return Err(format!("kind {kind} of {}", config.row_kinds));
        }
        if let Some(start) =
            row.features.filter(|s| s.checked_add(config.row_features).is_none_or(|end| end > self.features.len()))
        {
            return Err(format!("features from {start} of {}", self.features.len()));
        }
        if let Some(reach) = config.rope.reach.filter(|reach| row.position[0] >= *reach as f32) {
            return Err(format!(
                "position {}: the checkpoint's rope_type has fixed frequencies for {reach} positions only, use a shorter text",
                row.position[0]
            ));
        }
        let sees = row.sees;
        let fits = |(start, end): (u32, u32)| start <= end && end as usize <= slots;
        if row.slot as usize >= slots || !fits(sees.prefix) || !fits(sees.recent) {
            return Err(format!(
                "slot {} and spans {:?}, {:?} in a cache of {slots} slots",
                row.slot, sees.prefix, sees.recent
            ));
        }
        if sees.prefix.0 == sees.prefix.1 && sees.recent.0 == sees.recent.1 {
            return Err("it sees no slot".into());
        }
        if sees.prefix.0.max(sees.recent.0) < sees.prefix.1.min(sees.recent.1) {
            return Err(format!("spans {:?} and {:?} overlap", sees.prefix, sees.recent));
        }
        Ok(())
    }

    fn check_codes(&self, spec: &ModalitySpec, start: usize) -> std::result::Result<(), String> {
        let codes = start.checked_add(spec.row_codes()).and_then(|end| self.codes.get(start..end));
        let codes = codes.ok_or_else(|| format!("codes of {} from {start} of {}", spec.name, self.codes.len()))?;
        match codes.iter().zip(spec.codes.iter().cycle()).enumerate().find(|(_, (id, range))| !range.contains(**id)) {
            Some((at, (id, range))) => Err(format!(
                "id {id} is not in the range {}..{} of code {} of {}",
                range.start,
                range.end(),
                at % spec.codes.len(),
                spec.name
            )),
            None => Ok(()),
        }
    }
}

/// Whether the head that predicts a modality has rows for `start..end`.
fn in_head(config: &ModelConfig, spec: &ModalitySpec, start: u32, end: u32) -> bool {
    match spec.tables {
        Some(_) => start >= spec.codes[0].start && end <= spec.codes[0].end(),
        None => end as usize <= config.table_rows(),
    }
}
