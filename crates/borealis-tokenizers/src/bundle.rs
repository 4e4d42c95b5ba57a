//! All tokenizers of a checkpoint, opened together and checked against its manifest.

use std::sync::Arc;

use borealis_kernels::Backend;
use borealis_media::Frame;
use borealis_weights::{Checkpoint, Manifest, Media, Segment};

use crate::audio::AudioTokenizer;
use crate::code_layout::CodeLayout;
use crate::prompt::{Part, Prompt};
use crate::stream::{StreamDecoder, VideoCodec};
use crate::text::TextTokenizer;
use crate::video::VideoTokenizer;
use crate::video_config::{Grid, VideoConfig};
use crate::video_decoder::FrameSpec;
use crate::vocab::{TokenId, Vocab};
use crate::vq::Pictures;
use crate::{Result, TokenizerError};

/// The ids of a [`Part`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoded {
    /// Text and control ids, one a position.
    Ids(Vec<TokenId>),
    /// Latent frames of a picture or clip.
    Latents {
        /// Ids of each latent frame's pictures, position by position, slot by slot.
        video: Vec<Vec<TokenId>>,
        /// Ids of each latent frame's sound, as many latent frames; `None` without sound.
        audio: Option<Vec<Vec<TokenId>>>,
    },
}

/// Text, pictures, clips and sound to ids of the one vocabulary, and back. Holds no state of a request; share it.
pub struct Tokenizers {
    vocab: Vocab,
    media: Option<Media>,
    text: Option<Arc<TextTokenizer>>,
    video: Option<(Box<dyn VideoCodec>, CodeLayout)>,
    audio: Option<(Arc<AudioTokenizer>, CodeLayout)>,
    pictures: Option<Arc<Pictures>>,
}

impl std::fmt::Debug for Tokenizers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (text, video, audio) = (self.text.is_some(), self.video.is_some(), self.audio.is_some());
        let pictures = self.pictures.is_some();
        f.debug_struct("Tokenizers")
            .field("text", &text)
            .field("video", &video)
            .field("audio", &audio)
            .field("pictures", &pictures)
            .finish_non_exhaustive()
    }
}

impl Tokenizers {
    /// Opens what the checkpoint has; the video tokenizer computes on `backend`.
    ///
    /// # Errors
    /// When a file is missing that the manifest needs, is wrong, or contradicts the manifest.
    pub fn open<B: Backend>(checkpoint: &Checkpoint, backend: B) -> Result<Self> {
        let manifest = checkpoint.manifest();
        let vocab = Vocab::new(manifest);
        let text = open_text(checkpoint, &vocab)?.map(Arc::new);
        let video = match manifest.modality("video") {
            Some(_) => Some(open_video(checkpoint, &vocab, backend)?),
            None => None,
        };
        let audio = match manifest.modality("audio") {
            Some(_) => Some(open_audio(checkpoint, &vocab)?),
            None => None,
        };
        let media = manifest.media.clone();
        let pictures = Pictures::open(checkpoint)?.map(Arc::new);
        let bundle = Self { vocab, media, text, video, audio, pictures };
        bundle.check_grids()?;
        Ok(bundle)
    }

    /// The vocabulary.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// The text tokenizer.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] when the checkpoint has none.
    pub fn text(&self) -> Result<&Arc<TextTokenizer>> {
        self.text
            .as_ref()
            .ok_or_else(|| TokenizerError::absent("text tokenizer", "use a checkpoint with tokenizer.json"))
    }

    /// The picture tokenizer of an open checkpoint.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] when the checkpoint has none.
    pub fn pictures(&self) -> Result<&Arc<Pictures>> {
        let absent = || {
            TokenizerError::absent(
                "picture tokenizer",
                "put it beside the checkpoint as image_tokenizer/ (see weights.md)",
            )
        };
        self.pictures.as_ref().ok_or_else(absent)
    }

    /// The video tokenizer and how its codes lie in positions.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] when the checkpoint has none.
    pub fn video(&self) -> Result<(&dyn VideoCodec, &CodeLayout)> {
        let absent = || TokenizerError::absent("video tokenizer", "use a checkpoint with a video modality");
        self.video.as_ref().map(|(codec, layout)| (&**codec, layout)).ok_or_else(absent)
    }

    /// The audio tokenizer and how its codes lie in positions.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] when the checkpoint has none.
    pub fn audio(&self) -> Result<(&Arc<AudioTokenizer>, &CodeLayout)> {
        let absent = || TokenizerError::absent("audio tokenizer", "use a checkpoint with an audio modality");
        self.audio.as_ref().map(|(codec, layout)| (codec, layout)).ok_or_else(absent)
    }

