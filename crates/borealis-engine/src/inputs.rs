//! Pictures and clips of the user: read, sized, encoded.

use std::collections::VecDeque;

use borealis_media::{
    ClipRange, ClipSpec, Frame, Info, Kind, Limits, MediaError, Pcm, Rect, fit, probe, read_clip_with, read_frames,
    read_image,
};

use crate::engine::Core;
use crate::error::{EngineError, Result};
use crate::geometry::Geometry;
use crate::layout::Layout;
use crate::prompt::{Source, SourceFrame};
use crate::request::{Conditioning, Media, OutputKind, Request};
use crate::validate::SECONDS;

/// Latent frames of a clip that its continuation sees.
const CONTEXT: usize = 3;
/// Ratio of an output when nothing else says it.
const DEFAULT_ASPECT: &str = "16:9";

/// What the user gave, as ids.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// What leads the prompt.
    pub sources: Vec<Source>,
    /// The leading latent frame of pictures is the first source's.
    pub starts_with_source: bool,
    /// Time of the first latent frame that is generated.
    pub first: usize,
    /// The latent frame before the first, by stream; empty when nothing is continued.
    pub before: Vec<Vec<u32>>,
    /// What the decoders hear and see before what is generated: ids of pictures and of sound.
    pub context: Option<(Vec<u32>, Vec<u32>)>,
    /// The clip that comes out before what is generated.
    pub lead: Option<Lead>,
    /// Frames of the source clip (edits).
    pub frames: Option<usize>,
}

impl Inputs {
    /// Bytes that are held until the output is done.
    pub fn bytes(&self) -> u64 {
        self.lead.as_ref().map_or(0, Lead::bytes)
    }
}

/// Reads and encodes what a request brings.
pub(crate) struct InputReader<'a> {
    pub core: &'a Core,
    pub layout: &'a Layout,
    pub request: &'a Request,
}

