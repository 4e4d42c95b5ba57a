//! The convolutional encoder and decoder that EnCodec and Mimi share (SEANet, Tagliasacchi et al. 2020).

use borealis_kernels::candle::Tensor;
use borealis_weights::Node;

use super::config::{count, flag, ratios, size, wrong};
use super::conv::{Conv, Memory, Norm, Pad, PaddedConv, Shape};
use super::lstm::Lstm;
use super::names::Names;
use super::transposed::Transposed;
use crate::Result;

/// Shape of both networks; the fields are those of `config.json`.
#[derive(Debug, Clone)]
pub(super) struct SeanetSpec {
    pub audio_channels: usize,
    pub hidden_size: usize,
    pub num_filters: usize,
    pub num_residual_layers: usize,
    pub upsampling_ratios: Vec<usize>,
    pub kernel_size: usize,
    pub last_kernel_size: usize,
    pub residual_kernel_size: usize,
    pub dilation_growth_rate: usize,
    pub compress: usize,
    pub use_causal_conv: bool,
    pub pad_mode: Pad,
    pub trim_right_ratio: f64,
    pub use_conv_shortcut: bool,
    /// Group norm behind every convolution (`norm_type: time_group_norm`).
    pub group_norm: bool,
    /// Layers of the LSTM next to the latents; 0 = there is none.
    pub num_lstm_layers: usize,
}

impl SeanetSpec {
    /// Reads the fields; those that are absent keep the values of `self`. `norm_type` and the LSTM are EnCodec's.
    pub fn read(mut self, root: &Node<'_>) -> Result<Self> {
        self.audio_channels = size(root, "audio_channels", self.audio_channels)?;
        if self.audio_channels > 2 {
            return Err(wrong("audio_channels", format!("is {}: must be 1 or 2", self.audio_channels)));
        }
        self.hidden_size = size(root, "hidden_size", self.hidden_size)?;
        self.num_filters = size(root, "num_filters", self.num_filters)?;
        self.num_residual_layers = count(root, "num_residual_layers", self.num_residual_layers)?;
        self.upsampling_ratios = ratios(root, "upsampling_ratios", &self.upsampling_ratios)?;
        self.kernel_size = size(root, "kernel_size", self.kernel_size)?;
        self.last_kernel_size = size(root, "last_kernel_size", self.last_kernel_size)?;
        self.residual_kernel_size = size(root, "residual_kernel_size", self.residual_kernel_size)?;
        self.dilation_growth_rate = size(root, "dilation_growth_rate", self.dilation_growth_rate)?;
        self.compress = size(root, "compress", self.compress)?;
        self.use_causal_conv = flag(root, "use_causal_conv", self.use_causal_conv)?;
        self.use_conv_shortcut = flag(root, "use_conv_shortcut", self.use_conv_shortcut)?;
        if let Some(node) = root.opt("pad_mode")? {
            let modes = [("constant", Pad::Constant), ("reflect", Pad::Reflect), ("replicate", Pad::Replicate)];
            self.pad_mode = node.choice(&modes)?;
        }
        if let Some(node) = root.opt("trim_right_ratio")? {
            self.trim_right_ratio = node.number(0.0, 1.0)?;
        }
        if !self.use_causal_conv && self.trim_right_ratio != 1.0 {
            return Err(wrong("trim_right_ratio", "must be 1 when use_causal_conv is false"));
        }
        if self.num_filters < self.compress {
            return Err(wrong("compress", format!("is {}: must not be above num_filters", self.compress)));
        }
        let widest = self.num_filters << self.upsampling_ratios.len();
        if widest > 1 << 16
            || self.dilation_growth_rate.checked_pow(self.num_residual_layers as u32).is_none_or(|d| d > 1 << 20)
        {
            return Err(wrong(
                "num_filters",
                format!("is {}: {widest} channels or the dilation are too many", self.num_filters),
            ));
        }
        Ok(self)
    }

    /// Samples of one latent.
    pub fn hop(&self) -> usize {
        self.upsampling_ratios.iter().product()
    }

    /// Whether no layer of the decoder needs to see what follows.
    pub fn decodes_in_pieces(&self) -> bool {
        self.use_causal_conv
            && self.trim_right_ratio == 1.0
            && self.pad_mode != Pad::Reflect
            && !self.group_norm
            && self.num_lstm_layers == 0
    }

    /// A convolution `conv` (and its norm) under `names`.
    pub fn conv(&self, names: &Names<'_>, from: usize, to: usize, shape: Shape) -> Result<PaddedConv> {
        let conv = Conv::load(&names.at("conv"), from, to, shape, true)?;
        Ok(PaddedConv { conv, pad: self.pad_mode, causal: self.use_causal_conv, norm: self.norm(names, to)? })
    }

    /// What a transposed convolution of one stride of overlap loses at the start and at the end.
    pub fn cut(&self, stride: usize) -> (usize, usize) {
        let right =
            if self.use_causal_conv { (stride as f64 * self.trim_right_ratio).ceil() as usize } else { stride / 2 };
        (stride - right, right)
    }

