//! Norms: over groups of channels, optionally steered by the latents, and over channels with running statistics.

use rayon::prelude::*;

use crate::Result;
use crate::vq::conv::{Conv, Shape};
use crate::vq::map::{FeatureMap, silu};
use crate::vq::source::Source;

/// All these tokenizers have 32 groups and this epsilon (it is in their code, not in their configurations).
const GROUPS: usize = 32;
const EPS: f64 = 1e-6;
/// Of the batch norms, likewise.
const BATCH_EPS: f32 = 1e-5;
/// Places whose sums are taken together: fixed, so that the result does not depend on threads.
const PLACES: usize = 4096;

/// Group norm, for each frame by itself. A conditioned norm (Zheng et al. 2022, MoVQ) multiplies its result by one 1x1 convolution of the
/// latents and adds another; the latents are repeated to the map's size.
#[derive(Debug)]
pub(crate) struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    steer: Option<(Conv, Conv)>,
}

impl Norm {
    /// `<name>.weight`, `<name>.bias`; with `latents` channels of condition `<name>.norm_layer.*`, `<name>.conv_y.*`, `<name>.conv_b.*`.
    pub fn load(s: &Source<'_>, name: &str, channels: usize, latents: Option<usize>) -> Result<Self> {
        let own = if latents.is_some() { format!("{name}.norm_layer") } else { name.to_string() };
        let conv = |part: &str, n: usize| Conv::load(s, &format!("{name}.{part}"), n, channels, Shape::same(1));
        Ok(Self {
            weight: s.get(&format!("{own}.weight"), &[channels])?,
            bias: s.get(&format!("{own}.bias"), &[channels])?,
            steer: match latents {
                Some(n) => Some((conv("conv_y", n)?, conv("conv_b", n)?)),
                None => None,
            },
        })
    }

    /// The normed map, through `x * sigmoid(x)` if `activate`. A conditioned norm needs `latents` (of as many frames), whose sides divide the map's.
    pub fn apply(&self, x: &FeatureMap, latents: Option<&FeatureMap>, activate: bool) -> Result<FeatureMap> {
        let steer = match (&self.steer, latents) {
            (Some((y, b)), Some(latents)) => Some((y.apply(latents)?, b.apply(latents)?)),
            _ => None,
        };
        let each = x.height * x.width * x.channels;
        let mut out = FeatureMap::zeros(x.frames, x.size(), x.channels);
        for frame in 0..x.frames {
            let affine = self.affine(x.frame(frame), x.channels);
            let lines = out.data[frame * each..(frame + 1) * each].par_chunks_mut(x.width * x.channels);
            lines.zip(x.frame(frame).par_chunks(x.width * x.channels)).enumerate().for_each(|(y, (to, from))| {
                scale(to, from, &affine);
                if let Some((factor, term)) = &steer {
                    steer_line(to, (frame, y), x, factor, term);
                }
                if activate {
                    to.iter_mut().for_each(|v| *v = silu(*v));
                }
            });
        }
        Ok(out)
    }

    /// Factor and term of each channel for one frame.
    fn affine(&self, frame: &[f32], channels: usize) -> Vec<(f32, f32)> {
        let sums = |piece: &[f32]| {
            let mut sums = vec![(0f64, 0f64); channels];
            for place in piece.chunks_exact(channels) {
                for (s, v) in sums.iter_mut().zip(place) {
                    let v = f64::from(*v);
                    s.0 += v;
                    s.1 += v * v;
                }
            }
            sums
        };
        let parts: Vec<_> = frame.par_chunks(PLACES * channels).map(sums).collect();
        let each = channels / GROUPS;
        let count = (frame.len() / GROUPS) as f64;
        let mut affine = Vec::with_capacity(channels);
        for group in 0..GROUPS {
            let of = |part: &Vec<(f64, f64)>| {
                part[group * each..(group + 1) * each].iter().fold((0.0, 0.0), |a, s| (a.0 + s.0, a.1 + s.1))
            };
            let (sum, squares) = parts.iter().map(of).fold((0.0, 0.0), |a, s| (a.0 + s.0, a.1 + s.1));
            let mean = sum / count;
            let rate = 1.0 / ((squares / count - mean * mean).max(0.0) + EPS).sqrt();
            affine.extend((group * each..(group + 1) * each).map(|c| {
                let factor = f64::from(self.weight[c]) * rate;
                (factor as f32, (f64::from(self.bias[c]) - mean * factor) as f32)
            }));
        }
        affine
    }
}

/// Whether a map of so many channels can be cut into groups.
pub(crate) fn divides(channels: usize) -> bool {
    channels > 0 && channels.is_multiple_of(GROUPS)
}

fn scale(to: &mut [f32], from: &[f32], affine: &[(f32, f32)]) {
    for (to, from) in to.chunks_exact_mut(affine.len()).zip(from.chunks_exact(affine.len())) {
        for ((t, f), (factor, term)) in to.iter_mut().zip(from).zip(affine) {
            *t = f * factor + term;
        }
    }
}

/// One line of a map times `factor` plus `term`, whose places are those of the latents.
fn steer_line(line: &mut [f32], (frame, y): (usize, usize), x: &FeatureMap, factor: &FeatureMap, term: &FeatureMap) {
    let c = x.channels;
    let row = (frame * factor.height + y * factor.height / x.height) * factor.width;
    for (at, place) in line.chunks_exact_mut(c).enumerate() {
        let from = (row + at * factor.width / x.width) * c;
        let (f, t) = (&factor.data[from..from + c], &term.data[from..from + c]);
        place.iter_mut().zip(f).zip(t).for_each(|((v, f), t)| *v = *v * f + t);
    }
}

/// Batch norm at inference: a factor and a term for each channel, from the running statistics.
#[derive(Debug)]
pub(crate) struct BatchNorm {
    affine: Vec<(f32, f32)>,
}

impl BatchNorm {
    /// `<name>.weight`, `.bias`, `.running_mean`, `.running_var`.
    pub fn load(s: &Source<'_>, name: &str, channels: usize) -> Result<Self> {
        let get = |part: &str| s.get(&format!("{name}.{part}"), &[channels]);
        let (weight, bias, mean, variance) = (get("weight")?, get("bias")?, get("running_mean")?, get("running_var")?);
        let affine = (0..channels).map(|c| {
            let factor = weight[c] / (variance[c].max(0.0) + BATCH_EPS).sqrt();
            (factor, bias[c] - mean[c] * factor)
        });
        Ok(Self { affine: affine.collect() })
    }

    /// The normed map through `x * sigmoid(x)`.
    pub fn apply_silu(&self, x: &FeatureMap) -> FeatureMap {
        let mut out = FeatureMap::zeros(x.frames, x.size(), x.channels);
        scale(&mut out.data, &x.data, &self.affine);
        out.silu();
        out
    }
}
