//! The KV slab and attention over it.

use super::arguments::{Place, Value};
use super::driver::Memory;
use super::{Metal, MetalBuffer, args, room};
use crate::backend::Result;
use crate::{KvFormat, Span, check};

/// Slots of a piece, heads and threads of a threadgroup. Must equal the numbers in attention.metal.
const PIECE: usize = 256;
const HEADS: usize = 8;
const THREADS: usize = 128;
/// Most bytes of partial results; more rows are worked on in several parts.
const PARTIAL: usize = 64 << 20;
/// Largest head_dim: eight queries of it fit threadgroup memory beside the weights of a piece.
const WIDEST: usize = 768;

/// Keys and values of one layer on the device: `[kv_heads][slots][head_dim rounded up to 8]` each; for int8, a scale for each vector beside them.
pub struct MetalKv {
    keys: Slab,
    values: Slab,
    format: KvFormat,
    slots: usize,
    heads: usize,
    dim: usize,
}

/// Keys or values.
struct Slab {
    data: Memory,
    scales: Option<Memory>,
}

impl Slab {
    /// Formats without scales bind the numbers again, which no kernel reads as scales.
    fn places(&self) -> (Place<'_>, Place<'_>) {
        (self.data.place(), self.scales.as_ref().unwrap_or(&self.data).place())
    }
}

/// Must equal `Attention` in attention.metal.
#[repr(C)]
#[derive(Clone, Copy)]
struct Sizes {
    heads: u32,
    kv_heads: u32,
    dim: u32,
    pitch: u32,
    slab: u32,
    pieces: u32,
    scale: f32,
}

// SAFETY: `repr(C)`, of numbers of four bytes.
unsafe impl Value for Sizes {}

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

impl MetalKv {
    fn pitch(&self) -> usize {
        self.dim.next_multiple_of(8)
    }

    /// Words of the numbers of a slot and head.
    fn words(&self) -> usize {
        match self.format {
            KvFormat::F32 => self.pitch(),
            KvFormat::Bf16 => self.pitch() / 2,
            KvFormat::Int8 => self.pitch() / 4,
        }
    }
}

impl std::fmt::Debug for MetalKv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MetalKv({} slots x {} x {}, {})", self.slots, self.heads, self.dim, self.format.name())
    }
}

fn seen(s: &Span) -> usize {
    (s.prefix.1 - s.prefix.0 + s.recent.1 - s.recent.0) as usize
}

impl Metal {
    pub(super) fn new_kv(&self, slots: usize, heads: usize, dim: usize, format: KvFormat) -> Result<MetalKv> {
        if dim == 0 || dim > WIDEST {
            return Err(check::shape("kv", format!("head_dim is {dim}: expected 1 to {WIDEST}")));
        }
        let pitch = dim.next_multiple_of(8);
        let bytes = match format {
            KvFormat::F32 => 4,
            KvFormat::Bf16 => 2,
            KvFormat::Int8 => 1,
        };
        let slab = || -> Result<Slab> {
            let data = self.device.zeroed(heads * slots * pitch * bytes)?;
            let scales = match format {
                KvFormat::Int8 => Some(self.device.zeroed(heads * slots * 4)?),
                KvFormat::F32 | KvFormat::Bf16 => None,
            };
            Ok(Slab { data, scales })
        };
        Ok(MetalKv { keys: slab()?, values: slab()?, format, slots, heads, dim })
    }

    pub(super) fn store(&self, kv: &mut MetalKv, k: &MetalBuffer, v: &MetalBuffer, slots: &[u32]) -> Result<()> {
        check::slots("store_kv", slots, kv.slots)?;
        let vectors = slots.len() * kv.heads;
        let len = vectors * kv.dim;
        let (heads, dim, pitch, slab) = (kv.heads as u32, kv.dim as u32, kv.pitch() as u32, kv.slots as u32);
        for (x, to) in [(k, &kv.keys), (v, &kv.values)] {
            let (data, scales) = to.places();
            let args = args![x.get("store_kv", 0, len)?, slots, heads, dim, pitch, slab, vectors as u32, data, scales];
            let name = by_kv_format!(kv.format, "store_kv_");
            // SAFETY: the parameters of `store_kv_*`; sizes and slots were checked.
            unsafe { self.device.launch(name, [vectors.div_ceil(8), 1, 1], 256, 0, args)? };
        }
        Ok(())
    }

