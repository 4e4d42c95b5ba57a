//! When sounds begin.

use std::f32::consts::TAU;

/// Samples between two looks, at 24 kHz.
const HOP: usize = 60;
/// Samples of a look.
const WINDOW: usize = 480;
/// Bands of a spectrum.
const BANDS: usize = 24;
/// Bins of a band.
const BINS: usize = 10;
/// Samples per second that onsets are looked for at.
pub const RATE: u32 = 24_000;
/// Rise of the mean log level of all bands that is an onset.
const THRESHOLD: f32 = 0.25;
/// What the detector is early by, in seconds.
const LEAD: f32 = 0.0075;

/// Onset times (s): where the log energy of the bands rises most within a tenth of a second.
pub fn onsets(samples: &[f32]) -> Vec<f32> {
    let levels = levels(samples);
    let rise = |(now, before): (&[f32; BANDS], &[f32; BANDS])| {
        now.iter().zip(before).map(|(a, b)| (a - b).max(0.0)).sum::<f32>() / BANDS as f32
    };
    let rises: Vec<f32> = levels.iter().skip(4).zip(&levels).map(rise).collect();
    let peak = |i: &usize| {
        let near = &rises[i.saturating_sub(40)..(i + 41).min(rises.len())];
        rises[*i] >= THRESHOLD && near.iter().all(|r| *r <= rises[*i])
    };
    let inner = 1..rises.len().saturating_sub(1);
    inner.filter(peak).map(|i| ((i + 4) * HOP) as f32 / RATE as f32 + LEAD).collect()
}

/// Root mean square of all samples.
pub fn loudness(samples: &[f32]) -> f32 {
    (samples.iter().map(|s| s * s).sum::<f32>() / samples.len().max(1) as f32).sqrt()
}

/// Log levels of the bands of every look.
fn levels(samples: &[f32]) -> Vec<[f32; BANDS]> {
    let hann = |i: usize| 0.5 - 0.5 * (TAU * i as f32 / (WINDOW - 1) as f32).cos();
    let window: Vec<f32> = (0..WINDOW).map(hann).collect();
    let turns: Vec<(f32, f32)> = (0..WINDOW).map(|i| (TAU * i as f32 / WINDOW as f32).sin_cos()).collect();
    let look = |k: usize| {
        let part = &samples[k * HOP..(k * HOP + WINDOW).min(samples.len())];
        let part: Vec<f32> = part.iter().zip(&window).map(|(s, w)| s * w).collect();
        std::array::from_fn(|band| {
            let size = |bin: usize| {
                let wave = part.iter().enumerate().map(|(i, s)| (s, turns[bin * i % WINDOW]));
                let (im, re) = wave.fold((0.0, 0.0), |(a, b), (s, (sin, cos))| (a + s * sin, b + s * cos));
                f32::hypot(re, im)
            };
            let mean = (band * BINS..(band + 1) * BINS).map(size).sum::<f32>() / BINS as f32;
            (mean + 0.25).ln()
        })
    };
    (0..samples.len() / HOP).map(look).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_is_heard_when_it_is_struck() {
        for start in [6_000usize, 13_337, 30_000] {
            let ring = |i: usize| {
                let t = i.checked_sub(start)? as f32 / RATE as f32;
                Some(0.5 * (t / 0.002).min(1.0) * (-t / 0.2).exp() * (TAU * 1_000.0 * t).sin())
            };
            let samples: Vec<f32> = (0..48_000).map(|i| ring(i).unwrap_or(0.0)).collect();
            let found = onsets(&samples);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!((found[0] - start as f32 / RATE as f32).abs() < 0.012, "{found:?} {start}");
        }
        assert!(onsets(&vec![0.0; 48_000]).is_empty());
        assert!(onsets(&[]).is_empty());
    }
}
