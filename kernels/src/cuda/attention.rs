//! The KV slab and attention over it.

use super::driver::Memory;
use super::{Argument, Cuda, CudaBuffer, args, room};
use crate::backend::Result;
use crate::{KvFormat, Span, check};

/// Slots of a piece, heads of a block. Must equal `PIECE` and `HEADS` in attention.cuh.
const PIECE: usize = 256;
const HEADS: usize = 8;
/// Threads of a block.
const THREADS: usize = 128;
/// Most bytes of partial results; more rows are worked on in several parts.
const PARTIAL: usize = 64 << 20;
/// Largest head_dim: eight queries of it fit shared memory.
const WIDEST: usize = 1024;

/// Keys and values of one layer on the device: `[kv_heads][slots][head_dim rounded up to 8]` each, then one scale for each slot and head where the format has
/// scales.
pub struct CudaKv {
    keys: Memory,
    values: Memory,
    slots: usize,
    heads: usize,
    dim: usize,
    format: KvFormat,
}

/// What kernels get of keys or of values. Must equal `Slab` in attention.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
struct Slab {
    data: u64,
    scales: u64,
}

// SAFETY: `repr(C)`, of numbers.
unsafe impl Argument for Slab {}

/// Name of a kernel that exists for every format of keys and values.
macro_rules! by_kv_format {
    ($format:expr, $before:literal) => {
        match $format {
            KvFormat::F32 => concat!($before, "f32"),
            KvFormat::Bf16 => concat!($before, "bf16"),
            KvFormat::Int8 => concat!($before, "int8"),
        }
    };
}

impl CudaKv {
    fn pitch(&self) -> usize {
        self.dim.next_multiple_of(8)
    }

    /// Bytes of one key.
    fn key_bytes(&self) -> usize {
        element_bytes(self.format) * self.pitch()
    }

    fn slab(&self, memory: &Memory) -> Slab {
        let data = memory.pointer();
        Slab { data, scales: data + (self.heads * self.slots * self.key_bytes()) as u64 }
    }
}

