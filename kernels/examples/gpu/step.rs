//! Whole steps of large shapes: every layer has weights of its own, rows route by their own numbers, ids are drawn at the end. What the matrices hold does not matter
//! for the time, so they are left as they come.

use std::collections::BTreeSet;
use std::time::Instant;

use borealis_kernels::{
    Backend, Cuda, Draw, Drawer, Draws, KvFormat, Noise, QuantFormat, RopeSpec, Rotation, RouterSpec, Rule, Scoring,
    Span,
};

use super::{Bench, Result};

type Weight = <Cuda as Backend>::Weight;
type Buffer = <Cuda as Backend>::Buffer;

/// A mixture of experts.
pub struct Shape {
    pub name: &'static str,
    pub hidden: usize,
    pub layers: usize,
    pub experts: usize,
    pub top_k: usize,
    pub inner: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub dim: usize,
    /// Ids that a row decides among.
    pub ids: usize,
}

/// OLMoE's and Qwen3-30B-A3B's, with a codebook of 65,536 ids.
pub const LARGE: [Shape; 2] = [
    Shape {
        name: "7b-a1.3b",
        hidden: 2048,
        layers: 16,
        experts: 64,
        top_k: 8,
        inner: 1024,
        heads: 16,
        kv_heads: 16,
        dim: 128,
        ids: 65_536,
    },
    Shape {
        name: "30b-a3b",
        hidden: 2048,
        layers: 48,
        experts: 128,
        top_k: 8,
        inner: 768,
        heads: 32,
        kv_heads: 4,
        dim: 128,
        ids: 65_536,
    },
];
/// For the emulator.
pub const SMALL: [Shape; 1] = [Shape {
    name: "small",
    hidden: 64,
    layers: 2,
    experts: 4,
    top_k: 2,
    inner: 32,
    heads: 2,
    kv_heads: 1,
    dim: 16,
    ids: 100,
}];

/// A latent frame of 720p in cells of 32 x 32 pixels and 8 frames; one step for each row of cells, and one for its sound.
const CELLS: (usize, usize) = (23, 40);

struct Layer {
    norm: Buffer,
    matrices: [Weight; 4],
    router: Weight,
    gate_up: Weight,
    down: Weight,
    kv: <Cuda as Backend>::Kv,
    routing: <Cuda as Backend>::Routing,
    /// What this layer's rows are: experts are chosen by it.
    rows: Buffer,
}

/// A model of a shape for steps of up to `most` rows.
pub struct Model<'a> {
    bench: &'a Bench,
    shape: &'a Shape,
    spec: RouterSpec,
    rope: RopeSpec,
    layers: Vec<Layer>,
    head: Weight,
    x: Buffer,
    q: Buffer,
    k: Buffer,
    v: Buffer,
    attended: Buffer,
    angles: Buffer,
    sum: Buffer,
    logits: Buffer,
    host: Drawer,
    context: u32,
    steps: u32,
}

impl<'a> Model<'a> {
    pub fn new(bench: &'a Bench, shape: &'a Shape, format: QuantFormat, most: usize, context: u32) -> Result<Self> {
        let (b, s) = (&bench.gpu, shape);
        let (query, kv) = (s.heads * s.dim, s.kv_heads * s.dim);
        let layer = |_| -> Result<Layer> {
            let matrix = |out: usize, inputs: usize| bench.weight(&[out, inputs], format);
            Ok(Layer {
                norm: bench.buffer(s.hidden)?,
                matrices: [
                    matrix(query, s.hidden)?,
                    matrix(kv, s.hidden)?,
                    matrix(kv, s.hidden)?,
                    matrix(s.hidden, query)?,
                ],
                router: bench.weight(&[s.experts, s.hidden], QuantFormat::F32)?,
                gate_up: b.stack([s.experts, 2 * s.inner, s.hidden], format)?,
                down: b.stack([s.experts, s.hidden, s.inner], format)?,
                kv: b.kv(context as usize + most, s.kv_heads, s.dim, KvFormat::Bf16)?,
                routing: b.routing(most, s.top_k)?,
                rows: bench.buffer(most * s.hidden)?,
            })
        };
        let spec = RouterSpec {
            experts: s.experts,
            null_experts: 0,
            top_k: s.top_k,
            scoring: Scoring::Softmax,
            normalise: true,
            scale: 1.0,
            selection_bias: Vec::new(),
            groups: 1,
            top_groups: 1,
        };
        let inv_freq = (0..s.dim / 2).map(|i| 1e4f32.powf(-2.0 * i as f32 / s.dim as f32)).collect();
        let rope = RopeSpec { rotation: Rotation::Half, inv_freq, axis: vec![0; s.dim / 2], scale: 1.0 };
        Ok(Self {
            layers: (0..s.layers).map(layer).collect::<Result<_>>()?,
            head: bench.weight(&[s.ids, s.hidden], format)?,
            x: b.alloc(most * s.hidden)?,
            q: b.alloc(most * query)?,
            k: b.alloc(most * kv)?,
            v: b.alloc(most * kv)?,
            attended: b.alloc(most * query)?,
            angles: b.alloc(most * s.dim)?,
            sum: b.alloc(most * s.hidden)?,
            logits: b.alloc(most * s.ids)?,
            host: Drawer::default(),
            steps: 0,
            bench,
            shape,
            spec,
            rope,
            context,
        })
    }

