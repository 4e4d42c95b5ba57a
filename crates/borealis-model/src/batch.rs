//! What the engine hands to the model for one step.

use borealis_kernels::Span;

/// One position to compute: row of the transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Index of its modality in the manifest.
    pub modality: usize,
    /// Index into `row_kinds`; `None` where the checkpoint has none.
    pub kind: Option<u32>,
    /// Start of its input codes in [`Batch::codes`] (`slots * codes` ids); `None` = BOS.
    pub codes: Option<usize>,
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
}

/// Logits of the queries of one step, one after another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Logits {
    /// All numbers.
    pub values: Vec<f32>,
    /// Where query q starts; one more at the end. A multi-code query holds, slot by slot and code by code, `size` logits for each code's own range.
    pub offsets: Vec<usize>,
}

impl Logits {
    /// The logits of query `q`.
    pub fn query(&self, q: usize) -> &[f32] {
        &self.values[self.offsets[q]..self.offsets[q + 1]]
    }
}
