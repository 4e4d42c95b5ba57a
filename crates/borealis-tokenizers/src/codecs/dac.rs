//! DAC, the Descript audio codec (Kumar et al. 2023), in the layout of Hugging Face: convolutions with snake activations, and codebooks that are searched by angle in
//! a few projected dimensions.

use borealis_kernels::candle::{DType, Device, Tensor};
use borealis_weights::{Node, TensorSet};

use super::config::{codebook_size, ratios, sample_rate, size, wrong};
use super::conv::{Conv, Memory, Pad, Shape, pad};
use super::names::Names;
use super::transposed::Transposed;
use super::{AudioCodec, CodeChunk, CodecSpec, planes, tensor};
use crate::Result;

/// Dilations of the residual units of a block.
const DILATIONS: [usize; 3] = [1, 3, 9];

/// The codec. Mono.
#[derive(Debug)]
pub struct Dac {
    spec: CodecSpec,
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
    quantizers: Vec<Quantizer>,
}

impl Dac {
    /// From `config.json` and the tensors beside it.
    ///
    /// # Errors
    /// For a wrong field, a missing or misshapen tensor.
    pub fn load(root: &Node<'_>, tensors: &TensorSet) -> Result<Self> {
        let down = ratios(root, "downsampling_ratios", &[2, 4, 8, 8])?;
        let reversed: Vec<usize> = down.iter().rev().copied().collect();
        let up = ratios(root, "upsampling_ratios", &reversed)?;
        let narrow = size(root, "encoder_hidden_size", 64)?;
        let wide = size(root, "decoder_hidden_size", 1536)?;
        let hidden = size(root, "hidden_size", (narrow << down.len()).min(1 << 16))?;
        if wide >> up.len() == 0 {
            return Err(wrong("decoder_hidden_size", format!("is {wide}: cannot be halved {} times", up.len())));
        }
        if narrow << down.len() > 1 << 16 {
            return Err(wrong("encoder_hidden_size", format!("is {narrow}: cannot be doubled {} times", down.len())));
        }
        let dim = size(root, "codebook_dim", 8)?;
        let spec = CodecSpec {
            family: "dac",
            sample_rate: sample_rate(root, 16_000)?,
            channels: 1,
            hop: down.iter().product(),
            codebooks: size(root, "n_codebooks", 9)?,
            min_codebooks: 1,
            codebook_size: codebook_size(root, 1024)?,
            bandwidths: Vec::new(),
        };
        let names = Names::new(tensors).double();
        let quantizer = |i| Quantizer::load(&names.at("quantizer.quantizers").at(i), hidden, dim, spec.codebook_size);
        Ok(Self {
            encoder: encoder(&names.at("encoder"), narrow, &down, hidden)?,
            decoder: decoder(&names.at("decoder"), wide, &up, hidden)?,
            quantizers: (0..spec.codebooks).map(quantizer).collect::<Result<_>>()?,
            spec,
        })
    }
}

impl AudioCodec for Dac {
    fn spec(&self) -> &CodecSpec {
        &self.spec
    }

    fn encode(&self, sound: &[Vec<f32>], codebooks: Option<usize>) -> Result<Vec<CodeChunk>> {
        let codebooks = self.spec.check_sound(sound, codebooks)?;
        let mut rest = run(&self.encoder, double(&sound[0])?)?;
        let mut codes = Vec::with_capacity(codebooks);
        for quantizer in &self.quantizers[..codebooks] {
            let book = quantizer.encode(&rest)?;
            rest = (rest - quantizer.decode(&book)?)?;
            codes.push(book);
        }
        Ok(vec![CodeChunk { codes, scale: None }])
    }

    fn decode(&self, chunks: &[CodeChunk]) -> Result<Vec<Vec<f32>>> {
        let [chunk] = chunks else {
            return Err(crate::TokenizerError::length("chunks of codes", chunks.len(), 1));
        };
        self.spec.check_codes(&chunk.codes)?;
        let mut sum: Option<Tensor> = None;
        for (quantizer, book) in self.quantizers.iter().zip(&chunk.codes) {
            let latents = quantizer.decode(book)?;
            sum = Some(match sum {
                Some(sum) => (sum + latents)?,
                None => latents,
            });
        }
        let Some(sum) = sum else { return Ok(vec![Vec::new()]) };
        planes(&run(&self.decoder, sum)?.tanh()?)
    }

