//! Rotary positions of a configuration (`weights.md`, section 1).

use borealis_kernels::{RopeSpec, Rotation};
use borealis_weights::{Node, ROPE_SCALING};

use crate::error::Result;

/// `rope_parameters` of `config.json`; keys are Hugging Face's, `axes` and `rotation` are ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// 1: one position per row; 3: (t, y, x).
    pub axes: usize,
    /// Which elements make a pair.
    pub rotation: Rotation,
    /// How long contexts are reached.
    pub scaling: RopeScaling,
    /// Positions of a sequence, where the reference turns all of a longer one by other frequencies, those of its positions included that are cached.
    pub reach: Option<u32>,
}

/// `rope_type` with its numbers (Hugging Face `modeling_rope_utils.py`).
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as they are.
    Default,
    /// All positions divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Long wavelengths divided by `factor`, short ones kept, smooth between.
    Llama3 {
        /// The divisor.
        factor: f64,
        /// Frequencies below this many turns per context are divided.
        low: f64,
        /// Frequencies above this many turns per context are kept.
        high: f64,
        /// The context that the base was made for.
        context: f64,
    },
    /// LongRoPE (Ding et al. 2024, 2402.13753) within the context that the base was made for.
    Long {
        /// The divisor of each pair's frequency.
        factors: Vec<f64>,
        /// Factor on cosines and sines.
        attention_factor: f64,
    },
    /// YaRN (Peng et al. 2023, 2309.00071): long wavelengths divided by `factor`, short ones kept, a ramp over the pairs between; scores are scaled, too.
    Yarn(Yarn),
}

/// Numbers of [`RopeScaling::Yarn`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// The divisor.
    pub factor: f64,
    /// Turns per context from which on a pair is kept.
    pub beta_fast: f64,
    /// Turns per context below which a pair is divided.
    pub beta_slow: f64,
    /// The context that the base was made for.
    pub context: f64,
    /// The ramp begins and ends at whole pairs.
    pub truncate: bool,
    /// Factor on cosines and sines.
    pub attention_factor: f64,
    /// Factor on the scores of compressed attention (DeepSeek's `mscale_all_dim`, squared).
    pub score_factor: f64,
}

impl Yarn {
    fn parse(node: &Node<'_>) -> Result<Self> {
        let number = |key: &str| node.opt(key)?.map(|n| n.number(0.0, 1e12)).transpose();
        let factor = node.get("factor")?.number(1e-6, 1e12)?;
        let scale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
        let given = |v: Option<f64>| v.filter(|m| *m != 0.0);
        let (mscale, all) = (given(number("mscale")?), given(number("mscale_all_dim")?));
        let attention = match (number("attention_factor")?, mscale, all) {
            (Some(factor), _, _) => factor,
            (None, Some(m), Some(all)) => scale(m) / scale(all),
            (None, _, _) => scale(1.0),
        };
        Ok(Self {
            factor,
            beta_fast: given(number("beta_fast")?).unwrap_or(32.0),
            beta_slow: given(number("beta_slow")?).unwrap_or(1.0),
            context: node.get("original_max_position_embeddings")?.number(1.0, 1e12)?,
            truncate: node.opt("truncate")?.map_or(Ok(true), |n| n.boolean())?,
            attention_factor: attention,
            score_factor: all.map_or(1.0, |m| scale(m).powi(2)),
        })
    }

