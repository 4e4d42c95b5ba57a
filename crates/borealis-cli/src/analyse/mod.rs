//! An analyser of decoded clips that knows nothing of ids: it looks at frames and listens to samples. The same measures as
//! `recipes/borealis_recipe/analysis.py`.

mod look;
mod motion;
mod picture;
mod sound;
mod world;

pub use look::Looks;
pub use picture::{Picture, median};
pub use sound::RATE;
pub use world::{BACKGROUNDS, COLORS, LINES, MOTIONS, SHAPES, Thing, draw};

/// Frames per second that clips are judged at.
pub const FPS: u32 = 24;

/// What the analyser can tell of a clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Index into [`BACKGROUNDS`].
    pub background: usize,
    /// Index into [`COLORS`]; `None` when no object is seen.
    pub color: Option<usize>,
    /// Index into [`SHAPES`]; `None` when no object is seen.
    pub shape: Option<usize>,
    /// One of [`MOTIONS`], `none` or `other`.
    pub motion: &'static str,
    /// Milliseconds from each visible impact to the nearest onset.
    pub sync: Vec<f32>,
    /// Root mean square of the sound.
    pub loudness: f32,
    /// Centre of the object in every frame, in units.
    pub track: Vec<Option<(f32, f32)>>,
}

/// Looks at `frames` (180 lines, [`FPS`] a second) and listens to `samples` ([`RATE`] a second).
pub fn analyse(looks: &Looks, frames: &[Picture], samples: &[f32]) -> Verdict {
    let background = looks.background(frames);
    let track = motion::follow(looks, frames, background);
    let motion = motion::name(&track);
    // The largest views that lie wholly inside, every other one of nine.
    let inside = |i: &usize| track[*i].as_ref().is_some_and(|s| !s.mask.touches_edge());
    let mut best: Vec<usize> = (0..track.len()).filter(inside).collect();
    if best.is_empty() {
        best = (0..track.len()).filter(|i| track[*i].is_some()).collect();
    }
    let area = |i: &usize| track[*i].as_ref().map_or(0.0, |s| s.area);
    best.sort_by(|a, b| area(b).total_cmp(&area(a)));
    let views = || best.iter().take(9).step_by(2).filter_map(|&i| Some((&frames[i], &track[i].as_ref()?.mask)));
    let colors = views().map(|(frame, mask)| look::color(frame, mask));
    let outlines = views().map(|(frame, mask)| looks.outline(frame, mask, background));
    let shapes = outlines.filter_map(|o| looks.shape(&o, motion == "spin"));
    let heard = sound::onsets(samples);
    let hits = if motion == "bounce" { motion::impacts(&track) } else { Vec::new() };
    let nearest = |hit: &f32| {
        let offsets = heard.iter().map(|t| 1000.0 * (t - hit / FPS as f32));
        offsets.min_by(|a, b| a.abs().total_cmp(&b.abs()))
    };
    Verdict {
        background,
        color: usual(colors.collect()),
        shape: usual(shapes.collect()),
        motion,
        sync: hits.iter().filter_map(nearest).collect(),
        loudness: sound::loudness(samples),
        track: track.iter().map(|s| s.as_ref().map(|s| (s.x, s.y))).collect(),
    }
}

/// The most frequent value.
fn usual(values: Vec<usize>) -> Option<usize> {
    let count = |v: usize| values.iter().filter(|w| **w == v).count();
    values.iter().copied().max_by_key(|&v| count(v))
}

#[cfg(test)]
mod tests {
    use super::picture::blurred;
    use super::*;

    const WIDTH: usize = 320;

    /// 25 frames of an object that `at` moves.
    fn clip(background: usize, at: impl Fn(f32) -> Thing) -> Vec<Picture> {
        (0..25).map(|i| draw(background, Some(&at(i as f32 / 24.0)), WIDTH, LINES, LINES)).collect()
    }

    fn thing(shape: usize, color: usize) -> Thing {
        Thing { shape, color, x: 0.9, y: 0.45, radius: 0.18, turn: 0.0 }
    }

