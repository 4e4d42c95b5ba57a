//! The recipe's numbers (`tests/goldens/`, made by `recipes/make_goldens.py`): hidden states, expert choices, logits and ids of one greedy clip.

use std::path::PathBuf;

use crate::support::*;
use borealis_kernels::{DeviceSpec, Span};
use borealis_model::{Batch, Forward, Logits, ModelConfig, Query, Row};
use borealis_weights::{Checkpoint, Features, Near};
use safetensors::{Dtype, SafeTensors};

const GRID: (usize, usize) = (5, 8);

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/goldens"))
}

/// The clip that the recipe generated, and what its transformer did on the way.
struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    fn numbers(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let t = file.tensor(name).unwrap();
        match t.dtype() {
            Dtype::F32 => t.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
            Dtype::I32 => t.data().as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
            Dtype::I16 => t.data().as_chunks::<2>().0.iter().map(|b| i16::from_le_bytes(*b).into()).collect(),
            other => panic!("{name} is {other:?}"),
        }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.numbers(name).into_iter().map(|v| v as f32).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.numbers(name).into_iter().map(|v| v as u32).collect()
    }
}

/// `sc(v, frequencies)` of section 4: all sines, then all cosines.
fn sines(v: f32, frequencies: &[f32], out: &mut Vec<f32>) {
    out.extend(frequencies.iter().map(|f| (std::f32::consts::TAU * v * f).sin()));
    out.extend(frequencies.iter().map(|f| (std::f32::consts::TAU * v * f).cos()));
}

fn distances(near: &Near, config: &ModelConfig, x: f32, y: f32, state: &[u32], out: &mut Vec<f32>) {
    let codes = &config.modalities[near.modality].codes;
    for slot in state.chunks_exact(codes.len()) {
        for [px, py] in &near.points {
            let level = |code: usize| slot[code] - codes[code].start;
            let at = |code: usize| level(code) as f32 / near.scale + near.shift;
            let (dx, dy) = (x - at(*px), y - at(*py));
            let start = out.len();
            sines(dx, &near.frequencies, out);
            sines(dy, &near.frequencies, out);
            out.extend(near.decays.iter().map(|d| (-d * (dx * dx + dy * dy)).exp()));
            if level(*px) == codes[*px].size - 1 {
                out[start..].fill(0.0);
            }
        }
    }
}

/// Offsets of the four cells in each object's own frame, from angles instead of from rotated components.
fn objects(near: &Near, config: &ModelConfig, x: f32, y: f32, state: &[u32], out: &mut Vec<f32>) {
    let frame = near.object.as_ref().unwrap();
    let codes = &config.modalities[near.modality].codes;
    for slot in state.chunks_exact(codes.len()) {
        for [px, py] in &near.points {
            let level = |code: usize| slot[code] - codes[code].start;
            let at = |code: usize| level(code) as f32 / near.scale + near.shift;
            if [*px, *py, 4, 5].iter().any(|&code| level(code) == codes[code].size - 1) {
                out.extend(vec![0.0; frame.size()]);
                continue;
            }
            let radius = frame.radius_first + frame.radius_step * level(4) as f32;
            let turn = std::f32::consts::TAU * level(5) as f32 / frame.angle_steps;
            for (cx, cy) in [(-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)] {
                let (u, v) = (x - at(*px) + cx / 9.0, y - at(*py) + cy / 9.0);
                let (far, direction) = ((u.hypot(v) / radius).min(frame.limit), v.atan2(u) - turn);
                sines(direction.cos() * far, &frame.frequencies, out);
                sines(direction.sin() * far, &frame.frequencies, out);
                sines(far, &frame.frequencies, out);
                let multiples = || (1..=frame.harmonics).map(|k| k as f32 * direction);
                out.extend(multiples().map(|a| a.sin() * far.min(1.0)));
                out.extend(multiples().map(|a| a.cos() * far.min(1.0)));
            }
        }
    }
}

