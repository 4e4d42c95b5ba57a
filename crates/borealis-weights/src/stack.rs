//! The matrices of a stack, read one at a time, for as long as the caller wants them.

use std::borrow::Cow;
use std::sync::Arc;

use borealis_kernels::HostType;

use crate::Tensor;
use crate::blocks::{self, Blocks};
use crate::storage::Bytes;
use crate::tensors::Part;

/// A tensor `[E, out, in]` as E matrices. It shares the mapped files with the checkpoint that it came from and may outlive it.
#[derive(Debug)]
pub struct Stack {
    dtype: HostType,
    /// Of one matrix, as a stack of one: `[1, out, in]`.
    shape: [usize; 3],
    count: usize,
    /// One part that holds all matrices, or the same number of parts for each.
    parts: Vec<Part>,
    /// Of all matrices, and the elements per scale.
    scales: Option<(Part, usize)>,
    shards: Arc<Vec<Bytes>>,
    blocks: Arc<Blocks>,
}

impl Stack {
    /// Of a tensor of shape `[count, out, in]`, which was checked.
    pub(crate) fn new(
        (dtype, [count, out, inputs]): (HostType, [usize; 3]),
        parts: Vec<Part>,
        scales: Option<(Part, usize)>,
        shards: Arc<Vec<Bytes>>,
        blocks: Arc<Blocks>,
    ) -> Self {
        Self { dtype, shape: [1, out, inputs], count, parts, scales, shards, blocks }
    }

    /// How many matrices there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Matrix `i` as a stack of one, in the type of the file. Nothing is copied unless the file keeps its halves apart or in 8-bit floats.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn matrix(&self, i: usize) -> Tensor<'_> {
        let data = match self.own_parts(i) {
            Some([part]) => blocks::expanded(&self.blocks, &self.shards, part),
            Some(parts) => {
                let all = parts.iter().map(|p| blocks::expanded(&self.blocks, &self.shards, p));
                Cow::Owned(all.collect::<Vec<_>>().concat())
            }
            // Never in 8-bit floats: those are single matrices.
            None => Cow::Borrowed(share(self.bytes(&self.parts[0]), self.count, i)),
        };
        let scales = self.scales.as_ref().map(|(part, group)| (share(self.bytes(part), self.count, i), *group));
        Tensor { dtype: self.dtype, shape: &self.shape, data, scales }
    }

    /// Tells the system that the memory in which it keeps matrix `i` of a mapped file may go; the next [`Stack::matrix`] reads the file (or the system's cache of
    /// it) again.
    pub fn release(&self, i: usize) {
        match self.own_parts(i) {
            Some(parts) => parts.iter().for_each(|(shard, range)| self.shards[*shard].release(range.clone())),
            None => {
                let (shard, range) = &self.parts[0];
                let size = range.len() / self.count;
                self.shards[*shard].release(range.start + i * size..range.start + (i + 1) * size);
            }
        }
    }

    fn bytes(&self, (shard, range): &Part) -> &[u8] {
        &self.shards[*shard][range.clone()]
    }

    /// The parts of matrix `i` alone; `None` when one part holds all.
    fn own_parts(&self, i: usize) -> Option<&[Part]> {
        assert!(i < self.count, "matrix {i} of a stack of {}", self.count);
        let each = self.parts.len() / self.count;
        (each > 0).then(|| &self.parts[i * each..(i + 1) * each])
    }
}

/// Part `i` of `count` equal ones.
fn share(all: &[u8], count: usize, i: usize) -> &[u8] {
    let size = all.len() / count;
    &all[i * size..(i + 1) * size]
}