    #[test]
    fn every_shape_colour_and_background_is_told_apart() {
        let looks = Looks::new(WIDTH, LINES);
        for shape in 0..SHAPES.len() {
            for (i, background) in [0, 1, 5].into_iter().enumerate() {
                // Purple, red and blue differ from these backgrounds.
                let color = [5, 0, 4][(shape + i) % 3];
                let frames = clip(background, |_| thing(shape, color));
                let v = analyse(&looks, &frames[..9], &[]);
                let got = (v.background, v.color, v.shape, v.motion);
                assert_eq!(got, (background, Some(color), Some(shape), "still"), "{}", SHAPES[shape]);
            }
        }
        for background in 0..BACKGROUNDS.len() {
            let empty = vec![draw(background, None, WIDTH, LINES, LINES); 9];
            let v = analyse(&looks, &empty, &[]);
            assert_eq!((v.background, v.color, v.motion), (background, None, "none"));
        }
    }

    /// A picture out of focus, as a codec leaves it.
    fn soft(sharp: &Picture, deviation: f32) -> Picture {
        let plane = |c: usize| -> Vec<f32> { sharp.data.iter().map(|p| p[c]).collect() };
        let planes = [0, 1, 2].map(|c| blurred(&plane(c), sharp.width, sharp.height, deviation));
        Picture::from_fn(sharp.width, sharp.height, |x, y| planes.each_ref().map(|p| p[y * sharp.width + x]))
    }

    #[test]
    fn shapes_with_soft_corners_are_told_apart() {
        let looks = Looks::new(WIDTH, LINES);
        for (shape, name) in SHAPES.iter().enumerate() {
            for radius in [0.12, 0.17, 0.23] {
                let sharp = draw(5, Some(&Thing { radius, ..thing(shape, 0) }), WIDTH, LINES, LINES);
                let frames = vec![soft(&sharp, 0.12 * radius * LINES as f32); 3];
                assert_eq!(analyse(&looks, &frames, &[]).shape, Some(shape), "{name} of {radius}");
            }
        }
    }

    #[test]
    fn every_motion_is_told_apart() {
        let looks = Looks::new(WIDTH, LINES);
        let base = thing(3, 0);
        let around = |t: f32| (std::f32::consts::TAU * t).sin_cos();
        type Move = Box<dyn Fn(f32) -> Thing>;
        let moves: [(&str, Move); 9] = [
            (
                "bounce",
                Box::new(move |t| Thing { y: 0.65 - 0.9 * ((2.0 * t).fract() * (1.0 - (2.0 * t).fract())), ..base }),
            ),
            ("right", Box::new(move |t| Thing { x: 0.4 + 0.8 * t, ..base })),
            ("left", Box::new(move |t| Thing { x: 1.4 - 0.8 * t, ..base })),
            ("up", Box::new(move |t| Thing { y: 0.7 - 0.4 * t, ..base })),
            ("down", Box::new(move |t| Thing { y: 0.3 + 0.4 * t, ..base })),
            ("orbit", Box::new(move |t| Thing { x: 0.9 + 0.22 * around(t).1, y: 0.5 + 0.2 * around(t).0, ..base })),
            ("spin", Box::new(move |t| Thing { turn: 3.0 * t, ..base })),
            ("pulse", Box::new(move |t| Thing { radius: 0.18 * (1.0 + 0.35 * around(t).0), ..base })),
            ("shake", Box::new(move |t| Thing { x: 0.9 + 0.045 * around(3.0 * t).0, ..base })),
        ];
        for (name, at) in moves {
            let v = analyse(&looks, &clip(5, at), &[]);
            assert_eq!((v.motion, v.color, v.shape), (name, Some(0), Some(3)));
        }
    }

    #[test]
    fn a_late_sound_is_measured() {
        let looks = Looks::new(WIDTH, LINES);
        // Touches the ground at 0.5 s.
        let bounce = |t: f32| Thing { y: 0.7 - 1.6 * (t - 0.5).abs() * (1.0 - (t - 0.5).abs()), ..thing(0, 0) };
        for late in [0.0f32, 0.06] {
            let start = ((0.5 + late) * RATE as f32) as usize;
            let ring = |i: usize| (-((i - start) as f32) / 2000.0).exp() * (i as f32 * 0.3).sin();
            let samples: Vec<f32> = (0..25_000).map(|i| if i < start { 0.0 } else { ring(i) }).collect();
            let v = analyse(&looks, &clip(5, bounce), &samples);
            assert_eq!((v.motion, v.sync.len()), ("bounce", 1));
            assert!((v.sync[0] - 1000.0 * late).abs() < 25.0, "{:?} {late}", v.sync);
        }
    }
}
