//! EnCodec (Défossez et al. 2022) in the layout of Hugging Face: 24 kHz mono in one piece, 48 kHz stereo in overlapping chunks.

use borealis_weights::{Node, TensorSet};

use super::codebook::Residual;
use super::config::{codebook_size, count, flag, sample_rate, size, wrong};
use super::conv::{Memory, Pad};
use super::names::Names;
use super::seanet::{Seanet, SeanetSpec};
use super::{AudioCodec, CodeChunk, CodecSpec, planes, tensor};
use crate::Result;

/// The codec.
#[derive(Debug)]
pub struct Encodec {
    spec: CodecSpec,
    /// Divides every chunk by its loudness.
    normalize: bool,
    /// Samples of a chunk, and from one to the next.
    chunks: Option<(usize, usize)>,
    encoder: Seanet,
    decoder: Seanet,
    quantizer: Residual,
}

impl Encodec {
    /// From `config.json` and the tensors beside it.
    ///
    /// # Errors
    /// For a wrong or unsupported field, a missing or misshapen tensor.
    pub fn load(root: &Node<'_>, tensors: &TensorSet) -> Result<Self> {
        let seanet = seanet(root)?;
        let rate = sample_rate(root, 24_000)?;
        let codes = codebook_size(root, 1024)?;
        let dim = size(root, "codebook_dim", seanet.hidden_size)?;
        if dim != seanet.hidden_size {
            return Err(wrong("codebook_dim", format!("is {dim}: must be hidden_size, {}", seanet.hidden_size)));
        }
        let bandwidths = match root.opt("target_bandwidths")? {
            Some(node) => node.list(32)?.iter().map(|n| n.number(1e-3, 1e6)).collect::<std::result::Result<_, _>>()?,
            None => vec![1.5, 3.0, 6.0, 12.0, 24.0],
        };
        let Some(&highest) = bandwidths.last() else {
            return Err(wrong("target_bandwidths", "is empty: must name a bit rate"));
        };
        // Frames per second are rounded up before bits are counted, as the reference does.
        let frame_rate = (rate as usize).div_ceil(seanet.hop()) as f64;
        let bits = f64::from(codes.ilog2()) * frame_rate;
        let codebooks = (1000.0 * highest / bits).floor() as usize;
        if !(1..=1024).contains(&codebooks) {
            return Err(wrong("target_bandwidths", format!("ends with {highest}: that is {codebooks} codebooks")));
        }
        let books = |bandwidth: f64| ((1000.0 * bandwidth / bits).floor() as usize).clamp(1, codebooks);
        let names = Names::new(tensors);
        let spec = CodecSpec {
            family: "encodec",
            sample_rate: rate,
            channels: seanet.audio_channels,
            hop: seanet.hop(),
            codebooks,
            min_codebooks: 1,
            codebook_size: codes,
            bandwidths: bandwidths.iter().map(|&b| (b, books(b))).collect(),
        };
        Ok(Self {
            normalize: flag(root, "normalize", false)?,
            chunks: chunks(root, rate)?,
            encoder: Seanet::encoder(&seanet, &names.at("encoder"))?,
            decoder: Seanet::decoder(&seanet, &names.at("decoder"))?,
            quantizer: quantizer(&names.at("quantizer.layers"), &spec, dim)?,
            spec,
        })
    }

    fn encode_chunk(&self, sound: &[&[f32]], codebooks: usize) -> Result<CodeChunk> {
        let scale = self.normalize.then(|| loudness(sound));
        let mut input = tensor(sound)?;
        if let Some(scale) = scale {
            input = (input / f64::from(scale))?;
        }
        let latents = self.encoder.run(&input, &mut Memory::none())?;
        Ok(CodeChunk { codes: self.quantizer.encode(&latents, codebooks)?, scale })
    }

    fn decode_chunk(&self, chunk: &CodeChunk) -> Result<Vec<Vec<f32>>> {
        self.spec.check_codes(&chunk.codes)?;
        let mut output = self.decoder.run(&self.quantizer.decode(&chunk.codes)?, &mut Memory::none())?;
        if let Some(scale) = chunk.scale {
            output = (output * f64::from(scale))?;
        }
        planes(&output)
    }
}

impl AudioCodec for Encodec {
    fn spec(&self) -> &CodecSpec {
        &self.spec
    }

    fn encode(&self, sound: &[Vec<f32>], codebooks: Option<usize>) -> Result<Vec<CodeChunk>> {
        let codebooks = self.spec.check_sound(sound, codebooks)?;
        let samples = sound[0].len();
        let (length, stride) = self.chunks.unwrap_or((samples, samples));
        let chunk = |start: usize| {
            let part: Vec<&[f32]> = sound.iter().map(|c| &c[start..samples.min(start + length)]).collect();
            self.encode_chunk(&part, codebooks)
        };
        (0..samples).step_by(stride).map(chunk).collect()
    }

