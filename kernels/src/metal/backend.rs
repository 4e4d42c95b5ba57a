//! [`Backend`] for [`Metal`]: checks sizes, and hands places to the kernels.

use super::arguments::Place;
use super::matmul::Sizes;
use super::{Metal, MetalBuffer, MetalKv, MetalRouting, MetalWeight, args, by_format};
use crate::backend::Result;
use crate::cuda::{bytes, bytes_mut};
use crate::{
    Activation, Backend, Canvas, Columns, HostTensor, KvFormat, Patches, QuantFormat, RopeSpec, Rotation, RouterSpec,
    Span, Target, check,
};

/// Vectors shorter than this are normalised by a simdgroup, longer ones by a threadgroup.
const SHORT: usize = 512;

impl Backend for Metal {
    type Buffer = MetalBuffer;
    type Weight = MetalWeight;
    type Kv = MetalKv;
    type Routing = MetalRouting;

    fn name(&self) -> &'static str {
        "metal"
    }

    fn fused(&self) -> &'static [&'static str] {
        &[
            "embed (sum of codes)",
            "matmul (widen or dequantise, multiply, accumulate)",
            "attention (dequantise, scores, softmax, values)",
            "route (logits, scores, choice, weights)",
            "experts (gate, up, SwiGLU; down, weighted sum)",
            "paint (upsample, softmax, blend, I420)",
        ]
    }

    fn alloc(&self, len: usize) -> Result<MetalBuffer> {
        Ok(MetalBuffer { memory: self.device.zeroed(len * 4)?, len })
    }

    fn write(&self, dst: &mut MetalBuffer, at: usize, data: &[f32]) -> Result<()> {
        let place = dst.get("write", at, data.len())?;
        if self.device.is_idle() {
            // SAFETY: no kernel is at work.
            return unsafe { dst.memory.fill(place.at, bytes(data)) };
        }
        let words: Vec<u32> = data.iter().map(|x| x.to_bits()).collect();
        self.put_words(&words, place)
    }

    fn read(&self, src: &MetalBuffer, at: usize, out: &mut [f32]) -> Result<()> {
        let place = src.get("read", at, out.len())?;
        self.device.download(&src.memory, place.at, bytes_mut(out))
    }

    fn weight(&self, tensor: &HostTensor<'_>, format: QuantFormat) -> Result<MetalWeight> {
        MetalWeight::upload(&self.device, tensor, format)
    }

    fn stack(&self, shape: [usize; 3], format: QuantFormat) -> Result<MetalWeight> {
        check::stack(shape)?;
        MetalWeight::allocate(&self.device, Some(shape[0]), shape[1], shape[2], format)
    }

    fn replace(&self, w: &mut MetalWeight, first: usize, tensor: &HostTensor<'_>) -> Result<()> {
        w.replace(&self.device, first, tensor)
    }

    fn weight_bytes(&self, w: &MetalWeight) -> usize {
        w.bytes()
    }

    fn kv(&self, slots: usize, kv_heads: usize, head_dim: usize, format: KvFormat) -> Result<MetalKv> {
        self.new_kv(slots, kv_heads, head_dim, format)
    }

    fn routing(&self, rows: usize, top_k: usize) -> Result<MetalRouting> {
        self.new_routing(rows, top_k)
    }

    fn embed(&self, table: &MetalWeight, ids: &[u32], codes: usize, out: &mut MetalBuffer) -> Result<()> {
        if codes == 0 || !ids.len().is_multiple_of(codes) {
            return Err(check::shape("embed", format!("{} ids in groups of {codes}", ids.len())));
        }
        self.lookup("embed", table, ids, codes, out, false)
    }

    fn add_embed(&self, table: &MetalWeight, ids: &[u32], dst: &mut MetalBuffer) -> Result<()> {
        self.lookup("add_embed", table, ids, 1, dst, true)
    }

    fn rms_norm(
        &self,
        x: &MetalBuffer,
        weight: &MetalBuffer,
        eps: f32,
        rows: usize,
        out: &mut MetalBuffer,
    ) -> Result<()> {
        let x = x.get("rms_norm", 0, rows * weight.len)?;
        let out = out.get("rms_norm", 0, rows * weight.len)?;
        self.norm(x, weight, eps, rows, out)
    }

    fn rms_norm_in_place(&self, x: &mut MetalBuffer, weight: &MetalBuffer, eps: f32, rows: usize) -> Result<()> {
        let x = x.get("rms_norm", 0, rows * weight.len)?;
        self.norm(x, weight, eps, rows, x)
    }

    fn layer_norm_in_place(
        &self,
        x: &mut MetalBuffer,
        weight: &MetalBuffer,
        bias: &MetalBuffer,
        width: usize,
        eps: f32,
        rows: usize,
    ) -> Result<()> {
        let n = check::vectors("layer_norm", weight.len, bias.len, width)?;
        let x = x.get("layer_norm", 0, rows * n * width)?;
        let vectors = rows * n;
        let (weight, bias) = (weight.memory.place(), bias.memory.place());
        let args = args![x, weight, bias, width as u32, eps, n as u32, vectors as u32];
        // SAFETY: the parameters of `layer_norm`; sizes were checked.
        unsafe { self.device.launch("layer_norm", [vectors.div_ceil(8), 1, 1], 256, 0, args) }
    }

    fn matmul(
        &self,
        x: &MetalBuffer,
        rows: usize,
        w: &MetalWeight,
        range: Option<(usize, usize)>,
        accumulate: bool,
        out: &mut MetalBuffer,
    ) -> Result<()> {
        let w = w.matrix("matmul")?;
        let (from, to) = range.unwrap_or((0, w.out));
        if from > to || to > w.out {
            return Err(check::shape("matmul", format!("outputs {from}..{to} of {}", w.out)));
        }
        let outputs = to - from;
        let x = x.get("matmul", 0, rows * w.inputs)?;
        let out = out.get("matmul", 0, rows * outputs)?;
        let sizes = Sizes {
            from: from as u32,
            outputs: outputs as u32,
            per_stack: w.out as u32,
            rows: rows as u32,
            inputs: w.inputs as u32,
            pitch: w.pitch(),
            x: [w.inputs as u32, 0],
            out: [outputs as u32, 0],
            add: u32::from(accumulate),
        };
        // SAFETY: sizes were just checked.
        unsafe { self.product(w, 1, sizes, x, out) }
    }

    fn matmul_heads(
        &self,
        x: &MetalBuffer,
        x_stride: usize,
        rows: usize,
        w: &MetalWeight,
        out: &mut MetalBuffer,
        out_stride: usize,
    ) -> Result<()> {
        let heads = w.stack("matmul_heads")?;
        check::at_least("matmul_heads", "a head of x", x_stride, w.inputs)?;
        check::at_least("matmul_heads", "a head of out", out_stride, w.out)?;
        let x = x.get("matmul_heads", 0, rows * heads * x_stride)?;
        let out = out.get("matmul_heads", 0, rows * heads * out_stride)?;
        let layout = |stride: usize| [(heads * stride) as u32, stride as u32];
        let sizes = Sizes {
            from: 0,
            outputs: w.out as u32,
            per_stack: w.out as u32,
            rows: rows as u32,
            inputs: w.inputs as u32,
            pitch: w.pitch(),
            x: layout(x_stride),
            out: layout(out_stride),
            add: 0,
        };
        // SAFETY: sizes were just checked.
        unsafe { self.product(w, heads, sizes, x, out) }
    }

    fn copy_columns(
        &self,
        src: &MetalBuffer,
        from: Columns,
        dst: &mut MetalBuffer,
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

    fn add_bias(&self, dst: &mut MetalBuffer, bias: &MetalBuffer, rows: usize) -> Result<()> {
        let (n, len) = (bias.len, rows * bias.len);
        let (dst, bias) = (dst.get("add_bias", 0, len)?, bias.memory.place());
        // SAFETY: the parameters of `add_bias`; sizes were checked.
        unsafe { self.each("add_bias", len, args![dst, bias, n as u32, len as u32]) }
    }

    fn add(&self, dst: &mut MetalBuffer, src: &MetalBuffer, len: usize) -> Result<()> {
        let (src, dst) = (src.get("add", 0, len)?, dst.get("add", 0, len)?);
        // SAFETY: the parameters of `add`; sizes were checked.
        unsafe { self.each("add", len, args![dst, src, len as u32]) }
    }

    fn activate(&self, f: Activation, x: &mut MetalBuffer, len: usize) -> Result<()> {
        // Numbers of the functions in rows.metal.
        let (function, limit) = match f {
            Activation::Silu => (0u32, 0.0),
            Activation::Tanh => (1, 0.0),
            Activation::Gelu => (2, 0.0),
            Activation::Clip(limit) => (3, check::limit(limit)?),
        };
        let x = x.get("activate", 0, len)?;
        // SAFETY: the parameters of `activate`; sizes were checked.
        unsafe { self.each("activate", len, args![x, len as u32, function, limit]) }
    }

    fn swiglu(&self, gate_up: &MetalBuffer, rows: usize, inner: usize, out: &mut MetalBuffer) -> Result<()> {
        let len = rows * inner;
        let (both, out) = (gate_up.get("swiglu", 0, 2 * len)?, out.get("swiglu", 0, len)?);
        // SAFETY: the parameters of `swiglu`; sizes were checked.
        unsafe { self.each("swiglu", len, args![both, inner as u32, len as u32, out]) }
    }

    fn rope_angles(&self, spec: &RopeSpec, positions: &[[f32; 3]], out: &mut MetalBuffer) -> Result<()> {
        check::rope(spec)?;
        let width = 2 * spec.inv_freq.len();
        // Once a step, and a few numbers: computed on the host, so that they are those of every other backend.
        let mut angles = vec![0f32; positions.len() * width];
        for (position, row) in positions.iter().zip(angles.chunks_exact_mut(width.max(1))) {
            check::angles(spec, position, row);
        }
        self.write(out, 0, &angles)
    }

    fn rope(
        &self,
        spec: &RopeSpec,
        angles: &MetalBuffer,
        rows: usize,
        heads: usize,
        x: &mut MetalBuffer,
    ) -> Result<()> {
        check::rope(spec)?;
        let half = spec.inv_freq.len();
        let pairs = rows * heads * half;
        let (angles, x) = (angles.get("rope", 0, rows * 2 * half)?, x.get("rope", 0, 2 * pairs)?);
        let interleaved = u32::from(spec.rotation == Rotation::Interleaved);
        let args = args![angles, half as u32, heads as u32, interleaved, pairs as u32, x];
        // SAFETY: the parameters of `rope`; sizes were checked.
        unsafe { self.each("rope", pairs, args) }
    }

    fn store_kv(&self, kv: &mut MetalKv, k: &MetalBuffer, v: &MetalBuffer, slots: &[u32]) -> Result<()> {
        self.store(kv, k, v, slots)
    }

    fn copy_kv(&self, kv: &mut MetalKv, from: u32, to: u32, len: u32) -> Result<()> {
        self.copy_slots(kv, from, to, len)
    }

    fn attention(
        &self,
        q: &MetalBuffer,
        heads: usize,
        kv: &MetalKv,
        spans: &[Span],
        scale: f32,
        out: &mut MetalBuffer,
    ) -> Result<()> {
        self.attend(q, heads, kv, spans, scale, out)
    }

    fn route(
        &self,
        x: &MetalBuffer,
        rows: usize,
        router: &MetalWeight,
        spec: &RouterSpec,
        out: &mut MetalRouting,
    ) -> Result<()> {
        self.choose(x, rows, router, spec, out)
    }

    fn read_routing(&self, routing: &MetalRouting, rows: usize) -> Result<Vec<Vec<(u32, f32)>>> {
        self.chosen(routing, rows)
    }

    fn assign(&self, experts: &[u32], out: &mut MetalRouting) -> Result<()> {
        self.assign_rows(experts, out)
    }

    fn experts(
        &self,
        x: &MetalBuffer,
        rows: usize,
        routing: &MetalRouting,
        gate_up: &MetalWeight,
        down: &MetalWeight,
        dst: &mut MetalBuffer,
    ) -> Result<()> {
        self.mix(x, rows, routing, gate_up, down, dst)
    }

    fn gather(&self, src: &MetalBuffer, rows: &[u32], width: usize, dst: &mut MetalBuffer) -> Result<()> {
        let last = rows.iter().max().map_or(0, |r| *r as usize + 1);
        let len = rows.len() * width;
        let (src, dst) = (src.get("gather", 0, last * width)?, dst.get("gather", 0, len)?);
        // SAFETY: the parameters of `gather`; every row lies in the source, as just checked.
        unsafe { self.each("gather", len, args![src, rows, width as u32, len as u32, dst]) }
    }

    fn patches(&self, x: &MetalBuffer, p: Patches, out: &mut MetalBuffer) -> Result<()> {
        check::patches(&p)?;
        let (oh, ow) = p.out();
        let len = p.n * oh * ow * p.kernel * p.kernel * p.c;
        let (x, out) = (x.get("patches", 0, p.n * p.h * p.w * p.c)?, out.get("patches", 0, len)?);
        let [h, w, c, kernel, stride, pad, oh, ow] =
            [p.h, p.w, p.c, p.kernel, p.stride, p.pad, oh, ow].map(|n| n as u32);
        let args = args![x, h, w, c, kernel, stride, pad, oh, ow, len as u32, out];
        // SAFETY: the parameters of `patches`; sizes were checked.
        unsafe { self.each("patches", len, args) }
    }

    fn pixel_shuffle2(
        &self,
        x: &MetalBuffer,
        n: usize,
        h: usize,
        w: usize,
        c: usize,
        out: &mut MetalBuffer,
    ) -> Result<()> {
        let len = n * h * w * 4 * c;
        let (x, out) = (x.get("pixel_shuffle2", 0, len)?, out.get("pixel_shuffle2", 0, len)?);
        // SAFETY: the parameters of `pixel_shuffle2`; sizes were checked.
        unsafe { self.each("pixel_shuffle2", len, args![x, w as u32, c as u32, len as u32, out]) }
    }

    fn paint(
        &self,
        masks: &MetalBuffer,
        masks_at: usize,
        colours: &MetalBuffer,
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

impl Metal {
    fn norm(&self, x: Place<'_>, weight: &MetalBuffer, eps: f32, rows: usize, out: Place<'_>) -> Result<()> {
        let (n, w, count) = (weight.len as u32, weight.memory.place(), rows as u32);
        let (name, blocks) =
            if weight.len < SHORT { ("rms_norm_simd", rows.div_ceil(8)) } else { ("rms_norm_block", rows) };
        // SAFETY: the parameters of `rms_norm_*`; the caller checked sizes.
        unsafe { self.device.launch(name, [blocks, 1, 1], 256, 0, args![x, w, n, eps, count, out]) }
    }

    fn lookup(
        &self,
        op: &'static str,
        table: &MetalWeight,
        ids: &[u32],
        codes: usize,
        out: &mut MetalBuffer,
        add: bool,
    ) -> Result<()> {
        let table = table.matrix(op)?;
        check::ids(op, ids, table.out)?;
        let groups = ids.len() / codes;
        let out = out.get(op, 0, groups * table.inputs)?;
        let ((data, scales), inputs) = (table.places(), table.inputs as u32);
        let args = args![data, scales, inputs, table.pitch(), ids, codes as u32, groups as u32, u32::from(add), out];
        // SAFETY: the parameters of `embed_*`; ids and sizes were checked. A thread has eight numbers.
        unsafe { self.each(by_format!(table.format, "embed_", ""), groups * table.inputs.div_ceil(8), args) }
    }
}
