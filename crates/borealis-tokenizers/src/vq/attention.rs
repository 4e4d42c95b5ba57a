//! Attention over the places of a frame.

use borealis_kernels::candle::{D, Device, Tensor};
use borealis_kernels::candle_nn::ops::softmax_last_dim;

use crate::Result;
use crate::vq::conv::{Conv, Shape};
use crate::vq::map::FeatureMap;
use crate::vq::names::Names;
use crate::vq::norm::Norm;
use crate::vq::source::Source;

/// Queries that are scored at once: a frame of 90 x 90 places needs 16 MiB of scores, not 260.
const QUERIES: usize = 512;

/// `x + out(attention(norm(x)))`: every place sees every place of its frame.
#[derive(Debug)]
pub(crate) struct Attention {
    norm: Norm,
    query: Conv,
    key: Conv,
    value: Conv,
    out: Conv,
    heads: usize,
}

impl Attention {
    /// The block `name` with its norm `norm`.
    pub fn load(
        s: &Source<'_>,
        names: &Names,
        (name, norm): (&str, &str),
        (channels, heads): (usize, usize),
        latents: Option<usize>,
    ) -> Result<Self> {
        let part = |part: &str| {
            let name = format!("{name}.{part}");
            if names.linear_attention {
                Conv::linear(s, &name, channels, channels, true)
            } else {
                Conv::load(s, &name, channels, channels, Shape::same(1))
            }
        };
        let [query, key, value, out] = names.attention;
        Ok(Self {
            norm: Norm::load(s, norm, channels, latents)?,
            query: part(query)?,
            key: part(key)?,
            value: part(value)?,
            out: part(out)?,
            heads,
        })
    }

    pub fn apply(&self, mut x: FeatureMap, latents: Option<&FeatureMap>) -> Result<FeatureMap> {
        let normed = self.norm.apply(&x, latents, false)?;
        let (q, k, v) = (self.query.apply(&normed)?, self.key.apply(&normed)?, self.value.apply(&normed)?);
        let mut seen = FeatureMap::zeros(x.frames, x.size(), x.channels);
        let places = x.height * x.width;
        for frame in 0..x.frames {
            let maps = [q.frame(frame), k.frame(frame), v.frame(frame)];
            let out = attend(maps, (places, x.channels), self.heads)?;
            seen.data[frame * places * x.channels..][..places * x.channels].copy_from_slice(&out);
        }
        x.add(&self.out.apply(&seen)?);
        Ok(x)
    }
}

/// Attention without a mask over `[places, channels]` queries, keys and values; the result has the same shape.
pub(crate) fn attend(maps: [&[f32]; 3], (places, channels): (usize, usize), heads: usize) -> Result<Vec<f32>> {
    let width = channels / heads;
    let tensor = |data: &[f32]| Tensor::from_slice(data, (places, channels), &Device::Cpu);
    let [q, k, v] = [tensor(maps[0])?, tensor(maps[1])?, tensor(maps[2])?];
    let q = (q * (width as f64).powf(-0.5))?;
    let mut parts = Vec::with_capacity(heads);
    for head in 0..heads {
        let of = |x: &Tensor| x.narrow(1, head * width, width)?.contiguous();
        let (q, k, v) = (of(&q)?, of(&k)?.t()?, of(&v)?);
        let mut rows = Vec::with_capacity(places.div_ceil(QUERIES));
        for first in (0..places).step_by(QUERIES) {
            let scores = q.narrow(0, first, QUERIES.min(places - first))?.matmul(&k)?;
            rows.push(softmax_last_dim(&scores)?.matmul(&v)?);
        }
        parts.push(Tensor::cat(&rows, 0)?);
    }
    Ok(Tensor::cat(&parts, D::Minus1)?.flatten_all()?.to_vec1()?)
}
