//! The seam between the model and a device: one trait, one buffer type per device.

use crate::{Drawer, Draws, HostTensor, KernelError, KvFormat, QuantFormat, check};

/// Result of a kernel.
pub type Result<T> = std::result::Result<T, KernelError>;

/// How a pair of elements is laid out for rotary positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// Pair i = elements (i, i + D/2).
    Half,
    /// Pair i = elements (2i, 2i + 1).
    Interleaved,
}

/// Rotary positions: angle of pair i = `position[axis[i]] * inv_freq[i]`.
#[derive(Debug, Clone)]
pub struct RopeSpec {
    /// Layout of the pairs.
    pub rotation: Rotation,
    /// One frequency for each of the D/2 pairs.
    pub inv_freq: Vec<f32>,
    /// Axis (0 = t, 1 = y, 2 = x) of each pair; all 0 for one-dimensional positions.
    pub axis: Vec<u8>,
    /// Factor on cosine and sine (YaRN's attention factor; 1 otherwise).
    pub scale: f32,
}

/// How router logits become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each.
    Sigmoid,
}

/// Rules of a router; see `weights.md`, section 1.
#[derive(Debug, Clone)]
pub struct RouterSpec {
    /// Experts with weights, E.
    pub experts: usize,
    /// Null experts after them: can be chosen, add nothing.
    pub null_experts: usize,
    /// Experts per row, K.
    pub top_k: usize,
    /// Scores.
    pub scoring: Scoring,
    /// Divide the chosen weights by their sum.
    pub normalise: bool,
    /// Factor on the weights.
    pub scale: f32,
    /// Added to the scores for the choice only; `[E + null]` values or empty.
    pub selection_bias: Vec<f32>,
    /// Groups of neighbouring experts, of equal size; 1 = the choice is free. A group's score is the sum of its two largest selection scores.
    pub groups: usize,
    /// Groups with the largest scores, in which experts can be chosen (ties go to the lower group).
    pub top_groups: usize,
}

/// The slots of the KV slab that one query row sees: two half-open ranges, not overlapping.
/// Causal, block, windowed and padded masks and prompts shared between sequences are all of this shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First range (the prompt), possibly empty.
    pub prefix: (u32, u32),
    /// Second range, possibly empty.
    pub recent: (u32, u32),
}

/// Element-wise functions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// x * sigmoid(x).
    Silu,
    /// tanh.
    Tanh,
    /// x * Phi(x), with the exact error function (not its tanh approximation).
    Gelu,
    /// Clamped to `-limit..=limit`; the limit is not negative.
    Clip(f32),
}

/// Where a part of each row lies: row r starts at `r * stride + at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// Numbers from one row to the next.
    pub stride: usize,
    /// First number within a row.
    pub at: usize,
}

/// Gathering of square patches from an image stored as `[n * h * w, c]` (row-major positions, channels last).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patches {
    /// Images.
    pub n: usize,
    /// Height and width of the input.
    pub h: usize,
    /// Width of the input.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Side of a patch.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Zero padding on each side.
    pub pad: usize,
}

impl Patches {
    /// Height and width of the output grid.
    pub fn out(&self) -> (usize, usize) {
        let f = |x: usize| (x + 2 * self.pad - self.kernel) / self.stride + 1;
        (f(self.h), f(self.w))
    }
}

/// What [`Backend::paint`] draws: one frame of a layered painting head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Canvas {
    /// Colour grid: height and width. The mask grid is twice as fine.
    pub grid: (usize, usize),
    /// Layers K.
    pub layers: usize,
    /// Sharpness: mask logits are multiplied by it.
    pub scale: f32,
    /// Pixels (height, width) that the whole grid covers; any size, not only multiples of the grid.
    pub full: (usize, usize),
    /// Pixels (height, width) of the output, cut from the top left of `full`.
    pub size: (usize, usize),
}

