//! Mimi (Défossez et al. 2024) in the layout of Hugging Face: EnCodec's networks without LSTM, a transformer on either side of the codes, and two quantisers,
//! one for what is said and one for how it sounds.

use std::sync::Arc;

use borealis_kernels::candle::Tensor;
use borealis_weights::{Node, TensorSet};

use super::codebook::Residual;
use super::config::{codebook_size, sample_rate, size, wrong};
use super::conv::{Conv, Memory, Pad, PaddedConv, Shape};
use super::names::Names;
use super::seanet::{Seanet, SeanetSpec};
use super::transformer::{Past, Transformer, TransformerSpec};
use super::transposed::Transposed;
use super::{AudioCodec, CodeChunk, CodecSpec, CodecStream, planes, tensor};
use crate::Result;

/// Cluster sizes below this count as this.
const MIN_USAGE: f32 = 1e-5;

/// The codec.
#[derive(Debug)]
pub struct Mimi {
    spec: CodecSpec,
    streams: bool,
    encoder: Seanet,
    encoder_transformer: Transformer,
    /// To the rate of the codes and back; `None` where the rates are equal.
    downsample: Option<PaddedConv>,
    upsample: Option<Transposed>,
    decoder_transformer: Transformer,
    decoder: Seanet,
    semantic: Quantizer,
    acoustic: Quantizer,
}

impl Mimi {
    /// From `config.json` and the tensors beside it.
    ///
    /// # Errors
    /// For a wrong or unsupported field, a missing or misshapen tensor.
    pub fn load(root: &Node<'_>, tensors: &TensorSet) -> Result<Self> {
        let seanet = seanet(root)?;
        let transformer = TransformerSpec::read(root, seanet.hidden_size)?;
        let rate = sample_rate(root, 24_000)?;
        let stride = latent_stride(root, rate, &seanet)?;
        let spec = CodecSpec {
            family: "mimi",
            sample_rate: rate,
            channels: seanet.audio_channels,
            hop: seanet.hop() * stride,
            codebooks: size(root, "num_quantizers", 32)?,
            min_codebooks: size(root, "num_semantic_quantizers", 1)?,
            codebook_size: codebook_size(root, 2048)?,
            bandwidths: Vec::new(),
        };
        if spec.min_codebooks >= spec.codebooks {
            let problem = format!("is {}: must be below num_quantizers, {}", spec.min_codebooks, spec.codebooks);
            return Err(wrong("num_semantic_quantizers", problem));
        }
        let dims = QuantizerSpec::read(root, &seanet, &spec)?;
        let names = Names::new(tensors);
        let quantizers = names.at("quantizer");
        let (semantic, acoustic) = (spec.min_codebooks, spec.codebooks - spec.min_codebooks);
        Ok(Self {
            streams: seanet.decodes_in_pieces(),
            encoder: Seanet::encoder(&seanet, &names.at("encoder"))?,
            encoder_transformer: Transformer::load(&transformer, &names.at("encoder_transformer"))?,
            downsample: (stride > 1).then(|| downsample(&seanet, &names, stride)).transpose()?,
            upsample: (stride > 1).then(|| upsample(root, &seanet, &names, stride)).transpose()?,
            decoder_transformer: Transformer::load(&transformer, &names.at("decoder_transformer"))?,
            decoder: Seanet::decoder(&seanet, &names.at("decoder"))?,
            semantic: Quantizer::load(&quantizers.at("semantic_residual_vector_quantizer"), &dims, semantic)?,
            acoustic: Quantizer::load(&quantizers.at("acoustic_residual_vector_quantizer"), &dims, acoustic)?,
            spec,
        })
    }

    fn encode_latents(&self, sound: &[Vec<f32>]) -> Result<Tensor> {
        let sound: Vec<&[f32]> = sound.iter().map(Vec::as_slice).collect();
        let x = self.encoder.run(&tensor(&sound)?, &mut Memory::none())?;
        let x = self.encoder_transformer.run(&x, &mut Past::default())?;
        self.downsample.as_ref().map_or(Ok(x.clone()), |conv| conv.run(&x, &mut Memory::none()))
    }