    fn transposed(&self, names: &Names<'_>, from: usize, to: usize, stride: usize) -> Result<Transposed> {
        let mut layer = Transposed::load(&names.at("conv"), [from, to], stride, 1, true, self.cut(stride))?;
        layer.norm = self.norm(names, to)?;
        Ok(layer)
    }

    fn norm(&self, names: &Names<'_>, channels: usize) -> Result<Option<Norm>> {
        self.group_norm.then(|| Norm::load(&names.at("norm"), channels)).transpose()
    }

    fn block(&self, names: &Names<'_>, width: usize, layer: usize) -> Result<Layer> {
        let narrow = width / self.compress;
        let dilation = self.dilation_growth_rate.pow(layer as u32);
        let wide = Shape { kernel: self.residual_kernel_size, stride: 1, dilation };
        let first = self.conv(&names.at("block.1"), width, narrow, wide)?;
        let second = self.conv(&names.at("block.3"), narrow, width, Shape::kernel(1))?;
        let shortcut = || self.conv(&names.at("shortcut"), width, width, Shape::kernel(1));
        let shortcut = self.use_conv_shortcut.then(shortcut).transpose()?;
        Ok(Layer::Block { first, second, shortcut })
    }
}

#[derive(Debug)]
enum Layer {
    Conv(PaddedConv),
    Up(Transposed),
    Block { first: PaddedConv, second: PaddedConv, shortcut: Option<PaddedConv> },
    Lstm(Lstm),
    Elu,
}

impl Layer {
    fn run(&self, x: &Tensor, memory: &mut Memory) -> Result<Tensor> {
        match self {
            Self::Conv(conv) => conv.run(x, memory),
            Self::Up(conv) => conv.run(x, memory),
            Self::Lstm(lstm) => lstm.run(x),
            Self::Elu => Ok(x.elu(1.0)?),
            Self::Block { first, second, shortcut } => {
                let y = first.run(&x.elu(1.0)?, memory)?;
                let y = second.run(&y.elu(1.0)?, memory)?;
                let x = shortcut.as_ref().map(|conv| conv.run(x, memory)).transpose()?.unwrap_or_else(|| x.clone());
                Ok((x + y)?)
            }
        }
    }
}

/// One of the two networks: its layers, numbered as in the file.
#[derive(Debug)]
pub(super) struct Seanet(Vec<Layer>);

impl Seanet {
    /// Samples -> latents; `layers` under `names`.
    pub fn encoder(spec: &SeanetSpec, names: &Names<'_>) -> Result<Self> {
        let names = names.at("layers");
        let mut layers = Vec::new();
        let mut width = spec.num_filters;
        layers.push(Layer::Conv(spec.conv(
            &names.at(0),
            spec.audio_channels,
            width,
            Shape::kernel(spec.kernel_size),
        )?));
        for &stride in spec.upsampling_ratios.iter().rev() {
            for residual in 0..spec.num_residual_layers {
                layers.push(spec.block(&names.at(layers.len()), width, residual)?);
            }
            layers.push(Layer::Elu);
            let shape = Shape { kernel: 2 * stride, stride, dilation: 1 };
            layers.push(Layer::Conv(spec.conv(&names.at(layers.len()), width, 2 * width, shape)?));
            width *= 2;
        }
        if spec.num_lstm_layers > 0 {
            layers.push(Layer::Lstm(Lstm::load(&names.at(layers.len()).at("lstm"), width, spec.num_lstm_layers)?));
        }
        layers.push(Layer::Elu);
        let last = Shape::kernel(spec.last_kernel_size);
        layers.push(Layer::Conv(spec.conv(&names.at(layers.len()), width, spec.hidden_size, last)?));
        Ok(Self(layers))
    }

    /// Latents -> samples; `layers` under `names`.
    pub fn decoder(spec: &SeanetSpec, names: &Names<'_>) -> Result<Self> {
        let names = names.at("layers");
        let mut layers = Vec::new();
        let mut width = spec.num_filters << spec.upsampling_ratios.len();
        layers.push(Layer::Conv(spec.conv(&names.at(0), spec.hidden_size, width, Shape::kernel(spec.kernel_size))?));
        if spec.num_lstm_layers > 0 {
            layers.push(Layer::Lstm(Lstm::load(&names.at(layers.len()).at("lstm"), width, spec.num_lstm_layers)?));
        }
        for &stride in &spec.upsampling_ratios {
            layers.push(Layer::Elu);
            layers.push(Layer::Up(spec.transposed(&names.at(layers.len()), width, width / 2, stride)?));
            width /= 2;
            for residual in 0..spec.num_residual_layers {
                layers.push(spec.block(&names.at(layers.len()), width, residual)?);
            }
        }
        layers.push(Layer::Elu);
        let last = Shape::kernel(spec.last_kernel_size);
        layers.push(Layer::Conv(spec.conv(&names.at(layers.len()), width, spec.audio_channels, last)?));
        Ok(Self(layers))
    }

    /// `[1, in, n]` -> `[1, out, m]`.
    pub fn run(&self, x: &Tensor, memory: &mut Memory) -> Result<Tensor> {
        let mut x = x.clone();
        for layer in &self.0 {
            x = layer.run(&x, memory)?;
        }
        Ok(x)
    }
}
