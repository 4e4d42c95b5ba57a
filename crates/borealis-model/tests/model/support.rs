//! Checkpoints, batches and comparisons that the tests share.

use borealis_kernels::{DeviceSpec, Draws, QuantFormat, Span};
use borealis_model::{Batch, Forward, Logits, ModelConfig, Query, Row, load, tensor_names};
use borealis_weights::testing::{CheckpointBuilder, uniform};
use borealis_weights::{Checkpoint, Manifest};
use serde_json::Value;

/// A checkpoint with random tensors: every norm and every bias is random too.
pub fn checkpoint(config: &Value, seed: u64) -> (tempfile::TempDir, Checkpoint) {
    let folder = tempfile::tempdir().unwrap();
    let names = tensor_names(&ModelConfig::new(&Manifest::new(config, None).unwrap()).unwrap());
    CheckpointBuilder::new(config.clone()).tensors("", &names, seed).write(folder.path()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    (folder, checkpoint)
}

/// All devices of this machine.
pub fn devices() -> Vec<DeviceSpec> {
    let there = |gpu: &DeviceSpec| gpu.open().inspect_err(|why| eprintln!("skipped: no device: {why}")).is_ok();
    let gpus = [DeviceSpec::Cuda(0), DeviceSpec::Metal].into_iter().filter(there);
    [DeviceSpec::Reference, DeviceSpec::Cpu].into_iter().chain(gpus).collect()
}

/// A model with a cache of 256 slots.
pub fn runner(checkpoint: &Checkpoint, device: &DeviceSpec, max_rows: usize) -> Box<dyn Forward> {
    let mut model = load(checkpoint, device, QuantFormat::F32, 2).unwrap();
    model.allocate(256, max_rows).unwrap();
    model
}

pub fn step(model: &mut dyn Forward, batch: &Batch) -> Logits {
    let mut out = Logits::default();
    model.step(batch, &mut out).unwrap();
    out
}

/// Random choices of a test.
pub struct Dice(pub u64, u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed, 0)
    }

    pub fn number(&mut self) -> f32 {
        self.1 += 1;
        uniform(self.0, self.1)
    }

    pub fn below(&mut self, n: u32) -> u32 {
        (((self.number() + 1.0) / 2.0 * n as f32) as u32).min(n - 1)
    }
}

/// Builds batches row by row.
pub struct Rows<'a> {
    pub config: &'a ModelConfig,
    pub batch: Batch,
}

impl<'a> Rows<'a> {
    pub fn new(config: &'a ModelConfig) -> Self {
        Self { config, batch: Batch::default() }
    }

    /// Random codes of one row of modality `m`; returns where they start.
    pub fn codes(&mut self, m: usize, dice: &mut Dice) -> usize {
        let at = self.batch.codes.len();
        let spec = &self.config.modalities[m];
        for _ in 0..spec.slots {
            for code in &spec.codes {
                let id = code.start + dice.below(code.size);
                self.batch.codes.push(id);
            }
        }
        at
    }

    /// A row with random codes and features; `None` when it is BOS.
    pub fn row(
        &mut self,
        m: usize,
        codes: Option<usize>,
        position: [f32; 3],
        slot: u32,
        sees: Span,
        dice: &mut Dice,
    ) -> usize {
        let features = (self.config.row_features > 0 && m > 0).then(|| {
            let at = self.batch.features.len();
            self.batch.features.extend((0..self.config.row_features).map(|_| dice.number()));
            at
        });
        let kind = (self.config.row_kinds > 0).then(|| dice.below(self.config.row_kinds as u32));
        self.batch.rows.push(Row {
            modality: m,
            kind,
            codes,
            condition: None,
            scene: None,
            features,
            position,
            slot,
            sees,
        });
        self.batch.rows.len() - 1
    }

    pub fn query(&mut self, row: usize, allowed: Option<(u32, u32)>) {
        let modality = self.batch.rows[row].modality;
        self.batch.queries.push(Query { row, modality, allowed });
    }

