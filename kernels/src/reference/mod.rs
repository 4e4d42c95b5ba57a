//! The specification: every operation as a few plain candle tensor operations in f32.
//!
//! Weights are f32 tensors that hold the rounded (bf16) or dequantised (int8) values, so that a format costs here
//! exactly the precision that it costs on a fast backend. Nothing is fused or tuned, buffers are flat tensors, and
//! every operation allocates. candle's GEMM may round differently for different row counts (last bits only).

mod image;
mod moe;
mod ops;
mod tensors;

use candle_core::{DType, Device, Tensor};

use self::tensors::{put, view};
use crate::backend::Result;
use crate::{
    Activation, Backend, Canvas, Columns, HostTensor, KvFormat, Patches, QuantFormat, RopeSpec, RouterSpec, Span,
    Target, check,
};

/// Plain candle tensors on one candle device.
#[derive(Debug, Clone)]
pub struct Reference {
    device: Device,
}

/// A weight of [`Reference`]: f32 values, `[out, in]` or `[E, out, in]`, rounded as the format says.
#[derive(Debug)]
pub struct ReferenceWeight(Tensor, QuantFormat);

/// Keys and values of one layer: `[slots, kv_heads, head_dim]` each, in f32 after the rounding that the format costs.
#[derive(Debug)]
pub struct ReferenceKv {
    k: Tensor,
    v: Tensor,
    format: KvFormat,
}

/// For each row its chosen experts and their weights, in descending order of selection score.
#[derive(Debug, Default)]
pub struct ReferenceRouting(Vec<Vec<(u32, f32)>>);

impl Reference {
    /// On candle's CPU device.
    pub fn new() -> Self {
        Self { device: Device::Cpu }
    }

    /// On candle's Metal device. Fails with [`crate::KernelError::Unavailable`] where there is none.
    ///
    /// What goes through the host there, because the specification asks for lists that candle has no operation for: the choice of experts (`route`: the
    /// scores are read back and sorted), angles of rotation, tables of patches and of upsampling, colours (`paint`). Everything else stays on the device.
    pub fn on_metal() -> Result<Self> {
        let unavailable = |why: String| crate::KernelError::Unavailable { device: "reference:metal".into(), why };
        if !cfg!(target_os = "macos") {
            return Err(unavailable("Metal is a part of macOS".into()));
        }
        let device = Device::new_metal(0).map_err(|error| unavailable(error.to_string()))?;
        Ok(Self { device })
    }
}

impl Default for Reference {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Reference {
    type Buffer = Tensor;
    type Weight = ReferenceWeight;
    type Kv = ReferenceKv;
    type Routing = ReferenceRouting;

    fn name(&self) -> &'static str {
        "reference"
    }

    /// candle chooses its products by their sizes.
    fn rows_are_independent(&self) -> bool {
        false
    }

    fn alloc(&self, len: usize) -> Result<Tensor> {
        Ok(Tensor::zeros(len, DType::F32, &self.device)?)
    }

    fn write(&self, dst: &mut Tensor, at: usize, data: &[f32]) -> Result<()> {
        put("write", dst, at, &Tensor::new(data, &self.device)?)
    }

    fn read(&self, src: &Tensor, at: usize, out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(&view("read", src, at, &[out.len()])?.to_vec1::<f32>()?);
        Ok(())
    }

    fn weight(&self, tensor: &HostTensor<'_>, format: QuantFormat) -> Result<ReferenceWeight> {
        if !matches!(tensor.shape.len(), 2 | 3) {
            return Err(check::shape("weight", format!("expected [out, in] or [E, out, in], not {:?}", tensor.shape)));
        }
        let values = Tensor::from_vec(tensor.rounded(format)?, tensor.shape, &self.device)?;
        Ok(ReferenceWeight(values, format))
    }

    fn stack(&self, shape: [usize; 3], format: QuantFormat) -> Result<ReferenceWeight> {
        check::stack(shape)?;
        Ok(ReferenceWeight(Tensor::zeros(&shape[..], DType::F32, &self.device)?, format))
    }

    fn replace(&self, w: &mut ReferenceWeight, first: usize, tensor: &HostTensor<'_>) -> Result<()> {
        let (stack, shape) = w.stack("replace")?;
        check::replacement(shape, first, tensor)?;
        let values = Tensor::from_vec(tensor.rounded(w.1)?, tensor.shape, &self.device)?;
        Ok(stack.slice_set(&values, 0, first)?)
    }

