//! How an object moves, from its outline in every frame.

use super::look::Looks;
use super::picture::{Mask, Picture, percentile};
use super::world::LINES;

/// An object in one frame; lengths in units, the shorter side of the picture.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Middle of its box.
    pub x: f32,
    /// Middle of its box, downwards.
    pub y: f32,
    /// Square units.
    pub area: f32,
    /// Its lower edge.
    pub bottom: f32,
    /// Its pixels.
    pub mask: Mask,
}

/// The largest blob of every frame; of several large ones the one nearest to the last place.
pub fn follow(looks: &Looks, frames: &[Picture], background: usize) -> Vec<Option<Seen>> {
    let mut last: Option<(f32, f32)> = None;
    let mut pick = |frame: &Picture| {
        let found = looks.blobs(frame, background);
        let size = found.first()?.count();
        let far = |m: &Mask| {
            let ((x, y), (u, v)) = (m.centre(), last.unwrap_or_default());
            if last.is_some() { (x - u).hypot(y - v) } else { 0.0 }
        };
        let large = found.into_iter().filter(|m| 2 * m.count() > size);
        let mask = large.map(|m| (far(&m), m)).min_by(|a, b| a.0.total_cmp(&b.0))?.1;
        last = Some(mask.centre());
        let (b, unit) = (mask.bounds()?, LINES as f32);
        Some(Seen {
            x: (b.left + b.right) as f32 / 2.0 / unit,
            y: (b.top + b.bottom) as f32 / 2.0 / unit,
            area: mask.count() as f32 / unit.powi(2),
            bottom: b.bottom as f32 / unit,
            mask,
        })
    };
    frames.iter().map(&mut pick).collect()
}

/// One of the world's motions, `none` or `other`.
pub fn name(track: &[Option<Seen>]) -> &'static str {
    let seen: Vec<&Seen> = track.iter().flatten().collect();
    if seen.len() < 8 {
        return "none";
    }
    let spread = |value: fn(&Seen) -> f32| {
        let mut values: Vec<f32> = seen.iter().map(|s| value(s)).collect();
        percentile(&mut values, 95.0) - percentile(&mut values, 5.0)
    };
    // Share of the steps that go on minus those that go back.
    let drift = |value: fn(&Seen) -> f32| {
        let steps: Vec<f32> =
            track.windows(2).filter_map(|w| Some(value(w[1].as_ref()?) - value(w[0].as_ref()?))).collect();
        let count = |sign: f32| steps.iter().filter(|d| *d * sign > 0.004).count() as f32;
        (count(1.0) - count(-1.0)) / steps.len().max(1) as f32
    };
    let (x, y, area) = (spread(|s| s.x), spread(|s| s.y), spread(|s| s.area));
    let (dx, dy) = (drift(|s| s.x), drift(|s| s.y));
    let mean_area = seen.iter().map(|s| s.area).sum::<f32>() / seen.len() as f32;
    if area / mean_area > 0.5 && x < 0.12 && y < 0.12 {
        "pulse"
    } else if dx.abs() > 0.6 && x > 0.15 && y < 0.2 {
        if dx > 0.0 { "right" } else { "left" }
    } else if dy.abs() > 0.6 && y > 0.15 && x < 0.2 {
        if dy > 0.0 { "down" } else { "up" }
    } else if x > 0.2 && y > 0.2 {
        "orbit"
    } else if y > 0.06 && y > 2.0 * x {
        "bounce"
    } else if x > 0.03 && x > 2.0 * y {
        "shake"
    } else if x < 0.08 && y < 0.08 {
        if turning(&seen) > 0.075 { "spin" } else { "still" }
    } else {
        "other"
    }
}

/// How much the outline changes about its centre; 0 = not at all.
fn turning(seen: &[&Seen]) -> f32 {
    const SIDE: usize = 96;
    let centred = |s: &&Seen| {
        let (x, y) = s.mask.centre();
        let (left, top) = (x.round() as i64 - SIDE as i64 / 2, y.round() as i64 - SIDE as i64 / 2);
        Mask::from_fn(SIDE, SIDE, |x, y| {
            let (x, y) = (x as i64 + left, y as i64 + top);
            let inside = x >= 0 && y >= 0 && x < s.mask.width as i64 && y < s.mask.height as i64;
            inside && s.mask.bits[y as usize * s.mask.width + x as usize]
        })
    };
    let outlines: Vec<Mask> = seen.iter().step_by(3).map(centred).collect();
    let pairs = (1..4).flat_map(|lag| outlines.iter().zip(outlines.iter().skip(lag)));
    let mut changes: Vec<f32> = pairs.map(|(a, b)| a.unlike(b)).collect();
    percentile(&mut changes, 70.0)
}

/// Times, in frames, at which the lower edge turns sharply from falling to rising.
pub fn impacts(track: &[Option<Seen>]) -> Vec<f32> {
    let bottom: Vec<Option<f32>> = track.iter().map(|s| s.as_ref().map(|s| s.bottom)).collect();
    (2..bottom.len().saturating_sub(3)).filter_map(|i| impact(&bottom, i)).collect()
}

fn impact(bottom: &[Option<f32>], i: usize) -> Option<f32> {
    let near = &bottom[i.saturating_sub(5)..(i + 6).min(bottom.len())];
    let lowest = near.iter().copied().collect::<Option<Vec<f32>>>()?.into_iter().fold(f32::MIN, f32::max);
    let y = |k: usize| bottom[k.min(bottom.len() - 1)];
    let (here, before) = (y(i)?, y(i - 1)?);
    if here < lowest || here == before || here - y(i.saturating_sub(4))?.min(y(i + 4)?) < 0.015 {
        return None;
    }
    let (fall, rise) = (before - y(i - 2)?, y(i + 2)? - y(i + 1)?);
    if !(fall > 0.0 && rise < 0.0) {
        return Some(i as f32);
    }
    // Where the falling and the rising line meet.
    let t = ((y(i + 1)? - rise * (i + 1) as f32) - (before - fall * (i - 1) as f32)) / (fall - rise);
    Some(t.clamp(i as f32 - 1.0, i as f32 + 1.0))
}
