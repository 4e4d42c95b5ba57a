//! Clips: encoded as they come, watched while they grow, continued when they are to be longer.

use std::path::{Path, PathBuf};

use borealis_engine::{Conditioning, Event, EventStream, Media, OutputKind, Resolution, Stage};
use borealis_media::{Frame, Mp4Writer, VideoSpec};

use super::generate::{Task, add_usage, failure};
use super::{Failure, Made, Product, internal};
use crate::types::{JobKind, Spec};

/// Length of a clip when nothing is said.
const SECONDS: f32 = 6.0;

/// One variant: a file that grows over all continuations, and can be watched meanwhile.
struct Reel {
    path: PathBuf,
    /// `None` until the size is known.
    writer: Option<Mp4Writer>,
    /// Frames and samples that are in it. A continuation comes with all of them again; they are not taken twice.
    frames: usize,
    samples: usize,
}

/// Which part of the job's progress a request of the engine is.
#[derive(Clone, Copy)]
struct Share {
    from: f64,
    length: f64,
}

/// Makes the clips of a job: the first part of all variants together, then each continuation.
pub(super) fn make(task: &Task<'_>) -> Result<Product, Failure> {
    let spec = task.spec();
    let (n, seed) = (spec.n.max(1) as usize, spec.seed.unwrap_or(0));
    let seconds = match (spec.kind, &spec.video) {
        (JobKind::EditVideo, Some(video)) => (video.seconds as f32).clamp(1.0, 15.0),
        _ => spec.seconds.unwrap_or(SECONDS),
    };
    let output = |seconds, ratio| (OutputKind::Video { seconds, audio: spec.audio }, resolution(spec), ratio);
    let stages = 1 + spec.chain_seconds.len();
    let ratio = spec.aspect_ratio.clone().filter(|ratio| ratio != "auto");
    let file = |name: String| task.context.scratch().join(name);
    let reel = |k| Reel { path: file(format!("{k}.mp4")), writer: None, frames: 0, samples: 0 };
    let mut reels: Vec<Reel> = (0..n).map(reel).collect();
    // What the next stage goes on from: a file must be whole to be read.
    let part = |k, stage| (stage + 1 < stages).then(|| file(format!("{k}-{stage}.mp4")));
    let mut product = Product::default();
    let stream = task.submit(task.conditioning()?, output(seconds, ratio), n, seed)?;
    let parts: Vec<PathBuf> = (0..n).filter_map(|k| part(k, 0)).collect();
    let share = Share { from: 0.0, length: 1.0 / stages as f64 };
    let mut size = draw(task, stream, 0, &mut reels, &parts, &mut product, share)?;
    for (stage, &more) in (1_usize..).zip(&spec.chain_seconds) {
        for (k, reel) in reels.iter_mut().enumerate() {
            let lead = Conditioning::Extend(Media::Path(file(format!("{k}-{}.mp4", stage - 1))));
            let stream = task.submit(lead, output(more, None), 1, seed.wrapping_add(stage as u64))?;
            let from = (stage as f64 + k as f64 / n as f64) / stages as f64;
            let share = Share { from, length: 1.0 / (stages * n) as f64 };
            let parts: Vec<PathBuf> = part(k, stage).into_iter().collect();
            size = draw(task, stream, k, std::slice::from_mut(reel), &parts, &mut product, share)?;
        }
    }
    let fps = f64::from(task.engine.info().fps.max(1));
    for reel in reels {
        if let Some(writer) = reel.writer {
            let written = writer.finish().map_err(internal)?;
            if let Some(error) = written.live_error {
                tracing::warn!(%error, "a clip could not be watched while it was made");
            }
        }
        let ((width, height), frames) = (size, reel.frames as u32);
        let seconds = f64::from(frames) / fps;
        product.made.push(Made { path: reel.path, mime: "video/mp4", width, height, seconds, frames });
    }
    Ok(product)
}