    /// Checked codes -> samples; `memory` and `past` are the stream's.
    fn decode_codes(&self, codes: &[Vec<u32>], memory: &mut Memory, past: &mut Past) -> Result<Vec<Vec<f32>>> {
        self.spec.check_codes(codes)?;
        let (semantic, acoustic) = codes.split_at(codes.len().min(self.spec.min_codebooks));
        let mut x = self.semantic.decode(semantic)?;
        if !acoustic.is_empty() {
            x = (x + self.acoustic.decode(acoustic)?)?;
        }
        if let Some(upsample) = &self.upsample {
            x = upsample.run(&x, memory)?;
        }
        let x = self.decoder_transformer.run(&x, past)?;
        planes(&self.decoder.run(&x, memory)?)
    }
}

impl AudioCodec for Mimi {
    fn spec(&self) -> &CodecSpec {
        &self.spec
    }

    fn encode(&self, sound: &[Vec<f32>], codebooks: Option<usize>) -> Result<Vec<CodeChunk>> {
        let codebooks = self.spec.check_sound(sound, codebooks)?;
        let latents = self.encode_latents(sound)?;
        let mut codes = self.semantic.encode(&latents, self.spec.min_codebooks)?;
        codes.extend(self.acoustic.encode(&latents, codebooks - self.spec.min_codebooks)?);
        Ok(vec![CodeChunk { codes, scale: None }])
    }

    fn decode(&self, chunks: &[CodeChunk]) -> Result<Vec<Vec<f32>>> {
        match chunks {
            [one] => self.decode_codes(&one.codes, &mut Memory::none(), &mut Past::default()),
            _ => Err(crate::TokenizerError::length("chunks of codes", chunks.len(), 1)),
        }
    }

    fn latents(&self, sound: &[Vec<f32>]) -> Result<Vec<f32>> {
        self.spec.check_sound(sound, None)?;
        Ok(self.encode_latents(sound)?.flatten_all()?.to_vec1()?)
    }

    fn stream(self: Arc<Self>) -> Option<Box<dyn CodecStream>> {
        self.streams.then(|| Box::new(MimiStream { memory: Memory::stream(), past: Past::default(), mimi: self }) as _)
    }
}

/// One sound on its way out.
struct MimiStream {
    mimi: Arc<Mimi>,
    memory: Memory,
    past: Past,
}

impl CodecStream for MimiStream {
    fn push(&mut self, codes: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        self.memory.rewind();
        self.mimi.decode_codes(codes, &mut self.memory, &mut self.past)
    }
}

fn seanet(root: &Node<'_>) -> Result<SeanetSpec> {
    SeanetSpec {
        audio_channels: 1,
        hidden_size: 512,
        num_filters: 64,
        num_residual_layers: 1,
        upsampling_ratios: vec![8, 6, 5, 4],
        kernel_size: 7,
        last_kernel_size: 3,
        residual_kernel_size: 3,
        dilation_growth_rate: 2,
        compress: 2,
        use_causal_conv: true,
        pad_mode: Pad::Constant,
        trim_right_ratio: 1.0,
        use_conv_shortcut: false,
        group_norm: false,
        num_lstm_layers: 0,
    }
    .read(root)
}

/// Latents of the networks for one latent of the codes: the ratio of their rates, which old files give and new files derive (2).
fn latent_stride(root: &Node<'_>, rate: u32, seanet: &SeanetSpec) -> Result<usize> {
    let inner = (rate as usize).div_ceil(seanet.hop());
    let given = match root.opt("frame_rate")? {
        Some(node) => Some(node),
        None => root.opt("_frame_rate")?,
    };
    let frame_rate = match given {
        Some(node) => node.number(1e-3, 1e6)?,
        None => f64::from(rate) / (2 * seanet.hop()) as f64,
    };
    if frame_rate == inner as f64 {
        return Ok(1);
    }
    let stride = (inner as f64 / frame_rate) as usize;
    if (1..=1024).contains(&stride) {
        Ok(stride)
    } else {
        Err(wrong("frame_rate", format!("is {frame_rate}: must be at most {inner}")))
    }
}

