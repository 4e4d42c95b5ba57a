//! Makes what a prompt asks for in one mode, reads the file back, and judges it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use borealis_engine::{Conditioning, Engine, Media, OutputKind, Request, render_image, render_mp4};
use borealis_media::{
    ClipRange, ClipSpec, Filter, Frame, Limits, Source, VideoSpec, encode_png, read_clip_with, read_image,
};

use super::{Mode, Prompt, SYNC, Score};
use crate::analyse::{BACKGROUNDS, COLORS, FPS, LINES, Looks, Picture, RATE, SHAPES, Thing, Verdict, analyse, draw};
use crate::error::{CliError, Result};

/// Size at which clips are judged.
const SIZE: (usize, usize) = (320, LINES);
/// Lines of the pictures that are given.
const GIVEN_LINES: usize = 720;
/// Seconds of a clip.
const SECONDS: f32 = 2.0;
/// How near the first frame must be to the given picture, in dB: the tokenizer's own loss, and some.
const STARTS: f64 = 24.0;
/// How much farther than before an object may go between two frames at the seam of an extension, in units.
const JUMP: f32 = 0.05;
/// Colours that the analyser cannot tell from a background even in a true picture.
const ALIKE: [(&str, &str); 7] = [
    ("green", "meadow"),
    ("white", "sky"),
    ("orange", "sunset"),
    ("yellow", "sunset"),
    ("orange", "desert"),
    ("yellow", "desert"),
    ("white", "desert"),
];

/// Makes and judges.
pub struct Runner<'a> {
    engine: &'a Engine,
    folder: PathBuf,
    seed: u64,
    keep: bool,
    looks: Looks,
}

/// A file, read back.
struct Made {
    frames: Vec<Frame>,
    pictures: Vec<Picture>,
    samples: Vec<f32>,
}

impl<'a> Runner<'a> {
    /// Files go to `folder`; `keep` frames for a sheet.
    pub fn new(engine: &'a Engine, folder: &Path, seed: u64, keep: bool) -> Self {
        Self { engine, folder: folder.to_path_buf(), seed, keep, looks: Looks::new(SIZE.0, SIZE.1) }
    }

    /// The score of prompt number `index` in a mode.
    pub fn score(&self, mode: Mode, index: usize, prompt: &Prompt) -> Result<Score> {
        let seed = self.seed.wrapping_add(index as u64);
        let mut score = match mode {
            Mode::Text => self.text(seed, prompt)?,
            Mode::Edit => self.edit(seed, index, prompt)?,
            Mode::Image => self.image(seed, index, prompt)?,
            Mode::Extend => self.extend(seed, prompt)?,
        };
        if !self.keep {
            score.frames.clear();
        }
        Ok(score)
    }

    fn text(&self, seed: u64, prompt: &Prompt) -> Result<Score> {
        let made = self.clip(&prompt.text, Conditioning::Text, seed, SECONDS)?;
        let verdict = analyse(&self.looks, &made.pictures, &made.samples);
        let mut right = looks_right(&verdict, prompt);
        right.push(("motion", verdict.motion == prompt.motion));
        let mut measured = BTreeMap::new();
        if prompt.motion == "bounce" && !verdict.sync.is_empty() {
            measured.insert(SYNC, verdict.sync.clone());
        }
        Ok(score(Mode::Text, &prompt.text, right, measured, &verdict, &made))
    }

    fn edit(&self, seed: u64, index: usize, prompt: &Prompt) -> Result<Score> {
        let (text, wanted) = instruction(index, prompt);
        let thing = placed(index, prompt);
        let changed = Thing { shape: wanted.shape, color: wanted.color, ..thing };
        let still = self.request(&text, Conditioning::Image(given(prompt, &thing)?), seed, OutputKind::Image);
        let path = self.folder.join("edit.png");
        render_image(self.engine.submit(still)?, &path, |_| ())?;
        let frame = read_image(Source::Path(&path), &Limits::default()).map_err(CliError::failed)?;
        let made = Made::new(vec![frame.resize(SIZE.0 as u32, SIZE.1 as u32, Filter::Area)], Vec::new());
        let verdict = analyse(&self.looks, &made.pictures, &[]);
        let mut right = looks_right(&verdict, &wanted);
        right.insert(0, ("applied", right.iter().all(|(_, ok)| *ok)));
        // What the change should have left alone.
        let draw = |b, t: &Thing| draw(b, Some(t), SIZE.0, SIZE.1, LINES);
        let (before, after) = (draw(prompt.background, &thing), draw(wanted.background, &changed));
        let moved = before.difference(&after);
        let kept =
            made.pictures[0].psnr(&after, |i| moved[i] < 1e-3).filter(|_| prompt.background == wanted.background);
        let measured = kept.map(|db| ("kept, dB", vec![db as f32])).into_iter().collect();
        Ok(score(Mode::Edit, &text, right, measured, &verdict, &made))
    }

