//! Size checks that all backends share, and small tables that are part of an operation's definition.

use crate::{
    Canvas, Columns, Draws, HostTensor, KernelError, Patches, RopeSpec, RouterSpec, Span, Target, backend::Result,
};

/// Fails unless `have >= want`.
pub(crate) fn at_least(op: &'static str, name: &str, have: usize, want: usize) -> Result<()> {
    if have >= want {
        return Ok(());
    }
    Err(KernelError::Shape { op, what: format!("{name} holds {have} numbers, {want} are needed") })
}

/// Fails unless `have == want`.
pub(crate) fn equal(op: &'static str, name: &str, have: usize, want: usize) -> Result<()> {
    if have == want {
        return Ok(());
    }
    Err(KernelError::Shape { op, what: format!("{name} is {have}, expected {want}") })
}

/// An error with a free text.
pub(crate) fn shape(op: &'static str, what: impl Into<String>) -> KernelError {
    KernelError::Shape { op, what: what.into() }
}

/// A stack of matrices that can be made.
pub(crate) fn stack(shape: [usize; 3]) -> Result<()> {
    // With room for padding: a byte count that overflows would be a small allocation.
    let bytes = shape.iter().try_fold(64usize, |n, &d| n.checked_mul(d.max(1)));
    match bytes {
        Some(_) if !shape.contains(&0) => Ok(()),
        _ => Err(self::shape("stack", format!("a stack of shape {shape:?}"))),
    }
}

/// Matrices `[n, out, in]` that take the place of matrices `first..first + n` of a stack of shape `have`.
pub(crate) fn replacement(have: [usize; 3], first: usize, tensor: &HostTensor<'_>) -> Result<()> {
    tensor.check()?;
    let [count, out, inputs] = have;
    match *tensor.shape {
        [n, o, i] if o == out && i == inputs && first <= count && n <= count - first => Ok(()),
        _ => Err(shape("replace", format!("{:?} at {first} of a stack of shape {have:?}", tensor.shape))),
    }
}

/// Ids of a table with `rows` rows; `u32::MAX` is allowed and means nothing.
pub(crate) fn ids(op: &'static str, ids: &[u32], rows: usize) -> Result<()> {
    match ids.iter().find(|&&id| id != u32::MAX && id as usize >= rows) {
        None => Ok(()),
        Some(id) => Err(shape(op, format!("id {id} in a table of {rows} rows"))),
    }
}

/// Slots of a slab.
pub(crate) fn slots(op: &'static str, list: &[u32], slots: usize) -> Result<()> {
    match list.iter().find(|&&s| s as usize >= slots) {
        None => Ok(()),
        Some(s) => Err(shape(op, format!("slot {s} in a slab of {slots}"))),
    }
}

/// Spans of attention rows: inside the slab, in order, and not empty.
pub(crate) fn spans(spans: &[Span], slots: usize) -> Result<()> {
    for (row, s) in spans.iter().enumerate() {
        for (a, b) in [s.prefix, s.recent] {
            if a > b || b as usize > slots {
                return Err(shape("attention", format!("row {row} sees slots {a}..{b} of a slab of {slots}")));
            }
        }
        if s.prefix.0 == s.prefix.1 && s.recent.0 == s.recent.1 {
            return Err(shape("attention", format!("row {row} sees nothing")));
        }
    }
    Ok(())
}

/// Heads of queries and of keys.
pub(crate) fn heads(heads: usize, kv_heads: usize) -> Result<()> {
    if heads > 0 && kv_heads > 0 && heads.is_multiple_of(kv_heads) {
        return Ok(());
    }
    Err(shape("attention", format!("{heads} query heads over {kv_heads} key heads")))
}

/// Number of vectors of `width` in a weight and bias of a layer norm.
pub(crate) fn vectors(op: &'static str, weight: usize, bias: usize, width: usize) -> Result<usize> {
    equal(op, "length of the bias", bias, weight)?;
    if width == 0 || !weight.is_multiple_of(width) {
        return Err(shape(op, format!("{weight} weights for vectors of {width}")));
    }
    Ok(weight / width)
}

/// Parts of rows that are copied.
pub(crate) fn columns(from: Columns, to: Columns, width: usize) -> Result<()> {
    at_least("copy_columns", "a row of the source", from.stride, from.at + width)?;
    at_least("copy_columns", "a row of the target", to.stride, to.at + width)
}

/// Draws from rows of `width` logits: their parts lie inside. The number of rows that they name.
pub(crate) fn draws(draws: &Draws, width: usize) -> Result<usize> {
    let mut rows = 0;
    for (i, d) in draws.list.iter().enumerate() {
        let (from, to) = d.part;
        if from > to || to > width {
            return Err(shape("sample", format!("draw {i} is among logits {from}..{to} of {width}")));
        }
        rows = rows.max(d.row + 1).max(d.against.map_or(0, |r| r + 1));
    }
    Ok(rows)
}

