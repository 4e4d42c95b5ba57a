//! Ids drawn where the logits lie: the host reads ids.

use super::{Cuda, CudaBuffer, args, room};
use crate::backend::Result;
use crate::{Draw, Drawer, Draws, check};

/// Answers of the kernel: nothing can be drawn; rounding may decide, so that the host must draw. Must equal those in sample.cuh.
const NOTHING: u32 = u32::MAX;
const UNSURE: u32 = u32::MAX - 1;
/// Most ids of a draw: as many probabilities can be added.
const MOST: usize = 1 << 19;
/// Words of a draw.
const WORDS: usize = 16;
/// Threads for a draw among few ids, how many ids are few, and threads for more.
const FEW: (u32, usize, u32) = (32, 512, 512);

/// Must equal `Draw` in sample.cuh.
fn raw(d: &Draw) -> [u32; WORDS] {
    let [k0, k1] = d.noise.key;
    [
        d.row as u32,
        d.against.map_or(u32::MAX, |r| r as u32),
        d.part.0 as u32,
        (d.part.1 - d.part.0) as u32,
        d.except.0.min(MOST) as u32,
        d.except.1.min(MOST) as u32,
        d.rule.top_k.min(u32::MAX as usize) as u32,
        d.guidance.to_bits(),
        d.rule.temperature.to_bits(),
        d.rule.top_p.to_bits(),
        d.rule.min_p.to_bits(),
        k0,
        k1,
        d.noise.stream,
        d.position,
        d.code,
    ]
}

/// Whether the host draws an id in any case: a repetition penalty needs a list of ids, and whole rows.
fn for_host(d: &Draw) -> bool {
    d.rule.repetition_penalty != 1.0 || d.part.1 - d.part.0 > MOST
}

/// [`crate::Backend::sample`].
pub(super) fn sample(
    gpu: &Cuda,
    logits: &CudaBuffer,
    width: usize,
    draws: &Draws,
    host: &mut Drawer,
    ids: &mut Vec<Option<u32>>,
) -> Result<()> {
    let rows = check::draws(draws, width)?;
    let from = logits.get("sample", 0, rows * width)?;
    let list = &draws.list;
    let mut drawn = vec![0u8; list.len() * 4];
    if !list.iter().all(for_host) {
        let mut state = gpu.state();
        let state = &mut *state;
        let at = state.uploads.send(&gpu.device, list.iter().flat_map(raw))?;
        let memory = room(&gpu.device, &mut state.drawn, drawn.len().next_power_of_two())?;
        let largest = list.iter().map(|d| d.part.1 - d.part.0).max().unwrap_or(0);
        let threads = if largest <= FEW.1 { FEW.0 } else { FEW.2 };
        let args = args![from, width as u32, at, memory.pointer()];
        // SAFETY: the parameters of `sample`; rows and parts were checked, the scratch has room for all ids.
        unsafe { gpu.device.launch("sample", [list.len(), 1, 1], threads, 0, args)? };
        gpu.device.download(memory, 0, &mut drawn)?;
    }
    let mut values = host.take(2 * width);
    let mut one = |d: &Draw| {
        let (a, b) = values.split_at_mut(width);
        gpu.device.download(&logits.memory, 4 * d.row * width, super::bytes_mut(a))?;
        if let Some(row) = d.against {
            gpu.device.download(&logits.memory, 4 * row * width, super::bytes_mut(b))?;
        }
        Ok::<_, crate::KernelError>(host.draw(a, d.against.map(|_| &*b), d, draws.seen(d)))
    };
    let mut result = Ok(());
    for (d, word) in list.iter().zip(drawn.as_chunks::<4>().0) {
        let id = match u32::from_le_bytes(*word) {
            _ if for_host(d) => one(d),
            UNSURE => one(d),
            NOTHING => Ok(None),
            id => Ok(Some(id)),
        };
        match id {
            Ok(id) => ids.push(id),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    host.put(values);
    result
}