    fn latents(&self, sound: &[Vec<f32>]) -> Result<Vec<f32>> {
        self.spec.check_sound(sound, None)?;
        Ok(run(&self.encoder, double(&sound[0])?)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}

/// A sound of one channel in double precision: what this codec computes in. Snakes amplify rounding from layer to layer, so that single precision
/// (of the reference, too) is up to 1e-3 away from the exact samples.
fn double(sound: &[f32]) -> Result<Tensor> {
    Ok(tensor(&[sound])?.to_dtype(DType::F64)?)
}

#[derive(Debug)]
enum Layer {
    /// Convolution between so many zeros at either end.
    Conv(Conv, usize),
    Up(Transposed),
    Snake(Snake),
    /// Snake, wide convolution, snake, convolution of one sample; added to the input.
    Unit(Box<[Layer; 4]>),
}

impl Layer {
    fn run(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Conv(conv, zeros) => {
                let padded = pad(x, *zeros, *zeros, Pad::Constant)?;
                if padded.dim(2)? < conv.span {
                    return Err(crate::TokenizerError::length("samples of a channel", x.dim(2)?, conv.span));
                }
                conv.run(&padded)
            }
            Self::Up(conv) => conv.run(x, &mut Memory::none()),
            Self::Snake(snake) => snake.run(x),
            Self::Unit(layers) => {
                let mut y = x.clone();
                for layer in layers.iter() {
                    y = layer.run(&y)?;
                }
                Ok((x + y)?)
            }
        }
    }
}

fn run(layers: &[Layer], mut x: Tensor) -> Result<Tensor> {
    for layer in layers {
        x = layer.run(&x)?;
    }
    Ok(x)
}

/// A convolution that keeps the length: an odd kernel in the middle.
fn conv(names: &Names<'_>, from: usize, to: usize, kernel: usize, dilation: usize) -> Result<Layer> {
    let conv = Conv::load(names, from, to, Shape { kernel, stride: 1, dilation }, true)?;
    Ok(Layer::Conv(conv, (kernel - 1) * dilation / 2))
}

fn unit(names: &Names<'_>, width: usize, dilation: usize) -> Result<Layer> {
    Ok(Layer::Unit(Box::new([
        Snake::load(&names.at("snake1"), width)?,
        conv(&names.at("conv1"), width, width, 7, dilation)?,
        Snake::load(&names.at("snake2"), width)?,
        conv(&names.at("conv2"), width, width, 1, 1)?,
    ])))
}

fn units(names: &Names<'_>, width: usize) -> Result<Vec<Layer>> {
    DILATIONS.iter().zip(1..).map(|(&d, i)| unit(&names.at(format!("res_unit{i}")), width, d)).collect()
}

fn encoder(names: &Names<'_>, narrow: usize, strides: &[usize], hidden: usize) -> Result<Vec<Layer>> {
    let mut layers = vec![conv(&names.at("conv1"), 1, narrow, 7, 1)?];
    let mut width = narrow;
    for (i, &stride) in strides.iter().enumerate() {
        let names = names.at("block").at(i);
        layers.extend(units(&names, width)?);
        layers.push(Snake::load(&names.at("snake1"), width)?);
        let shape = Shape { kernel: 2 * stride, stride, dilation: 1 };
        layers.push(Layer::Conv(Conv::load(&names.at("conv1"), width, 2 * width, shape, true)?, stride.div_ceil(2)));
        width *= 2;
    }
    layers.push(Snake::load(&names.at("snake1"), width)?);
    layers.push(conv(&names.at("conv2"), width, hidden, 3, 1)?);
    Ok(layers)
}

fn decoder(names: &Names<'_>, wide: usize, strides: &[usize], hidden: usize) -> Result<Vec<Layer>> {
    let mut layers = vec![conv(&names.at("conv1"), hidden, wide, 7, 1)?];
    let mut width = wide;
    for (i, &stride) in strides.iter().enumerate() {
        let names = names.at("block").at(i);
        // Halved from the top each time: an odd width does not halve evenly.
        let next = wide >> (i + 1);
        layers.push(Snake::load(&names.at("snake1"), width)?);
        let cut = (stride.div_ceil(2), stride.div_ceil(2));
        layers.push(Layer::Up(Transposed::load(&names.at("conv_t1"), [width, next], stride, 1, true, cut)?));
        layers.extend(units(&names, next)?);
        width = next;
    }
    layers.push(Snake::load(&names.at("snake1"), width)?);
    layers.push(conv(&names.at("conv2"), width, 1, 7, 1)?);
    Ok(layers)
}

/// `x + sin(alpha x)^2 / alpha`, with an alpha for each channel (Ziyin et al. 2020).
#[derive(Debug)]
struct Snake(Vec<f32>);

impl Snake {
    fn load(names: &Names<'_>, width: usize) -> Result<Layer> {
        Ok(Layer::Snake(Self(names.numbers("alpha", &[1, width, 1])?)))
    }