/// A router's numbers.
pub(crate) fn router(spec: &RouterSpec, outputs: usize) -> Result<()> {
    let all = spec.experts + spec.null_experts;
    equal("route", "outputs of the router", outputs, all)?;
    if spec.top_k == 0 || spec.top_k > all {
        return Err(shape("route", format!("top_k {} of {all} experts", spec.top_k)));
    }
    if !spec.selection_bias.is_empty() {
        equal("route", "length of selection_bias", spec.selection_bias.len(), all)?;
    }
    if spec.groups == 1 {
        return Ok(());
    }
    let (groups, size) = (spec.groups, spec.experts / spec.groups.max(1));
    let sound = spec.null_experts == 0 && groups > 0 && size >= 2 && size * groups == spec.experts;
    if !sound || spec.top_groups == 0 || spec.top_groups > groups || spec.top_k > spec.top_groups * size {
        let what = format!("{} of {groups} groups of {all} experts, top_k {}", spec.top_groups, spec.top_k);
        return Err(shape("route", what));
    }
    Ok(())
}

/// Whether the group of each expert may be chosen from: writes the groups' scores to `scores` (one for each group) and returns the test.
pub(crate) fn open_groups<'a, F: Fn(usize) -> f32>(
    spec: &RouterSpec,
    selection: F,
    scores: &'a mut [f32],
) -> impl Fn(usize) -> bool + use<'a, F> {
    let (groups, top) = (spec.groups, spec.top_groups);
    let size = (spec.experts / groups.max(1)).max(1);
    if groups > 1 {
        for (g, score) in scores.iter_mut().enumerate() {
            let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
            for s in (g * size..(g + 1) * size).map(&selection) {
                (first, second) = if s > first { (s, first) } else { (first, second.max(s)) };
            }
            *score = first + second;
        }
    }
    let scores = &*scores;
    move |expert| {
        let g = expert / size;
        groups <= 1
            || scores.iter().enumerate().filter(|&(h, s)| *s > scores[g] || (*s == scores[g] && h < g)).count() < top
    }
}

/// `x * Phi(x)`.
pub(crate) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + candle_core::cpu::erf::erf_f32(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The limit of [`crate::Activation::Clip`].
pub(crate) fn limit(limit: f32) -> Result<f32> {
    if limit >= 0.0 { Ok(limit) } else { Err(shape("activate", format!("a limit of {limit}"))) }
}

/// A rotary spec's tables.
pub(crate) fn rope(spec: &RopeSpec) -> Result<()> {
    equal("rope", "length of axis", spec.axis.len(), spec.inv_freq.len())?;
    match spec.axis.iter().find(|&&a| a > 2) {
        None => Ok(()),
        Some(a) => Err(shape("rope", format!("axis {a}: expected 0, 1 or 2"))),
    }
}

/// Geometry of patches.
pub(crate) fn patches(p: &Patches) -> Result<()> {
    let fits = p.kernel > 0
        && p.stride > 0
        && p.c > 0
        && p.h + 2 * p.pad >= p.kernel
        && p.w + 2 * p.pad >= p.kernel
        && p.pad < p.kernel;
    if fits { Ok(()) } else { Err(shape("patches", format!("{p:?} has no output"))) }
}

/// Geometry of a canvas and the sizes of its target.
pub(crate) fn canvas(c: &Canvas, target: &Target<'_>) -> Result<()> {
    let (h, w) = c.size;
    if c.grid.0 == 0 || c.grid.1 == 0 || c.layers == 0 || h == 0 || w == 0 || h > c.full.0 || w > c.full.1 {
        return Err(shape("paint", format!("{c:?} is not a picture")));
    }
    match target {
        Target::Rgb(out) => equal("paint", "length of the RGB target", out.len(), 3 * h * w),
        Target::I420(y, u, v) => {
            if h % 2 != 0 || w % 2 != 0 {
                return Err(shape("paint", format!("4:2:0 needs an even size, not {w}x{h}")));
            }
            equal("paint", "length of plane Y", y.len(), h * w)?;
            equal("paint", "length of plane U", u.len(), h * w / 4)?;
            equal("paint", "length of plane V", v.len(), h * w / 4)
        }
    }
}

/// Cosines and sines of one row: `out` is D/2 cosines, then D/2 sines.
pub(crate) fn angles(spec: &RopeSpec, position: &[f32; 3], out: &mut [f32]) {
    let half = spec.inv_freq.len();
    for (i, (f, &axis)) in spec.inv_freq.iter().zip(&spec.axis).enumerate() {
        let (sin, cos) = (position[axis as usize] * f).sin_cos();
        out[i] = cos * spec.scale;
        out[half + i] = sin * spec.scale;
    }
}

/// Tap of bilinear upsampling: the output is `(1 - t) * in[a] + t * in[b]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tap {
    pub(crate) a: usize,
    pub(crate) b: usize,
    pub(crate) t: f32,
}

/// Tap of output pixel `i` when `from` samples are stretched over `full` pixels: half-pixel centres, edges replicated
/// (PyTorch's `interpolate(align_corners=False)`).
pub(crate) fn tap(i: usize, from: usize, full: usize) -> Tap {
    let x = ((i as f64 + 0.5) * from as f64 / full as f64 - 0.5).clamp(0.0, (from - 1) as f64);
    let a = x.floor() as usize;
    Tap { a, b: (a + 1).min(from - 1), t: (x - a as f64) as f32 }
}