    /// `n` causal text rows in the slots from `base` on, after `before` earlier ones; each is queried.
    pub fn text(&mut self, n: u32, before: u32, base: u32, dice: &mut Dice) {
        for i in before..before + n {
            let codes = self.codes(0, dice);
            let sees = Span { prefix: (0, 0), recent: (base, base + i + 1) };
            let row = self.row(0, Some(codes), [i as f32 - 9.0; 3], base + i, sees, dice);
            self.query(row, if i % 2 == 0 { None } else { Some((3, 40)) });
        }
    }
}

/// A prompt of 7 text rows and a block of all media modalities behind it, in slots from `base` on: for `tiny_config`.
pub fn media_sequence<'a>(config: &'a ModelConfig, base: u32, seed: u64) -> Rows<'a> {
    let mut dice = Dice::new(seed);
    let mut rows = Rows::new(config);
    rows.text(7, 0, base, &mut dice);
    let condition = rows.codes(1, &mut dice);
    let scene = config.scene.map(|scene| {
        let at = rows.batch.codes.len();
        rows.batch.codes.extend((0..scene.fields).map(|_| scene.start + dice.below(scene.size)));
        at
    });
    let start = base + 7;
    let media: Vec<usize> = [1].into_iter().chain([2; 6]).chain([3]).collect();
    let end = start + media.len() as u32;
    for (i, m) in media.into_iter().enumerate() {
        let slot = start + i as u32;
        // The state row sees the prompt and itself, the others see each other.
        let recent = if m == 1 { (slot, slot + 1) } else { (start, end) };
        let codes = (i % 4 != 3).then(|| rows.codes(m, &mut dice));
        let position = [i as f32 / 2.0, i as f32 - 2.5, 1.5 - i as f32];
        let row = rows.row(m, codes, position, slot, Span { prefix: (base, start), recent }, &mut dice);
        rows.batch.rows[row].condition = (m > 1).then_some(condition);
        rows.batch.rows[row].scene = scene.filter(|_| i != 2);
        rows.query(row, None);
    }
    rows
}

/// Appends the rows and queries of `b` to `a`.
pub fn join(a: &mut Batch, b: &Batch) {
    let (rows, codes, features) = (a.rows.len(), a.codes.len(), a.features.len());
    a.rows.extend(b.rows.iter().map(|r| Row {
        codes: r.codes.map(|c| c + codes),
        condition: r.condition.map(|c| c + codes),
        features: r.features.map(|f| f + features),
        ..r.clone()
    }));
    a.codes.extend(&b.codes);
    a.features.extend(&b.features);
    a.queries.extend(b.queries.iter().map(|q| Query { row: q.row + rows, ..q.clone() }));
}

/// The rows `range` of `batch` and their queries.
pub fn part(batch: &Batch, range: std::ops::Range<usize>) -> Batch {
    let queries = batch.queries.iter().filter(|q| range.contains(&q.row));
    Batch {
        rows: batch.rows[range.clone()].to_vec(),
        codes: batch.codes.clone(),
        features: batch.features.clone(),
        queries: queries.map(|q| Query { row: q.row - range.start, ..q.clone() }).collect(),
        draws: Draws::default(),
    }
}

/// `|a - b| <= atol + rtol |b|` for all numbers.
pub fn assert_close(what: &str, a: &[f32], b: &[f32], atol: f32, rtol: f32) {
    assert_eq!(a.len(), b.len(), "{what}: lengths");
    let worst = a
        .iter()
        .zip(b)
        .enumerate()
        .map(|(i, (x, y))| ((x - y).abs() - atol - rtol * y.abs(), i))
        .max_by(|x, y| x.0.total_cmp(&y.0));
    if let Some((excess, i)) = worst {
        assert!(excess <= 0.0, "{what}: {} instead of {} at {i}", a[i], b[i]);
    }
}

/// Equal bits on `Cpu`, nearly equal on the reference (candle's products round differently for different row counts).
pub fn assert_same(what: &str, device: &DeviceSpec, a: &[f32], b: &[f32]) {
    match device {
        DeviceSpec::Reference => assert_close(what, a, b, 1e-5, 1e-4),
        _ => assert!(
            a == b,
            "{what}: bits differ, at most by {}",
            a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
        ),
    }
}

/// Normalised mean squared error of `a` against `b`.
pub fn nmse(a: &[f32], b: &[f32]) -> f64 {
    let error: f64 = a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    error / b.iter().map(|y| f64::from(*y).powi(2)).sum::<f64>()
}
