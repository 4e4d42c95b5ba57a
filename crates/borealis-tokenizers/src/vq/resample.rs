//! Resizing as Pillow does it: the references resize 8-bit pictures with it, so codes agree only when every byte does.
//!
//! Pillow (`src/libImaging/Resample.c`, HPND licence) widens the kernel when a picture shrinks, takes weights as 22-bit fixed point numbers,
//! and rounds to bytes after the pass across and again after the pass down.

use borealis_weights::Node;

use crate::Result;

/// Fraction bits of the weights.
const PRECISION: u32 = 32 - 8 - 2;

/// A kernel, as `resample` in `preprocessor_config.json` names it (Pillow's numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resample {
    /// 2: linear.
    Bilinear,
    /// 3: cubic with a = -1/2.
    Bicubic,
    /// 1: three lobes.
    Lanczos,
}

impl Resample {
    /// The `resample` field of a file; `default` where it is silent.
    pub(crate) fn read(node: &Node<'_>, default: Self) -> Result<Self> {
        let Some(field) = node.opt("resample")? else { return Ok(default) };
        match field.u32(0, 5)? {
            1 => Ok(Self::Lanczos),
            2 => Ok(Self::Bilinear),
            3 => Ok(Self::Bicubic),
            _ => Err(field.fail("must be 1 (Lanczos), 2 (bilinear) or 3 (bicubic)").into()),
        }
    }

    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
        match self {
            _ if x >= self.support() => 0.0,
            Self::Bilinear => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1.0,
            Self::Bicubic => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
            Self::Lanczos => sinc(x) * sinc(x / 3.0),
        }
    }
}

/// For each output sample, the first source sample and the fixed-point weights from there on.
fn taps(from: usize, to: usize, kernel: Resample) -> Vec<(usize, Vec<i64>)> {
    let scale = from as f64 / to as f64;
    let widen = scale.max(1.0);
    let support = kernel.support() * widen;
    let tap = |i: usize| {
        let center = (i as f64 + 0.5) * scale;
        let first = ((center - support + 0.5).max(0.0)) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let weights: Vec<f64> = (first..end).map(|s| kernel.weight((s as f64 - center + 0.5) / widen)).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |w: &f64| {
            let w = if sum == 0.0 { *w } else { w / sum } * f64::from(1u32 << PRECISION);
            // Half away from zero, as the C code rounds.
            if w < 0.0 { (w - 0.5) as i64 } else { (w + 0.5) as i64 }
        };
        (first, weights.iter().map(fixed).collect())
    };
    (0..to).map(tap).collect()
}

fn byte(sum: i64) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

/// Interleaved RGB bytes of a `from` (width, height) picture at size `to`, both sides at least 1.
pub(crate) fn resize(rgb: &[u8], from: (usize, usize), to: (usize, usize), kernel: Resample) -> Vec<u8> {
    let across = if from.0 == to.0 {
        rgb.to_vec()
    } else {
        let taps = taps(from.0, to.0, kernel);
        let mut out = Vec::with_capacity(to.0 * from.1 * 3);
        for line in rgb.chunks_exact(from.0 * 3) {
            for (first, weights) in &taps {
                for c in 0..3 {
                    let values = line[first * 3 + c..].iter().step_by(3);
                    out.push(byte(weights.iter().zip(values).map(|(w, v)| w * i64::from(*v)).sum()));
                }
            }
        }
        out
    };
    if from.1 == to.1 {
        return across;
    }
    let line = to.0 * 3;
    let mut out = Vec::with_capacity(line * to.1);
    for (first, weights) in taps(from.1, to.1, kernel) {
        let value = |x: usize| {
            let values = across[first * line + x..].iter().step_by(line);
            byte(weights.iter().zip(values).map(|(w, v)| w * i64::from(*v)).sum())
        };
        out.extend((0..line).map(value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 7 x 5 picture of small numbers that are easy to make anywhere.
    fn picture() -> Vec<u8> {
        (0..7 * 5 * 3u32).map(|i| ((i * i * 31 + i * 17) % 251) as u8).collect()
    }

    /// Sums of the resized bytes weighted by their place, made with Pillow 13.0 by `Image.fromarray(..).resize(size, kernel)`.
    #[test]
    fn agrees_with_pillow() {
        let check = |to, kernel, wanted: (u64, &[u8])| {
            let out = resize(&picture(), (7, 5), to, kernel);
            let sum = out.iter().enumerate().map(|(i, v)| (i as u64 + 1) * u64::from(*v)).sum::<u64>();
            assert_eq!((sum, &out[..wanted.1.len()]), wanted, "{kernel:?} {to:?}");
        };
        check((16, 12), Resample::Bicubic, (21719049, &[0, 47, 156, 0, 46, 148]));
        check((16, 12), Resample::Lanczos, (21705025, &[0, 51, 144, 0, 41, 137]));
        check((16, 12), Resample::Bilinear, (21764519, &[0, 48, 158, 12, 50, 150]));
        check((3, 2), Resample::Bicubic, (22758, &[142, 121, 112, 158, 125, 131]));
        check((3, 2), Resample::Lanczos, (22763, &[142, 123, 112, 161, 125, 128]));
        check((3, 2), Resample::Bilinear, (22805, &[144, 123, 111, 151, 126, 134]));
        check((7, 9), Resample::Bicubic, (2351296, &[0, 46, 153, 70, 49, 111]));
        check((7, 9), Resample::Lanczos, (2352904, &[0, 46, 143, 60, 39, 110]));
        check((7, 9), Resample::Bilinear, (2347443, &[0, 48, 158, 79, 62, 107]));
        check((4, 5), Resample::Bicubic, (242155, &[36, 58, 133, 177, 79, 128]));
        check((4, 5), Resample::Lanczos, (242996, &[36, 63, 130, 177, 76, 126]));
        check((4, 5), Resample::Bilinear, (241758, &[44, 58, 134, 170, 83, 128]));
        check((2, 11), Resample::Bicubic, (292141, &[108, 62, 122, 155, 167, 147]));
        check((2, 11), Resample::Lanczos, (292940, &[104, 53, 112, 162, 171, 146]));
        check((2, 11), Resample::Bilinear, (292016, &[114, 77, 125, 152, 158, 150]));
    }

    #[test]
    fn the_same_size_changes_nothing() {
        assert_eq!(resize(&picture(), (7, 5), (7, 5), Resample::Lanczos), picture());
    }
}
