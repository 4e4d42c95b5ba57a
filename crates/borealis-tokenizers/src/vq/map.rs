//! Feature maps: what flows between the layers of a picture tokenizer.

use rayon::prelude::*;

/// Numbers `[frames, height, width, channels]`, channels innermost: a convolution gathers runs of channels, a 1x1 convolution is a plain
/// matrix product, and frames of a clip are simply longer data.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMap {
    /// Frames of a clip; 1 for a picture.
    pub frames: usize,
    /// Places, top to bottom.
    pub height: usize,
    /// Places, left to right.
    pub width: usize,
    /// Numbers of a place.
    pub channels: usize,
    /// `frames * height * width * channels` numbers.
    pub data: Vec<f32>,
}

/// Numbers that one task of an elementwise operation handles.
const PIECE: usize = 1 << 16;

impl FeatureMap {
    /// A map of zeros.
    pub fn zeros(frames: usize, (height, width): (usize, usize), channels: usize) -> Self {
        Self { frames, height, width, channels, data: vec![0.0; frames * height * width * channels] }
    }

    /// From numbers in the order `[frames, channels, height, width]`, as picture tensors are usually written.
    pub fn from_planes(frames: usize, (height, width): (usize, usize), channels: usize, planes: &[f32]) -> Self {
        let mut map = Self::zeros(frames, (height, width), channels);
        let places = height * width;
        if places * channels > 0 {
            for (to, from) in map.data.chunks_exact_mut(places * channels).zip(planes.chunks_exact(places * channels)) {
                for (c, plane) in from.chunks_exact(places).enumerate() {
                    to.iter_mut().skip(c).step_by(channels).zip(plane).for_each(|(t, f)| *t = *f);
                }
            }
        }
        map
    }

    /// The numbers in the order `[frames, channels, height, width]`.
    pub fn to_planes(&self) -> Vec<f32> {
        let each = self.height * self.width * self.channels;
        let mut out = Vec::with_capacity(self.data.len());
        for frame in self.data.chunks_exact(each.max(1)) {
            for c in 0..self.channels {
                out.extend(frame.iter().skip(c).step_by(self.channels));
            }
        }
        out
    }

    /// Places of all frames.
    pub fn places(&self) -> usize {
        self.frames * self.height * self.width
    }

    /// Places of one frame: (height, width).
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// The numbers of frame `index`.
    pub fn frame(&self, index: usize) -> &[f32] {
        let each = self.height * self.width * self.channels;
        &self.data[index * each..(index + 1) * each]
    }

    /// The first `frames` frames only.
    pub(crate) fn keep(mut self, frames: usize) -> Self {
        self.frames = self.frames.min(frames);
        self.data.truncate(self.places() * self.channels);
        self
    }

    /// All frames, `times` times over.
    pub(crate) fn repeated(&self, times: usize) -> Self {
        Self { frames: self.frames * times, data: self.data.repeat(times), ..*self }
    }

    /// Adds a map of the same shape.
    pub(crate) fn add(&mut self, other: &Self) {
        debug_assert_eq!(self.data.len(), other.data.len(), "maps of one shape are added");
        self.data.par_chunks_mut(PIECE).zip(other.data.par_chunks(PIECE)).for_each(|(a, b)| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        });
    }

    /// `x * sigmoid(x)`, in place.
    pub(crate) fn silu(&mut self) {
        self.data.par_chunks_mut(PIECE).for_each(|piece| piece.iter_mut().for_each(|x| *x = silu(*x)));
    }
}

pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_and_back() {
        let planes: Vec<f32> = (0..2 * 3 * 4 * 5).map(|i| i as f32).collect();
        let map = FeatureMap::from_planes(2, (4, 5), 3, &planes);
        // Frame 1, row 2, column 3: channels 0, 1, 2.
        let at = ((4 + 2) * 5 + 3) * 3;
        assert_eq!(&map.data[at..at + 3], &[73.0, 93.0, 113.0]);
        assert_eq!(map.to_planes(), planes);
    }
}