    fn weight_bytes(&self, w: &ReferenceWeight) -> usize {
        w.0.elem_count() * 4
    }

    fn kv(&self, slots: usize, kv_heads: usize, head_dim: usize, format: KvFormat) -> Result<ReferenceKv> {
        let zeros = || Tensor::zeros((slots, kv_heads, head_dim), DType::F32, &self.device);
        Ok(ReferenceKv { k: zeros()?, v: zeros()?, format })
    }

    fn routing(&self, _rows: usize, _top_k: usize) -> Result<ReferenceRouting> {
        Ok(ReferenceRouting::default())
    }

    fn embed(&self, table: &ReferenceWeight, ids: &[u32], codes: usize, out: &mut Tensor) -> Result<()> {
        if codes == 0 || !ids.len().is_multiple_of(codes) {
            return Err(check::shape("embed", format!("{} ids in groups of {codes}", ids.len())));
        }
        let rows = self.lookup("embed", table, ids)?;
        let width = rows.dim(1)?;
        put("embed", out, 0, &rows.reshape((ids.len() / codes, codes, width))?.sum(1)?)
    }

    fn add_embed(&self, table: &ReferenceWeight, ids: &[u32], dst: &mut Tensor) -> Result<()> {
        let rows = self.lookup("add_embed", table, ids)?;
        let sum = (view("add_embed", dst, 0, rows.dims())? + rows)?;
        put("add_embed", dst, 0, &sum)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32, rows: usize, out: &mut Tensor) -> Result<()> {
        let x = view("rms_norm", x, 0, &[rows, weight.elem_count()])?;
        put("rms_norm", out, 0, &candle_nn::ops::rms_norm(&x, weight, eps)?)
    }

    fn rms_norm_in_place(&self, x: &mut Tensor, weight: &Tensor, eps: f32, rows: usize) -> Result<()> {
        let normed = {
            let x = view("rms_norm", x, 0, &[rows, weight.elem_count()])?;
            candle_nn::ops::rms_norm(&x, weight, eps)?
        };
        put("rms_norm", x, 0, &normed)
    }

    fn matmul(
        &self,
        x: &Tensor,
        rows: usize,
        w: &ReferenceWeight,
        range: Option<(usize, usize)>,
        accumulate: bool,
        out: &mut Tensor,
    ) -> Result<()> {
        let (w, outputs, inputs) = w.matrix("matmul")?;
        let (from, to) = range.unwrap_or((0, outputs));
        if from > to || to > outputs {
            return Err(check::shape("matmul", format!("outputs {from}..{to} of {outputs}")));
        }
        if rows == 0 || from == to {
            return Ok(());
        }
        let mut y = view("matmul", x, 0, &[rows, inputs])?.matmul(&w.narrow(0, from, to - from)?.t()?)?;
        if accumulate {
            y = (view("matmul", out, 0, &[rows, to - from])? + y)?;
        }
        put("matmul", out, 0, &y)
    }

    fn layer_norm_in_place(
        &self,
        x: &mut Tensor,
        weight: &Tensor,
        bias: &Tensor,
        width: usize,
        eps: f32,
        rows: usize,
    ) -> Result<()> {
        let n = check::vectors("layer_norm", weight.elem_count(), bias.elem_count(), width)?;
        let part = |t: &Tensor| t.reshape((1, n, width));
        let normed = ops::layer_norm(&view("layer_norm", x, 0, &[rows, n, width])?, &part(weight)?, &part(bias)?, eps)?;
        put("layer_norm", x, 0, &normed)
    }

    fn matmul_heads(
        &self,
        x: &Tensor,
        x_stride: usize,
        rows: usize,
        w: &ReferenceWeight,
        out: &mut Tensor,
        out_stride: usize,
    ) -> Result<()> {
        let (w, [heads, outputs, inputs]) = w.stack("matmul_heads")?;
        check::at_least("matmul_heads", "a head of x", x_stride, inputs)?;
        check::at_least("matmul_heads", "a head of out", out_stride, outputs)?;
        if rows == 0 {
            return Ok(());
        }
        let x = view("matmul_heads", x, 0, &[rows, heads, x_stride])?.narrow(2, 0, inputs)?;
        let y = x.transpose(0, 1)?.contiguous()?.matmul(&w.transpose(1, 2)?)?.transpose(0, 1)?;
        let old = view("matmul_heads", out, 0, &[rows, heads, out_stride])?;
        let rest = old.narrow(2, outputs, out_stride - outputs)?;
        put("matmul_heads", out, 0, &Tensor::cat(&[&y, &rest], 2)?)
    }

