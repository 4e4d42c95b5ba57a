//! [`Backend`] for [`Cuda`]: checks sizes, and hands addresses to the kernels.

use super::matmul::{Layout, Product};
use super::{Cuda, CudaBuffer, CudaKv, CudaRouting, CudaWeight, args, bytes, bytes_mut};
use super::{attention, moe, sample};
use crate::backend::Result;
use crate::{
    Activation, Backend, Canvas, Columns, Drawer, Draws, HostTensor, KvFormat, Patches, QuantFormat, RopeSpec,
    Rotation, RouterSpec, Span, Target, check,
};

impl Backend for Cuda {
    type Buffer = CudaBuffer;
    type Weight = CudaWeight;
    type Kv = CudaKv;
    type Routing = CudaRouting;

    fn name(&self) -> &'static str {
        "cuda"
    }

    fn fused(&self) -> &'static [&'static str] {
        &[
            "embed (sum of codes)",
            "matmul (widen or dequantise, multiply, accumulate)",
            "attention (scores, softmax, values)",
            "route (logits, scores, choice, weights)",
            "experts (gate, up, SwiGLU; down, weighted sum)",
            "sample (guidance, filters, noise, choice)",
            "paint (upsample, softmax, blend, I420)",
        ]
    }

    fn alloc(&self, len: usize) -> Result<CudaBuffer> {
        Ok(CudaBuffer { memory: self.device.zeroed(len * 4)?, len })
    }

    fn write(&self, dst: &mut CudaBuffer, at: usize, data: &[f32]) -> Result<()> {
        dst.get("write", at, data.len())?;
        let _state = self.state();
        self.device.upload(&dst.memory, 4 * at, bytes(data))
    }

    fn read(&self, src: &CudaBuffer, at: usize, out: &mut [f32]) -> Result<()> {
        src.get("read", at, out.len())?;
        let _state = self.state();
        self.device.download(&src.memory, 4 * at, bytes_mut(out))
    }

    fn weight(&self, tensor: &HostTensor<'_>, format: QuantFormat) -> Result<CudaWeight> {
        CudaWeight::upload(&self.device, tensor, format)
    }

    fn stack(&self, shape: [usize; 3], format: QuantFormat) -> Result<CudaWeight> {
        check::stack(shape)?;
        CudaWeight::allocate(&self.device, Some(shape[0]), shape[1], shape[2], format)
    }

    fn replace(&self, w: &mut CudaWeight, first: usize, tensor: &HostTensor<'_>) -> Result<()> {
        w.replace(&self.device, first, tensor)
    }

    fn weight_bytes(&self, w: &CudaWeight) -> usize {
        w.bytes()
    }

    fn kv(&self, slots: usize, kv_heads: usize, head_dim: usize, format: KvFormat) -> Result<CudaKv> {
        attention::kv(self, slots, kv_heads, head_dim, format)
    }

    fn routing(&self, rows: usize, top_k: usize) -> Result<CudaRouting> {
        moe::routing(self, rows, top_k)
    }

    fn embed(&self, table: &CudaWeight, ids: &[u32], codes: usize, out: &mut CudaBuffer) -> Result<()> {
        if codes == 0 || !ids.len().is_multiple_of(codes) {
            return Err(check::shape("embed", format!("{} ids in groups of {codes}", ids.len())));
        }
        self.lookup("embed", table, ids, codes, out, false)
    }

    fn add_embed(&self, table: &CudaWeight, ids: &[u32], dst: &mut CudaBuffer) -> Result<()> {
        self.lookup("add_embed", table, ids, 1, dst, true)
    }

    fn rms_norm(&self, x: &CudaBuffer, weight: &CudaBuffer, eps: f32, rows: usize, out: &mut CudaBuffer) -> Result<()> {
        let x = x.get("rms_norm", 0, rows * weight.len)?;
        let out = out.get("rms_norm", 0, rows * weight.len)?;
        self.norm(x, weight, eps, rows, out)
    }

    fn rms_norm_in_place(&self, x: &mut CudaBuffer, weight: &CudaBuffer, eps: f32, rows: usize) -> Result<()> {
        let x = x.get("rms_norm", 0, rows * weight.len)?;
        self.norm(x, weight, eps, rows, x)
    }

    fn layer_norm_in_place(
        &self,
        x: &mut CudaBuffer,
        weight: &CudaBuffer,
        bias: &CudaBuffer,
        width: usize,
        eps: f32,
        rows: usize,
    ) -> Result<()> {
        let n = check::vectors("layer_norm", weight.len, bias.len, width)?;
        let x = x.get("layer_norm", 0, rows * n * width)?;
        let (weight, bias) = (weight.memory.pointer(), bias.memory.pointer());
        let vectors = rows * n;
        let args = args![x, weight, bias, width as u32, eps, n as u32, vectors as u32];
        // SAFETY: the parameters of `layer_norm`; sizes were checked.
        unsafe { self.device.launch("layer_norm", [vectors.div_ceil(8), 1, 1], 256, 0, args) }
    }

    fn matmul(
        &self,
        x: &CudaBuffer,
        rows: usize,
        w: &CudaWeight,
        range: Option<(usize, usize)>,
        accumulate: bool,
        out: &mut CudaBuffer,
    ) -> Result<()> {
        let w = w.matrix("matmul")?;
        let (from, to) = range.unwrap_or((0, w.out));
        if from > to || to > w.out {
            return Err(check::shape("matmul", format!("outputs {from}..{to} of {}", w.out)));
        }
        let outputs = to - from;
        let x = x.get("matmul", 0, rows * w.inputs)?;
        let out = out.get("matmul", 0, rows * outputs)?;
        let layout = |row: usize| Layout { row: row as u32, stack: 0 };
        let (x, out) = ((x, layout(w.inputs)), (out, layout(outputs)));
        // SAFETY: sizes were just checked.
        unsafe { self.product(w, &Product { from, outputs, stack: 1, rows, x, out, accumulate }) }
    }

    fn matmul_heads(
        &self,
        x: &CudaBuffer,
        x_stride: usize,
        rows: usize,
        w: &CudaWeight,
        out: &mut CudaBuffer,
        out_stride: usize,
    ) -> Result<()> {
        let heads = w.stack("matmul_heads")?;
        check::at_least("matmul_heads", "a head of x", x_stride, w.inputs)?;
        check::at_least("matmul_heads", "a head of out", out_stride, w.out)?;
        let x = x.get("matmul_heads", 0, rows * heads * x_stride)?;
        let out = out.get("matmul_heads", 0, rows * heads * out_stride)?;
        let layout = |stride: usize| Layout { row: (heads * stride) as u32, stack: stride as u32 };
        let (x, out) = ((x, layout(x_stride)), (out, layout(out_stride)));
        let p = Product { from: 0, outputs: w.out, stack: heads, rows, x, out, accumulate: false };
        // SAFETY: sizes were just checked.
        unsafe { self.product(w, &p) }
    }

    fn copy_columns(
        &self,
        src: &CudaBuffer,
        from: Columns,
        dst: &mut CudaBuffer,
        to: Columns,
        width: usize,
        rows: usize,
    ) -> Result<()> {
        check::columns(from, to, width)?;
        let src = src.get("copy_columns", 0, rows * from.stride)?;
        let dst = dst.get("copy_columns", 0, rows * to.stride)?;
        let (a, b) = ((from.stride as u32, from.at as u32), (to.stride as u32, to.at as u32));
        let args = args![src, a.0, a.1, dst, b.0, b.1, width as u32, rows as u32];
        // SAFETY: the parameters of `copy_columns`; sizes were checked.
        unsafe { self.each("copy_columns", rows * width, args) }
    }

    fn add_bias(&self, dst: &mut CudaBuffer, bias: &CudaBuffer, rows: usize) -> Result<()> {
        let (n, len) = (bias.len, rows * bias.len);
        let (dst, bias) = (dst.get("add_bias", 0, len)?, bias.memory.pointer());
        // SAFETY: the parameters of `add_bias`; sizes were checked.
        unsafe { self.each("add_bias", len, args![dst, bias, n as u32, len as u64]) }
    }

    fn add(&self, dst: &mut CudaBuffer, src: &CudaBuffer, len: usize) -> Result<()> {
        let (src, dst) = (src.get("add", 0, len)?, dst.get("add", 0, len)?);
        // SAFETY: the parameters of `add`; sizes were checked.
        unsafe { self.each("add", len, args![dst, src, len as u64]) }
    }

    fn activate(&self, f: Activation, x: &mut CudaBuffer, len: usize) -> Result<()> {
        // Numbers of `Function` in rows.cuh.
        let (function, limit) = match f {
            Activation::Silu => (0u32, 0.0),
            Activation::Tanh => (1, 0.0),
            Activation::Gelu => (2, 0.0),
            Activation::Clip(limit) => (3, check::limit(limit)?),
        };
        let x = x.get("activate", 0, len)?;
        // SAFETY: the parameters of `activate`; sizes were checked.
        unsafe { self.each("activate", len, args![x, len as u64, function, limit]) }
    }

    fn swiglu(&self, gate_up: &CudaBuffer, rows: usize, inner: usize, out: &mut CudaBuffer) -> Result<()> {
        let len = rows * inner;
        let (both, out) = (gate_up.get("swiglu", 0, 2 * len)?, out.get("swiglu", 0, len)?);
        // SAFETY: the parameters of `swiglu`; sizes were checked.
        unsafe { self.each("swiglu", len, args![both, inner as u32, len as u64, out]) }
    }

    fn rope_angles(&self, spec: &RopeSpec, positions: &[[f32; 3]], out: &mut CudaBuffer) -> Result<()> {
        check::rope(spec)?;
        let width = 2 * spec.inv_freq.len();
        // Once a step, and a few numbers: computed on the host, so that they are those of every other backend.
        let mut angles = vec![0f32; positions.len() * width];
        for (position, row) in positions.iter().zip(angles.chunks_exact_mut(width.max(1))) {
            check::angles(spec, position, row);
        }
        self.write(out, 0, &angles)
    }

    fn rope(&self, spec: &RopeSpec, angles: &CudaBuffer, rows: usize, heads: usize, x: &mut CudaBuffer) -> Result<()> {
        check::rope(spec)?;
        let half = spec.inv_freq.len();
        let pairs = rows * heads * half;
        let (angles, x) = (angles.get("rope", 0, rows * 2 * half)?, x.get("rope", 0, 2 * pairs)?);
        let interleaved = u32::from(spec.rotation == Rotation::Interleaved);
        let args = args![angles, half as u32, heads as u32, interleaved, pairs as u64, x];
        // SAFETY: the parameters of `rope`; sizes were checked.
        unsafe { self.each("rope", pairs, args) }
    }

    fn store_kv(&self, kv: &mut CudaKv, k: &CudaBuffer, v: &CudaBuffer, slots: &[u32]) -> Result<()> {
        attention::store_kv(self, kv, k, v, slots)
    }

    fn copy_kv(&self, kv: &mut CudaKv, from: u32, to: u32, len: u32) -> Result<()> {
        attention::copy_kv(self, kv, from, to, len)
    }

    fn attention(
        &self,
        q: &CudaBuffer,
        heads: usize,
        kv: &CudaKv,
        spans: &[Span],
        scale: f32,
        out: &mut CudaBuffer,
    ) -> Result<()> {
        attention::attention(self, q, heads, kv, spans, scale, out)
    }

    fn route(
        &self,
        x: &CudaBuffer,
        rows: usize,
        router: &CudaWeight,
        spec: &RouterSpec,
        out: &mut CudaRouting,
    ) -> Result<()> {
        moe::route(self, x, rows, router, spec, out)
    }

    fn read_routing(&self, routing: &CudaRouting, rows: usize) -> Result<Vec<Vec<(u32, f32)>>> {
        moe::read_routing(self, routing, rows)
    }

    fn assign(&self, experts: &[u32], out: &mut CudaRouting) -> Result<()> {
        moe::assign(self, experts, out)
    }

    fn experts(
        &self,
        x: &CudaBuffer,
        rows: usize,
        routing: &CudaRouting,
        gate_up: &CudaWeight,
        down: &CudaWeight,
        dst: &mut CudaBuffer,
    ) -> Result<()> {
        moe::experts(self, x, rows, routing, gate_up, down, dst)
    }

    fn gather(&self, src: &CudaBuffer, rows: &[u32], width: usize, dst: &mut CudaBuffer) -> Result<()> {
        let last = rows.iter().max().map_or(0, |r| *r as usize + 1);
        let len = rows.len() * width;
        let (src, dst) = (src.get("gather", 0, last * width)?, dst.get("gather", 0, len)?);
        if len == 0 {
            return Ok(());
        }
        let mut state = self.state();
        let list = state.uploads.send(&self.device, rows.iter().copied())?;
        // SAFETY: the parameters of `gather`; every row lies in the source, as just checked.
        unsafe { self.each("gather", len, args![src, list, width as u32, len as u64, dst]) }
    }

    fn add_at(&self, dst: &mut CudaBuffer, at: &[u32], src: &CudaBuffer) -> Result<()> {
        check::ids("add_at", at, dst.len)?;
        let (src, dst) = (src.get("add_at", 0, at.len())?, dst.get("add_at", 0, 0)?);
        if at.is_empty() {
            return Ok(());
        }
        let mut state = self.state();
        let list = state.uploads.send(&self.device, at.iter().copied())?;
        // SAFETY: the parameters of `add_at`; every place lies in the target, as just checked.
        unsafe { self.each("add_at", at.len(), args![dst, list, src, at.len() as u64]) }
    }

    fn sample(
        &self,
        logits: &CudaBuffer,
        width: usize,
        draws: &Draws,
        host: &mut Drawer,
        ids: &mut Vec<Option<u32>>,
    ) -> Result<()> {
        sample::sample(self, logits, width, draws, host, ids)
    }

    fn patches(&self, x: &CudaBuffer, p: Patches, out: &mut CudaBuffer) -> Result<()> {
        check::patches(&p)?;
        let (oh, ow) = p.out();
        let len = p.n * oh * ow * p.kernel * p.kernel * p.c;
        let (x, out) = (x.get("patches", 0, p.n * p.h * p.w * p.c)?, out.get("patches", 0, len)?);
        let [h, w, c, kernel, stride, pad, oh, ow] =
            [p.h, p.w, p.c, p.kernel, p.stride, p.pad, oh, ow].map(|n| n as u32);
        let args = args![x, h, w, c, kernel, stride, pad, oh, ow, len as u64, out];
        // SAFETY: the parameters of `patches`; sizes were checked.
        unsafe { self.each("patches", len, args) }
    }

    fn pixel_shuffle2(
        &self,
        x: &CudaBuffer,
        n: usize,
        h: usize,
        w: usize,
        c: usize,
        out: &mut CudaBuffer,
    ) -> Result<()> {
        let len = n * h * w * 4 * c;
        let (x, out) = (x.get("pixel_shuffle2", 0, len)?, out.get("pixel_shuffle2", 0, len)?);
        // SAFETY: the parameters of `pixel_shuffle2`; sizes were checked.
        unsafe { self.each("pixel_shuffle2", len, args![x, w as u32, c as u32, len as u64, out]) }
    }

    fn paint(
        &self,
        masks: &CudaBuffer,
        masks_at: usize,
        colours: &CudaBuffer,
        colours_at: usize,
        canvas: Canvas,
        target: Target<'_>,
    ) -> Result<()> {
        check::canvas(&canvas, &target)?;
        let cells = canvas.grid.0 * canvas.grid.1 * canvas.layers;
        let masks = masks.get("paint", masks_at, 4 * cells)?;
        let colours = colours.get("paint", colours_at, 3 * cells)?;
        self.paint_frame(masks, colours, canvas, target)
    }
}