    fn decode(&self, chunks: &[CodeChunk]) -> Result<Vec<Vec<f32>>> {
        let decoded = chunks.iter().map(|c| self.decode_chunk(c)).collect::<Result<Vec<_>>>()?;
        match (self.chunks, decoded.as_slice()) {
            (None, [one]) => Ok(one.clone()),
            (Some((_, stride)), [_, ..]) => (0..self.spec.channels).map(|c| cross_fade(&decoded, c, stride)).collect(),
            _ => Err(crate::TokenizerError::length("chunks of codes", chunks.len(), 1)),
        }
    }

    fn latents(&self, sound: &[Vec<f32>]) -> Result<Vec<f32>> {
        self.spec.check_sound(sound, None)?;
        let sound: Vec<&[f32]> = sound.iter().map(Vec::as_slice).collect();
        Ok(self.encoder.run(&tensor(&sound)?, &mut Memory::none())?.flatten_all()?.to_vec1()?)
    }
}

fn seanet(root: &Node<'_>) -> Result<SeanetSpec> {
    let mut spec = SeanetSpec {
        audio_channels: 1,
        hidden_size: 128,
        num_filters: 32,
        num_residual_layers: 1,
        upsampling_ratios: vec![8, 5, 4, 2],
        kernel_size: 7,
        last_kernel_size: 7,
        residual_kernel_size: 3,
        dilation_growth_rate: 2,
        compress: 2,
        use_causal_conv: true,
        pad_mode: Pad::Reflect,
        trim_right_ratio: 1.0,
        use_conv_shortcut: true,
        group_norm: false,
        num_lstm_layers: 2,
    }
    .read(root)?;
    if let Some(node) = root.opt("norm_type")? {
        spec.group_norm = node.choice(&[("weight_norm", false), ("time_group_norm", true)])?;
    }
    spec.num_lstm_layers = count(root, "num_lstm_layers", spec.num_lstm_layers)?;
    if spec.num_lstm_layers == 0 {
        return Err(wrong("num_lstm_layers", "is 0: must be at least 1"));
    }
    Ok(spec)
}

/// Samples of a chunk, and from one to the next.
fn chunks(root: &Node<'_>, rate: u32) -> Result<Option<(usize, usize)>> {
    let Some(seconds) = root.opt("chunk_length_s")? else { return Ok(None) };
    let length = (seconds.number(1e-4, 3600.0)? * f64::from(rate)) as usize;
    let overlap = root.opt("overlap")?.ok_or_else(|| wrong("overlap", "is missing: chunk_length_s needs it"))?;
    let stride = ((1.0 - overlap.number(0.0, 0.99)?) * length as f64) as usize;
    if length == 0 {
        return Err(seconds.fail("must be at least one sample").into());
    }
    Ok(Some((length, stride.max(1))))
}

fn quantizer(names: &Names<'_>, spec: &CodecSpec, dim: usize) -> Result<Residual> {
    let shape = [spec.codebook_size, dim];
    let book = |layer: usize| {
        let names = names.at(layer).at("codebook");
        // How the codebook was trained.
        names.leftover("inited", &[1])?;
        names.leftover("cluster_size", &shape[..1])?;
        names.leftover("embed_avg", &shape)?;
        names.numbers("embed", &shape)
    };
    Ok(Residual::new(dim, (0..spec.codebooks).map(book).collect::<Result<_>>()?))
}

/// Root mean square of the channels' mean.
fn loudness(sound: &[&[f32]]) -> f32 {
    let mean = |i: usize| sound.iter().map(|c| f64::from(c[i])).sum::<f64>() / sound.len() as f64;
    let samples = sound[0].len();
    ((0..samples).map(|i| mean(i).powi(2)).sum::<f64>() / samples as f64).sqrt() as f32 + 1e-8
}

/// Adds chunks of one channel that start every `stride` samples, each weighted by a triangle, and divides by the sum of the weights.
fn cross_fade(chunks: &[Vec<Vec<f32>>], channel: usize, stride: usize) -> Result<Vec<f32>> {
    let longest = chunks[0][channel].len();
    let step = 1.0 / (longest + 1) as f64;
    let weight: Vec<f32> = (1..=longest).map(|i| (0.5 - (i as f64 * step - 0.5).abs()) as f32).collect();
    let total = stride * (chunks.len() - 1) + chunks[chunks.len() - 1][channel].len();
    let (mut sum, mut weights) = (vec![0.0f32; total], vec![0.0f32; total]);
    for (n, chunk) in chunks.iter().enumerate() {
        let start = n * stride;
        for (i, (sample, w)) in chunk[channel].iter().zip(&weight).enumerate().take(total.saturating_sub(start)) {
            sum[start + i] += w * sample;
            weights[start + i] += w;
        }
    }
    if weights.contains(&0.0) {
        return Err(wrong("overlap", format!("leaves holes between chunks of {longest} samples every {stride}")));
    }
    Ok(sum.iter().zip(&weights).map(|(s, w)| s / w).collect())
}
