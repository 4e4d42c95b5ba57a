//! The KV cache: one slab per layer for all sequences, and who owns which slots of it.

use borealis_kernels::{Backend, KvFormat};

use crate::ModelConfig;
use crate::error::{ModelError, Result};
use crate::model::Model;
use crate::scratch::Scratch;

/// A reserved, contiguous range of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRange {
    /// First slot.
    pub start: u32,
    /// Number of slots.
    pub len: u32,
}

impl SlotRange {
    /// One past the last slot.
    pub fn end(&self) -> u32 {
        self.start + self.len
    }
}

/// Keys and values of all sequences, and the buffers of a step. All of its memory is taken when it is made.
pub struct KvCache<B: Backend> {
    pub(crate) layers: Vec<B::Kv>,
    pub(crate) scratch: Scratch<B>,
    allocator: SlotAllocator,
}

impl<B: Backend> KvCache<B> {
    /// A cache of `slots` positions that are kept in `format`, with buffers for steps of up to `max_rows` rows (larger batches are computed in pieces).
    pub fn new(model: &Model<B>, slots: usize, max_rows: usize, format: KvFormat) -> Result<Self> {
        let (heads, dim) = model.config().attention().cached();
        let layers = (0..model.config().num_hidden_layers)
            .map(|_| Ok(model.backend().kv(slots.max(1), heads, dim, format)?))
            .collect::<Result<_>>()?;
        Ok(Self { layers, scratch: Scratch::new(model, max_rows.max(1))?, allocator: SlotAllocator::new(slots) })
    }

    /// Bytes that [`KvCache::new`] takes for keys and values of `slots` positions.
    pub fn bytes(config: &ModelConfig, slots: usize, format: KvFormat) -> u64 {
        config.kv_bytes(format) * slots as u64
    }

    /// Bytes that [`KvCache::new`] takes for the buffers of a step.
    pub fn scratch_bytes(config: &ModelConfig, max_rows: usize) -> u64 {
        Scratch::<B>::bytes(config, max_rows.max(1))
    }

    /// Reserves `len` slots in a row. What they hold is what was last written to them.
    pub fn reserve(&mut self, len: usize) -> Result<SlotRange> {
        self.allocator.reserve(len)
    }

    /// Gives back a range that [`KvCache::reserve`] returned.
    pub fn release(&mut self, range: SlotRange) -> Result<()> {
        self.allocator.release(range)
    }

    /// Slots of the cache.
    pub fn slots(&self) -> usize {
        self.allocator.slots as usize
    }

    /// Slots that are not reserved.
    pub fn free_slots(&self) -> usize {
        self.slots() - self.reserved_slots()
    }

    /// Slots that are reserved.
    pub fn reserved_slots(&self) -> usize {
        self.allocator.reserved.iter().map(|r| r.len as usize).sum()
    }

    /// Copies slots `from..from + len` to `to..` in every layer.
    pub(crate) fn copy(&mut self, backend: &B, from: u32, to: u32, len: u32) -> Result<()> {
        let fits = |start: u32| start.checked_add(len).is_some_and(|end| end as usize <= self.slots());
        if !fits(from) || !fits(to) {
            return Err(ModelError::Batch(format!(
                "{len} slots from {from} to {to}: the KV cache has {} slots",
                self.slots()
            )));
        }
        for kv in &mut self.layers {
            backend.copy_kv(kv, from, to, len)?;
        }
        Ok(())
    }
}

/// First-fit allocator of contiguous ranges.
#[derive(Debug)]
struct SlotAllocator {
    slots: u32,
    /// Reserved ranges, in ascending order.
    reserved: Vec<SlotRange>,
}

impl SlotAllocator {
    fn new(slots: usize) -> Self {
        // Slots are u32 in every mask; one id is kept free so that a range's end fits.
        Self { slots: u32::try_from(slots).unwrap_or(u32::MAX - 1), reserved: Vec::new() }
    }

    /// Free ranges with the index that a range reserved there would get.
    fn gaps(&self) -> impl Iterator<Item = (usize, SlotRange)> + '_ {
        (0..=self.reserved.len()).map(|i| {
            let start = i.checked_sub(1).map_or(0, |p| self.reserved[p].end());
            let end = self.reserved.get(i).map_or(self.slots, |r| r.start);
            (i, SlotRange { start, len: end - start })
        })
    }

    fn reserve(&mut self, asked: usize) -> Result<SlotRange> {
        let fit = self.gaps().find(|(_, gap)| asked > 0 && gap.len as usize >= asked);
        let Some((at, gap)) = fit else {
            let free = self.gaps().map(|(_, g)| g.len as usize).sum();
            let largest = self.gaps().map(|(_, g)| g.len as usize).max().unwrap_or(0);
            return Err(ModelError::CacheFull { asked, free, largest, slots: self.slots as usize });
        };
        let range = SlotRange { start: gap.start, len: asked as u32 };
        self.reserved.insert(at, range);
        Ok(range)
    }

    fn release(&mut self, range: SlotRange) -> Result<()> {
        match self.reserved.iter().position(|r| *r == range) {
            Some(i) => {
                self.reserved.remove(i);
                Ok(())
            }
            None => Err(ModelError::NotReserved { start: range.start, end: range.start.saturating_add(range.len) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_is_released_once() {
        let mut a = SlotAllocator::new(10);
        let r = a.reserve(4).unwrap();
        a.release(r).unwrap();
        let err = a.release(r).unwrap_err().to_string();
        assert!(err.starts_with("slots 0..4 of the KV cache are not reserved"), "{err}");
        assert!(a.reserve(11).is_err());
        assert!(a.reserve(0).is_err());
    }

    proptest! {
        /// Ranges never overlap, and what is released can be reserved again.
        #[test]
        fn ranges_are_disjoint_and_nothing_leaks(steps in prop::collection::vec((0usize..40, any::<bool>(), any::<prop::sample::Index>()), 1..80)) {
            let mut a = SlotAllocator::new(100);
            let mut held: Vec<SlotRange> = Vec::new();
            for (len, release, which) in steps {
                if release && !held.is_empty() {
                    a.release(held.remove(which.index(held.len()))).unwrap();
                } else if let Ok(r) = a.reserve(len) {
                    prop_assert!(r.end() <= 100 && held.iter().all(|h| h.end() <= r.start || r.end() <= h.start));
                    held.push(r);
                }
            }
            held.into_iter().for_each(|r| a.release(r).unwrap());
            prop_assert_eq!(a.reserve(100).unwrap(), SlotRange { start: 0, len: 100 });
        }
    }
}