/// Lines of the output: as asked; edits and continuations keep those of the clip, edits at most 720.
fn resolution(spec: &Spec) -> Resolution {
    let of = |name: &str| match name {
        "720p" => Resolution::P720,
        "1080p" => Resolution::P1080,
        _ => Resolution::P480,
    };
    match (&spec.video, spec.resolution.as_deref()) {
        (_, Some(name)) => of(name),
        (Some(video), None) => match video.width.min(video.height) {
            ..=500 => Resolution::P480,
            501..=740 => Resolution::P720,
            _ if spec.kind == JobKind::Extend => Resolution::P1080,
            _ => Resolution::P720,
        },
        (None, None) => Resolution::P480,
    }
}

/// Encodes the variants of one request of the engine, of which `reels[0]` is variant `first`: what is new into their reels, and all of it into `parts`,
/// when there are any. Returns the size.
fn draw(
    task: &Task<'_>,
    stream: EventStream,
    first: usize,
    reels: &mut [Reel],
    parts: &[PathBuf],
    product: &mut Product,
    share: Share,
) -> Result<(u32, u32), Failure> {
    let mut size = (0, 0);
    let mut parts_of: Vec<Mp4Writer> = Vec::new();
    let (mut shown, mut heard) = (Vec::new(), vec![0; reels.len()]);
    for event in stream {
        match event.map_err(failure)? {
            Event::Started { width, height, frames, sample_rate, .. } => {
                size = (width, height);
                let video = VideoSpec {
                    audio_rate: (sample_rate > 0).then_some(sample_rate),
                    ..VideoSpec::new(width, height, task.engine.info().fps)
                };
                for (k, reel) in reels.iter_mut().enumerate().filter(|(_, reel)| reel.writer.is_none()) {
                    reel.writer = Some(watched(task, first + k, &reel.path, &video)?);
                }
                let part = |path: &PathBuf| Mp4Writer::create(path, video.clone());
                parts_of = parts.iter().map(part).collect::<Result<_, _>>().map_err(internal)?;
                let begin = reels.first().map_or(0, |reel| reel.frames);
                shown = sampled(frames.saturating_sub(begin), task.moderation.frames_per_clip());
                shown.iter_mut().for_each(|frame| *frame += begin);
            }
            Event::Progress { stage: Stage::Generate, done, total } => {
                task.context.progress(share.from + share.length * done as f64 / total.max(1) as f64);
            }
            Event::Frame { variant, index, frame } => {
                if shown.contains(&index) {
                    task.show(&frame)?;
                }
                if let Some(part) = parts_of.get_mut(variant) {
                    part.push_frame(&frame).map_err(internal)?;
                }
                if let Some(reel) = reels.get_mut(variant) {
                    reel.frame(index, frame)?;
                }
            }
            Event::Audio { variant, samples } => {
                if let Some(part) = parts_of.get_mut(variant) {
                    part.push_audio(&samples).map_err(internal)?;
                }
                if let (Some(reel), Some(heard)) = (reels.get_mut(variant), heard.get_mut(variant)) {
                    reel.sound(heard, &samples)?;
                }
            }
            Event::Done(usage) => add_usage(&mut product.usage, &usage),
            _ => {}
        }
    }
    for part in parts_of {
        part.finish().map_err(internal)?;
    }
    Ok(size)
}

/// A writer that others can read along with.
fn watched(task: &Task<'_>, variant: usize, path: &Path, video: &VideoSpec) -> Result<Mp4Writer, Failure> {
    let writer = match task.context.live(&task.job.id, variant) {
        Ok(file) => Mp4Writer::tee(path, Box::new(file), video.clone()),
        Err(error) => {
            // Without a place to watch, the clip is made all the same.
            tracing::warn!(%error, "a clip cannot be watched while it is made");
            Mp4Writer::create(path, video.clone())
        }
    };
    writer.map_err(internal)
}

impl Reel {
    /// Takes frame `index` unless it has it.
    fn frame(&mut self, index: usize, frame: Frame) -> Result<(), Failure> {
        let Some(writer) = self.writer.as_mut().filter(|_| index >= self.frames) else { return Ok(()) };
        self.frames += 1;
        writer.push_owned(frame).map_err(internal)
    }

