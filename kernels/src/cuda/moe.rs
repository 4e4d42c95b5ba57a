//! Router and routed experts.

use super::driver::Memory;
use super::matmul::{OUTPUTS, TILE, on_tensor_cores, tile_outputs};
use super::{Argument, Cuda, CudaBuffer, CudaWeight, args, by_format, room};
use crate::backend::Result;
use crate::{QuantFormat, RouterSpec, Scoring, check};

/// From so many rows on, assignments are grouped by expert. Both ways give the same bits.
const MANY: usize = 16;
/// Most experts, null experts among them: their scores fit shared memory.
const MOST: usize = 4096;

/// Chosen experts of some rows, on the device: a routing of [`Cuda`].
pub struct CudaRouting {
    experts: Memory,
    weights: Memory,
    capacity: usize,
    rows: usize,
    top_k: usize,
}

impl std::fmt::Debug for CudaRouting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CudaRouting({} x {})", self.rows, self.top_k)
    }
}

/// Must equal `RouterRules` in moe.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
struct Rules {
    experts: u32,
    all: u32,
    top_k: u32,
    sigmoid: u32,
    normalise: u32,
    groups: u32,
    top_groups: u32,
    scale: f32,
}

// SAFETY: `repr(C)`, of numbers.
unsafe impl Argument for Rules {}

/// Bytes of `Work` in moe.cuh.
const WORK: usize = 12;

/// [`crate::Backend::routing`].
pub(super) fn routing(gpu: &Cuda, rows: usize, top_k: usize) -> Result<CudaRouting> {
    let capacity = rows * top_k;
    let (experts, weights) = (gpu.device.zeroed(capacity * 4)?, gpu.device.zeroed(capacity * 4)?);
    Ok(CudaRouting { experts, weights, capacity, rows: 0, top_k })
}

/// [`crate::Backend::route`].
pub(super) fn route(
    gpu: &Cuda,
    x: &CudaBuffer,
    rows: usize,
    router: &CudaWeight,
    spec: &RouterSpec,
    out: &mut CudaRouting,
) -> Result<()> {
    let w = router.matrix("route")?;
    check::router(spec, w.out)?;
    if w.out > MOST {
        return Err(check::shape("route", format!("{} experts: at most {MOST} on a GPU", w.out)));
    }
    let x = x.get("route", 0, rows * w.inputs)?;
    check::at_least("route", "the routing", out.capacity, rows * spec.top_k)?;
    (out.rows, out.top_k) = (rows, spec.top_k);
    let rules = Rules {
        experts: spec.experts as u32,
        all: w.out as u32,
        top_k: spec.top_k as u32,
        sigmoid: u32::from(spec.scoring == Scoring::Sigmoid),
        normalise: u32::from(spec.normalise),
        groups: spec.groups as u32,
        top_groups: spec.top_groups as u32,
        scale: spec.scale,
    };
    let mut state = gpu.state();
    let bias = match spec.selection_bias.is_empty() {
        true => 0u64,
        false => state.uploads.keep(&gpu.device, spec.selection_bias.iter().map(|b| b.to_bits()))?,
    };
    let shared = (2 * w.out + spec.groups) * 4;
    let args = args![w.raw(), x, rules, bias, out.experts.pointer(), out.weights.pointer()];
    // SAFETY: the parameters of `route_*`; sizes were checked.
    unsafe { gpu.device.launch(by_format!(w.format, "route_", ""), [rows, 1, 1], 256, shared, args) }
}

/// [`crate::Backend::assign`].
pub(super) fn assign(gpu: &Cuda, list: &[u32], out: &mut CudaRouting) -> Result<()> {
    check::at_least("assign", "the routing", out.capacity, list.len())?;
    (out.rows, out.top_k) = (list.len(), 1);
    let mut state = gpu.state();
    let at = state.uploads.send(&gpu.device, list.iter().copied())?;
    let args = args![at, list.len() as u64, out.experts.pointer(), out.weights.pointer()];
    // SAFETY: the parameters of `assign`; the routing has room, as just checked.
    unsafe { gpu.each("assign", list.len(), args) }
}

/// [`crate::Backend::read_routing`].
pub(super) fn read_routing(gpu: &Cuda, routing: &CudaRouting, rows: usize) -> Result<Vec<Vec<(u32, f32)>>> {
    check::at_least("read_routing", "the routing", routing.rows, rows)?;
    let (k, n) = (routing.top_k, rows * routing.top_k);
    let (mut experts, mut weights) = (vec![0u8; n * 4], vec![0u8; n * 4]);
    let _state = gpu.state();
    gpu.device.download(&routing.experts, 0, &mut experts)?;
    gpu.device.download(&routing.weights, 0, &mut weights)?;
    let words = |b: &[u8]| b.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect::<Vec<_>>();
    let (experts, weights) = (words(&experts), words(&weights));
    let all: Vec<_> = experts.into_iter().zip(weights.into_iter().map(f32::from_bits)).collect();
    Ok(all.chunks_exact(k.max(1)).map(<[_]>::to_vec).collect())
}