    fn run(&self, x: &Tensor) -> Result<Tensor> {
        let mut values = x.flatten_all()?.to_vec1::<f64>()?;
        for (channel, alpha) in values.chunks_exact_mut(x.dim(2)?).zip(&self.0) {
            let alpha = f64::from(*alpha);
            let factor = 1.0 / (alpha + 1e-9);
            channel.iter_mut().for_each(|v| *v += factor * (alpha * *v).sin().powi(2));
        }
        Ok(Tensor::from_vec(values, x.dims(), &Device::Cpu)?)
    }
}

/// One codebook behind projections.
#[derive(Debug)]
struct Quantizer {
    input: Conv,
    output: Conv,
    dim: usize,
    /// Rows as they are, and of length 1.
    rows: Vec<f32>,
    directions: Vec<f32>,
}

impl Quantizer {
    fn load(names: &Names<'_>, hidden: usize, dim: usize, size: usize) -> Result<Self> {
        let rows = names.at("codebook").numbers("weight", &[size, dim])?;
        let mut directions = rows.clone();
        directions.chunks_exact_mut(dim).for_each(normalise);
        Ok(Self {
            input: Conv::load(&names.at("in_proj"), hidden, dim, Shape::kernel(1), true)?,
            output: Conv::load(&names.at("out_proj"), dim, hidden, Shape::kernel(1), true)?,
            dim,
            rows,
            directions,
        })
    }

    /// Latents `[1, hidden, frames]` -> a code for each frame.
    fn encode(&self, latents: &Tensor) -> Result<Vec<u32>> {
        let projected =
            self.input.run(latents)?.to_dtype(DType::F32)?.squeeze(0)?.t()?.flatten_all()?.to_vec1::<f32>()?;
        Ok(projected.chunks_exact(self.dim).map(|vector| self.nearest(vector)).collect())
    }

    /// Codes -> latents `[1, hidden, frames]`.
    fn decode(&self, codes: &[u32]) -> Result<Tensor> {
        let rows = codes.iter().flat_map(|&c| &self.rows[c as usize * self.dim..][..self.dim]).copied().collect();
        let rows = Tensor::from_vec(rows, (codes.len(), self.dim), &Device::Cpu)?.to_dtype(DType::F64)?;
        self.output.run(&rows.t()?.contiguous()?.unsqueeze(0)?)
    }

    /// The first row of the highest score. The score adds the row's squared length where a distance would subtract it; that is how the codec was trained and
    /// published, and matters for rows of zeros only.
    fn nearest(&self, vector: &[f32]) -> u32 {
        let mut vector = vector.to_vec();
        normalise(&mut vector);
        let (mut best, mut highest) = (0, f64::NEG_INFINITY);
        for (code, row) in self.directions.chunks_exact(self.dim).enumerate() {
            let (mut dot, mut square) = (0.0, 0.0);
            for (a, b) in vector.iter().zip(row) {
                dot += f64::from(*a) * f64::from(*b);
                square += f64::from(*b) * f64::from(*b);
            }
            let score = 2.0 * dot + square;
            if score > highest {
                (best, highest) = (code as u32, score);
            }
        }
        best
    }
}

/// To length 1; zeros stay zeros.
fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
}
