//! [`Backend`] for [`Cpu`]: checks sizes, borrows the buffers, and hands them to the kernels.

use super::kv::Shape;
use super::memory::Aligned;
use super::{Cpu, CpuBuffer, CpuKv, CpuRouting, CpuWeight};
use super::{attention, experts, heads, image, matmul, paint, route, rowwise, with};
use crate::backend::Result;
use crate::{
    Activation, Backend, Canvas, Columns, HostTensor, KvFormat, Patches, QuantFormat, RopeSpec, RouterSpec, Span,
    Target, check,
};

impl Backend for Cpu {
    type Buffer = CpuBuffer;
    type Weight = CpuWeight;
    type Kv = CpuKv;
    type Routing = CpuRouting;

    fn name(&self) -> &'static str {
        "cpu"
    }

    fn fused(&self) -> &'static [&'static str] {
        &[
            "embed (sum of codes)",
            "matmul (widen or dequantise, multiply, accumulate)",
            "attention (scores, softmax, values)",
            "route (scores, choice, weights)",
            "experts (gate, up, SwiGLU, down, weighted sum)",
            "paint (upsample, softmax, blend, I420)",
        ]
    }

    fn alloc(&self, len: usize) -> Result<CpuBuffer> {
        Ok(CpuBuffer(Aligned::new(len)))
    }

    fn write(&self, dst: &mut CpuBuffer, at: usize, data: &[f32]) -> Result<()> {
        dst.get_mut("write", at, data.len())?.copy_from_slice(data);
        Ok(())
    }

    fn read(&self, src: &CpuBuffer, at: usize, out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(src.get("read", at, out.len())?);
        Ok(())
    }

    fn weight(&self, tensor: &HostTensor<'_>, format: QuantFormat) -> Result<CpuWeight> {
        CpuWeight::pack(tensor, format, &self.inner.pool)
    }

    fn stack(&self, shape: [usize; 3], format: QuantFormat) -> Result<CpuWeight> {
        check::stack(shape)?;
        Ok(CpuWeight::zeros(shape, format))
    }

    fn replace(&self, w: &mut CpuWeight, first: usize, tensor: &HostTensor<'_>) -> Result<()> {
        w.replace(first, tensor, &self.inner.pool)
    }

    fn weight_bytes(&self, w: &CpuWeight) -> usize {
        w.bytes()
    }

    fn kv(&self, slots: usize, kv_heads: usize, head_dim: usize, format: KvFormat) -> Result<CpuKv> {
        if head_dim == 0 {
            return Err(check::shape("kv", "head_dim is 0"));
        }
        Ok(CpuKv::new(Shape { slots, heads: kv_heads, dim: head_dim }, format))
    }

    fn routing(&self, rows: usize, top_k: usize) -> Result<CpuRouting> {
        Ok(CpuRouting::new(rows, top_k))
    }

    fn embed(&self, table: &CpuWeight, ids: &[u32], codes: usize, out: &mut CpuBuffer) -> Result<()> {
        let table = table.matrix("embed")?;
        check::ids("embed", ids, table.out)?;
        if codes == 0 || !ids.len().is_multiple_of(codes) {
            return Err(check::shape("embed", format!("{} ids in groups of {codes}", ids.len())));
        }
        let (groups, width) = (ids.len() / codes, table.inputs);
        rowwise::embed(self, &table, ids, codes, out.get_mut("embed", 0, groups * width)?);
        Ok(())
    }

    fn add_embed(&self, table: &CpuWeight, ids: &[u32], dst: &mut CpuBuffer) -> Result<()> {
        let table = table.matrix("add_embed")?;
        check::ids("add_embed", ids, table.out)?;
        let width = table.inputs;
        let dst = dst.get_mut("add_embed", 0, ids.len() * width)?;
        for (g, &id) in ids.iter().enumerate().filter(|&(_, &id)| id != u32::MAX) {
            table.add_row(id as usize, &mut dst[g * width..(g + 1) * width]);
        }
        Ok(())
    }

    fn rms_norm(&self, x: &CpuBuffer, weight: &CpuBuffer, eps: f32, rows: usize, out: &mut CpuBuffer) -> Result<()> {
        let w = &*weight.0;
        let n = w.len();
        rowwise::rms_norm(self, x.get("rms_norm", 0, rows * n)?, w, eps, out.get_mut("rms_norm", 0, rows * n)?);
        Ok(())
    }

    fn rms_norm_in_place(&self, x: &mut CpuBuffer, weight: &CpuBuffer, eps: f32, rows: usize) -> Result<()> {
        let w = &*weight.0;
        let n = w.len();
        rowwise::rms_norm_in_place(self, x.get_mut("rms_norm", 0, rows * n)?, w, eps);
        Ok(())
    }

    fn matmul(
        &self,
        x: &CpuBuffer,
        rows: usize,
        w: &CpuWeight,
        range: Option<(usize, usize)>,
        accumulate: bool,
        out: &mut CpuBuffer,
    ) -> Result<()> {
        let w = w.matrix("matmul")?;
        let (from, to) = range.unwrap_or((0, w.out));
        if from > to || to > w.out {
            return Err(check::shape("matmul", format!("outputs {from}..{to} of {}", w.out)));
        }
        let x = x.get("matmul", 0, rows * w.inputs)?;
        let out = out.get_mut("matmul", 0, rows * (to - from))?;
        let (level, pool) = (self.level, &self.inner.pool);
        with(&self.inner.codes, |codes| {
            let input = codes.input(level, pool, &w, x, rows, w.inputs);
            matmul::matmul(level, pool, &w, &input, rows, (from, to), accumulate, out);
        });
        Ok(())
    }

    fn layer_norm_in_place(
        &self,
        x: &mut CpuBuffer,
        weight: &CpuBuffer,
        bias: &CpuBuffer,
        width: usize,
        eps: f32,
        rows: usize,
    ) -> Result<()> {
        let (w, b) = (&*weight.0, &*bias.0);
        check::vectors("layer_norm", w.len(), b.len(), width)?;
        let n = w.len();
        rowwise::layer_norm(self, x.get_mut("layer_norm", 0, rows * n)?, w, b, width, eps);
        Ok(())
    }

    fn matmul_heads(
        &self,
        x: &CpuBuffer,
        x_stride: usize,
        rows: usize,
        w: &CpuWeight,
        out: &mut CpuBuffer,
        out_stride: usize,
    ) -> Result<()> {
        let count = w.stack("matmul_heads")?;
        let (outputs, inputs) = w.dims();
        check::at_least("matmul_heads", "a head of x", x_stride, inputs)?;
        check::at_least("matmul_heads", "a head of out", out_stride, outputs)?;
        let x = x.get("matmul_heads", 0, rows * count * x_stride)?;
        let out = out.get_mut("matmul_heads", 0, rows * count * out_stride)?;
        let (level, pool) = (self.level, &self.inner.pool);
        with(&self.inner.codes, |codes| {
            let input = codes.input(level, pool, &w.expert(0), x, rows * count, x_stride);
            heads::matmul_heads(level, pool, w, &input, rows, (out, out_stride));
        });
        Ok(())
    }

    fn copy_columns(
        &self,
        src: &CpuBuffer,
        from: Columns,
        dst: &mut CpuBuffer,
        to: Columns,
        width: usize,
        rows: usize,
    ) -> Result<()> {
        check::columns(from, to, width)?;
        let src = src.get("copy_columns", 0, rows * from.stride)?;
        let dst = dst.get_mut("copy_columns", 0, rows * to.stride)?;
        for (d, s) in dst.chunks_exact_mut(to.stride.max(1)).zip(src.chunks_exact(from.stride.max(1))) {
            d[to.at..to.at + width].copy_from_slice(&s[from.at..from.at + width]);
        }
        Ok(())
    }

    fn add_bias(&self, dst: &mut CpuBuffer, bias: &CpuBuffer, rows: usize) -> Result<()> {
        let bias = &*bias.0;
        let n = bias.len();
        rowwise::add_bias(self, dst.get_mut("add_bias", 0, rows * n)?, bias);
        Ok(())
    }

    fn add(&self, dst: &mut CpuBuffer, src: &CpuBuffer, len: usize) -> Result<()> {
        let src = src.get("add", 0, len)?;
        rowwise::add(self, dst.get_mut("add", 0, len)?, src);
        Ok(())
    }

    fn activate(&self, f: Activation, x: &mut CpuBuffer, len: usize) -> Result<()> {
        if let Activation::Clip(limit) = f {
            check::limit(limit)?;
        }
        rowwise::activate(self, f, x.get_mut("activate", 0, len)?);
        Ok(())
    }

    fn swiglu(&self, gate_up: &CpuBuffer, rows: usize, inner: usize, out: &mut CpuBuffer) -> Result<()> {
        let both = gate_up.get("swiglu", 0, rows * 2 * inner)?;
        rowwise::swiglu(self, both, inner, out.get_mut("swiglu", 0, rows * inner)?);
        Ok(())
    }

    fn rope_angles(&self, spec: &RopeSpec, positions: &[[f32; 3]], out: &mut CpuBuffer) -> Result<()> {
        check::rope(spec)?;
        let width = 2 * spec.inv_freq.len();
        rowwise::rope_angles(self, spec, positions, out.get_mut("rope_angles", 0, positions.len() * width)?);
        Ok(())
    }

    fn rope(&self, spec: &RopeSpec, angles: &CpuBuffer, rows: usize, heads: usize, x: &mut CpuBuffer) -> Result<()> {
        check::rope(spec)?;
        let width = 2 * spec.inv_freq.len();
        let angles = angles.get("rope", 0, rows * width)?;
        rowwise::rope(self, spec, angles, heads, x.get_mut("rope", 0, rows * heads * width)?);
        Ok(())
    }

    fn store_kv(&self, kv: &mut CpuKv, k: &CpuBuffer, v: &CpuBuffer, slots: &[u32]) -> Result<()> {
        let shape = kv.shape();
        check::slots("store_kv", slots, shape.slots)?;
        let width = shape.heads * shape.dim;
        let k = k.get("store_kv", 0, slots.len() * width)?;
        let v = v.get("store_kv", 0, slots.len() * width)?;
        for (r, &slot) in slots.iter().enumerate() {
            let row = r * width..(r + 1) * width;
            kv.store(slot as usize, &k[row.clone()], &v[row]);
        }
        Ok(())
    }

    fn copy_kv(&self, kv: &mut CpuKv, from: u32, to: u32, len: u32) -> Result<()> {
        let (from, to, len) = (from as usize, to as usize, len as usize);
        check::at_least("copy_kv", "the slab", kv.shape().slots, from.max(to) + len)?;
        kv.copy(from, to, len);
        Ok(())
    }

    fn attention(
        &self,
        q: &CpuBuffer,
        heads: usize,
        kv: &CpuKv,
        spans: &[Span],
        scale: f32,
        out: &mut CpuBuffer,
    ) -> Result<()> {
        let shape = kv.shape();
        check::heads(heads, shape.heads)?;
        check::spans(spans, shape.slots)?;
        let q = q.get("attention", 0, spans.len() * heads * shape.dim)?;
        let out = out.get_mut("attention", 0, q.len())?;
        with(&self.inner.attention, |scratch| {
            attention::attention(self.level, &self.inner.pool, scratch, q, heads, kv, spans, scale, out);
        });
        Ok(())
    }

    fn route(
        &self,
        x: &CpuBuffer,
        rows: usize,
        router: &CpuWeight,
        spec: &RouterSpec,
        out: &mut CpuRouting,
    ) -> Result<()> {
        let w = router.matrix("route")?;
        let x = x.get("route", 0, rows * w.inputs)?;
        let (level, pool) = (self.level, &self.inner.pool);
        with(&self.inner.codes, |codes| {
            let input = codes.input(level, pool, &w, x, rows, w.inputs);
            route::route(level, pool, &input, rows, &w, spec, out)
        })
    }

    fn read_routing(&self, routing: &CpuRouting, rows: usize) -> Result<Vec<Vec<(u32, f32)>>> {
        check::at_least("read_routing", "the routing", routing.rows, rows)?;
        let k = routing.top_k;
        let row = |r: usize| (r * k..(r + 1) * k).map(|i| (routing.experts[i], routing.weights[i])).collect();
        Ok((0..rows).map(row).collect())
    }

    fn assign(&self, experts: &[u32], out: &mut CpuRouting) -> Result<()> {
        out.assign(experts)
    }

    fn experts(
        &self,
        x: &CpuBuffer,
        rows: usize,
        routing: &CpuRouting,
        gate_up: &CpuWeight,
        down: &CpuWeight,
        dst: &mut CpuBuffer,
    ) -> Result<()> {
        check::equal("experts", "experts of down", down.stack("experts")?, gate_up.stack("experts")?)?;
        let ((inner2, inputs), (outputs, inner)) = (gate_up.dims(), down.dims());
        check::equal("experts", "rows of gate_up", inner2, 2 * inner)?;
        check::at_least("experts", "the routing", routing.rows, rows)?;
        let x = x.get("experts", 0, rows * inputs)?;
        let dst = dst.get_mut("experts", 0, rows * outputs)?;
        with(&self.inner.experts, |scratch| {
            experts::experts(self.level, &self.inner.pool, scratch, x, rows, routing, gate_up, down, dst);
        });
        Ok(())
    }

    fn gather(&self, src: &CpuBuffer, rows: &[u32], width: usize, dst: &mut CpuBuffer) -> Result<()> {
        let dst = dst.get_mut("gather", 0, rows.len() * width)?;
        for (to, &row) in dst.chunks_exact_mut(width.max(1)).zip(rows) {
            to.copy_from_slice(src.get("gather", row as usize * width, width)?);
        }
        Ok(())
    }

    fn add_at(&self, dst: &mut CpuBuffer, at: &[u32], src: &CpuBuffer) -> Result<()> {
        let src = src.get("add_at", 0, at.len())?;
        let len = dst.0.len();
        check::ids("add_at", at, len)?;
        let dst = dst.get_mut("add_at", 0, len)?;
        at.iter().zip(src).filter(|(at, _)| **at != u32::MAX).for_each(|(at, value)| dst[*at as usize] += value);
        Ok(())
    }

    fn patches(&self, x: &CpuBuffer, p: Patches, out: &mut CpuBuffer) -> Result<()> {
        check::patches(&p)?;
        let (oh, ow) = p.out();
        let x = x.get("patches", 0, p.n * p.h * p.w * p.c)?;
        let out = out.get_mut("patches", 0, p.n * oh * ow * p.kernel * p.kernel * p.c)?;
        image::patches(&self.inner.pool, x, p, out);
        Ok(())
    }

    fn pixel_shuffle2(&self, x: &CpuBuffer, n: usize, h: usize, w: usize, c: usize, out: &mut CpuBuffer) -> Result<()> {
        let x = x.get("pixel_shuffle2", 0, n * h * w * 4 * c)?;
        let out = out.get_mut("pixel_shuffle2", 0, n * h * w * 4 * c)?;
        image::pixel_shuffle2(&self.inner.pool, x, n * h, w, c, out);
        Ok(())
    }

    fn paint(
        &self,
        masks: &CpuBuffer,
        masks_at: usize,
        colours: &CpuBuffer,
        colours_at: usize,
        canvas: Canvas,
        target: Target<'_>,
    ) -> Result<()> {
        check::canvas(&canvas, &target)?;
        let cells = canvas.grid.0 * canvas.grid.1 * canvas.layers;
        let masks = masks.get("paint", masks_at, 4 * cells)?;
        let colours = colours.get("paint", colours_at, 3 * cells)?;
        with(&self.inner.paint, |scratch| {
            paint::paint(self.level, &self.inner.pool, scratch, masks, colours, canvas, target);
        });
        Ok(())
    }
}