    /// One step; every row decides an id.
    fn step(&mut self, rows: usize) -> Result<()> {
        let (b, s) = (&self.bench.gpu, self.shape);
        self.steps += 1;
        let slots: Vec<u32> = (0..rows as u32).map(|i| self.context + i).collect();
        let spans = vec![Span { prefix: (0, self.context), recent: (self.context, self.context + rows as u32) }; rows];
        let positions = vec![[self.steps as f32; 3]; rows];
        b.rope_angles(&self.rope, &positions, &mut self.angles)?;
        for layer in &mut self.layers {
            let [q, k, v, o] = &layer.matrices;
            b.rms_norm(&layer.rows, &layer.norm, 1e-6, rows, &mut self.x)?;
            b.matmul(&self.x, rows, q, None, false, &mut self.q)?;
            b.matmul(&self.x, rows, k, None, false, &mut self.k)?;
            b.matmul(&self.x, rows, v, None, false, &mut self.v)?;
            b.rope(&self.rope, &self.angles, rows, s.heads, &mut self.q)?;
            b.rope(&self.rope, &self.angles, rows, s.kv_heads, &mut self.k)?;
            b.store_kv(&mut layer.kv, &self.k, &self.v, &slots)?;
            b.attention(&self.q, s.heads, &layer.kv, &spans, 0.09, &mut self.attended)?;
            b.matmul(&self.attended, rows, o, None, true, &mut self.sum)?;
            b.rms_norm(&layer.rows, &layer.norm, 1e-6, rows, &mut self.x)?;
            b.route(&self.x, rows, &layer.router, &self.spec, &mut layer.routing)?;
            b.experts(&self.x, rows, &layer.routing, &layer.gate_up, &layer.down, &mut self.sum)?;
        }
        b.matmul(&self.x, rows, &self.head, None, false, &mut self.logits)?;
        let draw = |row: usize| Draw {
            row,
            against: None,
            guidance: 1.0,
            part: (0, s.ids),
            except: (0, 0),
            rule: Rule { temperature: 1.0, top_k: 2000, ..Rule::default() },
            seen: (0, 0),
            noise: Noise::new(1, 2),
            position: self.steps,
            code: row as u32,
        };
        let draws = Draws { list: (0..rows).map(draw).collect(), seen: Vec::new() };
        b.sample(&self.logits, s.ids, &draws, &mut self.host, &mut Vec::new())
    }

    /// Seconds of a step, the fastest of several blocks of `count`.
    fn seconds(&mut self, rows: usize, count: u32) -> Result<f64> {
        let mut best = f64::INFINITY;
        (0..3).try_for_each(|_| self.step(rows))?;
        for _ in 0..3 {
            let start = Instant::now();
            (0..count).try_for_each(|_| self.step(rows))?;
            best = best.min(start.elapsed().as_secs_f64() / f64::from(count));
        }
        Ok(best)
    }

    /// Bytes that a step reads: weights of the chosen experts and of all else, keys and values once; and experts chosen in a layer, on average.
    fn bytes(&self, rows: usize) -> Result<(f64, f64)> {
        let (b, s) = (&self.bench.gpu, self.shape);
        let (mut bytes, mut chosen) = (b.weight_bytes(&self.head) as f64, 0);
        for layer in &self.layers {
            let routing = b.read_routing(&layer.routing, rows)?;
            let some: BTreeSet<u32> = routing.into_iter().flatten().map(|(e, _)| e).collect();
            let experts = (b.weight_bytes(&layer.gate_up) + b.weight_bytes(&layer.down)) as f64;
            bytes += experts * some.len() as f64 / s.experts as f64;
            bytes += layer.matrices.iter().map(|m| b.weight_bytes(m)).sum::<usize>() as f64;
            bytes += (self.context as usize * s.kv_heads * s.dim * 4) as f64;
            chosen += some.len();
        }
        Ok((bytes, chosen as f64 / self.layers.len() as f64))
    }

    /// Steps per second with and without graphs at some numbers of rows, then what they come to for clips.
    pub fn tell(&mut self, format: QuantFormat, rows: &[usize], count: u32) -> Result<()> {
        let name = self.shape.name;
        let rate = |model: &mut Self, rows: usize| -> Result<f64> {
            model.bench.gpu.graphs(false)?;
            let eager = model.seconds(rows, count)?;
            model.bench.gpu.graphs(true)?;
            let seconds = model.seconds(rows, count)?;
            let (bytes, experts) = model.bytes(rows)?;
            println!(
                "{{\"op\":\"step {name} {}\",\"rows\":{rows},\"context\":{},\"experts_per_layer\":{experts:.1},\"steps_per_second\":{:.1},\"steps_per_second_without_graphs\":{:.1},\"gigabytes_per_second\":{:.1},\"share_of_copy\":{:.3}}}",
                format.name(),
                model.context,
                1.0 / seconds,
                1.0 / eager,
                bytes / seconds / 1e9,
                bytes / seconds / model.bench.copy
            );
            Ok(seconds)
        };
        for rows in rows {
            rate(self, *rows)?;
        }
        // One clip and four, guided: two rows for each cell.
        let most = 8 * CELLS.1;
        if rows.iter().max().is_none_or(|max| *max < most) {
            return Ok(());
        }
        let (one, four) = (rate(self, 2 * CELLS.1)?, rate(self, most)?);
        for length in [8, 10] {
            let steps = (3 * length * (CELLS.0 + 1)) as f64;
            println!(
                "{{\"op\":\"clip {name} {} 8x32x32 by rows, guided\",\"length\":{length},\"steps\":{steps},\"seconds\":{:.2},\"first_frame\":{:.3},\"four_variants\":{:.2}}}",
                format.name(),
                steps * one,
                (CELLS.0 + 1) as f64 * one,
                steps * four
            );
        }
        Ok(())
    }
}
