//! Bodies of the xAI dialect as types: what serde reads is what the OpenAPI document shows.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use utoipa::ToSchema;

use super::body::{Media, flag, list, number, whole};

/// Makes pictures. Unknown fields are ignored; null is as good as absent.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ImageRequest {
    /// What to make. `<IMAGE_0>`, `<IMAGE_1>` name the given pictures.
    pub prompt: String,
    /// `grok-imagine-image` when it is not given.
    pub model: Option<String>,
    /// Pictures to make, 1 to 10.
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 10, default = 1)]
    pub n: Option<i128>,
    /// `url` or `b64_json`.
    #[schema(default = "url")]
    pub response_format: Option<String>,
    /// `1:1`, `3:4`, `4:3`, `9:16`, `16:9`, `2:3`, `3:2`, `9:19.5`, `19.5:9`, `9:20`, `20:9`, `1:2`, `2:1`, `auto`.
    #[schema(default = "auto")]
    pub aspect_ratio: Option<String>,
    /// `1k` or `2k`.
    #[schema(default = "1k")]
    pub resolution: Option<String>,
    /// `low`, `medium`, `high`.
    pub quality: Option<String>,
    /// Keep the results in the Files API.
    pub storage_options: Option<StorageRequest>,
    /// Your name of your user.
    pub user: Option<String>,
    /// Edits: the picture to change.
    #[serde(default, deserialize_with = "list")]
    #[schema(value_type = Option<MediaRequest>)]
    pub image: Vec<Media>,
    /// Edits: up to three pictures, instead of `image`.
    #[serde(default, deserialize_with = "list")]
    #[schema(value_type = Vec<MediaRequest>, max_items = 3, required = false)]
    pub images: Vec<Media>,
    /// OpenAI's size: `1024x1024`; used when neither `aspect_ratio` nor `resolution` is given.
    #[serde(default, deserialize_with = "loose")]
    pub size: Option<String>,
    /// `jpeg` or `png`.
    #[serde(default, deserialize_with = "loose")]
    #[schema(default = "jpeg")]
    pub output_format: Option<String>,
}

/// Makes a clip from text, from a first frame, or from reference pictures: whichever is given.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct VideoRequest {
    /// What to make; may be left out when `image` is given.
    pub prompt: Option<String>,
    /// `grok-imagine-video` when it is not given.
    pub model: Option<String>,
    /// Seconds, 1 to 15; at most 10 with reference pictures on `grok-imagine-video`.
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 15, default = 8)]
    pub duration: Option<i128>,
    /// `1:1`, `16:9`, `9:16`, `4:3`, `3:4`, `3:2`, `2:3`; without it 16:9, or that of the first frame.
    pub aspect_ratio: Option<String>,
    /// `480p`, `720p`, `1080p` (1.5 models and checkpoints of your own; not with reference pictures).
    #[schema(default = "480p")]
    pub resolution: Option<String>,
    /// The first frame.
    #[schema(value_type = Option<MediaRequest>)]
    pub image: Option<Media>,
    /// Up to seven pictures that the prompt names `<IMAGE_0>`, ...
    #[serde(default, deserialize_with = "list")]
    #[schema(value_type = Vec<MediaRequest>, max_items = 7, required = false)]
    pub reference_images: Vec<Media>,
    /// Not supported by any checkpoint yet: refused.
    #[schema(value_type = Option<MediaRequest>)]
    pub last_frame: Option<Value>,
    /// Not supported by any checkpoint yet: refused.
    #[schema(value_type = Option<Vec<Object>>)]
    pub keyframes: Option<Value>,
    /// Not supported by any checkpoint yet: refused.
    #[schema(value_type = Option<Vec<Object>>)]
    pub reference_audios: Option<Value>,
    /// With sound.
    #[serde(default, deserialize_with = "flag")]
    #[schema(default = true)]
    pub generate_audio: Option<bool>,
    /// Keep the result in the Files API.
    pub storage_options: Option<StorageRequest>,
    /// Where the clip is put when it is done, besides its URL.
    pub output: Option<OutputRequest>,
    /// Your name of your user.
    pub user: Option<String>,
    /// Variants, 1 to 4 (ours: xAI makes one).
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 4, default = 1)]
    pub n: Option<i128>,
}

/// Changes a clip (its length, ratio and size stay), or continues it (the result is the clip and its continuation).
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ClipRequest {
    /// What changes, or what happens next.
    pub prompt: String,
    /// The clip: at most 8.7 seconds to be changed, 2 to 30 seconds to be continued.
    #[schema(value_type = MediaRequest)]
    pub video: Media,
    /// Seconds to add, 1 to 10; a change ignores it.
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 10, default = 6)]
    pub duration: Option<i128>,
    /// Go on after this frame (24 a second, from 0) instead of the last one; what follows it is cut off (ours). A change ignores it.
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<i32>, minimum = 0)]
    pub frame: Option<i128>,
    /// `grok-imagine-video` when it is not given.
    pub model: Option<String>,
    /// Keep the result in the Files API.
    pub storage_options: Option<StorageRequest>,
    /// Where the clip is put when it is done, besides its URL.
    pub output: Option<OutputRequest>,
    /// Your name of your user.
    pub user: Option<String>,
    /// Variants, 1 to 4 (ours: xAI makes one).
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 4, default = 1)]
    pub n: Option<i128>,
}

/// What every generation takes besides what xAI has.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct LocalRequest {
    /// The same seed makes the same result; drawn when it is not given or negative.
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<u64>)]
    pub seed: Option<i128>,
    /// Guidance scale, 0 to 100; 1 is off.
    #[serde(default, deserialize_with = "number")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 100)]
    pub guidance: Option<f64>,
    /// `quality` or `speed`.
    pub preset: Option<String>,
    /// Told when the job has ended (Standard Webhooks).
    pub webhook_url: Option<String>,
    /// Folder that the results are put into.
    pub folder_id: Option<String>,
}

/// A picture or clip: a URL, a `data:` URL, the id of an uploaded file, or of an earlier generation. A bare string is a URL.
#[derive(ToSchema)]
#[allow(dead_code, reason = "shown in the OpenAPI document; read by `Media`")]
pub(crate) struct MediaRequest {
    /// http(s) where the server allows it, an address of this server, or `data:`.
    pub url: Option<String>,
    /// An uploaded file.
    pub file_id: Option<String>,
    /// An earlier generation of yours.
    pub id: Option<String>,
    /// Where a picture is wanted and a clip is given: `first`, `last` or a second.
    #[schema(value_type = Option<String>)]
    pub frame: Option<String>,
}

/// xAI's `output`.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct OutputRequest {
    /// Gets a PUT of the MP4, as often as it takes; http(s) where the server allows it. Of several variants the first.
    pub upload_url: Option<String>,
}

/// xAI's `storage_options`.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct StorageRequest {
    /// Name of the file.
    pub filename: String,
    /// Seconds that it lives, at most 2,592,000.
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 2_592_000)]
    pub expires_after: Option<i128>,
    /// `true`, or `{"expires_after": seconds}` (3,600 to 2,592,000): make a public URL.
    #[schema(value_type = Option<Object>)]
    pub public_url: Option<PublicUrl>,
}

/// Whether a public URL is made.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum PublicUrl {
    Flag(bool),
    Life {
        #[serde(default, deserialize_with = "whole")]
        expires_after: Option<i128>,
    },
}

/// A string; anything else is ignored.
fn loose<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_str().map(str::to_string))
}
