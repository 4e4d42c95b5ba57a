//! One model and the sequence that it computes.

use borealis_kernels::{DeviceSpec, KvFormat, QuantFormat, Span};
use borealis_model::{Batch, Forward, Logits, Query, Row, Trace, load};
use borealis_weights::Checkpoint;

use crate::goldens::Golden;

/// Slots of the cache.
const SLOTS: usize = 512;

/// A model, and how much of a sequence it has seen.
pub struct Sequence<'a> {
    checkpoint: &'a Checkpoint,
    pub model: Box<dyn Forward>,
    exact: bool,
    length: u32,
}

/// The most likely id among the allowed ones; the lowest of equals.
pub fn best(logits: &[f32], allowed: impl Fn(u32) -> bool) -> u32 {
    let ids = (0..logits.len() as u32).rev().filter(|id| allowed(*id));
    ids.max_by(|a, b| logits[*a as usize].total_cmp(&logits[*b as usize])).expect("an allowed id")
}

/// A text row of a sequence that begins at slot `base`.
pub fn row(codes: Option<usize>, position: u32, base: u32) -> Row {
    Row {
        modality: 0,
        kind: None,
        codes,
        condition: None,
        scene: None,
        features: None,
        position: [position as f32; 3],
        slot: base + position,
        sees: Span { prefix: (0, 0), recent: (base, base + position + 1) },
    }
}

impl<'a> Sequence<'a> {
    pub fn new(checkpoint: &'a Checkpoint, device: &DeviceSpec, format: QuantFormat) -> Self {
        let model = load(checkpoint, device, format, 2).unwrap_or_else(|e| panic!("{}: {e}", checkpoint.name()));
        Self::of(checkpoint, model, *device == DeviceSpec::Cpu)
    }

    /// Of a model that is loaded already; `exact`: rows have the same bits in any company.
    pub fn of(checkpoint: &'a Checkpoint, mut model: Box<dyn Forward>, exact: bool) -> Self {
        model.allocate(SLOTS, 64).expect("a cache");
        Self { checkpoint, model, exact, length: 0 }
    }

    /// Keeps keys and values in another format, and begins again.
    pub fn keep(&mut self, format: KvFormat) {
        self.model.keep(format).and_then(|()| self.model.allocate(SLOTS, 64)).expect("a cache");
        self.reset();
    }

    /// Begins again.
    pub fn reset(&mut self) {
        self.length = 0;
    }

    /// Ids that the reference's greedy decoding does not choose: ends (it was asked for a number of ids), and Chameleon's picture ids.
    pub fn banned(&self, golden: &Golden) -> Vec<u32> {
        let json = std::fs::read(golden.path.join("generation_config.json")).unwrap_or_else(|_| b"{}".to_vec());
        let config: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        let ends = &config["eos_token_id"];
        let list = ends.as_array().cloned().unwrap_or_else(|| vec![ends.clone()]);
        let mut banned: Vec<u32> = list.iter().filter_map(|id| id.as_u64()).map(|id| id as u32).collect();
        if golden.model_type == "chameleon" {
            banned.extend(self.checkpoint.manifest().segment("image").map_or(0..0, |s| s.start..s.end()));
        }
        banned
    }

    /// Appends ids; logits of each.
    pub fn push(&mut self, ids: &[u32]) -> Vec<Vec<f32>> {
        let batch = self.text(ids);
        self.step(&batch)
    }

    /// Appends ids; logits of each, and what the layers did.
    pub fn trace(&mut self, ids: &[u32]) -> (Vec<Vec<f32>>, Trace) {
        let batch = self.text(ids);
        let mut out = Logits::default();
        let trace = self.model.trace(&batch, &mut out).expect("a step");
        ((0..ids.len()).map(|q| out.query(q).to_vec()).collect(), trace)
    }

    fn text(&mut self, ids: &[u32]) -> Batch {
        let mut batch = Batch { codes: ids.to_vec(), ..Batch::default() };
        for i in 0..ids.len() {
            batch.rows.push(row(Some(i), self.length, 0));
            batch.queries.push(Query { row: i, modality: 0, allowed: None });
            self.length += 1;
        }
        batch
    }

    /// The next position of the sequence.
    pub fn next(&mut self) -> u32 {
        self.length += 1;
        self.length - 1
    }

    pub fn step(&mut self, batch: &Batch) -> Vec<Vec<f32>> {
        let mut out = Logits::default();
        self.model.step(batch, &mut out).expect("a step");
        (0..batch.queries.len()).map(|q| out.query(q).to_vec()).collect()
    }

    /// Several sequences in one batch, each in its own part of the cache: the logits of their last rows.
    pub fn side_by_side(&mut self, sequences: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let mut batch = Batch::default();
        for (s, ids) in sequences.iter().enumerate() {
            let base = (s * (SLOTS / sequences.len())) as u32;
            for (i, id) in ids.iter().enumerate() {
                batch.codes.push(*id);
                batch.rows.push(row(Some(batch.codes.len() - 1), i as u32, base));
            }
            batch.queries.push(Query { row: batch.rows.len() - 1, modality: 0, allowed: None });
        }
        self.step(&batch)
    }

    /// Rows of the residual stream after the last norm.
    pub fn normed(&self, hidden: &[f32]) -> Vec<f32> {
        let config = self.model.config();
        let width = config.hidden_size;
        let weight =
            self.checkpoint.tensors("").and_then(|t| t.expect_f32("model.norm.weight", &[width])).expect("a norm");
        let norm = |row: &[f32]| -> Vec<f32> {
            let mean = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / width as f64;
            let scale = 1.0 / (mean + f64::from(config.rms_norm_eps)).sqrt();
            row.iter().zip(&weight).map(|(x, w)| (f64::from(*x) * scale * f64::from(*w)) as f32).collect()
        };
        hidden.chunks_exact(width).flat_map(norm).collect()
    }

    /// Equal bits on `Cpu`; nearly equal on the reference, whose products round differently for different numbers of rows.
    pub fn same(&self, what: &str, a: &[f32], b: &[f32]) {
        let off = a.iter().zip(b).map(|(x, y)| (x - y).abs() / (1e-5 + 1e-4 * y.abs())).fold(0.0, f32::max);
        let name = self.checkpoint.name();
        assert_eq!(a.len(), b.len(), "{name}: {what}");
        assert!(if self.exact { a == b } else { off <= 1.0 }, "{name}: {what} differ ({off} of what is allowed)");
    }
}
