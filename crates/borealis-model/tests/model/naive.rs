//! The transformer of `weights.md` as plain loops in f64, without a cache: an independent reading of the format.

use borealis_kernels::{Rotation, Scoring};
use borealis_model::{Batch, Heads, ModelConfig, QkNorm};
use borealis_weights::{Checkpoint, TensorSet};

type Vector = Vec<f64>;

pub struct Naive<'a> {
    pub c: &'a ModelConfig,
    pub t: &'a TensorSet,
    /// Chosen experts of each layer and row, best first.
    pub routing: Vec<Vec<Vec<u32>>>,
}

fn add(a: &mut [f64], b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(x, y)| *x += y);
}

impl<'a> Naive<'a> {
    pub fn new(c: &'a ModelConfig, checkpoint: &'a Checkpoint) -> Self {
        Self { c, t: checkpoint.tensors("").unwrap(), routing: Vec::new() }
    }

    pub fn tensor(&self, name: &str) -> Vector {
        self.t.to_f32(name).unwrap().into_iter().map(f64::from).collect()
    }

    /// `w x` with rows `from..` of the tensor, `x.len()` columns.
    fn linear(&self, name: &str, from: usize, x: &[f64]) -> Vector {
        self.tensor(name)[from..].chunks_exact(x.len()).map(|w| w.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
    }

    pub fn norm(&self, name: &str, x: &[f64]) -> Vector {
        let w = self.tensor(name);
        let groups = x.chunks_exact(w.len());
        groups
            .flat_map(|g| {
                let mean = g.iter().map(|v| v * v).sum::<f64>() / g.len() as f64;
                let scale = 1.0 / (mean + f64::from(self.c.rms_norm_eps)).sqrt();
                g.iter().zip(&w).map(move |(v, w)| v * scale * w).collect::<Vector>()
            })
            .collect()
    }

    fn embed(&self, m: usize, ids: &[u32]) -> Vector {
        let (c, spec) = (self.c, &self.c.modalities[m]);
        let table = self.tensor("model.embed_tokens.weight");
        let mut e = vec![0.0; spec.slots * c.embedding_size];
        for (i, id) in ids.iter().enumerate() {
            let slot = i / spec.codes.len() * c.embedding_size;
            let row = *id as usize * c.embedding_size;
            add(&mut e[slot..slot + c.embedding_size], &table[row..row + c.embedding_size]);
        }
        if c.projections { self.linear(&format!("model.modalities.{}.in_proj.weight", spec.name), 0, &e) } else { e }
    }

    fn rotate(&self, x: &mut [f64], heads: Heads, position: [f32; 3]) {
        let (n, axes) = (heads.dim / 2, self.c.rope.axes);
        for head in x.chunks_exact_mut(heads.dim) {
            for i in 0..n {
                let (axis, exponent) =
                    if axes == 1 { (0, i as f64 / n as f64) } else { (i % 3, (i / 3) as f64 / n.div_ceil(3) as f64) };
                let angle = f64::from(position[axis]) * self.c.rope.theta.powf(-exponent);
                let (a, b) = if self.c.rope.rotation == Rotation::Half { (i, i + n) } else { (2 * i, 2 * i + 1) };
                (head[a], head[b]) =
                    (head[a] * angle.cos() - head[b] * angle.sin(), head[b] * angle.cos() + head[a] * angle.sin());
            }
        }
    }

    fn swiglu(&self, prefix: &str, x: &[f64]) -> Vector {
        let gate = self.linear(&format!("{prefix}.gate_proj.weight"), 0, x);
        let up = self.linear(&format!("{prefix}.up_proj.weight"), 0, x);
        let inner: Vector = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
        self.linear(&format!("{prefix}.down_proj.weight"), 0, &inner)
    }

    fn routed(&mut self, i: usize, x: &[f64]) -> Vector {
        let prefix = format!("model.layers.{i}.mlp");
        let e = self.c.routed(i).unwrap();
        let logits = self.linear(&format!("{prefix}.gate.weight"), 0, x);
        let total: f64 = logits.iter().map(|l| l.exp()).sum();
        let scores: Vector = match e.router.scoring {
            Scoring::Softmax => logits.iter().map(|l| l.exp() / total).collect(),
            Scoring::Sigmoid => logits.iter().map(|l| 1.0 / (1.0 + (-l).exp())).collect(),
        };
        let mut chosen = scores.clone();
        if e.selection_bias {
            add(&mut chosen, &self.tensor(&format!("{prefix}.gate.e_score_correction_bias")));
        }
        let mut order: Vec<usize> = (0..chosen.len()).collect();
        order.sort_by(|a, b| chosen[*b].total_cmp(&chosen[*a]));
        order.truncate(e.router.top_k);
        self.routing[i].push(order.iter().map(|e| *e as u32).collect());
        let sum = if e.router.normalise { order.iter().map(|e| scores[*e]).sum() } else { 1.0 };
        let mut out = vec![0.0; x.len()];
        let (gate_up, down) = (
            self.tensor(&format!("{prefix}.experts.gate_up_proj")),
            self.tensor(&format!("{prefix}.experts.down_proj")),
        );
        let dot = |w: &[f64], x: &[f64]| w.iter().zip(x).map(|(a, b)| a * b).sum::<f64>();
        for k in order.into_iter().filter(|k| *k < e.router.experts) {
            let w = &gate_up[k * 2 * e.inner * x.len()..];
            let row = |r: usize| dot(&w[r * x.len()..(r + 1) * x.len()], x);
            let inner: Vector = (0..e.inner).map(|r| row(r) / (1.0 + (-row(r)).exp()) * row(r + e.inner)).collect();
            let d = &down[k * x.len() * e.inner..(k + 1) * x.len() * e.inner];
            let weight = scores[k] / sum * f64::from(e.router.scale);
            add(&mut out, &d.chunks_exact(e.inner).map(|r| weight * dot(r, &inner)).collect::<Vector>());
        }
        if e.shared > 0 {
            add(&mut out, &self.swiglu(&format!("{prefix}.shared_experts"), x));
        }
        out
    }

    /// One layer over rows `h`, of which row i sees the rows `sees[i]`.
    pub fn layer(
        &mut self,
        prefix: &str,
        routed: Option<usize>,
        heads: Heads,
        h: &mut [Vector],
        positions: &[[f32; 3]],
        sees: &[Vec<usize>],
    ) {
        let mut qkv = Vec::new();
        for (row, position) in h.iter().zip(positions) {
            let x = self.norm(&format!("{prefix}.input_layernorm.weight"), row);
            let [mut q, mut k, v] =
                ["q", "k", "v"].map(|p| self.linear(&format!("{prefix}.self_attn.{p}_proj.weight"), 0, &x));
            if heads.qk_norm == QkNorm::Head {
                q = self.norm(&format!("{prefix}.self_attn.q_norm.weight"), &q);
                k = self.norm(&format!("{prefix}.self_attn.k_norm.weight"), &k);
            }
            self.rotate(&mut q, heads, *position);
            self.rotate(&mut k, heads, *position);
            qkv.push((q, k, v));
        }
        let d = heads.dim;
        for (i, row) in h.iter_mut().enumerate() {
            let mut attended = vec![0.0; heads.query * d];
            for head in 0..heads.query {
                let kv = head / (heads.query / heads.kv) * d;
                let q = &qkv[i].0[head * d..(head + 1) * d];
                let weights: Vector = sees[i]
                    .iter()
                    .map(|j| {
                        (q.iter().zip(&qkv[*j].1[kv..]).map(|(a, b)| a * b).sum::<f64>() / (d as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                for (j, w) in sees[i].iter().zip(weights) {
                    let v: Vector = qkv[*j].2[kv..kv + d].iter().map(|v| v * w / total).collect();
                    add(&mut attended[head * d..(head + 1) * d], &v);
                }
            }
            add(row, &self.linear(&format!("{prefix}.self_attn.o_proj.weight"), 0, &attended));
        }
        for row in h.iter_mut() {
            let x = self.norm(&format!("{prefix}.post_attention_layernorm.weight"), row);
            let y = match routed {
                Some(i) => self.routed(i, &x),
                None => self.swiglu(&format!("{prefix}.mlp"), &x),
            };
            add(row, &y);
        }
    }

    /// The residual stream after the last layer; all rows of the sequence are in `batch`, each in its own slot.
    pub fn hidden(&mut self, batch: &Batch) -> Vec<Vector> {
        let c = self.c;
        self.routing = vec![Vec::new(); c.num_hidden_layers];
        let mut h: Vec<Vector> = Vec::new();
        for row in &batch.rows {
            let ids = |m: usize, at: usize| &batch.codes[at..at + c.row_codes(m)];
            let mut x =
                row.codes.map_or(vec![0.0; c.hidden_size], |at| self.embed(row.modality, ids(row.modality, at)));
            if let Some(at) = row.condition {
                let m = c.condition(row.modality).unwrap();
                add(&mut x, &self.embed(m, ids(m, at)));
            }
            if let Some(at) = row.scene {
                let (scene, table) = (c.scene.unwrap(), self.tensor("model.scene_rows.weight"));
                for id in &batch.codes[at..at + scene.fields] {
                    let start = (id - scene.start) as usize * c.hidden_size;
                    add(&mut x, &table[start..start + c.hidden_size]);
                }
            }
            if let Some(kind) = row.kind {
                let table = self.tensor("model.row_kinds.weight");
                add(&mut x, &table[kind as usize * c.hidden_size..(kind as usize + 1) * c.hidden_size]);
            }
            if let Some(at) = row.features {
                let f: Vector = batch.features[at..at + c.row_features].iter().map(|v| f64::from(*v)).collect();
                add(&mut x, &self.linear("model.in_features.weight", 0, &f));
            }
            h.push(x);
        }
        let positions: Vec<[f32; 3]> = batch.rows.iter().map(|r| r.position).collect();
        let within = |slot: u32, range: (u32, u32)| range.0 <= slot && slot < range.1;
        let seen = |sees: borealis_kernels::Span| {
            (0..batch.rows.len())
                .filter(|j| within(batch.rows[*j].slot, sees.prefix) || within(batch.rows[*j].slot, sees.recent))
                .collect()
        };
        let sees: Vec<Vec<usize>> = batch.rows.iter().map(|r| seen(r.sees)).collect();
        for i in 0..c.num_hidden_layers {
            let routed = c.routed(i).map(|_| i);
            self.layer(&format!("model.layers.{i}"), routed, c.heads, &mut h, &positions, &sees);
        }
        h
    }

    pub fn head(&self) -> &'static str {
        if self.c.tie_word_embeddings { "model.embed_tokens.weight" } else { "lm_head.weight" }
    }

    /// Slot vectors of a row.
    pub fn vectors(&self, m: usize, hidden: &[f64]) -> (Vector, Vec<Vector>) {
        let spec = &self.c.modalities[m];
        let x = self.norm("model.norm.weight", hidden);
        let v = if self.c.projections {
            self.linear(&format!("model.modalities.{}.out_proj.weight", spec.name), 0, &x)
        } else {
            x.clone()
        };
        (x, v.chunks_exact(self.c.embedding_size).map(<[f64]>::to_vec).collect())
    }

    pub fn head_rows(&self, range: (u32, u32), x: &[f64]) -> Vector {
        let (start, end) = (range.0 as usize * x.len(), range.1 as usize * x.len());
        self.tensor(self.head())[start..end]
            .chunks_exact(x.len())
            .map(|w| w.iter().zip(x).map(|(a, b)| a * b).sum())
            .collect()
    }

    /// Logits of all queries.
    pub fn logits(&mut self, batch: &Batch) -> Vec<Vec<f32>> {
        let h = self.hidden(batch);
        batch
            .queries
            .iter()
            .map(|query| {
                let (row, m) = (&batch.rows[query.row], query.modality);
                let spec = &self.c.modalities[m];
                let (x, slots) = self.vectors(m, &h[query.row]);
                let gates = spec
                    .copy_gate
                    .then(|| self.linear(&format!("model.modalities.{}.copy_gate.weight", spec.name), 0, &x));
                let mut out = Vec::new();
                for (s, vector) in slots.iter().enumerate() {
                    for (j, code) in spec.codes.iter().enumerate() {
                        let range = query.allowed.unwrap_or((code.start, code.end()));
                        let mut logits = self.head_rows(range, vector);
                        if let (Some(gates), Some(at)) = (&gates, row.codes) {
                            let n = s * spec.codes.len() + j;
                            logits[(batch.codes[at + n] - range.0) as usize] += gates[n];
                        }
                        out.extend(logits.iter().map(|v| *v as f32));
                    }
                }
                out
            })
            .collect()
    }
}