    /// Whether it makes sound.
    pub fn has_audio(&self) -> bool {
        self.audio.is_some()
    }

    /// Samples per second of the sound; 0 = silent.
    pub fn sample_rate(&self) -> u32 {
        self.audio.as_ref().map_or(0, |(codec, _)| codec.config().sample_rate)
    }

    /// The cells of pictures with an aspect ratio such as `16:9`.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] for a ratio that the checkpoint was not made for.
    pub fn grid(&self, ratio: &str) -> Result<Grid> {
        let (codec, _) = self.video()?;
        let names =
            || self.media.iter().flat_map(|m| m.grids.keys()).map(String::as_str).collect::<Vec<_>>().join(", ");
        let known = self.media.as_ref().is_some_and(|m| m.grids.contains_key(ratio));
        match parse_ratio(ratio).filter(|_| known) {
            Some(sides) => Grid::for_ratio(codec.config(), sides),
            None => {
                Err(TokenizerError::absent(format!("aspect ratio \"{ratio}\""), &format!("use one of {}", names())))
            }
        }
    }

    /// The ids of each part, in order. Pictures and clips are cut (never stretched) to `ratio`.
    ///
    /// # Errors
    /// When the checkpoint cannot encode a part, or an error of the device.
    pub fn encode(&self, prompt: &Prompt, ratio: &str) -> Result<Vec<Encoded>> {
        prompt.parts.iter().map(|part| self.encode_part(part, ratio)).collect()
    }

    fn encode_part(&self, part: &Part, ratio: &str) -> Result<Encoded> {
        match part {
            Part::Text(text) => self.text()?.encode(text).map(Encoded::Ids),
            Part::Control(name) => self.vocab.control(name).map(|id| Encoded::Ids(vec![id])),
            Part::Reference(k) => self.vocab.control(&format!("<image_{k}>")).map(|id| Encoded::Ids(vec![id])),
            Part::Image(frame) => {
                Ok(Encoded::Latents { video: self.encode_frames(std::slice::from_ref(frame), ratio)?, audio: None })
            }
            Part::Clip { frames, audio } => {
                let video = self.encode_frames(frames, ratio)?;
                let audio = audio
                    .as_deref()
                    .filter(|_| self.has_audio())
                    .map(|samples| self.encode_sound(samples, video.len()))
                    .transpose()?;
                Ok(Encoded::Latents { video, audio })
            }
        }
    }

    /// Ids of the latent frames of a picture (one frame) or clip, cut to `ratio` around its middle.
    ///
    /// # Errors
    /// [`TokenizerError::Length`] without frames, or as [`Tokenizers::encode`].
    pub fn encode_frames(&self, frames: &[Frame], ratio: &str) -> Result<Vec<Vec<TokenId>>> {
        let (codec, layout) = self.video()?;
        let grid = self.grid(ratio)?;
        let first = frames.first().ok_or_else(|| TokenizerError::length("frames of a clip", 0, 1))?;
        let latents = codec.encode(frames, grid.crop(first.width, first.height), grid)?;
        latents.iter().map(|codes| layout.cell_ids(codes, grid.rows, grid.columns)).collect()
    }

    /// Ids of the sound of `latents` latent frames; silence where it is too short.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] when the checkpoint has no sound.
    pub fn encode_sound(&self, samples: &[f32], latents: usize) -> Result<Vec<Vec<TokenId>>> {
        let (codec, layout) = self.audio()?;
        codec.encode_clip(samples, latents).iter().map(|codes| layout.ids(codes)).collect()
    }

    /// A decoder for one variant: exactly `frames` frames of `spec` with `ratio`, and `samples` samples (none for 0).
    ///
    /// # Errors
    /// When the checkpoint has no such modality, for an impossible size, or an error of the device.
    pub fn decoder(&self, ratio: &str, spec: FrameSpec, frames: usize, samples: usize) -> Result<StreamDecoder> {
        let (codec, layout) = self.video()?;
        let decoder = StreamDecoder::new().with_video(codec, layout.clone(), self.grid(ratio)?, spec, frames)?;
        if samples == 0 {
            return Ok(decoder);
        }
        let (codec, layout) = self.audio()?;
        Ok(decoder.with_audio(codec, layout.clone(), samples))
    }

