//! Published audio codecs: EnCodec, Mimi and DAC, from the folders in which they are published.
//!
//! candle-transformers has these models too; its EnCodec knows neither reflected padding nor group norm, does not trim what transposed convolutions add and cannot
//! read today's weight-norm names, and its DAC has one size, other names and no encoder. So the layers are ours, on candle's operations.
//!
//! Sound is planar here: one vector of samples for each channel. Everything is f32 on the CPU; memory grows with the length of the sound by the layers' activations
//! only, never by unrolled convolutions.

mod codebook;
mod config;
mod conv;
mod dac;
mod encodec;
mod lstm;
mod mimi;
mod names;
mod seanet;
mod transformer;
mod transposed;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use borealis_kernels::candle::{DType, Device, Tensor};
use borealis_weights::{Component, Node};
use serde_json::Value;

pub use dac::Dac;
pub use encodec::Encodec;
pub use mimi::Mimi;

use crate::{Result, TokenizerError};

/// `model_type` of their `config.json`.
const FAMILIES: [&str; 3] = ["encodec", "mimi", "dac"];
/// Largest `config.json` of a codec, bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// What a codec is.
#[derive(Debug, Clone, PartialEq)]
pub struct CodecSpec {
    /// `encodec`, `mimi` or `dac`.
    pub family: &'static str,
    /// Samples per second.
    pub sample_rate: u32,
    /// Channels of its sound.
    pub channels: usize,
    /// Samples of a code frame.
    pub hop: usize,
    /// Most codes of a code frame.
    pub codebooks: usize,
    /// Fewest codes of a code frame.
    pub min_codebooks: usize,
    /// Codes of a codebook.
    pub codebook_size: usize,
    /// Bit rates (kbit/s) with which it was trained and their numbers of codebooks; empty: any number will do.
    pub bandwidths: Vec<(f64, usize)>,
}

/// The codes of a stretch of sound. Most codecs make one of a whole sound; EnCodec at 48 kHz makes many that overlap.
#[derive(Debug, Clone, PartialEq)]
pub struct CodeChunk {
    /// `[codebook][frame]`.
    pub codes: Vec<Vec<u32>>,
    /// Loudness by which the decoded sound is multiplied.
    pub scale: Option<f32>,
}

/// Sound <-> codes. Immutable: shared by all users.
pub trait AudioCodec: Debug + Send + Sync {
    /// What it is.
    fn spec(&self) -> &CodecSpec;

    /// Samples by channel -> codes of `codebooks` codebooks (`None`: all). What is missing at the end of the last frame is padded as the codec's authors do.
    ///
    /// # Errors
    /// [`TokenizerError::Length`] for no samples, another number of channels, channels of different lengths, or a number of codebooks that it does not have.
    fn encode(&self, sound: &[Vec<f32>], codebooks: Option<usize>) -> Result<Vec<CodeChunk>>;

    /// Codes -> samples by channel. As the codecs work in whole frames this can be longer than what was encoded (by less than a frame, or shorter for DAC with odd ratios).
    ///
    /// # Errors
    /// [`TokenizerError::Code`] for a code that its codebook does not have, [`TokenizerError::Length`] for codebooks of different lengths or too many of them.
    fn decode(&self, chunks: &[CodeChunk]) -> Result<Vec<Vec<f32>>>;

    /// The encoder's output before any quantisation, `[hidden, frames]`, of one chunk of samples by channel.
    ///
    /// # Errors
    /// As [`AudioCodec::encode`].
    fn latents(&self, sound: &[Vec<f32>]) -> Result<Vec<f32>>;

    /// A decoder that takes frames as they arrive, when the codec is causal; `None` when it needs to see what follows.
    fn stream(self: Arc<Self>) -> Option<Box<dyn CodecStream>> {
        None
    }
}

/// Decodes one sound while its codes arrive. All pieces together are what [`AudioCodec::decode`] makes of all codes.
pub trait CodecStream: Send {
    /// Some frames, `[codebook][frame]` -> their samples by channel.
    ///
    /// # Errors
    /// As [`AudioCodec::decode`].
    fn push(&mut self, codes: &[Vec<u32>]) -> Result<Vec<Vec<f32>>>;
}