    /// How much of each of `pairs` frequencies is kept: 1 = as it is, 0 = divided.
    fn kept(&self, theta: f64, pairs: usize) -> Vec<f64> {
        let dim = 2.0 * pairs as f64;
        let pair_of = |turns: f64| dim * (self.context / (turns * std::f64::consts::TAU)).ln() / (2.0 * theta.ln());
        let (mut low, mut high) = (pair_of(self.beta_fast), pair_of(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        (0..pairs).map(|i| 1.0 - ((i as f64 - low) / (high - low)).clamp(0.0, 1.0)).collect()
    }
}

const CONTEXT: &str = "original_max_position_embeddings";

/// The short factors: those of sequences within the context.
fn long(node: &Node<'_>) -> Result<RopeScaling> {
    let context = node.get(CONTEXT)?.number(2.0, 1e9)?;
    let factor = node.get("factor")?.number(1e-6, 1e12)?;
    let mut factors = Vec::new();
    for n in node.get("short_factor")?.list(1 << 11)? {
        factors.push(n.number(1e-6, 1e12)?);
    }
    let attention_factor = match node.opt("attention_factor")? {
        Some(n) => n.number(0.0, 1e12)?,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + factor.ln() / context.ln()).sqrt(),
    };
    Ok(RopeScaling::Long { factors, attention_factor })
}

impl Rope {
    pub(crate) fn parse(node: &Node<'_>) -> Result<Self> {
        node.only(&[&["rope_theta", "axes", "rotation", "rope_type"], &ROPE_SCALING[..]].concat())?;
        let positive = |key: &str| node.get(key)?.number(1e-6, 1e12);
        let types = [("default", 0), ("dynamic", 0), ("linear", 1), ("llama3", 2), ("yarn", 3), ("longrope", 4)];
        let rope_type = node.opt("rope_type")?.map(|n| n.choice(&types)).transpose()?;
        let scaling = match rope_type.unwrap_or(0) {
            0 => RopeScaling::Default,
            1 => RopeScaling::Linear { factor: positive("factor")? },
            3 => RopeScaling::Yarn(Yarn::parse(node)?),
            4 => long(node)?,
            _ => {
                let (low, high) = (positive("low_freq_factor")?, positive("high_freq_factor")?);
                if high <= low {
                    return Err(node.get("high_freq_factor")?.fail("must be above low_freq_factor").into());
                }
                RopeScaling::Llama3 {
                    factor: positive("factor")?,
                    low,
                    high,
                    context: positive("original_max_position_embeddings")?,
                }
            }
        };
        let rotation = node
            .opt("rotation")?
            .map(|n| n.choice(&[("half", Rotation::Half), ("interleaved", Rotation::Interleaved)]))
            .transpose()?;
        let axes = match node.opt("axes")? {
            Some(n) => match n.size(1, 3)? {
                2 => return Err(n.fail("must be 1 or 3").into()),
                axes => axes,
            },
            None => 1,
        };
        if axes != 1 && matches!(scaling, RopeScaling::Yarn(_) | RopeScaling::Long { .. }) {
            return Err(node.get("rope_type")?.fail("is for positions of one axis").into());
        }
        Ok(Self {
            theta: node.get("rope_theta")?.number(1.0, 1e12)?,
            axes,
            rotation: rotation.unwrap_or(Rotation::Half),
            reach: match node.opt("max_position_embeddings")? {
                Some(n) => Some(n.number(1.0, 1e9)? as u32),
                None if matches!(scaling, RopeScaling::Long { .. }) => Some(positive(CONTEXT)? as u32),
                None => None,
            },
            scaling,
        })
    }

    /// Frequencies and axes for heads of `head_dim` elements.
    pub fn spec(&self, head_dim: usize) -> RopeSpec {
        let pairs = head_dim / 2;
        let (axis, exponent): (Vec<u8>, Vec<f64>) = match self.axes {
            3 => (0..pairs).map(|i| ((i % 3) as u8, (i / 3) as f64 / pairs.div_ceil(3) as f64)).unzip(),
            _ => (0..pairs).map(|i| (0, i as f64 / pairs as f64)).unzip(),
        };
        let mut inv_freq: Vec<f64> = exponent.iter().map(|e| self.scaled(self.theta.powf(-e))).collect();
        let mut scale = 1.0;
        if let RopeScaling::Yarn(yarn) = &self.scaling {
            scale = yarn.attention_factor as f32;
            for (freq, kept) in inv_freq.iter_mut().zip(yarn.kept(self.theta, pairs)) {
                *freq *= kept + (1.0 - kept) / yarn.factor;
            }
        }
        if let RopeScaling::Long { factors, attention_factor } = &self.scaling {
            scale = *attention_factor as f32;
            inv_freq.iter_mut().zip(factors).for_each(|(freq, factor)| *freq /= factor);
        }
        let inv_freq = inv_freq.into_iter().map(|f| f as f32).collect();
        RopeSpec { rotation: self.rotation, inv_freq, axis, scale }
    }

    /// Factor on the scores of compressed attention.
    pub(crate) fn score_factor(&self) -> f64 {
        match &self.scaling {
            RopeScaling::Yarn(yarn) => yarn.score_factor,
            _ => 1.0,
        }
    }

    fn scaled(&self, freq: f64) -> f64 {
        match self.scaling {
            RopeScaling::Default | RopeScaling::Long { .. } | RopeScaling::Yarn(_) => freq,
            RopeScaling::Linear { factor } => freq / factor,
            RopeScaling::Llama3 { factor, low, high, context } => {
                let turns = context * freq / std::f64::consts::TAU;
                // 1 where the wavelength is short (kept), 0 where it is long (divided).
                let keep = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                freq * (keep + (1.0 - keep) / factor)
            }
        }
    }
}
