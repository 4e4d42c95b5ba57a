//! What a client asks for: one generation.

use serde::{Deserialize, Serialize};

use super::AssetRef;

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Pictures from text, or from references.
    Image,
    /// Pictures from a picture.
    EditImage,
    /// A clip from text, from a first frame (`image`) or from `references`.
    Video,
    /// A clip from a clip.
    EditVideo,
    /// A clip and its continuation.
    Extend,
}

impl JobKind {
    /// Whether pictures come out.
    pub fn is_still(self) -> bool {
        matches!(self, Self::Image | Self::EditImage)
    }

    /// The name in the store and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::EditImage => "edit_image",
            Self::Video => "video",
            Self::EditVideo => "edit_video",
            Self::Extend => "extend",
        }
    }
}

/// File format of pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageFormat {
    /// `image/jpeg`.
    #[default]
    Jpeg,
    /// `image/png`.
    Png,
}

/// The spelling in which a job was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// xAI's REST.
    #[default]
    Xai,
    /// xAI's gRPC.
    Grpc,
    /// OpenAI's images and videos.
    OpenAi,
    /// `{model, input}` tasks.
    Task,
    /// A line of a batch.
    Batch,
}

/// One generation: what a job stores. `Spec::new` gives the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// What is made.
    pub kind: JobKind,
    /// Canonical id of the model, echoed in answers (`grok-imagine-video`, `borealis-mini`).
    pub model: String,
    /// Name of the checkpoint that serves it; filled in when the job is submitted.
    #[serde(default)]
    pub checkpoint: Option<String>,
    /// At most 10,000 characters.
    pub prompt: String,
    /// Pictures (1 to 10) or variants of a clip (1 to 4).
    pub n: u32,
    /// Length of a clip; for [`JobKind::Extend`] the seconds that are added (1 to 15). `None`: 6.
    #[serde(default)]
    pub seconds: Option<f32>,
    /// `16:9`, ...; `None` or `auto`: that of the input, else 1:1 for pictures and 16:9 for clips.
    #[serde(default)]
    pub aspect_ratio: Option<String>,
    /// `1k`, `2k` for pictures; `480p`, `720p`, `1080p` for clips. `None`: `1k`, `480p`. Pictures also take `WxH` (exact pixels, OpenAI's `size`).
    #[serde(default)]
    pub resolution: Option<String>,
    /// The picture to edit, or the first frame of a clip.
    #[serde(default)]
    pub image: Option<AssetRef>,
    /// Pictures that the prompt names, at most 7.
    #[serde(default)]
    pub references: Vec<AssetRef>,
    /// The clip to edit or to extend.
    #[serde(default)]
    pub video: Option<AssetRef>,
    /// Clips have sound.
    pub audio: bool,
    /// `None`: drawn when the job is submitted; the stored job always has one.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Guidance scale.
    #[serde(default)]
    pub guidance: Option<f32>,
    /// `quality` or `speed`.
    #[serde(default)]
    pub preset: Option<String>,
    /// Format of pictures.
    #[serde(default)]
    pub format: ImageFormat,
    /// Continuations after the first clip, seconds of each: how clips longer than 15 s are made.
    #[serde(default)]
    pub chain_seconds: Vec<f32>,
    /// Told when the job has ended.
    #[serde(default)]
    pub webhook_url: Option<String>,
    /// Gets the clip itself when it is done.
    #[serde(default)]
    pub upload_url: Option<String>,
    /// The task dialect's mode `spicy`; moderation may allow more.
    #[serde(default)]
    pub spicy: bool,
    /// The client's own name of its user; opaque.
    #[serde(default)]
    pub user: Option<String>,
    /// The spelling of the request.
    #[serde(default)]
    pub dialect: Dialect,
    /// Folder that the results are put into.
    #[serde(default)]
    pub folder: Option<String>,
    /// Keep the results as a file of the Files API.
    #[serde(default)]
    pub storage: Option<StorageOptions>,
    /// Whatever the dialect wants back when it answers (original fields of the request); at most 16 KiB.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub extra: serde_json::Value,
}

impl Spec {
    /// A job with the defaults: one output, sound, JPEG.
    pub fn new(kind: JobKind, model: impl Into<String>, prompt: impl Into<String>) -> Self {
        Self {
            kind,
            model: model.into(),
            checkpoint: None,
            prompt: prompt.into(),
            n: 1,
            seconds: None,
            aspect_ratio: None,
            resolution: None,
            image: None,
            references: Vec::new(),
            video: None,
            audio: true,
            seed: None,
            guidance: None,
            preset: None,
            format: ImageFormat::default(),
            chain_seconds: Vec::new(),
            webhook_url: None,
            upload_url: None,
            spicy: false,
            user: None,
            dialect: Dialect::default(),
            folder: None,
            storage: None,
            extra: serde_json::Value::Null,
        }
    }
}

/// xAI's `storage_options`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageOptions {
    /// Name of the file.
    pub filename: String,
    /// Seconds that the file lives, at most 2,592,000.
    #[serde(default)]
    pub expires_after: Option<i64>,
    /// Make a public URL that lives so many seconds (`Some(None)`: as long as the file).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub public_url: Option<Option<i64>>,
}

/// A field that is there: `null` is `Some(None)`, not `None`.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Option<i64>>, D::Error> {
    Option::<i64>::deserialize(deserializer).map(Some)
}