fn downsample(seanet: &SeanetSpec, names: &Names<'_>, stride: usize) -> Result<PaddedConv> {
    let (width, shape) = (seanet.hidden_size, Shape { kernel: 2 * stride, stride, dilation: 1 });
    let conv = Conv::load(&names.at("downsample.conv"), width, width, shape, false)?;
    Ok(PaddedConv { conv, pad: Pad::Replicate, causal: seanet.use_causal_conv, norm: None })
}

fn upsample(root: &Node<'_>, seanet: &SeanetSpec, names: &Names<'_>, stride: usize) -> Result<Transposed> {
    let width = seanet.hidden_size;
    let groups = size(root, "upsample_groups", 512)?;
    if !width.is_multiple_of(groups) {
        return Err(wrong("upsample_groups", format!("is {groups}: must divide hidden_size, {width}")));
    }
    Transposed::load(&names.at("upsample.conv"), [width, width], stride, groups, false, seanet.cut(stride))
}

/// Sizes of both quantisers.
struct QuantizerSpec {
    hidden: usize,
    dim: usize,
    size: usize,
}

impl QuantizerSpec {
    fn read(root: &Node<'_>, seanet: &SeanetSpec, spec: &CodecSpec) -> Result<Self> {
        let dim = size(root, "vector_quantization_hidden_dimension", 256)?;
        let rows = size(root, "codebook_dim", 256)?;
        if rows != dim {
            let problem = format!("is {rows}: must be vector_quantization_hidden_dimension, {dim}");
            return Err(wrong("codebook_dim", problem));
        }
        Ok(Self { hidden: seanet.hidden_size, dim, size: spec.codebook_size })
    }
}

/// Codebooks behind a projection.
#[derive(Debug)]
struct Quantizer {
    /// To the codebooks' width and back; `None` where the widths are equal.
    projections: Option<(Conv, Conv)>,
    books: Residual,
}

impl Quantizer {
    fn load(names: &Names<'_>, spec: &QuantizerSpec, count: usize) -> Result<Self> {
        let one = Shape::kernel(1);
        let projections = || -> Result<_> {
            let input = Conv::load(&names.at("input_proj"), spec.hidden, spec.dim, one, false)?;
            Ok((input, Conv::load(&names.at("output_proj"), spec.dim, spec.hidden, one, false)?))
        };
        let book = |layer: usize| {
            let names = names.at("layers").at(layer).at("codebook");
            names.leftover("initialized", &[1])?;
            let usage = names.numbers("cluster_usage", &[spec.size])?;
            let mut rows = names.numbers("embed_sum", &[spec.size, spec.dim])?;
            for (row, usage) in rows.chunks_exact_mut(spec.dim).zip(usage) {
                row.iter_mut().for_each(|v| *v /= usage.max(MIN_USAGE));
            }
            Ok(rows)
        };
        Ok(Self {
            projections: (spec.dim != spec.hidden).then(projections).transpose()?,
            books: Residual::new(spec.dim, (0..count).map(book).collect::<Result<_>>()?),
        })
    }

    fn encode(&self, latents: &Tensor, count: usize) -> Result<Vec<Vec<u32>>> {
        match &self.projections {
            Some((input, _)) => self.books.encode(&input.run(latents)?, count),
            None => self.books.encode(latents, count),
        }
    }

    fn decode(&self, codes: &[Vec<u32>]) -> Result<Tensor> {
        let sum = self.books.decode(codes)?;
        self.projections.as_ref().map_or(Ok(sum.clone()), |(_, output)| output.run(&sum))
    }
}