/// Features of a video row, or of the audio row (`place` none).
fn features(
    f: &Features,
    config: &ModelConfig,
    place: Option<(usize, usize)>,
    latent: usize,
    state: &[u32],
) -> Vec<f32> {
    let mut out = Vec::new();
    let at = |i: usize| (2 * i + 1) as f32 / 9.0;
    match place {
        Some((row, column)) => {
            sines(at(column) - 16.0 / 9.0 / 2.0, &f.x, &mut out);
            sines(at(row), &f.y, &mut out);
        }
        None => out.resize(2 * (f.x.len() + f.y.len()), 0.0),
    }
    sines(latent as f32 / 6.0, &f.seconds, &mut out);
    match (&f.near, place) {
        (Some(near), Some((row, column))) => {
            distances(near, config, at(column), at(row), state, &mut out);
            objects(near, config, at(column), at(row), state, &mut out);
        }
        _ => out.resize(f.len(), 0.0),
    }
    out
}

/// One sequence, decided greedily.
struct Clip<'a> {
    golden: &'a Golden,
    checkpoint: &'a Checkpoint,
    model: Box<dyn Forward>,
    device: &'a DeviceSpec,
    slot: u32,
}

fn best(logits: &[f32]) -> u32 {
    (0..logits.len()).rev().max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32
}