impl InputReader<'_> {
    /// Sizes of the output and the ids of the inputs.
    pub fn read(&self) -> Result<(Geometry, Inputs)> {
        match &self.request.conditioning {
            Conditioning::Text => Ok((self.geometry(None)?, Inputs::default())),
            Conditioning::Image(media) => {
                let (geometry, sources) = self.pictures("image", std::slice::from_ref(media))?;
                let starts_with_source = matches!(self.request.output.kind, OutputKind::Video { .. });
                Ok((geometry, Inputs { sources, starts_with_source, ..Inputs::default() }))
            }
            Conditioning::References(list) => {
                let (geometry, sources) = self.pictures("references", list)?;
                Ok((geometry, Inputs { sources, ..Inputs::default() }))
            }
            Conditioning::Video(media) => self.edited(media),
            Conditioning::Extend(media) => self.continued(media),
        }
    }

    /// The size of the output: as asked, else that of the input, else 16:9.
    fn geometry(&self, input: Option<(u32, u32)>) -> Result<Geometry> {
        let (video, _) = self.core.tokenizers.video()?;
        let (manifest, output) = (&self.core.manifest, &self.request.output);
        match (&output.aspect_ratio, input) {
            (Some(aspect), _) => Geometry::for_aspect(manifest, video.config(), aspect, output.resolution),
            (None, Some(size)) => Geometry::for_input(manifest, video.config(), size, output.resolution),
            (None, None) => Geometry::for_aspect(manifest, video.config(), DEFAULT_ASPECT, output.resolution),
        }
    }

    /// Pictures as sources `<image_0>`, `<image_1>`, ...; the first one gives the ratio.
    fn pictures(&self, field: &'static str, list: &[Media]) -> Result<(Geometry, Vec<Source>)> {
        let mut sized: Option<Geometry> = None;
        let mut sources = Vec::new();
        for (k, media) in list.iter().enumerate() {
            let picture = read_image(media.source(), &limits()).map_err(input(field))?;
            let geometry = match sized.take() {
                Some(geometry) => geometry,
                None => self.geometry(Some((picture.width, picture.height)))?,
            };
            let ids = self.encode(&[picture], &geometry)?;
            let frames = ids.into_iter().map(|video| self.source_frame(0, video, None)).collect();
            sources.push(Source { control: self.core.tokenizers.vocab().control(&format!("<image_{k}>"))?, frames });
            sized = Some(geometry);
        }
        sized
            .map(|geometry| (geometry, sources))
            .ok_or_else(|| EngineError::invalid(field, "there is no picture", "give one"))
    }

    /// The clip that is edited: all of it, from time 0.
    fn edited(&self, media: &Media) -> Result<(Geometry, Inputs)> {
        let info = self.probe("video", media)?;
        if info.seconds > f64::from(*SECONDS.end()) + 0.1 {
            let problem = format!("the clip is {:.1} seconds long", info.seconds);
            return Err(EngineError::invalid("video", problem, format!("cut it to at most {} seconds", SECONDS.end())));
        }
        let geometry = self.geometry(Some((info.width, info.height)))?;
        let (height, width) = geometry.cells.picture;
        let mut clip = self.clip("video", media, (width as u32, height as u32))?;
        let most = (SECONDS.end() * self.fps() as f32) as usize;
        clip.frames.truncate(most);
        let video = self.encode(&clip.frames, &geometry)?;
        let audio = self.encode_sound(clip.audio.as_ref().map(|a| &a.samples[..]), video.len())?;
        let frames = self.source_frames(0, video, audio);
        let control = self.core.tokenizers.vocab().control("<video>")?;
        let sources = vec![Source { control, frames }];
        Ok((geometry, Inputs { sources, frames: Some(clip.frames.len()), ..Inputs::default() }))
    }

    /// The clip that is continued: its last latent frames lead the prompt, all of its frames come out first.
    fn continued(&self, media: &Media) -> Result<(Geometry, Inputs)> {
        let info = self.probe("extend", media)?;
        let geometry = self.geometry(Some((info.width, info.height)))?;
        let stride = self.stride();
        let (total, mut last, sound) = self.tail_of(media, &geometry, 1 + stride * CONTEXT)?;
        // Whole latent frames before the end, and a picture before them where there is one.
        let context = (last.len().saturating_sub(1) / stride).clamp(1, CONTEXT);
        let start = last.len().saturating_sub(1 + stride * context);
        let mut video = self.encode(&last.make_contiguous()[start..], &geometry)?;
        let video = video.split_off(video.len() - context.min(video.len()));
        let samples = self.core.tokenizers.sample_rate() as usize / self.fps().max(1);
        let heard = sound.as_ref().map(|a| &a.samples[..]);
        let audio = self.encode_sound_before(heard, total * samples, video.len())?;
        // Latent frame i ends with frame `stride * i`: the continuation goes on where the clip ends.
        let first = ((total + stride - 1) as f64 / stride as f64).round() as usize;
        let context =
            video.last().cloned().zip(Some(audio.as_ref().and_then(|a| a.last().cloned()).unwrap_or_default()));
        let frames = self.source_frames(first as i32 - video.len() as i32, video, audio.filter(|_| heard.is_some()));
        let before = frames.last().map(|f| f.ids.clone()).unwrap_or_default();
        let control = self.core.tokenizers.vocab().control("<video>")?;
        let audible = matches!(self.request.output.kind, OutputKind::Video { audio: true, .. });
        let lead = Lead {
            media: media.clone(),
            spec: self.clip_spec((geometry.width, geometry.height), None),
            frames: total,
            sound: sound.map(|a| a.samples).unwrap_or_default(),
            samples: if audible { samples } else { 0 },
        };
        Ok((
            geometry,
            Inputs {
                sources: vec![Source { control, frames }],
                first,
                before,
                context,
                lead: Some(lead),
                ..Inputs::default()
            },
        ))
    }

    /// How many frames a clip has, the last `keep` of them as they are encoded, and its sound.
    fn tail_of(
        &self,
        media: &Media,
        geometry: &Geometry,
        keep: usize,
    ) -> Result<(usize, VecDeque<Frame>, Option<Pcm>)> {
        let (height, width) = geometry.cells.picture;
        let rate = self.core.tokenizers.sample_rate();
        let spec = self.clip_spec((width as u32, height as u32), (rate > 0).then_some(rate));
        let mut last = VecDeque::new();
        let (total, sound) = read_frames(media.source(), &spec, &limits(), &mut |frame| {
            if last.len() == keep {
                last.pop_front();
            }
            last.push_back(frame);
            true
        })
        .map_err(input("extend"))?;
        Ok((total, last, sound))
    }

    fn clip_spec(&self, canvas: (u32, u32), audio_rate: Option<u32>) -> ClipSpec {
        ClipSpec { fps: self.fps() as u32, audio_rate, range: ClipRange::All, canvas: Some(canvas) }
    }

    fn probe(&self, field: &'static str, media: &Media) -> Result<Info> {
        let info = probe(media.source(), &limits()).map_err(input(field))?;
        if info.kind != Kind::Video {
            let problem = format!("\"{}\" is not a clip", media.source().name());
            return Err(EngineError::invalid(field, problem, "give an MP4, MOV or WebM file"));
        }
        Ok(info)
    }

    fn clip(&self, field: &'static str, media: &Media, canvas: (u32, u32)) -> Result<borealis_media::Clip> {
        let rate = self.core.tokenizers.sample_rate();
        let spec = self.clip_spec(canvas, (rate > 0).then_some(rate));
        let clip = read_clip_with(media.source(), &spec, &limits()).map_err(input(field))?;
        if clip.frames.is_empty() {
            return Err(EngineError::invalid(
                field,
                format!("\"{}\" has no frames", media.source().name()),
                "give another clip",
            ));
        }
        Ok(clip)
    }

    /// Ids of the latent frames of a picture or clip, on the output's cells; another ratio is filled up by its edges.
    fn encode(&self, frames: &[Frame], geometry: &Geometry) -> Result<Vec<Vec<u32>>> {
        let (codec, layout) = self.core.tokenizers.video()?;
        let cells = geometry.cells;
        let (height, width) = (cells.picture.0 as u32, cells.picture.1 as u32);
        let whole = |f: &Frame| Rect { x: 0, y: 0, width: f.width, height: f.height };
        let codes = match frames {
            [frame, ..] if !geometry.has_ratio(frame.width, frame.height) => {
                let fitted: Vec<Frame> = frames.iter().map(|f| fit(f, width, height).0).collect();
                codec.encode(&fitted, whole(&fitted[0]), cells)?
            }
            [frame, ..] => codec.encode(frames, whole(frame), cells)?,
            [] => Vec::new(),
        };
        codes.iter().map(|c| Ok(layout.cell_ids(c, cells.rows, cells.columns)?)).collect()
    }

    fn encode_sound(&self, samples: Option<&[f32]>, latents: usize) -> Result<Option<Vec<Vec<u32>>>> {
        let Some(samples) = samples.filter(|_| self.core.tokenizers.has_audio()) else { return Ok(None) };
        Ok(Some(self.core.tokenizers.encode_sound(samples, latents)?))
    }

    /// Ids of the sound of the last `latents` latent frames of a clip of `total` samples; silence where there is none.
    fn encode_sound_before(
        &self,
        samples: Option<&[f32]>,
        total: usize,
        latents: usize,
    ) -> Result<Option<Vec<Vec<u32>>>> {
        if !self.core.tokenizers.has_audio() {
            return Ok(None);
        }
        let (codec, layout) = self.core.tokenizers.audio()?;
        let wanted = latents * codec.config().latent_samples();
        let mut part = vec![0.0; wanted];
        let samples = samples.unwrap_or_default();
        let samples = &samples[..samples.len().min(total)];
        let start = total.saturating_sub(wanted);
        let have = samples.get(start..).unwrap_or_default();
        let at = wanted - (total - start).min(wanted);
        part[at..at + have.len()].copy_from_slice(have);
        let codes = codec.encode(&part);
        codes
            .chunks(codec.config().codes_per_latent())
            .map(|c| Ok(layout.ids(c)?))
            .collect::<Result<Vec<_>>>()
            .map(Some)
    }

    fn source_frames(&self, first: i32, video: Vec<Vec<u32>>, audio: Option<Vec<Vec<u32>>>) -> Vec<SourceFrame> {
        let mut audio = audio.map(Vec::into_iter);
        let sound = std::iter::from_fn(|| Some(audio.as_mut().and_then(Iterator::next)));
        video.into_iter().zip(sound).enumerate().map(|(i, (v, a))| self.source_frame(first + i as i32, v, a)).collect()
    }

    /// A latent frame's ids by stream.
    fn source_frame(&self, t: i32, video: Vec<u32>, audio: Option<Vec<u32>>) -> SourceFrame {
        let mut ids = vec![Vec::new(); self.layout.streams.len()];
        if let Some(s) = self.layout.stream("video") {
            ids[s] = video;
        }
        if let (Some(s), Some(audio)) = (self.layout.stream("audio"), audio) {
            ids[s] = audio;
        }
        SourceFrame { t, ids }
    }

    fn fps(&self) -> usize {
        self.core.manifest.media.as_ref().map_or(1, |m| m.fps as usize)
    }

    fn stride(&self) -> usize {
        self.core.manifest.media.as_ref().map_or(1, |m| m.frames_per_latent as usize)
    }
}

