//! Text, images, video and audio to ids of one vocabulary, and ids back to text, frames and samples as they arrive.
//!
//! * [`Vocab`]: segments, control tokens and modalities that a checkpoint declares.
//! * [`TextTokenizer`], [`VideoTokenizer`], [`AudioTokenizer`]: one medium each; [`CodeLayout`] says how codes lie in positions.
//! * [`Tokenizers`]: all of them for one checkpoint, checked against its manifest; encodes [`Prompt`]s.
//! * [`StreamDecoder`]: the way back, latent frame by latent frame, while ids are still being generated.
//!
//! What comes out depends on weights and input alone, never on how it was cut into pieces.

mod audio;
mod audio_bank;
mod audio_config;
mod audio_fit;
mod bundle;
mod code_layout;
pub mod codecs;
mod error;
mod prompt;
mod stream;
mod text;
mod video;
mod video_config;
mod video_decoder;
mod video_encoder;
mod video_layers;
mod vocab;
pub mod vq;

pub use audio::{AudioDecoder, AudioTokenizer};
pub use audio_config::AudioConfig;
pub use bundle::{Encoded, Tokenizers};
pub use code_layout::CodeLayout;
pub use error::TokenizerError;
pub use prompt::{Part, Prompt};
pub use stream::{FrameStream, Output, StreamDecoder, VideoCodec};
pub use text::{TextStream, TextTokenizer};
pub use video::VideoTokenizer;
pub use video_config::{Grid, VideoConfig, nearest_ratio};
pub use video_decoder::{FrameSpec, VideoStream};
pub use vocab::{Modality, TokenId, Vocab};

/// Result of everything here.
pub type Result<T> = std::result::Result<T, TokenizerError>;
