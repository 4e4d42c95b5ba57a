//! `borealis tokenize` with the folder of an audio codec: sound to codes, and codes back.

use std::path::Path;
use std::sync::Arc;

use borealis_media::{Limits, Pcm, Source, read_audio_channels, write_wav};
use borealis_tokenizers::codecs::{AudioCodec, CodeChunk};
use serde::{Deserialize, Serialize};

use crate::error::{CliError, Result};

/// Codes of a sound, one JSON object.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Codes {
    /// `encodec`, `mimi` or `dac`.
    codec: String,
    sample_rate: u32,
    /// Samples of a channel that they are of.
    samples: usize,
    chunks: Vec<Chunk>,
}

/// A stretch of it.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Chunk {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scale: Option<f32>,
    /// `[codebook][frame]`.
    codes: Vec<Vec<u32>>,
}

/// Which codes are wanted.
pub struct Wanted {
    /// Bit rate, kbit/s.
    pub bandwidth: Option<f64>,
    /// Codes of a frame.
    pub codebooks: Option<usize>,
}

/// A file with sound -> JSON.
pub fn encode(codec: &dyn AudioCodec, path: &Path, wanted: &Wanted) -> Result<String> {
    let spec = codec.spec();
    let codebooks = match wanted.bandwidth {
        Some(bandwidth) => Some(spec.codebooks_for(bandwidth).map_err(|e| CliError::usage(e.to_string()))?),
        None => wanted.codebooks,
    };
    let sound = read_audio_channels(Source::Path(path), spec.channels, spec.sample_rate, &Limits::default());
    let sound = sound.map_err(CliError::failed)?;
    let samples = sound.first().map_or(0, Vec::len);
    let chunks = codec.encode(&sound, codebooks).map_err(CliError::failed)?;
    let chunks = chunks.into_iter().map(|chunk| Chunk { scale: chunk.scale, codes: chunk.codes }).collect();
    let codes = Codes { codec: spec.family.into(), sample_rate: spec.sample_rate, samples, chunks };
    let mut text = serde_json::to_string(&codes).map_err(CliError::failed)?;
    text.push('\n');
    Ok(text)
}

/// JSON -> a WAV file.
pub fn decode(codec: &Arc<dyn AudioCodec>, text: &str, name: &Path, output: Option<&Path>) -> Result<()> {
    let wrong = |what: String| CliError::Failed(format!("\"{}\" is not a file of codes: {what}", name.display()));
    let output = output.filter(|path| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("wav")));
    let output = output.ok_or_else(|| CliError::usage("these codes are sound: add -o FILE with the ending .wav"))?;
    let codes: Codes = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let spec = codec.spec();
    if (codes.codec.as_str(), codes.sample_rate) != (spec.family, spec.sample_rate) {
        let (theirs, ours) = (
            format!("{} at {} Hz", codes.codec, codes.sample_rate),
            format!("{} at {} Hz", spec.family, spec.sample_rate),
        );
        return Err(CliError::Failed(format!(
            "these codes are of {theirs}, the model is {ours}: give the model that made them"
        )));
    }
    let chunks: Vec<CodeChunk> =
        codes.chunks.into_iter().map(|chunk| CodeChunk { codes: chunk.codes, scale: chunk.scale }).collect();
    let mut planes = codec.decode(&chunks).map_err(CliError::failed)?;
    // Codecs work in whole frames: what was never there is cut off.
    planes.iter_mut().for_each(|plane| plane.truncate(codes.samples));
    let length = planes.iter().map(Vec::len).min().unwrap_or(0);
    let samples = (0..length).flat_map(|i| planes.iter().map(move |plane| plane[i])).collect();
    let pcm = Pcm { rate: spec.sample_rate, channels: planes.len() as u16, samples };
    write_wav(output, &pcm).map_err(CliError::failed)
}