/// Where [`Backend::paint`] writes.
#[derive(Debug)]
pub enum Target<'a> {
    /// Planar RGB `[3, H, W]`, 0..1.
    Rgb(&'a mut [f32]),
    /// BT.709 limited range, 4:2:0, centre-left chroma as the mean of 2x2 pixels: the planes Y, U, V without padding (even height and width).
    I420(&'a mut [u8], &'a mut [u8], &'a mut [u8]),
}

/// A device: buffers, weights and the operations of the model and of the tokenizers' decoders.
///
/// A `Buffer` is a flat array of f32 that lives on the device and is reused from step to step; matrices in it are row-major, and
/// `rows` says how many rows an operation covers. Operations check sizes and fail with [`KernelError::Shape`]; none allocates on the hot path except `Reference`.
/// The value at any output row depends on that row's inputs alone, never on how many rows are computed with it.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Flat f32 array on the device.
    type Buffer: Send + Sync;
    /// A matrix `[out, in]`, or a stack of them `[E, out, in]`, in some [`QuantFormat`].
    type Weight: Send + Sync;
    /// Keys and values of one layer: `[slots, kv_heads, head_dim]` each, in some [`KvFormat`].
    type Kv: Send + Sync;
    /// Chosen experts and their weights for some rows; never seen by the host.
    type Routing: Send + Sync;

    /// `cpu`, `reference`, ...
    fn name(&self) -> &'static str;
    /// Operations of this trait that run as one kernel over several steps of arithmetic, for `borealis inspect`; none unless the backend says so.
    fn fused(&self) -> &'static [&'static str] {
        &[]
    }
    /// Whether a row's results have the same bits whatever rows are computed beside it.
    fn rows_are_independent(&self) -> bool {
        true
    }
    /// A zeroed buffer of `len` numbers.
    fn alloc(&self, len: usize) -> Result<Self::Buffer>;
    /// Copies `data` to `dst[at..]`.
    fn write(&self, dst: &mut Self::Buffer, at: usize, data: &[f32]) -> Result<()>;
    /// Copies `src[at..at + out.len()]` to `out`.
    fn read(&self, src: &Self::Buffer, at: usize, out: &mut [f32]) -> Result<()>;
    /// A weight of shape `[out, in]` or `[E, out, in]`, converted to `format` (f32 host data can be rounded or quantised, int8 host data with f32 format is expanded).
    fn weight(&self, tensor: &HostTensor<'_>, format: QuantFormat) -> Result<Self::Weight>;
    /// A stack `[E, out, in]` in `format` whose matrices are still to come: each is undefined until [`Backend::replace`] has written it.
    fn stack(&self, shape: [usize; 3], format: QuantFormat) -> Result<Self::Weight>;
    /// Writes matrices `first..first + n` of a stack: those of `tensor` `[n, out, in]`, converted as by [`Backend::weight`]. Operations that were started before
    /// still read the old ones.
    fn replace(&self, w: &mut Self::Weight, first: usize, tensor: &HostTensor<'_>) -> Result<()>;
    /// Bytes that the device holds for a weight.
    fn weight_bytes(&self, w: &Self::Weight) -> usize;
    /// A KV slab of one layer that keeps its numbers in `format`; all zeros.
    fn kv(&self, slots: usize, kv_heads: usize, head_dim: usize, format: KvFormat) -> Result<Self::Kv>;
    /// An empty routing for up to `rows` rows.
    fn routing(&self, rows: usize, top_k: usize) -> Result<Self::Routing>;

    /// `out[g] = sum over codes j of table[ids[g * codes + j]]` for `groups` groups; an id of `u32::MAX` adds nothing. `out`: `[groups, width of table]`.
    fn embed(&self, table: &Self::Weight, ids: &[u32], codes: usize, out: &mut Self::Buffer) -> Result<()>;
    /// `dst[r] += table[ids[r]]`; an id of `u32::MAX` adds nothing. Used for row kinds.
    fn add_embed(&self, table: &Self::Weight, ids: &[u32], dst: &mut Self::Buffer) -> Result<()>;
    /// RMS norm over the last `weight` elements: `out[r] = x[r] * rsqrt(mean(x[r]^2) + eps) * weight`. `rows` counts vectors of `weight`'s length. `out` may not be `x`.
    fn rms_norm(
        &self,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        eps: f32,
        rows: usize,
        out: &mut Self::Buffer,
    ) -> Result<()>;
    /// RMS norm in place (queries and keys).
    fn rms_norm_in_place(&self, x: &mut Self::Buffer, weight: &Self::Buffer, eps: f32, rows: usize) -> Result<()>;
    /// Layer norm in place of vectors of `width` numbers (queries and keys): mean and variance of each vector, then `weight` and `bias` `[n * width]`, a part of
    /// them for each vector of a row: vector j of `n` has part j. `rows` counts rows of n vectors.
    fn layer_norm_in_place(
        &self,
        x: &mut Self::Buffer,
        weight: &Self::Buffer,
        bias: &Self::Buffer,
        width: usize,
        eps: f32,
        rows: usize,
    ) -> Result<()>;
    /// `out[r, o - range.0] = sum_i x[r, i] * w[o, i]` for o in `range` (default: all rows of `w`), or `+=` when `accumulate`. f32 accumulation.
    fn matmul(
        &self,
        x: &Self::Buffer,
        rows: usize,
        w: &Self::Weight,
        range: Option<(usize, usize)>,
        accumulate: bool,
        out: &mut Self::Buffer,
    ) -> Result<()>;
    /// A product of each head's own: `out[r, h, o] = sum_i x[r, h, i] * w[h, o, i]` with `w` `[heads, out, in]`. Heads lie `x_stride` (at least `in`) and
    /// `out_stride` (at least `out`) numbers apart; what lies between them is left as it is.
    fn matmul_heads(
        &self,
        x: &Self::Buffer,
        x_stride: usize,
        rows: usize,
        w: &Self::Weight,
        out: &mut Self::Buffer,
        out_stride: usize,
    ) -> Result<()>;
    /// Copies `width` numbers of each row: `dst[r * to.stride + to.at ..] = src[r * from.stride + from.at ..]`.
    fn copy_columns(
        &self,
        src: &Self::Buffer,
        from: Columns,
        dst: &mut Self::Buffer,
        to: Columns,
        width: usize,
        rows: usize,
    ) -> Result<()>;
    /// `dst[r * cols + c] += bias[c]`.
    fn add_bias(&self, dst: &mut Self::Buffer, bias: &Self::Buffer, rows: usize) -> Result<()>;
    /// `dst[i] += src[i]` for the first `len` elements.
    fn add(&self, dst: &mut Self::Buffer, src: &Self::Buffer, len: usize) -> Result<()>;
    /// Element-wise, in place, over the first `len` elements.
    fn activate(&self, f: Activation, x: &mut Self::Buffer, len: usize) -> Result<()>;
    /// `out[r, i] = silu(gate[r, i]) * up[r, i]` with `gate_up[r] = [gate | up]`, i < `inner`.
    fn swiglu(&self, gate_up: &Self::Buffer, rows: usize, inner: usize, out: &mut Self::Buffer) -> Result<()>;
    /// Cosines and sines of some rows' positions, computed once a step: `out` is `[rows, D]`: D/2 cosines, then D/2 sines.
    fn rope_angles(&self, spec: &RopeSpec, positions: &[[f32; 3]], out: &mut Self::Buffer) -> Result<()>;
    /// Rotates `x` `[rows, heads, head_dim]` in place.
    fn rope(
        &self,
        spec: &RopeSpec,
        angles: &Self::Buffer,
        rows: usize,
        heads: usize,
        x: &mut Self::Buffer,
    ) -> Result<()>;
    /// Writes row r of `k` and `v` (`[rows, kv_heads, head_dim]`) to slot `slots[r]`, rounded as the slab's [`KvFormat`] says.
    fn store_kv(&self, kv: &mut Self::Kv, k: &Self::Buffer, v: &Self::Buffer, slots: &[u32]) -> Result<()>;
    /// Copies slots `from..from + len` to `to..` (prompts shared or moved).
    fn copy_kv(&self, kv: &mut Self::Kv, from: u32, to: u32, len: u32) -> Result<()>;
    /// Attention of query rows `[rows, heads, head_dim]` over the slab: row r sees `spans[r]`. Softmax in f32. `out`: `[rows, heads, head_dim]`. A row that sees nothing is an error.
    fn attention(
        &self,
        q: &Self::Buffer,
        heads: usize,
        kv: &Self::Kv,
        spans: &[Span],
        scale: f32,
        out: &mut Self::Buffer,
    ) -> Result<()>;
    /// Router: logits `x @ router^T` in f32, scores, choice and weights for each row. Ties go to the lower index.
    fn route(
        &self,
        x: &Self::Buffer,
        rows: usize,
        router: &Self::Weight,
        spec: &RouterSpec,
        out: &mut Self::Routing,
    ) -> Result<()>;
    /// Chosen experts and weights of each row, in descending order of selection score: for tests and traces. Null experts have indices from E on.
    fn read_routing(&self, routing: &Self::Routing, rows: usize) -> Result<Vec<Vec<(u32, f32)>>>;
    /// A routing from outside, for rows that another rank has routed: row r goes to expert `experts[r]` alone, with weight 1.
    fn assign(&self, experts: &[u32], out: &mut Self::Routing) -> Result<()> {
        let _ = (experts, out);
        Err(KernelError::Missing { op: "assign", backend: self.name() })
    }
    /// `dst[r] += sum over chosen e of weight * down[e] @ (silu(gate) * up)`, `[gate | up] = gate_up[e] @ x[r]`; summed in ascending order of the expert's index.
    fn experts(
        &self,
        x: &Self::Buffer,
        rows: usize,
        routing: &Self::Routing,
        gate_up: &Self::Weight,
        down: &Self::Weight,
        dst: &mut Self::Buffer,
    ) -> Result<()>;
    /// `dst[at + r * width ..] = src[rows[r] * width ..]`: gathers rows (queries before the head, slots of a position).
    fn gather(&self, src: &Self::Buffer, rows: &[u32], width: usize, dst: &mut Self::Buffer) -> Result<()>;
    /// `dst[at[i]] += src[i]`; an entry of `u32::MAX` adds nothing. No place is named twice.
    fn add_at(&self, dst: &mut Self::Buffer, at: &[u32], src: &Self::Buffer) -> Result<()> {
        let len = at.iter().filter(|at| **at != u32::MAX).max().map_or(0, |last| *last as usize + 1);
        let (mut to, mut from) = (vec![0.0; len], vec![0.0; at.len()]);
        self.read(dst, 0, &mut to)?;
        self.read(src, 0, &mut from)?;
        at.iter().zip(from).filter(|(at, _)| **at != u32::MAX).for_each(|(at, value)| to[*at as usize] += value);
        self.write(dst, 0, &to)
    }
    /// Draws ids from rows of `width` logits: appends one for each draw, `None` where a logit is not a number or nothing is left to draw. A device that draws by
    /// itself gives the ids that [`Drawer::draw`] gives.
    fn sample(
        &self,
        logits: &Self::Buffer,
        width: usize,
        draws: &Draws,
        host: &mut Drawer,
        ids: &mut Vec<Option<u32>>,
    ) -> Result<()> {
        let rows = check::draws(draws, width)?;
        let mut values = host.take(rows * width);
        let read = self.read(logits, 0, &mut values);
        let row = |r: usize| &values[r * width..(r + 1) * width];
        if read.is_ok() {
            ids.extend(draws.list.iter().map(|d| host.draw(row(d.row), d.against.map(row), d, draws.seen(d))));
        }
        host.put(values);
        read
    }

    /// Patches for a convolution: `out` is `[n * oh * ow, kernel * kernel * c]`, each row (ky, kx, c) in that order; outside = 0.
    fn patches(&self, x: &Self::Buffer, p: Patches, out: &mut Self::Buffer) -> Result<()>;
    /// `[n*h*w, 4c]` -> `[n*2h*2w, c]`; input channel `4 * k + 2 * dy + dx` becomes channel k of sub-pixel (dy, dx) (PyTorch's `pixel_shuffle(2)`).
    fn pixel_shuffle2(
        &self,
        x: &Self::Buffer,
        n: usize,
        h: usize,
        w: usize,
        c: usize,
        out: &mut Self::Buffer,
    ) -> Result<()>;
    /// Paints one frame: mask logits `[2h * 2w, K]` at `masks_at`, colours `[h * w, 3 K]` (layer-major: k * 3 + channel) at `colours_at`, both upsampled bilinearly (half-pixel centres, edges
    /// replicated); softmax over layers of `scale * logit`; blended; plus 0.5; clamped to 0..1.
    fn paint(
        &self,
        masks: &Self::Buffer,
        masks_at: usize,
        colours: &Self::Buffer,
        colours_at: usize,
        canvas: Canvas,
        target: Target<'_>,
    ) -> Result<()>;
}