/// A given clip that comes out unchanged. It is read again, frame by frame, when the output is made: clips may be chained to any length.
#[derive(Debug)]
pub(crate) struct Lead {
    media: Media,
    spec: ClipSpec,
    /// Frames in all.
    pub frames: usize,
    sound: Vec<f32>,
    /// Samples of a frame; 0 for a silent output.
    samples: usize,
}

impl Lead {
    /// Bytes that are held until it is put out.
    fn bytes(&self) -> u64 {
        4 * self.sound.len() as u64
    }

    /// Reads the clip to its end: I420 frames, each with its samples, to `each` until that returns false.
    pub fn read(self, each: &mut dyn FnMut(Frame, Vec<f32>) -> bool) -> Result<()> {
        let mut index = 0;
        // Whoever watches sets the pace.
        let limits = Limits { max_wall: std::time::Duration::from_secs(86_400), ..limits() };
        let mut last = None;
        read_frames(self.media.source(), &self.spec, &limits, &mut |frame| {
            let frame = frame.to_i420();
            last = Some(frame.clone());
            index += 1;
            index <= self.frames && each(frame, self.sound_of(index - 1))
        })
        .map_err(input("extend"))?;
        // The file is what it was a moment ago; if it was cut since, its last frame stays.
        while let (Some(frame), true) = (&last, index < self.frames) {
            index += 1;
            if !each(frame.clone(), self.sound_of(index - 1)) {
                break;
            }
        }
        Ok(())
    }

    fn sound_of(&self, index: usize) -> Vec<f32> {
        let at = |i: usize| (i * self.samples).min(self.sound.len());
        let mut part = self.sound[at(index)..at(index + 1)].to_vec();
        part.resize(self.samples, 0.0);
        part
    }
}

impl Media {
    /// As the readers take it.
    pub(crate) fn source(&self) -> borealis_media::Source<'_> {
        match self {
            Self::Path(path) => borealis_media::Source::Path(path),
            Self::Bytes { name, data } => borealis_media::Source::Bytes { name, data },
        }
    }
}

fn input(field: &'static str) -> impl Fn(MediaError) -> EngineError {
    move |source| EngineError::Input { field, source }
}

pub(crate) fn limits() -> Limits {
    Limits::default()
}
