//! What a user asks for: plain data, validated once by [`crate::Engine::submit`].

use std::path::PathBuf;
use std::sync::Arc;

use crate::window::Window;

/// A picture, clip or sound that the user gives.
#[derive(Debug, Clone)]
pub enum Media {
    /// A file on this machine.
    Path(PathBuf),
    /// The bytes of a file, with a name for messages.
    Bytes {
        /// Shown in errors.
        name: String,
        /// PNG, JPEG, WebP, MP4, MOV, WebM, ...
        data: Arc<[u8]>,
    },
}

/// What the generation is conditioned on besides the prompt.
#[derive(Debug, Clone, Default)]
pub enum Conditioning {
    /// Text only.
    #[default]
    Text,
    /// Output a still: the edited picture. Output a clip: the clip that starts with it.
    Image(Media),
    /// Up to seven pictures, named `<IMAGE_0>` or `@image1` in the prompt.
    References(Vec<Media>),
    /// The clip to edit.
    Video(Media),
    /// The clip to continue; the output is the given clip followed by the continuation.
    Extend(Media),
}

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OutputKind {
    /// One picture.
    Image,
    /// A clip of so many seconds.
    Video {
        /// 1 to 15; the clip has exactly `round(seconds * 24)` frames.
        seconds: f32,
        /// With sound.
        audio: bool,
    },
    /// Text (checkpoints that generate text).
    Text {
        /// Upper bound of new ids.
        max_tokens: usize,
    },
}

/// Lines of the shorter side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resolution {
    /// 480 lines.
    P480,
    /// 720 lines.
    #[default]
    P720,
    /// 1080 lines.
    P1080,
}

/// Size and kind of the output.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputSpec {
    /// Still, clip or text.
    pub kind: OutputKind,
    /// Lines of the shorter side.
    pub resolution: Resolution,
    /// `16:9`, `9:16`, `1:1`, `4:3`, `3:4`, `3:2`, `2:3`; `None`: the input's own ratio, else 16:9 (open checkpoints: 1:1, and any ratio).
    pub aspect_ratio: Option<String>,
    /// Width and height in pixels, for pictures of open checkpoints; rounded to their tokenizer's places. `None`: by ratio and resolution.
    pub size: Option<(u32, u32)>,
}

/// Overrides of the checkpoint's default sampling; `None` keeps the default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sampling {
    /// At least 0; 0 takes the most likely id.
    pub temperature: Option<f32>,
    /// 0 = all.
    pub top_k: Option<usize>,
    /// In (0, 1].
    pub top_p: Option<f32>,
    /// In [0, 1]; 0 = off.
    pub min_p: Option<f32>,
    /// In (0, 10]; 1 = off.
    pub repetition_penalty: Option<f32>,
    /// Guidance scale; 1 = off.
    pub guidance: Option<f32>,
}

/// Named trade-offs of the checkpoint's `generation_config.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Preset {
    /// The best that the checkpoint does.
    #[default]
    Quality,
    /// Faster, plainer.
    Speed,
}

/// One generation.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to make; at most 10,000 characters.
    pub prompt: String,
    /// What guidance leads away from, for open checkpoints that take such words; `None`: the family's own.
    pub negative: Option<String>,
    /// Pictures and clips that it starts from.
    pub conditioning: Conditioning,
    /// What comes out.
    pub output: OutputSpec,
    /// Variants made in the same steps, 1 to 4.
    pub variants: usize,
    /// The same seed gives the same ids.
    pub seed: u64,
    /// Sampling overrides.
    pub sampling: Sampling,
    /// Quality or speed.
    pub preset: Preset,
    /// Positions of a variant that a step decides, where the plan decides one after another (open checkpoints, raster plans). The ids do not depend on it.
    pub window: Window,
}

impl Request {
    /// A request with the defaults: 720 lines, one variant, seed 0, nothing given.
    pub fn new(prompt: impl Into<String>, kind: OutputKind) -> Self {
        Self {
            prompt: prompt.into(),
            negative: None,
            conditioning: Conditioning::Text,
            output: OutputSpec { kind, resolution: Resolution::default(), aspect_ratio: None, size: None },
            variants: 1,
            seed: 0,
            sampling: Sampling::default(),
            preset: Preset::default(),
            window: Window::default(),
        }
    }
}
