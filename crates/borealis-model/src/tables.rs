//! A modality with an embedding and a head of its own (Janus's picture ids).

use borealis_kernels::{Activation, Backend, QuantFormat};
use borealis_weights::{ModalitySpec, Tables};

use crate::error::Result;
use crate::load::Loader;
use crate::names::aligner;

/// The embedding, computed for every id when the model is loaded, and the head.
pub(crate) struct OwnTables<B: Backend> {
    /// First id.
    pub start: u32,
    /// `[ids, H]`.
    pub embedding: B::Weight,
    /// `[P, H]`, with GELU behind it.
    hidden: B::Weight,
    hidden_bias: B::Buffer,
    projection: usize,
    /// `[ids, P]`.
    pub out: B::Weight,
    /// One for each id.
    pub out_bias: Vec<f32>,
}

impl<B: Backend> OwnTables<B> {
    /// Reads the tensors under `prefix` (`model.modalities.<name>`).
    pub fn load(loader: &Loader<'_, B>, prefix: &str, spec: &ModalitySpec, t: Tables, width: usize) -> Result<Self> {
        let codes = spec.codes[0];
        let (ids, name) = (codes.size as usize, |part: &str| format!("{prefix}.{part}"));
        Ok(Self {
            start: codes.start,
            embedding: loader.made(&embeddings(loader, prefix, ids, t, width)?, &[ids, width])?,
            hidden: loader.matrix(&name("head.proj_out.weight"), &[t.projection_size, width])?,
            hidden_bias: loader.vector(&name("head.proj_out.bias"), t.projection_size)?,
            projection: t.projection_size,
            out: loader.matrix(&name("head.vision_head.weight"), &[ids, t.projection_size])?,
            out_bias: loader.values(&name("head.vision_head.bias"), &[ids])?,
        })
    }

    /// Writes `gelu(hidden @ x + bias)` of each row to `out`, `[rows, P]`.
    pub fn project(&self, b: &B, x: &B::Buffer, rows: usize, out: &mut B::Buffer) -> Result<()> {
        b.matmul(x, rows, &self.hidden, None, false, out)?;
        b.add_bias(out, &self.hidden_bias, rows)?;
        Ok(b.activate(Activation::Gelu, out, rows * self.projection)?)
    }

    /// Bytes of the weights: the embedding, and the head.
    pub fn bytes(&self, b: &B) -> (u64, u64) {
        let head = b.weight_bytes(&self.hidden) + b.weight_bytes(&self.out);
        (b.weight_bytes(&self.embedding) as u64, head as u64)
    }
}

/// All ids' embeddings `[ids, H]`: the table's rows through the linear layers behind it.
fn embeddings<B: Backend>(
    loader: &Loader<'_, B>,
    prefix: &str,
    ids: usize,
    t: Tables,
    width: usize,
) -> Result<Vec<f32>> {
    let b = loader.backend;
    let table = loader.values(&format!("{prefix}.embed_tokens.weight"), &[ids, t.embedding_size])?;
    let mut x = loader.buffer(&table)?;
    let mut inputs = t.embedding_size;
    for i in 0..t.layers {
        let name = aligner(prefix, i);
        let exact = Loader { format: QuantFormat::F32, share: None, copies: loader.copies.clone(), ..*loader };
        let weight = exact.matrix(&format!("{name}.weight"), &[width, inputs])?;
        if i > 0 {
            b.activate(Activation::Gelu, &mut x, ids * inputs)?;
        }
        let mut y = b.alloc(ids * width)?;
        b.matmul(&x, ids, &weight, None, false, &mut y)?;
        b.add_bias(&mut y, &loader.vector(&format!("{name}.bias"), width)?, ids)?;
        (x, inputs) = (y, width);
    }
    let mut values = vec![0.0; ids * width];
    b.read(&x, 0, &mut values)?;
    Ok(values)
}