/// [`crate::Backend::experts`].
pub(super) fn experts(
    gpu: &Cuda,
    x: &CudaBuffer,
    rows: usize,
    routing: &CudaRouting,
    gate_up: &CudaWeight,
    down: &CudaWeight,
    dst: &mut CudaBuffer,
) -> Result<()> {
    let (count, inner) = (gate_up.stack("experts")?, down.inputs);
    check::equal("experts", "experts of down", down.stack("experts")?, count)?;
    check::equal("experts", "rows of gate_up", gate_up.out, 2 * inner)?;
    check::at_least("experts", "the routing", routing.rows, rows)?;
    let x = x.get("experts", 0, rows * gate_up.inputs)?;
    let dst = dst.get("experts", 0, rows * down.out)?;
    let mix = Mix { gpu, x, rows, routing, gate_up, down, experts: count, dst };
    match rows {
        0 => Ok(()),
        1..MANY => mix.few(),
        _ => mix.many(),
    }
}

/// Outputs of a block of the kernels for few rows, and its threads.
fn block(format: QuantFormat) -> (usize, u32) {
    if on_tensor_cores(format) { (OUTPUTS, 256) } else { (8, 128) }
}

/// The routed experts of some rows, at address `x`; sizes were checked.
struct Mix<'a> {
    gpu: &'a Cuda,
    x: u64,
    rows: usize,
    routing: &'a CudaRouting,
    gate_up: &'a CudaWeight,
    down: &'a CudaWeight,
    experts: usize,
    dst: u64,
}

impl Mix<'_> {
    /// By output rows, one assignment at a time.
    fn few(&self) -> Result<()> {
        let Self { gpu, x, rows, routing, gate_up, down, dst, .. } = *self;
        let (count, wide) = (self.experts, down.inputs);
        let assignments = rows * routing.top_k;
        let mut state = gpu.state();
        let mid = room(&gpu.device, &mut state.inner, assignments * wide * 4)?.pointer();
        let (chosen, weights, top_k) = (routing.experts.pointer(), routing.weights.pointer(), routing.top_k as u32);
        let (experts, inner, outputs) = (count as u32, wide as u32, down.out as u32);
        let (some, threads) = block(gate_up.format);
        let grid = [wide.div_ceil(some), assignments, 1];
        let args = args![gate_up.raw(), experts, inner, x, chosen, top_k, mid];
        // SAFETY: the parameters of `experts_gate_up_*`; the caller checked sizes, the scratch has room for every assignment.
        unsafe { gpu.device.launch(by_format!(gate_up.format, "experts_gate_up_", ""), grid, threads, 0, args)? };
        let (some, threads) = block(down.format);
        let grid = [down.out.div_ceil(some), rows, 1];
        let args = args![down.raw(), experts, outputs, mid, chosen, weights, top_k, dst];
        // SAFETY: the parameters of `experts_down_*`, as above.
        unsafe { gpu.device.launch(by_format!(down.format, "experts_down_", ""), grid, threads, 0, args) }
    }

    /// Grouped by expert, in tiles.
    fn many(&self) -> Result<()> {
        let Self { gpu, x, rows, routing, gate_up, down, dst, .. } = *self;
        let (count, wide) = (self.experts, down.inputs);
        let assignments = rows * routing.top_k;
        // An expert with n assignments has n / 32 whole parts and at most one more.
        let parts = assignments / TILE + count.min(assignments);
        let mut guard = gpu.state();
        let state = &mut *guard;
        let mid = room(&gpu.device, &mut state.inner, assignments * wide * 4)?.pointer();
        let part = room(&gpu.device, &mut state.part, assignments * down.out * 4)?.pointer();
        let list_bytes = (assignments * 4).next_multiple_of(16);
        let list = room(&gpu.device, &mut state.lists, 16 + list_bytes + parts * WORK)?.pointer() + 16;
        let (used, work) = (list - 16, list + list_bytes as u64);
        let (chosen, weights, top_k) = (routing.experts.pointer(), routing.weights.pointer(), routing.top_k as u32);
        let (experts, inner, outputs) = (count as u32, wide as u32, down.out as u32);
        let args = args![chosen, assignments as u32, experts, list, work, used];
        // SAFETY: the parameters of `experts_group`; the lists have room for every assignment and part.
        unsafe { gpu.device.launch("experts_group", [1, 1, 1], 256, (2 * count + 1) * 4, args)? };
        let grid = [wide.div_ceil(tile_outputs(gate_up.format) / 2), parts, 1];
        let args = args![gate_up.raw(), inner, x, top_k, list, work, used, mid];
        // SAFETY: the parameters of `experts_gate_up_*_tile`; the caller checked sizes, the scratch has room for every assignment.
        unsafe { gpu.device.launch(by_format!(gate_up.format, "experts_gate_up_", "_tile"), grid, 256, 0, args)? };
        let grid = [down.out.div_ceil(tile_outputs(down.format)), parts, 1];
        let args = args![down.raw(), outputs, mid, list, work, used, part];
        // SAFETY: the parameters of `experts_down_*_tile`, as above.
        unsafe { gpu.device.launch(by_format!(down.format, "experts_down_", "_tile"), grid, 256, 0, args)? };
        let args = args![part, experts, outputs, chosen, weights, top_k, dst];
        // SAFETY: the parameters of `experts_combine`, as above.
        unsafe { gpu.device.launch("experts_combine", [down.out.div_ceil(256), rows, 1], 256, 0, args) }
    }
}
