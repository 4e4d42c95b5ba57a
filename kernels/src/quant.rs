//! Groups of codes with one scale each: what int8 and int4 weights are, whoever keeps them.
//!
//! Both are symmetric: a weight is `code * scale`, with an f16 scale for each group of [`GROUP`] inputs. For int4 a minimum beside the scale was
//! measured and left out: at 64 inputs a group, normal weights have NMSE 7.55e-3 with the scale that fits best and
//! 7.68e-3 with scale and minimum (0.25 bits more for each weight); see `int4_is_as_good_as_with_a_minimum` below.

use half::f16;

use crate::QuantFormat;

/// Inputs that share one scale in [`QuantFormat::Int8`] and [`QuantFormat::Int4`].
pub const GROUP: usize = 64;

/// One row of codes with one scale per [`GROUP`] (the last group may be shorter). int8: -127..=127; int4: -8..=7.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QuantRow {
    pub(crate) q: Vec<i8>,
    pub(crate) scales: Vec<f16>,
}

/// To the nearest whole number, ties to even, for |x| below 2^22: unlike `round_ties_even` never a call.
fn whole(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC) - MAGIC
}

/// A scale as it is stored.
fn stored(scale: f32) -> f16 {
    let most = f16::MAX.to_f32();
    f16::from_f32(scale.clamp(-most, most))
}

impl QuantRow {
    /// Codes of `w` in a format that has codes.
    pub(crate) fn quantise(w: &[f32], format: QuantFormat) -> Self {
        let groups = w.len().div_ceil(GROUP);
        let mut row = Self { q: Vec::with_capacity(w.len()), scales: Vec::with_capacity(groups) };
        for group in w.chunks(GROUP) {
            let (scale, low, high) = match format {
                QuantFormat::Int4 => (best_of_four_bits(group), -8.0, 7.0),
                // The scale is rounded first, as a checkpoint stores it.
                _ => (stored(group.iter().fold(0f32, |m, x| m.max(x.abs())) / 127.0), -127.0, 127.0),
            };
            let s = scale.to_f32();
            row.scales.push(scale);
            row.q.extend(group.iter().map(|x| if s == 0.0 { 0 } else { whole((x / s).clamp(low, high)) as i8 }));
        }
        row
    }

    pub(crate) fn expand(&self, out: &mut [f32]) {
        for (g, (o, q)) in out.chunks_mut(GROUP).zip(self.q.chunks(GROUP)).enumerate() {
            let s = self.scales[g].to_f32();
            o.iter_mut().zip(q).for_each(|(o, &q)| *o = f32::from(q) * s);
        }
    }
}

/// The scale with the least squared error over codes -8..=7: the largest weight is put near -8 (the sign of the scale is free), and of some places of
/// it, each with the scale that fits its codes best, the best is taken.
fn best_of_four_bits(group: &[f32]) -> f16 {
    let largest = group.iter().fold(0f32, |m: f32, &x| if x.abs() > m.abs() { x } else { m });
    if largest.abs() < 1e-30 {
        return f16::ZERO;
    }
    let (mut best, mut scale) = (0f32, 0f32);
    for tenths in (66..=94).step_by(2) {
        let factor = tenths as f32 / -10.0 / largest;
        let (mut with_weights, mut squares) = (0f32, 0f32);
        for &x in group {
            let q = whole((x * factor).clamp(-8.0, 7.0));
            with_weights += x * q;
            squares += q * q;
        }
        // The error of the best scale, `with_weights / squares`, is the weights' square minus this.
        let saved = with_weights * with_weights / squares.max(1.0);
        if saved > best {
            (best, scale) = (saved, with_weights / squares.max(1.0));
        }
    }
    stored(scale)
}

/// Quantises one row as [`QuantFormat::Int8`] or [`QuantFormat::Int4`] does: appends its codes as a checkpoint stores them (int4: two to a byte, the even
/// input in the low half, each plus 8; an odd last input is paired with 0) and the bytes of its f16 scales.
pub fn quantise(row: &[f32], format: QuantFormat, codes: &mut Vec<u8>, scales: &mut Vec<u8>) {
    let row = QuantRow::quantise(row, format);
    match format {
        QuantFormat::Int4 => {
            let nibble = |q: i8| (q + 8) as u8;
            codes.extend(row.q.chunks(2).map(|p| nibble(p[0]) | nibble(p.get(1).copied().unwrap_or(0)) << 4));
        }
        _ => codes.extend(row.q.iter().map(|q| *q as u8)),
    }
    scales.extend(row.scales.iter().flat_map(|s| s.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// About normal.
    fn weights(n: usize) -> Vec<f32> {
        let mut state = 1u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| (0..12).map(|_| uniform()).sum()).collect()
    }

    fn nmse(have: &[f32], want: &[f32]) -> f32 {
        let square = |v: &mut dyn Iterator<Item = f32>| v.map(|x| x * x).sum::<f32>();
        square(&mut have.iter().zip(want).map(|(a, b)| a - b)) / square(&mut want.iter().copied())
    }

    fn error(w: &[f32], format: QuantFormat) -> f32 {
        let mut out = vec![0f32; w.len()];
        QuantRow::quantise(w, format).expand(&mut out);
        nmse(&out, w)
    }

    /// Scale and minimum for each group, the obvious way.
    fn with_minimum(w: &[f32]) -> Vec<f32> {
        let group = |g: &[f32]| {
            let (min, max) = g.iter().fold((f32::MAX, f32::MIN), |(a, b), &x| (a.min(x), b.max(x)));
            let (s, m) = (stored((max - min) / 15.0).to_f32(), stored(min).to_f32());
            g.iter().map(|x| ((x - m) / s).round().clamp(0.0, 15.0) * s + m).collect::<Vec<f32>>()
        };
        w.chunks(GROUP).flat_map(group).collect()
    }

    #[test]
    fn errors_are_those_of_the_bits() {
        let w = weights(1 << 15);
        let (eight, four) = (error(&w, QuantFormat::Int8), error(&w, QuantFormat::Int4));
        assert!(eight < 4e-5, "int8: {eight:e}");
        assert!(four < 8.5e-3, "int4: {four:e}");
    }

    #[test]
    fn int4_is_as_good_as_with_a_minimum() {
        let w = weights(1 << 15);
        let (plain, other) = (error(&w, QuantFormat::Int4), nmse(&with_minimum(&w), &w));
        println!("int4 of normal weights: NMSE {plain:.2e}; with a minimum {other:.2e}");
        assert!(plain < 1.05 * other, "{plain:e} against {other:e}");
    }

    #[test]
    fn zeros_and_single_weights_are_exact() {
        for format in [QuantFormat::Int8, QuantFormat::Int4] {
            for w in [vec![0.0; 70], vec![-2.0], vec![0.0, 1.0, 0.0]] {
                assert!(error(&w, format).is_nan() || error(&w, format) < 1e-6, "{format:?} {w:?}");
            }
        }
    }
}
