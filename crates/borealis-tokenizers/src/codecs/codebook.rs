//! Residual vector quantisation with the nearest row of each codebook.

use borealis_kernels::candle::{Device, Tensor};

use crate::Result;
use crate::audio::distance;

/// Codebooks that follow one another: each quantises what the one before it left over.
#[derive(Debug)]
pub(super) struct Residual {
    /// Numbers of a row.
    dim: usize,
    /// `[rows * dim]` of each codebook.
    books: Vec<Vec<f32>>,
}

impl Residual {
    /// From codebooks of rows of `dim` numbers.
    pub fn new(dim: usize, books: Vec<Vec<f32>>) -> Self {
        Self { dim, books }
    }

    /// Latents `[1, dim, frames]` -> codes `[codebook][frame]` of the first `count` codebooks.
    pub fn encode(&self, latents: &Tensor, count: usize) -> Result<Vec<Vec<u32>>> {
        let mut rest = latents.squeeze(0)?.t()?.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
        let quantise = |book: &Vec<f32>| {
            let nearest = |vector: &mut [f32]| {
                let (at, row) = nearest(book, vector);
                vector.iter_mut().zip(row).for_each(|(x, y)| *x -= y);
                at
            };
            rest.chunks_exact_mut(self.dim).map(nearest).collect()
        };
        Ok(self.books.iter().take(count).map(quantise).collect())
    }

    /// Codes `[codebook][frame]` -> the sum of their rows, `[1, dim, frames]`. The codes were checked.
    pub fn decode(&self, codes: &[Vec<u32>]) -> Result<Tensor> {
        let frames = codes.first().map_or(0, Vec::len);
        let mut sum = vec![0.0f32; frames * self.dim];
        for (book, codes) in self.books.iter().zip(codes) {
            for (vector, &code) in sum.chunks_exact_mut(self.dim).zip(codes) {
                let row = &book[code as usize * self.dim..][..self.dim];
                vector.iter_mut().zip(row).for_each(|(x, y)| *x += y);
            }
        }
        Ok(Tensor::from_vec(sum, (frames, self.dim), &Device::Cpu)?.t()?.contiguous()?.unsqueeze(0)?)
    }
}

/// The row of least Euclidean distance, the first of equals.
fn nearest<'a>(book: &'a [f32], vector: &[f32]) -> (u32, &'a [f32]) {
    let mut best = (0, &book[..vector.len()]);
    let mut least = f32::INFINITY;
    for (at, row) in book.chunks_exact(vector.len()).enumerate() {
        let d = distance(vector, row);
        if d < least {
            (best, least) = ((at as u32, row), d);
        }
    }
    best
}
