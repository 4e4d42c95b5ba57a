//! From events to files: what the command and the server share.

use std::path::{Path, PathBuf};

use borealis_media::{Frame, Mp4Writer, VideoSpec, write_image};

use crate::error::{EngineError, Result};
use crate::event::{Event, Usage};
use crate::stream::EventStream;

/// What was written.
#[derive(Debug, Clone, PartialEq)]
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
pub fn render_mp4(
    stream: EventStream,
    path: &Path,
    like: &VideoSpec,
    mut each: impl FnMut(&Event),
) -> Result<Rendered> {
    let paths = variant_paths(path, stream.variants());
    let mut writers: Vec<Mp4Writer> = Vec::new();
    let rendered = follow(stream, paths, &mut each, |event, paths| {
        match event {
            Event::Started { width, height, sample_rate, .. } => {
                let audio_rate = (sample_rate > 0).then_some(sample_rate);
                let spec = || VideoSpec { width, height, audio_rate, ..like.clone() };
                writers = paths
                    .iter()
                    .map(|p| Mp4Writer::create(p, spec()))
                    .collect::<std::result::Result<_, _>>()
                    .map_err(EngineError::Output)?;
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
    for writer in writers {
        writer.finish().map_err(EngineError::Output)?;
    }
    Ok(rendered)
}

/// Writes every variant of a still to a picture file (by its ending); `each` sees all events on their way.
pub fn render_image(stream: EventStream, path: &Path, mut each: impl FnMut(&Event)) -> Result<Rendered> {
    let paths = variant_paths(path, stream.variants());
    let mut pictures: Vec<Option<Frame>> = vec![None; paths.len()];
    let rendered = follow(stream, paths, &mut each, |event, _| {
        if let Event::Frame { variant, frame, .. } = event
            && let Some(picture) = pictures.get_mut(variant)
        {
            *picture = Some(frame);
        }
        Ok(())
    })?;
    for (path, picture) in rendered.files.iter().zip(pictures) {
        if let Some(picture) = picture {
            write_image(path, &picture).map_err(EngineError::Output)?;
        }
    }
    Ok(rendered)
}

/// Collects the text of every variant; `each` sees all events on their way.
pub fn render_text(stream: EventStream, mut each: impl FnMut(&Event)) -> Result<(Rendered, Vec<String>)> {
    let mut texts = vec![String::new(); stream.variants()];
    let rendered = follow(stream, Vec::new(), &mut each, |event, _| {
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
    files: Vec<PathBuf>,
    each: &mut impl FnMut(&Event),
    mut handle: impl FnMut(Event, &[PathBuf]) -> Result<()>,
) -> Result<Rendered> {
    let mut rendered = Rendered { files, frames: 0, width: 0, height: 0, usage: Usage::default() };
    for event in stream {
        let event = event?;
        each(&event);
        match event {
            Event::Started { width, height, frames, .. } => {
                (rendered.width, rendered.height, rendered.frames) = (width, height, frames)
            }
            Event::Done(usage) => {
                rendered.usage = usage;
                continue;
            }
            _ => {}
        }
        handle(event, &rendered.files)?;
    }
    Ok(rendered)
}
