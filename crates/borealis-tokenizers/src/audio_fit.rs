//! The encoder of the audio codec: how loud each carrier is, from sound.

use std::f64::consts::PI;
use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use crate::audio_config::AudioConfig;

/// Sub-frames fitted together, one to a SIMD lane.
const LANES: usize = 8;
type Lanes = [f32; LANES];
/// Squared gains below it become 0: shrinking further they would turn subnormal, and arithmetic a hundred times slower.
const INAUDIBLE: f32 = 1e-20;

/// Non-negative fit of the carriers' spectra to a sound's: multiplicative updates against a fixed dictionary.
pub(crate) struct Fit {
    window: Vec<f32>,
    edges: Vec<usize>,
    step: usize,
    carriers: usize,
    iterations: usize,
    max_sharpening: f32,
    /// `[carriers, groups]`, and `[groups, carriers]`.
    templates: Vec<f32>,
    transposed: Vec<f32>,
    /// Sum of each template plus the regularisation.
    scale: Vec<f32>,
    /// How the analysis window weighs the power of neighbouring sub-frames.
    smear: Vec<f64>,
    fft: Arc<dyn Fft<f32>>,
}

impl std::fmt::Debug for Fit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fit").field("carriers", &self.carriers).field("groups", &self.groups()).finish_non_exhaustive()
    }
}

impl Fit {
    /// `templates`: `[carriers, pool_edges - 1]`.
    pub(crate) fn new(config: &AudioConfig, templates: Vec<f32>) -> Self {
        let n = config.analysis.window;
        let step = config.subframe_samples();
        let groups = config.analysis.pool_edges.len() - 1;
        let smear: Vec<f64> = (1..=n / step).map(|j| (PI * (step * j) as f64 / (n + 1) as f64).sin().powi(4)).collect();
        let total: f64 = smear.iter().sum();
        Self {
            window: (0..n).map(|i| (PI * i as f64 / n as f64).sin().powi(2) as f32).collect(),
            edges: config.analysis.pool_edges.clone(),
            step,
            carriers: config.carriers(),
            iterations: config.analysis.iterations,
            max_sharpening: config.analysis.max_sharpening,
            scale: templates.chunks(groups).map(|t| t.iter().sum::<f32>() + 1e-6 + 0.02).collect(),
            transposed: (0..groups).flat_map(|b| templates.iter().skip(b).step_by(groups)).copied().collect(),
            templates,
            smear: smear.into_iter().map(|w| w / total).collect(),
            fft: FftPlanner::new().plan_fft_forward(n),
        }
    }

    fn groups(&self) -> usize {
        self.edges.len() - 1
    }

    /// Square roots of the gains, `[samples / step, carriers]`.
    pub(crate) fn amplitudes(&self, samples: &[f32]) -> Vec<f32> {
        let frames = samples.len() / self.step;
        let sharpening = self.sharpening(samples, frames);
        let mut out = vec![0.0; frames * self.carriers];
        let mut power = vec![[0.0; LANES]; self.groups()];
        let mut gains = vec![[0.0; LANES]; self.carriers];
        let mut ratio = vec![[0.0; LANES]; self.groups()];
        let mut spectrum = vec![Complex::default(); self.window.len()];
        let mut scratch = vec![Complex::default(); self.fft.get_inplace_scratch_len()];
        for first in (0..frames).step_by(LANES) {
            let lanes = LANES.min(frames - first);
            for lane in 0..lanes {
                self.pooled_power(samples, first + lane, lane, &mut spectrum, &mut scratch, &mut power);
            }
            self.solve(&power, &mut gains, &mut ratio);
            for lane in 0..lanes {
                let row = &mut out[(first + lane) * self.carriers..][..self.carriers];
                for (y, g) in row.iter_mut().zip(&gains) {
                    *y = (g[lane].max(0.0).sqrt() * sharpening[first + lane]).sqrt();
                }
            }
        }
        out
    }