    fn copy_columns(
        &self,
        src: &Tensor,
        from: Columns,
        dst: &mut Tensor,
        to: Columns,
        width: usize,
        rows: usize,
    ) -> Result<()> {
        check::columns(from, to, width)?;
        let new = view("copy_columns", src, 0, &[rows, from.stride])?.narrow(1, from.at, width)?;
        let old = view("copy_columns", dst, 0, &[rows, to.stride])?;
        let (before, after) = (old.narrow(1, 0, to.at)?, to.at + width);
        let after = old.narrow(1, after, to.stride - after)?;
        put("copy_columns", dst, 0, &Tensor::cat(&[&before, &new, &after], 1)?)
    }

    fn add_bias(&self, dst: &mut Tensor, bias: &Tensor, rows: usize) -> Result<()> {
        let sum = view("add_bias", dst, 0, &[rows, bias.elem_count()])?.broadcast_add(bias)?;
        put("add_bias", dst, 0, &sum)
    }

    fn add(&self, dst: &mut Tensor, src: &Tensor, len: usize) -> Result<()> {
        let sum = (view("add", dst, 0, &[len])? + view("add", src, 0, &[len])?)?;
        put("add", dst, 0, &sum)
    }

    fn activate(&self, f: Activation, x: &mut Tensor, len: usize) -> Result<()> {
        let v = view("activate", x, 0, &[len])?;
        let y = match f {
            Activation::Silu => v.silu()?,
            Activation::Tanh => v.tanh()?,
            Activation::Gelu => v.gelu_erf()?,
            Activation::Clip(limit) => {
                let limit = check::limit(limit)?;
                v.clamp(-limit, limit)?
            }
        };
        put("activate", x, 0, &y)
    }

    fn swiglu(&self, gate_up: &Tensor, rows: usize, inner: usize, out: &mut Tensor) -> Result<()> {
        let v = view("swiglu", gate_up, 0, &[rows, 2 * inner])?;
        put("swiglu", out, 0, &ops::swiglu(&v)?)
    }

    fn rope_angles(&self, spec: &RopeSpec, positions: &[[f32; 3]], out: &mut Tensor) -> Result<()> {
        check::rope(spec)?;
        let width = 2 * spec.inv_freq.len();
        let mut angles = vec![0f32; positions.len() * width];
        for (p, row) in positions.iter().zip(angles.chunks_exact_mut(width.max(1))) {
            check::angles(spec, p, row);
        }
        self.write(out, 0, &angles)
    }

    fn rope(&self, spec: &RopeSpec, angles: &Tensor, rows: usize, heads: usize, x: &mut Tensor) -> Result<()> {
        check::rope(spec)?;
        let width = 2 * spec.inv_freq.len();
        let angles = view("rope", angles, 0, &[rows, 1, width])?;
        let y = ops::rotate(spec.rotation, &view("rope", x, 0, &[rows, heads, width])?, &angles)?;
        put("rope", x, 0, &y)
    }

    fn store_kv(&self, kv: &mut ReferenceKv, k: &Tensor, v: &Tensor, slots: &[u32]) -> Result<()> {
        let (n, heads, dim) = kv.k.dims3()?;
        check::slots("store_kv", slots, n)?;
        let k = ops::kept(&view("store_kv", k, 0, &[slots.len(), heads, dim])?, kv.format)?;
        let v = ops::kept(&view("store_kv", v, 0, &[slots.len(), heads, dim])?, kv.format)?;
        for (r, &slot) in slots.iter().enumerate() {
            kv.k.slice_set(&k.narrow(0, r, 1)?.force_contiguous()?, 0, slot as usize)?;
            kv.v.slice_set(&v.narrow(0, r, 1)?.force_contiguous()?, 0, slot as usize)?;
        }
        Ok(())
    }

    fn copy_kv(&self, kv: &mut ReferenceKv, from: u32, to: u32, len: u32) -> Result<()> {
        let (from, to, len) = (from as usize, to as usize, len as usize);
        check::at_least("copy_kv", "the slab", kv.k.dim(0)?, from.max(to) + len)?;
        for slab in [&kv.k, &kv.v] {
            slab.slice_set(&slab.narrow(0, from, len)?.copy()?, 0, to)?;
        }
        Ok(())
    }

