//! Lists of the host on the device: sent when their content is new.

use std::sync::Arc;

use super::driver::{Device, Memory};
use crate::backend::Result;

/// Lists that are kept. A step has a few (ids, slots, spans, rows); routers with selection biases have one for each layer.
const KEPT: usize = 256;

/// The lists and when they were last used.
#[derive(Default)]
pub(super) struct Uploads {
    entries: Vec<Entry>,
    staged: Vec<u32>,
    clock: u64,
}

struct Entry {
    data: Vec<u32>,
    memory: Memory,
    used: u64,
}

impl Uploads {
    /// Address of these words on the device. They stay there for everything that is put into the stream before the next [`KEPT`] other lists.
    pub(super) fn send(&mut self, device: &Arc<Device>, words: impl Iterator<Item = u32>) -> Result<u64> {
        self.clock += 1;
        self.staged.clear();
        self.staged.extend(words);
        if let Some(entry) = self.entries.iter_mut().find(|e| e.data == self.staged) {
            entry.used = self.clock;
            return Ok(entry.memory.pointer());
        }
        let bytes: Vec<u8> = self.staged.iter().flat_map(|w| w.to_le_bytes()).collect();
        let oldest = self.entries.iter().enumerate().min_by_key(|(_, e)| e.used).map(|(i, _)| i);
        let full = oldest.filter(|_| self.entries.len() >= KEPT);
        if let Some(i) = full
            && self.entries[i].memory.bytes() >= bytes.len()
        {
            // What the stream still has to do with the old content comes before this copy.
            let entry = &mut self.entries[i];
            device.upload(&entry.memory, 0, &bytes)?;
            entry.data.clone_from(&self.staged);
            entry.used = self.clock;
            return Ok(entry.memory.pointer());
        }
        // Room for longer lists later, so that soon none is allocated any more.
        let memory = device.allocate(bytes.len().next_power_of_two().max(1024))?;
        device.upload(&memory, 0, &bytes)?;
        let (pointer, entry) = (memory.pointer(), Entry { data: self.staged.clone(), memory, used: self.clock });
        match full {
            Some(i) => self.entries[i] = entry,
            None => self.entries.push(entry),
        }
        Ok(pointer)
    }
}
