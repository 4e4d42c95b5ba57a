//! From events to files: what the command and the server share.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use borealis_media::{Frame, MediaError, Mp4Writer, VideoSpec, write_image};

use crate::error::{EngineError, Result};
use crate::event::{Event, Usage};
use crate::stream::EventStream;

/// What was written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rendered {
    /// One file for each variant.
    pub files: Vec<PathBuf>,
    /// Frames of each.
    pub frames: usize,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Counts and times.
    pub usage: Usage,
    /// Seconds from the call to the first frame (the only one of a still).
    pub first_frame_seconds: f64,
    /// Seconds that the encoders of all files worked, beside everything else.
    pub encode_seconds: f64,
    /// Seconds from the last frame to the finished files.
    pub finish_seconds: f64,
}

/// The file of each variant: the path itself, or `ball-1.mp4`, `ball-2.mp4`, ... for several.
pub fn variant_paths(path: &Path, variants: usize) -> Vec<PathBuf> {
    if variants == 1 {
        return vec![path.to_path_buf()];
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    (1..=variants).map(|n| path.with_file_name(format!("{stem}-{n}{ending}"))).collect()
}

/// Writes every variant of a clip to an MP4 file; `each` sees all events on their way. A file appears under its name only when all of it is there.
/// `like` gives encoder, quality and threads; size, rate and sound are those of the stream.
pub fn render_mp4(stream: EventStream, path: &Path, like: &VideoSpec, each: impl FnMut(&Event)) -> Result<Rendered> {
    let paths = variant_paths(path, stream.variants());
    let open = |spec: &VideoSpec| paths.iter().map(|path| Mp4Writer::create(path, spec.clone())).collect();
    Ok(Rendered { files: paths.clone(), ..render(stream, like, open, each)? })
}

/// Writes the first variant of a clip to `to` while it is generated, as a fragmented MP4 whose media leave every half second; the rest as in [`render_mp4`].
pub fn render_live(
    stream: EventStream,
    to: Box<dyn Write + Send>,
    like: &VideoSpec,
    each: impl FnMut(&Event),
) -> Result<Rendered> {
    render(stream, like, |spec| Ok(vec![Mp4Writer::stream(to, spec.clone())?]), each)
}

/// One writer for each variant, opened when the size is known.
fn render(
    stream: EventStream,
    like: &VideoSpec,
    open: impl FnOnce(&VideoSpec) -> std::result::Result<Vec<Mp4Writer>, MediaError>,
    mut each: impl FnMut(&Event),
) -> Result<Rendered> {
    let mut open = Some(open);
    let mut writers: Vec<Mp4Writer> = Vec::new();
    let mut rendered = follow(stream, &mut each, |event| {
        match event {
            Event::Started { width, height, sample_rate, .. } => {
                let audio_rate = (sample_rate > 0).then_some(sample_rate);
                let spec = VideoSpec { width, height, audio_rate, ..like.clone() };
                if let Some(open) = open.take() {
                    writers = open(&spec).map_err(EngineError::Output)?;
                }
            }
            Event::Frame { variant, frame, .. } => {
                if let Some(writer) = writers.get_mut(variant) {
                    writer.push_owned(frame).map_err(EngineError::Output)?;
                }
            }
            Event::Audio { variant, samples } => {
                if let Some(writer) = writers.get_mut(variant) {
                    writer.push_audio(&samples).map_err(EngineError::Output)?;
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    let last = Instant::now();
    for writer in writers {
        rendered.encode_seconds += writer.finish().map_err(EngineError::Output)?.busy_seconds;
    }
    rendered.finish_seconds = last.elapsed().as_secs_f64();
    Ok(rendered)
}

/// Writes every variant of a still to a picture file (by its ending); `each` sees all events on their way.
pub fn render_image(stream: EventStream, path: &Path, mut each: impl FnMut(&Event)) -> Result<Rendered> {
    let paths = variant_paths(path, stream.variants());
    let mut pictures: Vec<Option<Frame>> = vec![None; paths.len()];
    let rendered = follow(stream, &mut each, |event| {
        if let Event::Frame { variant, frame, .. } = event
            && let Some(picture) = pictures.get_mut(variant)
        {
            *picture = Some(frame);
        }
        Ok(())
    })?;
    for (path, picture) in paths.iter().zip(pictures) {
        if let Some(picture) = picture {
            write_image(path, &picture).map_err(EngineError::Output)?;
        }
    }
    Ok(Rendered { files: paths, ..rendered })
}

/// Collects the text of every variant; `each` sees all events on their way.
pub fn render_text(stream: EventStream, mut each: impl FnMut(&Event)) -> Result<(Rendered, Vec<String>)> {
    let mut texts = vec![String::new(); stream.variants()];
    let rendered = follow(stream, &mut each, |event| {
        if let Event::Text { variant, text } = event
            && let Some(whole) = texts.get_mut(variant)
        {
            whole.push_str(&text);
        }
        Ok(())
    })?;
    Ok((rendered, texts))
}

fn follow(
    stream: EventStream,
    each: &mut impl FnMut(&Event),
    mut handle: impl FnMut(Event) -> Result<()>,
) -> Result<Rendered> {
    let begin = Instant::now();
    let mut rendered = Rendered::default();
    for event in stream {
        let event = event?;
        each(&event);
        match event {
            Event::Started { width, height, frames, .. } => {
                (rendered.width, rendered.height, rendered.frames) = (width, height, frames)
            }
            Event::Frame { .. } if rendered.first_frame_seconds == 0.0 => {
                rendered.first_frame_seconds = begin.elapsed().as_secs_f64();
            }
            Event::Done(usage) => {
                rendered.usage = usage;
                continue;
            }
            _ => {}
        }
        handle(event)?;
    }
    Ok(rendered)
}