    /// Power of the spectrum around sub-frame `frame`, by groups of bins, into one lane.
    fn pooled_power(
        &self,
        samples: &[f32],
        frame: usize,
        lane: usize,
        spectrum: &mut [Complex<f32>],
        scratch: &mut [Complex<f32>],
        power: &mut [Lanes],
    ) {
        let n = self.window.len();
        // May start before the sound: `offset` samples of silence.
        let centre = self.step * frame + self.step / 2;
        let (offset, begin) = ((n / 2).saturating_sub(centre), centre.saturating_sub(n / 2));
        spectrum.fill(Complex::default());
        for ((z, w), y) in spectrum[offset..].iter_mut().zip(&self.window[offset..]).zip(&samples[begin..]) {
            z.re = w * y;
        }
        self.fft.process_with_scratch(spectrum, scratch);
        let unit = (n / 4) as f32;
        for (group, edge) in power.iter_mut().zip(self.edges.windows(2)) {
            let sum: f64 = spectrum[edge[0]..edge[1]]
                .iter()
                .map(|z| {
                    let (re, im) = (z.re / unit, z.im / unit);
                    f64::from(re * re + im * im)
                })
                .sum();
            group[lane] = (sum / ((edge[1] - edge[0]) as f64).sqrt()) as f32;
        }
    }

    /// `g *= (P / (g T)) T^t / scale`, [`LANES`] sub-frames at once.
    fn solve(&self, power: &[Lanes], gains: &mut [Lanes], ratio: &mut [Lanes]) {
        gains.fill([1e-3; LANES]);
        for _ in 0..self.iterations {
            for ((m, p), template) in ratio.iter_mut().zip(power).zip(self.transposed.chunks_exact(self.carriers)) {
                let model = weigh(gains, template);
                *m = std::array::from_fn(|l| p[l] / (model[l] + 1e-9));
            }
            for ((g, template), scale) in
                gains.iter_mut().zip(self.templates.chunks_exact(self.groups())).zip(&self.scale)
            {
                let sum = weigh(ratio, template);
                let next: Lanes = std::array::from_fn(|l| g[l] * sum[l] / scale);
                *g = next.map(|v| if v < INAUDIBLE { 0.0 } else { v });
            }
        }
    }

    /// Factor per sub-frame that gives transients the power that the long window smeared over their neighbours.
    fn sharpening(&self, samples: &[f32], frames: usize) -> Vec<f32> {
        let local: Vec<f64> = samples
            .chunks_exact(self.step)
            .map(|y| y.iter().map(|v| f64::from(v * v)).sum::<f64>() / self.step as f64)
            .collect();
        let side = self.smear.len() as isize / 2;
        (0..frames as isize)
            .map(|k| {
                let seen: f64 = (self.smear.iter().zip(k - side..))
                    .map(|(w, i)| w * local[i.clamp(0, frames as isize - 1) as usize])
                    .sum();
                (((local[k as usize] + 1e-7) / (seen + 1e-7)).sqrt() as f32).min(self.max_sharpening)
            })
            .collect()
    }
}

/// Sum of `values[i] * weights[i]`, kept in registers; two chains of additions hide their latency.
fn weigh(values: &[Lanes], weights: &[f32]) -> Lanes {
    let (mut even, mut odd) = ([0.0; LANES], [0.0; LANES]);
    let (pairs, rest) = values.as_chunks::<2>();
    let (weight_pairs, weight_rest) = weights.as_chunks::<2>();
    for (v, w) in pairs.iter().zip(weight_pairs) {
        for l in 0..LANES {
            even[l] += v[0][l] * w[0];
            odd[l] += v[1][l] * w[1];
        }
    }
    for (v, w) in rest.iter().zip(weight_rest) {
        for l in 0..LANES {
            even[l] += v[l] * w;
        }
    }
    std::array::from_fn(|l| even[l] + odd[l])
}