fn element_bytes(format: KvFormat) -> usize {
    match format {
        KvFormat::F32 => 4,
        KvFormat::Bf16 => 2,
        KvFormat::Int8 => 1,
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

/// [`crate::Backend::kv`].
pub(super) fn kv(gpu: &Cuda, slots: usize, heads: usize, dim: usize, format: KvFormat) -> Result<CudaKv> {
    if dim == 0 || dim > WIDEST {
        return Err(check::shape("kv", format!("head_dim is {dim}: expected 1 to {WIDEST}")));
    }
    let scale = if format == KvFormat::Int8 { 4 } else { 0 };
    let bytes = heads * slots * (dim.next_multiple_of(8) * element_bytes(format) + scale);
    let (keys, values) = (gpu.device.zeroed(bytes)?, gpu.device.zeroed(bytes)?);
    Ok(CudaKv { keys, values, slots, heads, dim, format })
}

/// [`crate::Backend::store_kv`].
pub(super) fn store_kv(gpu: &Cuda, kv: &mut CudaKv, k: &CudaBuffer, v: &CudaBuffer, slots: &[u32]) -> Result<()> {
    check::slots("store_kv", slots, kv.slots)?;
    let vectors = slots.len() * kv.heads;
    let (k, v) = (k.get("store_kv", 0, vectors * kv.dim)?, v.get("store_kv", 0, vectors * kv.dim)?);
    if vectors == 0 {
        return Ok(());
    }
    let mut state = gpu.state();
    let list = state.uploads.send(&gpu.device, slots.iter().copied())?;
    let (heads, dim, pitch, all) = (kv.heads as u32, kv.dim as u32, kv.pitch() as u32, kv.slots as u32);
    let (keys, values) = (kv.slab(&kv.keys), kv.slab(&kv.values));
    let args = args![k, v, list, heads, dim, pitch, all, vectors as u32, keys, values];
    let name = by_kv_format!(kv.format, "store_kv_");
    // SAFETY: the parameters of `store_kv_*`; sizes and slots were checked.
    unsafe { gpu.device.launch(name, [vectors.div_ceil(8), 2, 1], 256, 0, args) }
}

/// [`crate::Backend::copy_kv`].
pub(super) fn copy_kv(gpu: &Cuda, kv: &mut CudaKv, from: u32, to: u32, len: u32) -> Result<()> {
    let end = (from.max(to) as usize).saturating_add(len as usize);
    check::at_least("copy_kv", "the slab", kv.slots, end)?;
    let (vectors, slots, heads) = (kv.heads * len as usize, kv.slots as u32, kv.heads as u32);
    if vectors == 0 {
        return Ok(());
    }
    let mut state = gpu.state();
    // Through scratch: the two ranges may overlap, and threads run in any order.
    let scratch = room(&gpu.device, &mut state.partial, vectors * kv.key_bytes())?.pointer();
    for slab in [kv.slab(&kv.keys), kv.slab(&kv.values)] {
        let scales = (kv.format == KvFormat::Int8).then_some((slab.scales, 1));
        for (at, words) in [Some((slab.data, kv.key_bytes() / 4)), scales].into_iter().flatten() {
            let (numbers, pitch) = (vectors * words, words as u32);
            // SAFETY: the parameters of `copy_slots`; both ranges lie in the slab, the scratch has room for one.
            unsafe {
                gpu.each("copy_slots", numbers, args![at, slots, from, scratch, len, 0u32, len, heads, pitch])?;
                gpu.each("copy_slots", numbers, args![scratch, len, 0u32, at, slots, to, len, heads, pitch])?;
            }
        }
    }
    Ok(())
}

/// [`crate::Backend::attention`].
pub(super) fn attention(
    gpu: &Cuda,
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
        attend_rows(gpu, q, heads, kv, spans, scale, out)?;
    }
    Ok(())
}

/// Rows at addresses `q` and `out`; sizes and spans were checked.
fn attend_rows(gpu: &Cuda, q: u64, heads: usize, kv: &CudaKv, spans: &[Span], scale: f32, out: u64) -> Result<()> {
    let (rows, pitch, group) = (spans.len(), kv.pitch(), heads / kv.heads);
    let pieces = spans.iter().map(seen).max().unwrap_or(0).div_ceil(PIECE);
    let mut guard = gpu.state();
    let state = &mut *guard;
    let words = spans.iter().flat_map(|s| [s.prefix.0, s.prefix.1, s.recent.0, s.recent.1]);
    let list = state.uploads.send(&gpu.device, words)?;
    let partial = room(&gpu.device, &mut state.partial, rows * heads * pieces * (pitch + 2) * 4)?.pointer();
    let slices = (THREADS / pitch).max(1);
    let parts = if slices > 1 { slices * HEADS * pitch } else { 0 };
    let shared = (HEADS * pitch + PIECE * HEADS + parts) * 4;
    let (dim, pitch, slab) = (kv.dim as u32, pitch as u32, kv.slots as u32);
    let (heads_arg, kv_heads, pieces_arg) = (heads as u32, kv.heads as u32, pieces as u32);
    let (keys, values) = (kv.slab(&kv.keys), kv.slab(&kv.values));
    let grid = [pieces, kv.heads * group.div_ceil(HEADS), rows];
    let args = args![q, heads_arg, kv_heads, dim, pitch, keys, values, slab, list, scale, pieces_arg, partial];
    // SAFETY: the parameters of `attention_piece`; the caller checked sizes, the scratch has room for every piece.
    unsafe { gpu.device.launch(by_kv_format!(kv.format, "attention_piece_"), grid, THREADS as u32, shared, args)? };
    let args = args![partial, heads_arg, dim, pitch, list, pieces_arg, out];
    // SAFETY: the parameters of `attention_combine`, as above.
    unsafe { gpu.device.launch("attention_combine", [heads, rows, 1], THREADS as u32, 0, args) }
}