/// Opens the codec in a folder with `config.json` and safetensors, as its authors publish it.
///
/// # Errors
/// When the folder holds no codec of a known kind, a field asks for something that is not supported, or a tensor is missing, unknown or misshapen.
pub fn open_codec(folder: &Path) -> Result<Arc<dyn AudioCodec>> {
    let component = Component::open(folder)?;
    let root = Node::root("config.json", component.config());
    let [encodec, mimi, dac] = FAMILIES;
    let kind = root.get("model_type")?.choice(&[(encodec, 0), (mimi, 1), (dac, 2)])?;
    let tensors = component.tensors();
    let codec: Arc<dyn AudioCodec> = match kind {
        0 => Arc::new(Encodec::load(&root, tensors)?),
        1 => Arc::new(Mimi::load(&root, tensors)?),
        _ => Arc::new(Dac::load(&root, tensors)?),
    };
    tensors.check_all_used()?;
    Ok(codec)
}

/// Whether the folder's `config.json` names one of these codecs, so that [`open_codec`] is the way to open it. Looks at nothing else.
pub fn is_codec(folder: &Path) -> bool {
    let file = folder.join("config.json");
    let small = file.metadata().is_ok_and(|m| m.is_file() && m.len() <= MAX_CONFIG);
    let bytes = if small { std::fs::read(file).unwrap_or_default() } else { Vec::new() };
    let config: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    config["model_type"].as_str().is_some_and(|kind| FAMILIES.contains(&kind))
}

impl CodecSpec {
    /// The number of codebooks of a bit rate (kbit/s).
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] when the codec was not made for it.
    pub fn codebooks_for(&self, bandwidth: f64) -> Result<usize> {
        let found = self.bandwidths.iter().find(|b| b.0 == bandwidth);
        found.map(|b| b.1).ok_or_else(|| {
            let known: Vec<String> = self.bandwidths.iter().map(|b| b.0.to_string()).collect();
            let remedy = if known.is_empty() {
                "give a number of codebooks".to_string()
            } else {
                format!("use one of {}", known.join(", "))
            };
            TokenizerError::absent(format!("bit rate {bandwidth} kbit/s"), &remedy)
        })
    }

    /// Checks what is to be encoded; the number of codebooks.
    fn check_sound(&self, sound: &[Vec<f32>], codebooks: Option<usize>) -> Result<usize> {
        if sound.len() != self.channels {
            return Err(TokenizerError::length("channels of the sound", sound.len(), self.channels));
        }
        let samples = sound.iter().map(Vec::len).max().unwrap_or(0);
        if let Some(other) = sound.iter().find(|c| c.len() != samples || c.is_empty()) {
            return Err(TokenizerError::length("samples of a channel", other.len(), samples.max(1)));
        }
        let wanted = codebooks.unwrap_or(self.codebooks);
        if !(self.min_codebooks..=self.codebooks).contains(&wanted) {
            let nearest = wanted.clamp(self.min_codebooks, self.codebooks);
            return Err(TokenizerError::length("codebooks", wanted, nearest));
        }
        Ok(wanted)
    }

    /// Checks what is to be decoded; the number of frames.
    fn check_codes(&self, codes: &[Vec<u32>]) -> Result<usize> {
        if codes.is_empty() || codes.len() > self.codebooks {
            return Err(TokenizerError::length("codebooks", codes.len(), self.codebooks));
        }
        let frames = codes[0].len();
        if let Some(other) = codes.iter().find(|book| book.len() != frames || book.is_empty()) {
            return Err(TokenizerError::length("codes of a codebook", other.len(), frames.max(1)));
        }
        match codes.iter().flatten().find(|&&code| code as usize >= self.codebook_size) {
            Some(&code) => Err(TokenizerError::code(self.family, code.into(), self.codebook_size)),
            None => Ok(frames),
        }
    }
}

/// `[1, channels, samples]`.
fn tensor(sound: &[&[f32]]) -> Result<Tensor> {
    let samples = sound.first().map_or(0, |c| c.len());
    Ok(Tensor::from_vec(sound.concat(), (1, sound.len(), samples), &Device::Cpu)?)
}

/// Samples by channel of `[1, channels, samples]`.
fn planes(x: &Tensor) -> Result<Vec<Vec<f32>>> {
    Ok(x.squeeze(0)?.to_dtype(DType::F32)?.to_vec2()?)
}
