//! Rotary positions of a configuration (`weights.md`, section 1).

use borealis_kernels::{RopeSpec, Rotation};
use borealis_weights::Node;

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
}

/// `rope_type` with its numbers (Hugging Face `modeling_rope_utils.py`).
#[derive(Debug, Clone, Copy, PartialEq)]
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
}

impl Rope {
    pub(crate) fn parse(node: &Node<'_>) -> Result<Self> {
        node.only(&[
            "rope_theta",
            "axes",
            "rotation",
            "rope_type",
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        ])?;
        let positive = |key: &str| node.get(key)?.number(1e-6, 1e12);
        let rope_type =
            node.opt("rope_type")?.map(|n| n.choice(&[("default", 0), ("linear", 1), ("llama3", 2)])).transpose()?;
        let scaling = match rope_type.unwrap_or(0) {
            0 => RopeScaling::Default,
            1 => RopeScaling::Linear { factor: positive("factor")? },
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
        Ok(Self {
            theta: node.get("rope_theta")?.number(1.0, 1e12)?,
            axes,
            rotation: rotation.unwrap_or(Rotation::Half),
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
        let inv_freq = exponent.iter().map(|e| self.scaled(self.theta.powf(-e)) as f32).collect();
        RopeSpec { rotation: self.rotation, inv_freq, axis, scale: 1.0 }
    }

    fn scaled(&self, freq: f64) -> f64 {
        match self.scaling {
            RopeScaling::Default => freq,
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