    pub(super) fn copy_slots(&self, kv: &mut MetalKv, from: u32, to: u32, len: u32) -> Result<()> {
        let end = (from.max(to) as usize).saturating_add(len as usize);
        check::at_least("copy_kv", "the slab", kv.slots, end)?;
        let numbers = |words: usize| kv.heads * len as usize * words;
        let (slots, heads) = (kv.slots as u32, kv.heads as u32);
        let mut state = self.state();
        // Through scratch: the two ranges may overlap, and threads run in any order.
        let scratch = room(&self.device, &mut state.partial, numbers(kv.words()) * 4)?.place();
        for slab in [&kv.keys, &kv.values] {
            let parts = [(Some(&slab.data), kv.words()), (slab.scales.as_ref(), 1)];
            for (memory, words) in parts.into_iter().filter_map(|(m, words)| Some((m?.place(), words))) {
                let (n, words) = (numbers(words), words as u32);
                // SAFETY: the parameters of `copy_slots`; both ranges lie in the slab, the scratch has room for one.
                unsafe {
                    self.each("copy_slots", n, args![memory, slots, from, scratch, len, 0u32, len, heads, words])?;
                    self.each("copy_slots", n, args![scratch, len, 0u32, memory, slots, to, len, heads, words])?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn attend(
        &self,
        q: &MetalBuffer,
        heads: usize,
        kv: &MetalKv,
        spans: &[Span],
        scale: f32,
        out: &mut MetalBuffer,
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

    /// Rows from places `q` and `out` on; sizes and spans were checked.
    fn attend_rows(
        &self,
        q: Place<'_>,
        heads: usize,
        kv: &MetalKv,
        spans: &[Span],
        scale: f32,
        out: Place<'_>,
    ) -> Result<()> {
        let (rows, pitch, group) = (spans.len(), kv.pitch(), heads / kv.heads);
        let pieces = spans.iter().map(seen).max().unwrap_or(0).div_ceil(PIECE);
        let words: Vec<u32> = spans.iter().flat_map(|s| [s.prefix.0, s.prefix.1, s.recent.0, s.recent.1]).collect();
        let mut state = self.state();
        let partial = room(&self.device, &mut state.partial, rows * heads * pieces * (pitch + 2) * 4)?.place();
        let sizes = Sizes {
            heads: heads as u32,
            kv_heads: kv.heads as u32,
            dim: kv.dim as u32,
            pitch: pitch as u32,
            slab: kv.slots as u32,
            pieces: pieces as u32,
            scale,
        };
        // Weights of a piece; then the queries, and in their place parts of sums when several slices of threads share the slots.
        let slices = (THREADS / pitch).max(1);
        let shared = (PIECE * HEADS + slices * HEADS * pitch) * 4;
        let ((keys, key_scales), (values, value_scales)) = (kv.keys.places(), kv.values.places());
        let grid = [pieces, kv.heads * group.div_ceil(HEADS), rows];
        let args = args![q, keys, key_scales, values, value_scales, &words[..], sizes, partial];
        let name = by_kv_format!(kv.format, "attention_");
        // SAFETY: the parameters of `attention_*`; the caller checked sizes, the scratch has room for every piece.
        unsafe { self.device.launch(name, grid, THREADS, shared, args)? };
        let args = args![partial, &words[..], sizes, out];
        // SAFETY: the parameters of `attention_combine`, as above.
        unsafe { self.device.launch("attention_combine", [heads, rows, 1], THREADS, 0, args) }
    }
}