    /// Takes what is new of the samples after the first `heard` ones.
    fn sound(&mut self, heard: &mut usize, samples: &[f32]) -> Result<(), Failure> {
        let known = self.samples.saturating_sub(*heard).min(samples.len());
        *heard += samples.len();
        self.samples = self.samples.max(*heard);
        let Some(writer) = self.writer.as_mut().filter(|_| known < samples.len()) else { return Ok(()) };
        writer.push_audio(&samples[known..]).map_err(internal)
    }
}

/// `wanted` frame numbers, evenly spaced, with the first and the last.
fn sampled(frames: usize, wanted: usize) -> Vec<usize> {
    match (frames, wanted) {
        (0, _) | (_, 0) => Vec::new(),
        (_, 1) => vec![frames / 2],
        _ => (0..wanted).map(|k| k * (frames - 1) / (wanted - 1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reel_takes_everything_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let writer = Mp4Writer::create(&path, VideoSpec::new(64, 48, 24).with_audio(24_000)).unwrap();
        let mut reel = Reel { path: path.clone(), writer: Some(writer), frames: 0, samples: 0 };
        // A clip of one second, and then a continuation that comes with it again, in other pieces.
        for (frames, blocks) in [(24, vec![10_000, 14_500]), (36, vec![9_000, 9_000, 9_000, 9_000])] {
            let mut heard = 0;
            for index in 0..frames {
                reel.frame(index, Frame::solid(64, 48, borealis_media::PixelFormat::Rgb8, [index as u8 * 7, 0, 0]))
                    .unwrap();
            }
            for block in blocks {
                let ramp: Vec<f32> = (heard..heard + block).map(|i| i as f32 / 36_000.0).collect();
                reel.sound(&mut heard, &ramp).unwrap();
            }
        }
        assert_eq!((reel.frames, reel.samples), (36, 36_000));
        let written = reel.writer.unwrap().finish().unwrap();
        assert_eq!((written.frames, written.seconds), (36, 1.5));
        let source = borealis_media::Source::Path(&path);
        let clip = borealis_media::read_clip_with(
            source,
            &borealis_media::ClipSpec {
                fps: 24,
                audio_rate: Some(24_000),
                range: borealis_media::ClipRange::All,
                canvas: None,
            },
            &borealis_media::Limits::default(),
        )
        .unwrap();
        let level = |frame: &Frame| i32::from(frame.clone().into_rgb8().data[0]);
        assert!(clip.frames.windows(2).all(|pair| level(&pair[1]) >= level(&pair[0])), "no frame comes twice");
        let sound = clip.audio.unwrap().samples;
        let near = |i: usize| (sound[i] - i as f32 / 36_000.0).abs() < 0.1;
        assert!([6_000, 20_000, 26_000, 34_000].into_iter().all(near), "the ramp goes on over the seam");
    }

    #[test]
    fn samples_reach_from_the_first_to_the_last_frame() {
        assert_eq!(sampled(144, 3), [0, 71, 143]);
        assert_eq!(sampled(144, 1), [72]);
        assert_eq!(sampled(1, 4), [0, 0, 0, 0]);
        assert!(sampled(10, 0).is_empty() && sampled(0, 3).is_empty());
    }

    #[test]
    fn edits_keep_their_lines_up_to_720() {
        let mut spec = Spec::new(JobKind::EditVideo, "m", "p");
        let mut lines = |kind, width, height, asked: Option<&str>| {
            let asset = crate::types::AssetRef {
                id: String::new(),
                sha256: String::new(),
                mime: String::new(),
                size: 0,
                width,
                height,
                seconds: 2.0,
            };
            (spec.kind, spec.video, spec.resolution) = (kind, Some(asset), asked.map(str::to_owned));
            resolution(&spec)
        };
        assert_eq!(lines(JobKind::EditVideo, 854, 480, None), Resolution::P480);
        assert_eq!(lines(JobKind::EditVideo, 1920, 1080, None), Resolution::P720);
        assert_eq!(lines(JobKind::Extend, 1920, 1080, None), Resolution::P1080);
        assert_eq!(lines(JobKind::Extend, 720, 1280, None), Resolution::P720);
        assert_eq!(lines(JobKind::Extend, 720, 1280, Some("480p")), Resolution::P480);
    }
}