    /// The manifest's grids of positions must be those that the video tokenizer's cells make.
    fn check_grids(&self) -> Result<()> {
        let (Some(media), Some((_, layout))) = (&self.media, &self.video) else { return Ok(()) };
        for (ratio, wanted) in &media.grids {
            let grid = self.grid(ratio)?;
            let (rows, columns) = layout.positions(grid.rows, grid.columns);
            if (rows, columns) != (wanted.height, wanted.width) {
                let what = format!(
                    "is [{}, {}]: the video tokenizer's cells make [{rows}, {columns}]",
                    wanted.height, wanted.width
                );
                return Err(TokenizerError::config("config.json", &format!("media.grids.{ratio}"), what));
            }
        }
        Ok(())
    }
}

/// The text tokenizer. In our own checkpoints its ids are those of the text segment; in open ones it names control and picture ids, too, and the
/// folder may lack it.
fn open_text(checkpoint: &Checkpoint, vocab: &Vocab) -> Result<Option<TextTokenizer>> {
    let json = checkpoint.file("tokenizer.json");
    if checkpoint.manifest().family.is_some() {
        let all = Segment { name: "text".into(), start: 0, size: vocab.size() };
        return json.ok().map(|json| TextTokenizer::new(json, &all)).transpose();
    }
    vocab.segment("text").map(|segment| TextTokenizer::new(json?, segment)).transpose()
}

fn open_video<B: Backend>(
    checkpoint: &Checkpoint,
    vocab: &Vocab,
    backend: B,
) -> Result<(Box<dyn VideoCodec>, CodeLayout)> {
    let layout = vocab.layout("video")?;
    let json = checkpoint.file("video_tokenizer/config.json")?;
    // The configurations are compared before any weights are read.
    check_video(checkpoint.manifest(), &VideoConfig::parse(json)?)?;
    let codec = VideoTokenizer::load(json, checkpoint.tensors("video_tokenizer")?, backend)?;
    Ok((Box::new(Arc::new(codec)), layout))
}

fn check_video(manifest: &Manifest, config: &VideoConfig) -> Result<()> {
    let Some((at, spec)) = manifest.modality("video") else { return Ok(()) };
    let bad = |field: &str, what: String| Err(TokenizerError::config("config.json", field, what));
    if spec.slots.isqrt().pow(2) != spec.slots {
        return bad(
            &format!("modalities[{at}].slots"),
            format!("is {}: a picture's position is a square of cells", spec.slots),
        );
    }
    if spec.codes.len() != config.digits || spec.codes.iter().any(|c| c.size as usize != config.levels) {
        let what = format!(
            "must be {} ranges of {} ids, as many as the video tokenizer has digits and levels",
            config.digits, config.levels
        );
        return bad(&format!("modalities[{at}].codes"), what);
    }
    match &manifest.media {
        Some(media) if media.frames_per_latent as usize != config.stride => {
            let what = format!("is {}: the video tokenizer's stride is {}", media.frames_per_latent, config.stride);
            bad("media.frames_per_latent", what)
        }
        _ => Ok(()),
    }
}

fn open_audio(checkpoint: &Checkpoint, vocab: &Vocab) -> Result<(Arc<AudioTokenizer>, CodeLayout)> {
    let layout = vocab.layout("audio")?;
    let codec =
        AudioTokenizer::load(checkpoint.file("audio_tokenizer/config.json")?, checkpoint.tensors("audio_tokenizer")?)?;
    let config = codec.config();
    let manifest = checkpoint.manifest();
    let Some((at, spec)) = manifest.modality("audio") else { return Ok((Arc::new(codec), layout)) };
    let bad = |field: &str, what: String| Err(TokenizerError::config("config.json", field, what));
    if spec.slots != config.frames_per_latent {
        let what =
            format!("is {}: the audio tokenizer has {} frames per latent frame", spec.slots, config.frames_per_latent);
        return bad(&format!("modalities[{at}].slots"), what);
    }
    if spec.codes.len() != config.codebooks || spec.codes.iter().any(|c| c.size as usize != config.codebook_size) {
        let what = format!(
            "must be {} ranges of {} ids, as the audio tokenizer's codebooks",
            config.codebooks, config.codebook_size
        );
        return bad(&format!("modalities[{at}].codes"), what);
    }
    if let Some(media) = &manifest.media {
        let rate = config.latent_samples() as u64 * u64::from(media.latent_fps);
        if rate != u64::from(config.sample_rate) {
            let what = format!(
                "is {}: latent frames of {} samples at {} Hz do not fit",
                media.latent_fps,
                config.latent_samples(),
                config.sample_rate
            );
            return bad("media.latent_fps", what);
        }
    }
    Ok((Arc::new(codec), layout))
}

/// `16:9` -> (16, 9)
fn parse_ratio(ratio: &str) -> Option<(usize, usize)> {
    let (w, h) = ratio.split_once(':')?;
    Some((w.parse().ok()?, h.parse().ok()?))
}