    fn image(&self, seed: u64, index: usize, prompt: &Prompt) -> Result<Score> {
        let thing = placed(index, prompt);
        let made = self.clip(&prompt.text, Conditioning::Image(given(prompt, &thing)?), seed, SECONDS)?;
        let verdict = analyse(&self.looks, &made.pictures, &made.samples);
        let start = draw(prompt.background, Some(&thing), SIZE.0, SIZE.1, LINES);
        let near = made.pictures.first().and_then(|p| p.psnr(&start, |_| true)).unwrap_or_default();
        let mut right = looks_right(&verdict, prompt);
        right.push(("motion", verdict.motion == prompt.motion));
        right.push(("starts with the picture", near >= STARTS));
        let measured = BTreeMap::from([("first frame, dB", vec![near as f32])]);
        Ok(score(Mode::Image, &prompt.text, right, measured, &verdict, &made))
    }

    fn extend(&self, seed: u64, prompt: &Prompt) -> Result<Score> {
        let first = self.folder.join("first.mp4");
        let kind = OutputKind::Video { seconds: 1.0, audio: true };
        let request = self.request(&prompt.text, Conditioning::Text, seed, kind);
        let begun = render_mp4(self.engine.submit(request)?, &first, &self.writer(), |_| ())?;
        let made = self.clip(&prompt.text, Conditioning::Extend(Media::Path(first)), seed, SECONDS - 1.0)?;
        let verdict = analyse(&self.looks, &made.pictures, &made.samples);
        let mut right = looks_right(&verdict, prompt);
        right.push(("motion", verdict.motion == prompt.motion));
        right.push(("no jump", jump(&verdict.track, begun.frames) < JUMP));
        Ok(score(Mode::Extend, &prompt.text, right, BTreeMap::new(), &verdict, &made))
    }

    fn request(&self, text: &str, conditioning: Conditioning, seed: u64, kind: OutputKind) -> Request {
        let mut request = Request { conditioning, seed, ..Request::new(text, kind) };
        request.output.aspect_ratio = Some("16:9".into());
        request
    }

    fn writer(&self) -> VideoSpec {
        VideoSpec::new(16, 16, self.engine.info().fps)
    }

    /// A clip as the engine writes it and as a player would see it.
    fn clip(&self, text: &str, conditioning: Conditioning, seed: u64, seconds: f32) -> Result<Made> {
        let path = self.folder.join("clip.mp4");
        let request = self.request(text, conditioning, seed, OutputKind::Video { seconds, audio: true });
        render_mp4(self.engine.submit(request)?, &path, &self.writer(), |_| ())?;
        let canvas = Some((SIZE.0 as u32, SIZE.1 as u32));
        let spec = ClipSpec { fps: FPS, audio_rate: Some(RATE), range: ClipRange::All, canvas };
        let clip = read_clip_with(Source::Path(&path), &spec, &Limits::default()).map_err(CliError::failed)?;
        Ok(Made::new(clip.frames, clip.audio.map(|pcm| pcm.samples).unwrap_or_default()))
    }
}

impl Made {
    fn new(frames: Vec<Frame>, samples: Vec<f32>) -> Self {
        Self { pictures: frames.iter().map(Picture::from_frame).collect(), frames, samples }
    }
}

fn looks_right(verdict: &Verdict, wanted: &Prompt) -> Vec<(&'static str, bool)> {
    vec![
        ("object", verdict.color.is_some()),
        ("background", verdict.background == wanted.background),
        ("colour", verdict.color == Some(wanted.color)),
        ("shape", verdict.shape == Some(wanted.shape)),
    ]
}

