//! Clips: encoded as they come, watched while they grow, continued when they are to be longer.

use std::path::{Path, PathBuf};

use borealis_engine::{Conditioning, Event, EventStream, Media, OutputKind, Resolution, Stage};
use borealis_media::{Frame, Mp4Writer, VideoSpec};

use super::generate::{Task, add_usage, failure};
use super::{Failure, Made, Product, internal};
use crate::types::{JobKind, Spec};

/// Length of a clip when nothing is said.
const SECONDS: f32 = 6.0;

/// A clip in the making.
struct Drawn {
    width: u32,
    height: u32,
    frames: usize,
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
    let mut product = Product::default();
    let stream = task.submit(task.conditioning()?, output(seconds, ratio), n, seed)?;
    let mut paths: Vec<PathBuf> = (0..n).map(|k| task.context.scratch().join(format!("{k}-0.mp4"))).collect();
    let mut drawn = draw(task, stream, &paths, &mut product, stages == 1, 0.0, 1.0 / stages as f64)?;
    for (stage, &more) in spec.chain_seconds.iter().enumerate() {
        for (k, path) in paths.iter_mut().enumerate() {
            let next = task.context.scratch().join(format!("{k}-{}.mp4", stage + 1));
            let lead = Conditioning::Extend(Media::Path(path.clone()));
            let stream = task.submit(lead, output(more, None), 1, seed.wrapping_add(stage as u64 + 1))?;
            let part = (stage * n + k) as f64 / n as f64 + 1.0;
            let last = stage + 2 == stages && n == 1;
            let (from, share) = (part / stages as f64, 1.0 / (stages * n) as f64);
            drawn = draw(task, stream, std::slice::from_ref(&next), &mut product, last, from, share)?;
            *path = next;
        }
    }
    for path in paths {
        let (width, height) = (drawn.width, drawn.height);
        let (frames, fps) = (drawn.frames as u32, task.engine.info().fps.max(1));
        let seconds = f64::from(frames) / f64::from(fps);
        product.made.push(Made { path, mime: "video/mp4", width, height, seconds, frames });
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

/// Encodes the variants of one request of the engine. `from` and `share` say which part of the job's progress it is; `live`: others may watch.
fn draw(
    task: &Task<'_>,
    stream: EventStream,
    paths: &[PathBuf],
    product: &mut Product,
    live: bool,
    from: f64,
    share: f64,
) -> Result<Drawn, Failure> {
    let mut drawn = Drawn { width: 0, height: 0, frames: 0 };
    let mut writers: Vec<Mp4Writer> = Vec::new();
    let mut shown = Vec::new();
    for event in stream {
        match event.map_err(failure)? {
            Event::Started { width, height, frames, sample_rate, .. } => {
                drawn = Drawn { width, height, frames };
                let video = VideoSpec {
                    audio_rate: (sample_rate > 0).then_some(sample_rate),
                    ..VideoSpec::new(width, height, task.engine.info().fps)
                };
                writers = writers_of(task, paths, &video, live)?;
                shown = sampled(frames, task.moderation.frames_per_clip());
            }
            Event::Progress { stage: Stage::Generate, done, total } => {
                task.context.progress(from + share * done as f64 / total.max(1) as f64);
            }
            Event::Frame { variant, index, frame } => {
                frame_of(task, &mut writers, variant, frame, shown.contains(&index))?
            }
            Event::Audio { variant, samples } => {
                if let Some(writer) = writers.get_mut(variant) {
                    writer.push_audio(&samples).map_err(internal)?;
                }
            }
            Event::Done(usage) => add_usage(&mut product.usage, &usage),
            _ => {}
        }
    }
    for writer in writers {
        let written = writer.finish().map_err(internal)?;
        if let Some(error) = written.live_error {
            tracing::warn!(%error, "a clip could not be watched while it was made");
        }
    }
    Ok(drawn)
}

fn writers_of(task: &Task<'_>, paths: &[PathBuf], video: &VideoSpec, live: bool) -> Result<Vec<Mp4Writer>, Failure> {
    let writer = |(k, path): (usize, &PathBuf)| {
        let path: &Path = path;
        // Without a place to watch, the clip is made all the same.
        match live.then(|| task.context.live(&task.job.id, k)) {
            Some(Ok(file)) => Mp4Writer::tee(path, Box::new(file), video.clone()),
            _ => Mp4Writer::create(path, video.clone()),
        }
    };
    paths.iter().enumerate().map(writer).collect::<Result<_, _>>().map_err(internal)
}

fn frame_of(
    task: &Task<'_>,
    writers: &mut [Mp4Writer],
    variant: usize,
    frame: Frame,
    show: bool,
) -> Result<(), Failure> {
    if show {
        task.show(&frame)?;
    }
    match writers.get_mut(variant) {
        Some(writer) => writer.push_owned(frame).map_err(internal),
        None => Ok(()),
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
