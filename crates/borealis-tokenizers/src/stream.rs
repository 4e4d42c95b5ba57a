//! Ids to frames and samples while ids still arrive.

use std::sync::Arc;

use borealis_kernels::Backend;
use borealis_media::{Frame, Rect};

use crate::audio::{AudioDecoder, AudioTokenizer};
use crate::code_layout::CodeLayout;
use crate::video::VideoTokenizer;
use crate::video_config::{Grid, VideoConfig};
use crate::video_decoder::{FrameSpec, VideoStream};
use crate::{Result, TokenId};

/// Something that came out of a [`StreamDecoder`].
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// The next picture.
    Frame(Frame),
    /// The next samples, mono, at the codec's rate.
    Pcm(Vec<f32>),
    /// More text.
    Text(String),
}

/// A video tokenizer whose device is not part of its type.
pub trait VideoCodec: Send + Sync {
    /// The checked configuration.
    fn config(&self) -> &VideoConfig;
    /// See [`VideoTokenizer::encode`].
    ///
    /// # Errors
    /// As there.
    fn encode(&self, frames: &[Frame], crop: Rect, grid: Grid) -> Result<Vec<Vec<u16>>>;
    /// See [`VideoTokenizer::decoder`].
    ///
    /// # Errors
    /// As there.
    fn stream(&self, grid: Grid, spec: FrameSpec) -> Result<Box<dyn FrameStream>>;
}

/// A [`VideoStream`] whose device is not part of its type.
pub trait FrameStream: Send {
    /// See [`VideoStream::push`].
    ///
    /// # Errors
    /// As there.
    fn push(&mut self, codes: &[u16], each: &mut dyn FnMut(Frame)) -> Result<()>;
    /// See [`VideoStream::show_every`].
    fn show_every(&mut self, n: usize);
}

impl<B: Backend> VideoCodec for Arc<VideoTokenizer<B>> {
    fn config(&self) -> &VideoConfig {
        VideoTokenizer::config(self)
    }

    fn encode(&self, frames: &[Frame], crop: Rect, grid: Grid) -> Result<Vec<Vec<u16>>> {
        VideoTokenizer::encode(self, frames, crop, grid)
    }

    fn stream(&self, grid: Grid, spec: FrameSpec) -> Result<Box<dyn FrameStream>> {
        Ok(Box::new(self.decoder(grid, spec)?))
    }
}

impl<B: Backend> FrameStream for VideoStream<B> {
    fn push(&mut self, codes: &[u16], each: &mut dyn FnMut(Frame)) -> Result<()> {
        VideoStream::push(self, codes, each)
    }

    fn show_every(&mut self, n: usize) {
        VideoStream::show_every(self, n);
    }
}

/// The picture half of a [`StreamDecoder`].
struct Pictures {
    stream: Box<dyn FrameStream>,
    layout: CodeLayout,
    grid: Grid,
    /// Frames still wanted.
    wanted: usize,
}

/// The sound half of a [`StreamDecoder`].
struct Sound {
    /// `None` after the end.
    decoder: Option<AudioDecoder>,
    layout: CodeLayout,
    /// Samples still wanted.
    wanted: usize,
}

/// Decodes one variant of one request: codes of latent frames in, frames and samples out, in order and exactly as many as were asked for.
///
/// It holds the whole state of the stream; two of them share nothing but weights. No output yet is an empty list, not an error.
#[derive(Default)]
pub struct StreamDecoder {
    pictures: Option<Pictures>,
    sound: Option<Sound>,
}

impl std::fmt::Debug for StreamDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamDecoder")
            .field("frames_wanted", &self.pictures.as_ref().map(|p| p.wanted))
            .field("samples_wanted", &self.sound.as_ref().map(|s| s.wanted))
            .finish()
    }
}

impl StreamDecoder {
    /// A decoder that gives nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `frames` frames of `spec` from video ids laid out as `layout` says.
    ///
    /// # Errors
    /// For an impossible output size, or an error of the device.
    pub fn with_video(
        mut self,
        codec: &dyn VideoCodec,
        layout: CodeLayout,
        grid: Grid,
        spec: FrameSpec,
        frames: usize,
    ) -> Result<Self> {
        self.pictures = Some(Pictures { stream: codec.stream(grid, spec)?, layout, grid, wanted: frames });
        Ok(self)
    }

    /// Only every `n`-th frame is painted; the others repeat it.
    pub fn show_every(mut self, n: usize) -> Self {
        if let Some(pictures) = &mut self.pictures {
            pictures.stream.show_every(n);
        }
        self
    }

    /// Gives `samples` samples from audio ids laid out as `layout` says.
    pub fn with_audio(mut self, codec: &Arc<AudioTokenizer>, layout: CodeLayout, samples: usize) -> Self {
        self.sound = Some(Sound { decoder: Some(codec.decoder()), layout, wanted: samples });
        self
    }

    /// The ids of the next latent frame's pictures, position by position.
    ///
    /// # Errors
    /// When an id is not one of its code, or ids are missing; or an error of the device.
    pub fn push_video(&mut self, ids: &[TokenId]) -> Result<Vec<Output>> {
        let mut out = Vec::new();
        if let Some(p) = self.pictures.as_mut().filter(|p| p.wanted > 0) {
            let codes = p.layout.cells(ids, p.grid.rows, p.grid.columns)?;
            let wanted = &mut p.wanted;
            p.stream.push(&codes, &mut |frame| {
                if *wanted > 0 {
                    *wanted -= 1;
                    out.push(Output::Frame(frame));
                }
            })?;
        }
        Ok(out)
    }

    /// The ids of the next latent frame's sound.
    ///
    /// # Errors
    /// When an id is not one of its code, or ids are missing.
    pub fn push_audio(&mut self, ids: &[TokenId]) -> Result<Vec<Output>> {
        let Some(s) = self.sound.as_mut() else { return Ok(Vec::new()) };
        let Some(decoder) = s.decoder.as_mut().filter(|_| s.wanted > 0) else { return Ok(Vec::new()) };
        let samples = decoder.push(&s.layout.codes(ids)?)?;
        Ok(s.take(samples))
    }

    /// What was held back. Sound that its ids were too few for is filled up with silence, so its length is always the one that was asked for.
    pub fn finish(&mut self) -> Vec<Output> {
        let Some(s) = self.sound.as_mut() else { return Vec::new() };
        let mut samples = s.decoder.take().map(AudioDecoder::finish).unwrap_or_default();
        samples.resize(s.wanted, 0.0);
        s.take(samples)
    }
}

impl Sound {
    fn take(&mut self, mut samples: Vec<f32>) -> Vec<Output> {
        samples.truncate(self.wanted);
        self.wanted -= samples.len();
        if samples.is_empty() { Vec::new() } else { vec![Output::Pcm(samples)] }
    }
}