    fn attention(
        &self,
        q: &Tensor,
        heads: usize,
        kv: &ReferenceKv,
        spans: &[Span],
        scale: f32,
        out: &mut Tensor,
    ) -> Result<()> {
        let (slots, kv_heads, dim) = kv.k.dims3()?;
        check::heads(heads, kv_heads)?;
        check::spans(spans, slots)?;
        let q = view("attention", q, 0, &[spans.len(), kv_heads, heads / kv_heads, dim])?;
        for (r, span) in spans.iter().enumerate() {
            let y = ops::attend(&q.get(r)?, &kv.k, &kv.v, *span, scale)?;
            put("attention", out, r * heads * dim, &y)?;
        }
        Ok(())
    }

    fn route(
        &self,
        x: &Tensor,
        rows: usize,
        router: &ReferenceWeight,
        spec: &RouterSpec,
        out: &mut ReferenceRouting,
    ) -> Result<()> {
        let (w, outputs, inputs) = router.matrix("route")?;
        check::router(spec, outputs)?;
        if rows == 0 {
            out.0.clear();
            return Ok(());
        }
        let logits = view("route", x, 0, &[rows, inputs])?.matmul(&w.t()?)?;
        out.0 = moe::choose(&logits, spec)?;
        Ok(())
    }

    fn read_routing(&self, routing: &ReferenceRouting, rows: usize) -> Result<Vec<Vec<(u32, f32)>>> {
        check::at_least("read_routing", "the routing", routing.0.len(), rows)?;
        Ok(routing.0[..rows].to_vec())
    }

    fn assign(&self, experts: &[u32], out: &mut ReferenceRouting) -> Result<()> {
        out.0 = experts.iter().map(|e| vec![(*e, 1.0)]).collect();
        Ok(())
    }

    fn experts(
        &self,
        x: &Tensor,
        rows: usize,
        routing: &ReferenceRouting,
        gate_up: &ReferenceWeight,
        down: &ReferenceWeight,
        dst: &mut Tensor,
    ) -> Result<()> {
        let (gate_up, [e, inner2, inputs]) = gate_up.stack("experts")?;
        let (down, [e_down, outputs, inner]) = down.stack("experts")?;
        check::equal("experts", "experts of down", e_down, e)?;
        check::equal("experts", "rows of gate_up", inner2, 2 * inner)?;
        check::at_least("experts", "the routing", routing.0.len(), rows)?;
        let x = view("experts", x, 0, &[rows, inputs])?;
        for r in 0..rows {
            let Some(y) = moe::mix(&x.narrow(0, r, 1)?, &routing.0[r], gate_up, down)? else { continue };
            let sum = (view("experts", dst, r * outputs, &[1, outputs])? + y)?;
            put("experts", dst, r * outputs, &sum)?;
        }
        Ok(())
    }

    fn gather(&self, src: &Tensor, rows: &[u32], width: usize, dst: &mut Tensor) -> Result<()> {
        for (r, &row) in rows.iter().enumerate() {
            put("gather", dst, r * width, &view("gather", src, row as usize * width, &[width])?)?;
        }
        Ok(())
    }

    fn patches(&self, x: &Tensor, p: Patches, out: &mut Tensor) -> Result<()> {
        check::patches(&p)?;
        put("patches", out, 0, &image::patches(&view("patches", x, 0, &[p.n, p.h, p.w, p.c])?, p)?)
    }

    fn pixel_shuffle2(&self, x: &Tensor, n: usize, h: usize, w: usize, c: usize, out: &mut Tensor) -> Result<()> {
        let x = view("pixel_shuffle2", x, 0, &[n, h, w, c, 2, 2])?;
        put("pixel_shuffle2", out, 0, &x.permute((0, 1, 4, 2, 5, 3))?)
    }

    fn paint(
        &self,
        masks: &Tensor,
        masks_at: usize,
        colours: &Tensor,
        colours_at: usize,
        canvas: Canvas,
        target: Target<'_>,
    ) -> Result<()> {
        check::canvas(&canvas, &target)?;
        let (h, w) = canvas.grid;
        let masks = view("paint", masks, masks_at, &[2 * h, 2 * w, canvas.layers])?;
        let colours = view("paint", colours, colours_at, &[h, w, 3 * canvas.layers])?;
        image::paint(&masks, &colours, canvas, target)
    }
}