fn score(
    mode: Mode,
    prompt: &str,
    right: Vec<(&'static str, bool)>,
    measured: BTreeMap<&'static str, Vec<f32>>,
    verdict: &Verdict,
    made: &Made,
) -> Score {
    let name = |names: &[&'static str], i: Option<usize>| i.map_or("no", |i| names[i]);
    let (color, shape) = (name(&COLORS.map(|c| c.0), verdict.color), name(&SHAPES, verdict.shape));
    let seen = format!("{color} {shape}, {}, {}", verdict.motion, BACKGROUNDS[verdict.background]);
    let last = made.frames.len().saturating_sub(1);
    let frames = (0..6).filter_map(|i| made.frames.get(i * last / 5).cloned()).collect();
    Score { mode, prompt: prompt.to_string(), right, measured, seen, frames }
}

/// An object of the prompt's kind, somewhere that `index` chooses.
fn placed(index: usize, prompt: &Prompt) -> Thing {
    let (x, y) = (0.60 + 0.08 * (index % 8) as f32, 0.38 + 0.04 * (index % 5) as f32);
    Thing { shape: prompt.shape, color: prompt.color, x, y, radius: 0.2, turn: 0.0 }
}

/// The prompt's scene as a PNG.
fn given(prompt: &Prompt, thing: &Thing) -> Result<Media> {
    let (width, height) = (GIVEN_LINES * 16 / 9, GIVEN_LINES);
    let picture = draw(prompt.background, Some(thing), width, height, GIVEN_LINES);
    let data = picture.to_frame().and_then(|f| encode_png(&f)).map_err(CliError::failed)?;
    Ok(Media::Bytes { name: "the given picture".into(), data: Arc::from(data) })
}

/// A change of colour, shape or background, in turn, and what it should lead to.
fn instruction(index: usize, prompt: &Prompt) -> (String, Prompt) {
    let told = |color: usize, background: usize| !ALIKE.contains(&(COLORS[color].0, BACKGROUNDS[background]));
    let next = |from: usize, count: usize, fits: &dyn Fn(usize) -> bool| {
        (1..count).map(|i| (from + i + index / 3) % count).find(|&v| v != from && fits(v)).unwrap_or(from)
    };
    let mut wanted = prompt.clone();
    let shape = SHAPES[prompt.shape];
    let text = match index % 3 {
        0 => {
            wanted.color = next(prompt.color, COLORS.len(), &|c| told(c, prompt.background));
            format!("make the {shape} {}", COLORS[wanted.color].0)
        }
        1 => {
            wanted.shape = next(prompt.shape, SHAPES.len(), &|_| true);
            format!("turn the {shape} into a {}", SHAPES[wanted.shape])
        }
        _ => {
            wanted.background = next(prompt.background, BACKGROUNDS.len(), &|b| told(prompt.color, b));
            let words = ["a blue sky", "a night sky", "a sunset", "a green meadow", "a desert", "a gray studio"];
            format!("change the background to {}", words[wanted.background])
        }
    };
    wanted.text.clone_from(&text);
    (text, wanted)
}

/// How much farther the object goes at the seam than it went between any two of the frames before, in units.
fn jump(track: &[Option<(f32, f32)>], seam: usize) -> f32 {
    let step = |i: usize| match (track.get(i.wrapping_sub(1)), track.get(i)) {
        (Some(Some(a)), Some(Some(b))) => (a.0 - b.0).hypot(a.1 - b.1),
        // Not seen on one side only is a jump.
        (Some(None), Some(None)) => 0.0,
        _ => f32::MAX,
    };
    let before = (seam.saturating_sub(8).max(1)..seam).map(step).filter(|d| *d < f32::MAX).fold(0.0, f32::max);
    (step(seam) - before).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_one_thing_that_can_be_seen() {
        for background in 0..BACKGROUNDS.len() {
            for color in 0..COLORS.len() {
                for index in 0..24 {
                    let before = Prompt { text: String::new(), background, color, shape: index % 6, motion: "still" };
                    let (text, after) = instruction(index, &before);
                    let changed = [
                        before.background != after.background,
                        before.color != after.color,
                        before.shape != after.shape,
                    ];
                    assert_eq!(changed.iter().filter(|c| **c).count(), 1, "{text}");
                }
            }
        }
    }

    #[test]
    fn a_jump_is_more_than_the_speed_before() {
        let at = |x: f32| Some((x, 0.5));
        let steady: Vec<_> = (0..20).map(|i| at(0.02 * i as f32)).collect();
        assert!(jump(&steady, 10) < 1e-5);
        let mut broken = steady.clone();
        broken[10..].iter_mut().for_each(|p| *p = p.map(|(x, y)| (x + 0.3, y)));
        assert!((jump(&broken, 10) - 0.3).abs() < 1e-4);
        broken[10] = None;
        assert!(jump(&broken, 10) > 1.0);
    }
}
