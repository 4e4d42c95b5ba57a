//! The KV slab and attention over it.

use super::driver::Memory;
use super::{Cuda, CudaBuffer, args, room};
use crate::backend::Result;
use crate::{Span, check};

/// Slots of a piece, heads of a block. Must equal `PIECE` and `HEADS` in attention.cuh.
const PIECE: usize = 256;
const HEADS: usize = 8;
/// Threads of a block.
const THREADS: usize = 128;
/// Most bytes of partial results; more rows are worked on in several parts.
const PARTIAL: usize = 64 << 20;
/// Largest head_dim: eight queries of it fit shared memory.
const WIDEST: usize = 1024;

/// Keys and values of one layer on the device: `[kv_heads][slots][head_dim rounded up to 8]` each, f32.
pub struct CudaKv {
    keys: Memory,
    values: Memory,
    slots: usize,
    heads: usize,
    dim: usize,
}

impl CudaKv {
    fn pitch(&self) -> usize {
        self.dim.next_multiple_of(8)
    }
}

impl std::fmt::Debug for CudaKv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CudaKv({} slots x {} x {})", self.slots, self.heads, self.dim)
    }
}

fn seen(s: &Span) -> usize {
    (s.prefix.1 - s.prefix.0 + s.recent.1 - s.recent.0) as usize
}

impl Cuda {
    pub(super) fn new_kv(&self, slots: usize, heads: usize, dim: usize) -> Result<CudaKv> {
        if dim == 0 || dim > WIDEST {
            return Err(check::shape("kv", format!("head_dim is {dim}: expected 1 to {WIDEST}")));
        }
        let bytes = heads * slots * dim.next_multiple_of(8) * 4;
        let (keys, values) = (self.device.zeroed(bytes)?, self.device.zeroed(bytes)?);
        Ok(CudaKv { keys, values, slots, heads, dim })
    }

    pub(super) fn store(&self, kv: &mut CudaKv, k: &CudaBuffer, v: &CudaBuffer, slots: &[u32]) -> Result<()> {
        check::slots("store_kv", slots, kv.slots)?;
        let len = slots.len() * kv.heads * kv.dim;
        let (k, v) = (k.get("store_kv", 0, len)?, v.get("store_kv", 0, len)?);
        if len == 0 {
            return Ok(());
        }
        let mut state = self.state();
        let list = state.uploads.send(&self.device, slots.iter().copied())?;
        let (heads, dim, pitch, slab) = (kv.heads as u32, kv.dim as u32, kv.pitch() as u32, kv.slots as u32);
        let args = args![k, v, list, heads, dim, pitch, slab, len as u64, kv.keys.pointer(), kv.values.pointer()];
        // SAFETY: the parameters of `store_kv`; sizes and slots were checked.
        unsafe { self.each("store_kv", len, args) }
    }

    pub(super) fn copy_slots(&self, kv: &mut CudaKv, from: u32, to: u32, len: u32) -> Result<()> {
        let end = (from.max(to) as usize).saturating_add(len as usize);
        check::at_least("copy_kv", "the slab", kv.slots, end)?;
        let (numbers, slots) = (kv.heads * len as usize * kv.pitch(), kv.slots as u32);
        if numbers == 0 {
            return Ok(());
        }
        let mut state = self.state();
        // Through scratch: the two ranges may overlap, and threads run in any order.
        let scratch = room(&self.device, &mut state.partial, numbers * 4)?.pointer();
        let (heads, pitch) = (kv.heads as u32, kv.pitch() as u32);
        for slab in [kv.keys.pointer(), kv.values.pointer()] {
            // SAFETY: the parameters of `copy_slots`; both ranges lie in the slab, the scratch has room for one.
            unsafe {
                self.each("copy_slots", numbers, args![slab, slots, from, scratch, len, 0u32, len, heads, pitch])?;
                self.each("copy_slots", numbers, args![scratch, len, 0u32, slab, slots, to, len, heads, pitch])?;
            }
        }
        Ok(())
    }

    pub(super) fn attend(
        &self,
        q: &CudaBuffer,
        heads: usize,
        kv: &CudaKv,
        spans: &[Span],
        scale: f32,
        out: &mut CudaBuffer,
    ) -> Result<()> {
        check::heads(heads, kv.heads)?;
        check::spans(spans, kv.slots)?;
        let width = heads * kv.dim;
        q.get("attention", 0, spans.len() * width)?;
        out.get("attention", 0, spans.len() * width)?;
        let longest = spans.iter().map(seen).max().unwrap_or(0).div_ceil(PIECE);
        let row_bytes = heads * longest * (kv.pitch() + 2) * 4;
        let some = (PARTIAL / row_bytes.max(1)).clamp(1, 32_768);
        for (i, spans) in spans.chunks(some).enumerate() {
            let at = i * some * width;
            let (q, out) = (q.get("attention", at, 0)?, out.get("attention", at, 0)?);
            self.attend_rows(q, heads, kv, spans, scale, out)?;
        }
        Ok(())
    }

    /// Rows at addresses `q` and `out`; sizes and spans were checked.
    fn attend_rows(&self, q: u64, heads: usize, kv: &CudaKv, spans: &[Span], scale: f32, out: u64) -> Result<()> {
        let (rows, pitch, group) = (spans.len(), kv.pitch(), heads / kv.heads);
        let pieces = spans.iter().map(seen).max().unwrap_or(0).div_ceil(PIECE);
        let mut guard = self.state();
        let state = &mut *guard;
        let words = spans.iter().flat_map(|s| [s.prefix.0, s.prefix.1, s.recent.0, s.recent.1]);
        let list = state.uploads.send(&self.device, words)?;
        let partial = room(&self.device, &mut state.partial, rows * heads * pieces * (pitch + 2) * 4)?.pointer();
        let slices = (THREADS / pitch).max(1);
        let parts = if slices > 1 { slices * HEADS * pitch } else { 0 };
        let shared = (HEADS * pitch + PIECE * HEADS + parts) * 4;
        let (dim, pitch, slab) = (kv.dim as u32, pitch as u32, kv.slots as u32);
        let (heads_arg, kv_heads, pieces_arg) = (heads as u32, kv.heads as u32, pieces as u32);
        let (keys, values) = (kv.keys.pointer(), kv.values.pointer());
        let grid = [pieces, kv.heads * group.div_ceil(HEADS), rows];
        let args = args![q, heads_arg, kv_heads, dim, pitch, keys, values, slab, list, scale, pieces_arg, partial];
        // SAFETY: the parameters of `attention_piece`; the caller checked sizes, the scratch has room for every piece.
        unsafe { self.device.launch("attention_piece", grid, THREADS as u32, shared, args)? };
        let args = args![partial, heads_arg, dim, pitch, list, pieces_arg, out];
        // SAFETY: the parameters of `attention_combine`, as above.
        unsafe { self.device.launch("attention_combine", [heads, rows, 1], THREADS as u32, 0, args) }
    }
}
