//! Picture and clip tokenizers of open checkpoints: Emu3, Emu3.5 (IBQ), Chameleon, taming VQGAN and Janus, and the vision tower of Janus.
//!
//! All of them are one encoder, one codebook and one decoder ([`VqTokenizer`]) of the same layers; what differs is data: sizes and rules
//! ([`VqConfig`]) and names of tensors. They compute what their references compute (tests: `golden_vq`). They run once per picture, on the host.

mod attention;
mod autoencoder;
mod blocks;
mod codebook;
mod config;
mod conv;
mod map;
mod names;
mod norm;
mod picture;
mod pictures;
mod resample;
mod source;
mod tokenizer;
mod tower;

pub use config::{VqConfig, VqFamily};
pub use map::FeatureMap;
pub use picture::PictureRule;
pub use pictures::{PictureIds, Pictures};
pub use resample::Resample;
pub use tokenizer::{CodeGrid, VqTokenizer};
pub use tower::VisionTower;
