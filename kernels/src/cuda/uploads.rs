//! Lists of the host on the device. The n-th list between two waits of the host always lies at the same place, so that the commands of equal steps are equal.

use std::sync::Arc;

use super::driver::{Device, Memory};
use crate::backend::Result;

/// Lists of the running segment, and lists that stay.
#[derive(Default)]
pub(super) struct Uploads {
    segment: u64,
    used: usize,
    places: Vec<Entry>,
    kept: Vec<Entry>,
    /// Places that became too small: commands of the running segment may use them.
    outgrown: Vec<Memory>,
    staged: Vec<u32>,
}

struct Entry {
    data: Vec<u32>,
    memory: Memory,
}

impl Uploads {
    /// Address of these words on the device, for everything that is put into the stream before the host waits. All layers of a step share a list.
    pub(super) fn send(&mut self, device: &Arc<Device>, words: impl Iterator<Item = u32>) -> Result<u64> {
        let segment = device.segment();
        if segment != self.segment {
            (self.segment, self.used) = (segment, 0);
        }
        self.staged.clear();
        self.staged.extend(words);
        if let Some(entry) = self.places[..self.used].iter().find(|e| e.data == self.staged) {
            return Ok(entry.memory.pointer());
        }
        let bytes: Vec<u8> = self.staged.iter().flat_map(|w| w.to_le_bytes()).collect();
        if self.places.get(self.used).is_none_or(|e| e.memory.bytes() < bytes.len()) {
            // Room for longer lists later, so that soon none is allocated any more.
            let memory = device.allocate(bytes.len().next_power_of_two().max(1024))?;
            let entry = Entry { data: Vec::new(), memory };
            match self.places.get_mut(self.used) {
                Some(place) => self.outgrown.push(std::mem::replace(place, entry).memory),
                None => self.places.push(entry),
            }
        }
        let place = &mut self.places[self.used];
        // What the stream still has to do with the old content was put into it before the segment began.
        device.send(&place.memory, &bytes)?;
        place.data.clone_from(&self.staged);
        self.used += 1;
        Ok(place.memory.pointer())
    }

    /// Address of these words, which stay: constants of a model, one list for each router.
    pub(super) fn keep(&mut self, device: &Arc<Device>, words: impl Iterator<Item = u32>) -> Result<u64> {
        self.staged.clear();
        self.staged.extend(words);
        if let Some(entry) = self.kept.iter().find(|e| e.data == self.staged) {
            return Ok(entry.memory.pointer());
        }
        let bytes: Vec<u8> = self.staged.iter().flat_map(|w| w.to_le_bytes()).collect();
        let memory = device.allocate(bytes.len())?;
        device.send(&memory, &bytes)?;
        let pointer = memory.pointer();
        self.kept.push(Entry { data: self.staged.clone(), memory });
        Ok(pointer)
    }
}