impl Clip<'_> {
    fn kind(&self, name: &str) -> Option<u32> {
        Some(self.checkpoint.manifest().row_kind(name).unwrap())
    }

    fn close(&self, what: &str, found: &[f32]) {
        let expected = self.golden.floats(what);
        assert_close(&format!("{what} on {:?}", self.device), found, &expected, 1e-4, 1e-3);
    }

    /// Text-like rows; asks the last one for an id in `allowed` and returns the logits.
    fn text(&mut self, ids: &[u32], end: u32, allowed: Option<(u32, u32)>) -> (Batch, Logits) {
        let mut batch = Batch { codes: ids.to_vec(), ..Batch::default() };
        for (i, id) in ids.iter().enumerate() {
            let slot = self.slot + i as u32;
            batch.rows.push(Row {
                modality: 0,
                kind: self.kind(if *id < 832 { "text" } else { "scene" }),
                codes: Some(i),
                condition: None,
                scene: None,
                features: None,
                position: [slot as f32 - end as f32; 3],
                slot,
                sees: Span { prefix: (0, slot + 1), recent: (0, 0) },
            });
        }
        self.slot += ids.len() as u32;
        if allowed.is_some() {
            batch.queries.push(Query { row: ids.len() - 1, modality: 0, allowed });
        }
        let logits = step(self.model.as_mut(), &batch);
        (batch, logits)
    }

    /// The prompt and the scene plan: hidden states, expert choices and the greedy plan.
    fn prefix(&mut self) {
        let ids = self.golden.ids("t2v.prompt_ids");
        let scene = self.golden.ids("t2v.scene");
        let end = (ids.len() + scene.len() + 1) as u32;
        let fields = self.checkpoint.manifest().scene.fields.clone();
        let range = |i: usize| fields.get(i).map(|f| (f.start, f.start + f.size));
        let (batch, mut logits) = self.text(&ids, end, range(0));
        let trace = self.model.trace(&batch, &mut Logits::default()).unwrap();
        for layer in 0..2 {
            self.close(&format!("t2v.prefix.layer{layer}"), &trace.hidden[layer + 1]);
            self.experts(&format!("t2v.prefix.experts{layer}"), &trace.routing[layer]);
        }
        for (i, id) in scene.iter().enumerate() {
            assert_eq!(fields[i].start + best(logits.query(0)), *id, "scene field {i} on {:?}", self.device);
            logits = self.text(&[*id], end, range(i + 1)).1;
        }
        let media = self.checkpoint.manifest().control("<media>").unwrap();
        self.text(&[media], end, None);
    }

    fn experts(&self, what: &str, routing: &[Vec<(u32, f32)>]) {
        let found: Vec<u32> = routing.iter().flatten().map(|(e, _)| *e).collect();
        assert_eq!(found, self.golden.ids(what), "{what} on {:?}", self.device);
    }

    /// Rows of block `b`: the state row, then (unless b is -1) 40 video rows and the audio row. `inputs`: codes of the latent frame before.
    fn block(&self, b: i32, state: &[u32], inputs: Option<(&[u32], &[u32])>) -> Batch {
        let config = self.model.config();
        let f = self.checkpoint.manifest().row_features.clone().unwrap();
        let scene = self.golden.ids("t2v.scene");
        let mut batch = Batch { codes: [state, &scene].concat(), ..Batch::default() };
        let end = self.slot + if b < 0 { 1 } else { 42 };
        let mut push =
            |m: usize, codes: Option<&[u32]>, kind: &str, position: [f32; 3], place: Option<(usize, usize)>| {
                let slot = self.slot + batch.rows.len() as u32;
                let at = codes.map(|c| {
                    let at = if m == 1 { 0 } else { batch.codes.len() };
                    batch.codes.extend(if m == 1 { &[] } else { c });
                    at
                });
                let media = (m > 1).then(|| {
                    let at = batch.features.len();
                    batch.features.extend(features(&f, config, place, b as usize, state));
                    at
                });
                let name = if codes.is_some() { kind.to_string() } else { format!("{kind}_bos") };
                let recent = if m == 1 { (slot, slot + 1) } else { (self.slot, end) };
                let sees = Span { prefix: (0, self.slot), recent };
                batch.queries.push(Query { row: batch.rows.len(), modality: m, allowed: None });
                let condition = (m > 1).then_some(0);
                batch.rows.push(Row {
                    modality: m,
                    kind: self.kind(&name),
                    codes: at,
                    condition,
                    scene: Some(state.len()),
                    features: media,
                    position,
                    slot,
                    sees,
                });
            };
        let side = GRID.0 as f32 / 2.0 + 2.0;
        push(1, (b >= 0).then_some(state), "state", [0.0, side, 1.0], None);
        if b >= 0 {
            for place in 0..GRID.0 * GRID.1 {
                let (y, x) = (place / GRID.1, place % GRID.1);
                let codes = inputs.map(|i| &i.0[place * 36..(place + 1) * 36]);
                push(2, codes, "video", [0.0, y as f32 - 2.0, x as f32 - 3.5], Some((y, x)));
            }
            push(3, inputs.map(|i| i.1), "audio", [0.0, side, -1.0], None);
        }
        batch
    }

    /// The most likely code of each slot of query `q`.
    fn decide(&self, m: usize, logits: &[f32]) -> Vec<u32> {
        let spec = &self.model.config().modalities[m];
        let mut at = 0;
        let all = (0..spec.slots).flat_map(|_| &spec.codes);
        all.map(|code| {
            at += code.size as usize;
            code.start + best(&logits[at - code.size as usize..at])
        })
        .collect()
    }

    fn blocks(&mut self) {
        let (states, videos, audios) =
            (self.golden.ids("t2v.state"), self.golden.ids("t2v.video"), self.golden.ids("t2v.audio"));
        let opening = self.block(-1, &[], None);
        let opening = step(self.model.as_mut(), &opening);
        let mut state = self.decide(1, opening.query(0));
        let mut before: Option<(Vec<u32>, Vec<u32>)> = None;
        for b in 0..3 {
            assert_eq!(state, states[16 * b..16 * (b + 1)], "state {b} on {:?}", self.device);
            let batch = self.block(b as i32, &state, before.as_ref().map(|(v, a)| (v.as_slice(), a.as_slice())));
            let mut logits = Logits::default();
            let trace = self.model.trace(&batch, &mut logits).unwrap();
            if b == 0 {
                for layer in 0..2 {
                    self.close(&format!("t2v.block0.layer{layer}"), &trace.hidden[layer + 1]);
                    self.experts(&format!("t2v.block0.experts{layer}"), &trace.routing[layer]);
                }
                let video: Vec<f32> = (1..41).flat_map(|q| logits.query(q).to_vec()).collect();
                self.close("t2v.block0.video_logits", &video);
                self.close("t2v.block0.audio_logits", logits.query(41));
            }
            let video: Vec<u32> = (1..41).flat_map(|q| self.decide(2, logits.query(q))).collect();
            let audio = self.decide(3, logits.query(41));
            assert_eq!(video, videos[1440 * b..1440 * (b + 1)], "video {b} on {:?}", self.device);
            assert_eq!(audio, audios[12 * b..12 * (b + 1)], "audio {b} on {:?}", self.device);
            state = self.decide(1, logits.query(0));
            before = Some((video, audio));
        }
    }
}

#[test]
fn a_greedy_clip_is_the_recipe_s() {
    let golden = Golden { bytes: std::fs::read(folder().join("golden.safetensors")).unwrap() };
    let checkpoint = Checkpoint::open(&folder().join("tiny-default")).unwrap();
    for device in &devices() {
        let mut clip =
            Clip { golden: &golden, checkpoint: &checkpoint, model: runner(&checkpoint, device, 64), device, slot: 0 };
        clip.prefix();
        clip.blocks();
    }
}
