//! Router and routed experts.

use super::arguments::{Place, Value};
use super::driver::Memory;
use super::{Metal, MetalBuffer, MetalWeight, args, by_format, room};
use crate::backend::Result;
use crate::{RouterSpec, Scoring, check};

/// From so many rows on, assignments are grouped by expert. Both ways give the same bits.
const MANY: usize = 16;
/// Assignments that are worked on together. Must equal `TOGETHER` in moe.metal.
const TOGETHER: usize = 8;
/// Most experts, null experts among them: their scores fit threadgroup memory.
const MOST: usize = 2048;
/// Groups of 16 lanes of a threadgroup, as in matmul.metal.
const GROUPS: usize = 8;

/// Chosen experts of some rows, on the device: a routing of [`Metal`].
pub struct MetalRouting {
    experts: Memory,
    weights: Memory,
    capacity: usize,
    rows: usize,
    top_k: usize,
}

impl std::fmt::Debug for MetalRouting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MetalRouting({} x {})", self.rows, self.top_k)
    }
}

/// Must equal `RouterRules` in moe.metal.
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
    biased: u32,
    scale: f32,
}

// SAFETY: `repr(C)`, of numbers of four bytes.
unsafe impl Value for Rules {}

/// Sizes of one of the experts' matrices: must equal `Experts` in moe.metal. `outputs` of the first is the inner size: gate and up count once.
#[repr(C)]
#[derive(Clone, Copy)]
struct Sizes {
    experts: u32,
    inputs: u32,
    pitch: u32,
    outputs: u32,
    top_k: u32,
}

// SAFETY: `repr(C)`, of numbers of four bytes.
unsafe impl Value for Sizes {}

/// Bytes of `Work` in moe.metal.
const WORK: usize = 12;

/// The routed experts of a layer and the rows that they work on.
struct Mixture<'a> {
    x: Place<'a>,
    rows: usize,
    routing: &'a MetalRouting,
    gate_up: &'a MetalWeight,
    down: &'a MetalWeight,
    dst: Place<'a>,
    experts: usize,
}

impl Mixture<'_> {
    fn assignments(&self) -> usize {
        self.rows * self.routing.top_k
    }

    fn sizes(&self, w: &MetalWeight, outputs: usize) -> Sizes {
        Sizes {
            experts: self.experts as u32,
            inputs: w.inputs as u32,
            pitch: w.pitch(),
            outputs: outputs as u32,
            top_k: self.routing.top_k as u32,
        }
    }
}

impl Metal {
    pub(super) fn new_routing(&self, rows: usize, top_k: usize) -> Result<MetalRouting> {
        let capacity = rows * top_k;
        let (experts, weights) = (self.device.zeroed(capacity * 4)?, self.device.zeroed(capacity * 4)?);
        Ok(MetalRouting { experts, weights, capacity, rows: 0, top_k })
    }

    pub(super) fn choose(
        &self,
        x: &MetalBuffer,
        rows: usize,
        router: &MetalWeight,
        spec: &RouterSpec,
        out: &mut MetalRouting,
    ) -> Result<()> {
        let w = router.matrix("route")?;
        check::router(spec, w.out)?;
        if w.out > MOST {
            return Err(check::shape("route", format!("{} experts: at most {MOST} on metal", w.out)));
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
            biased: u32::from(!spec.selection_bias.is_empty()),
            scale: spec.scale,
        };
        let bias: Vec<u32> = spec.selection_bias.iter().map(|b| b.to_bits()).collect();
        let shared = (2 * w.out + spec.groups) * 4;
        let ((data, scales), inputs) = (w.places(), w.inputs as u32);
        let (experts, weights) = (out.experts.place(), out.weights.place());
        let args = args![data, scales, inputs, w.pitch(), x, rules, &bias[..], experts, weights];
        // SAFETY: the parameters of `route_*`; sizes were checked.
        unsafe { self.device.launch(by_format!(w.format, "route_", ""), [rows, 1, 1], 256, shared, args) }
    }

    pub(super) fn chosen(&self, routing: &MetalRouting, rows: usize) -> Result<Vec<Vec<(u32, f32)>>> {
        check::at_least("read_routing", "the routing", routing.rows, rows)?;
        let (k, n) = (routing.top_k, rows * routing.top_k);
        let words = |memory: &Memory| -> Result<Vec<u32>> {
            let mut bytes = vec![0u8; n * 4];
            self.device.download(memory, 0, &mut bytes)?;
            Ok(bytes.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect())
        };
        let weights = words(&routing.weights)?.into_iter().map(f32::from_bits);
        let all: Vec<_> = words(&routing.experts)?.into_iter().zip(weights).collect();
        Ok(all.chunks_exact(k.max(1)).map(<[_]>::to_vec).collect())
    }

    pub(super) fn assign_rows(&self, experts: &[u32], out: &mut MetalRouting) -> Result<()> {
        check::at_least("assign", "the routing", out.capacity, experts.len())?;
        (out.rows, out.top_k) = (experts.len(), 1);
        let ones = vec![1f32.to_bits(); experts.len()];
        self.put_words(experts, out.experts.place())?;
        self.put_words(&ones, out.weights.place())
    }

    pub(super) fn mix(
        &self,
        x: &MetalBuffer,
        rows: usize,
        routing: &MetalRouting,
        gate_up: &MetalWeight,
        down: &MetalWeight,
        dst: &mut MetalBuffer,
    ) -> Result<()> {
        let experts = gate_up.stack("experts")?;
        check::equal("experts", "experts of down", down.stack("experts")?, experts)?;
        check::equal("experts", "rows of gate_up", gate_up.out, 2 * down.inputs)?;
        check::at_least("experts", "the routing", routing.rows, rows)?;
        if experts > MOST {
            return Err(check::shape("experts", format!("{experts} experts: at most {MOST} on metal")));
        }
        let x = x.get("experts", 0, rows * gate_up.inputs)?;
        let dst = dst.get("experts", 0, rows * down.out)?;
        let m = Mixture { x, rows, routing, gate_up, down, dst, experts };
        match rows {
            0 => Ok(()),
            1..MANY => self.mix_few(&m),
            _ => self.mix_many(&m),
        }
    }

    /// By output rows, one assignment at a time.
    fn mix_few(&self, m: &Mixture<'_>) -> Result<()> {
        let (up, down) = (m.sizes(m.gate_up, m.down.inputs), m.sizes(m.down, m.down.out));
        let mut state = self.state();
        let mid = room(&self.device, &mut state.inner, m.assignments() * m.down.inputs * 4)?.place();
        let (chosen, weights) = (m.routing.experts.place(), m.routing.weights.place());
        let grid = [m.down.inputs.div_ceil(GROUPS), m.assignments(), 1];
        let (data, scales) = m.gate_up.places();
        let args = args![data, scales, up, m.x, chosen, mid];
        // SAFETY: the parameters of `experts_gate_up_*`; the caller checked sizes, the scratch has room for every assignment.
        unsafe { self.device.launch(by_format!(m.gate_up.format, "experts_gate_up_", ""), grid, 128, 0, args)? };
        let grid = [m.down.out.div_ceil(GROUPS), m.rows, 1];
        let (data, scales) = m.down.places();
        let args = args![data, scales, down, mid, chosen, weights, m.dst];
        // SAFETY: the parameters of `experts_down_*`, as above.
        unsafe { self.device.launch(by_format!(m.down.format, "experts_down_", ""), grid, 128, 0, args) }
    }

    /// Grouped by expert.
    fn mix_many(&self, m: &Mixture<'_>) -> Result<()> {
        let (assignments, outputs, inner) = (m.assignments(), m.down.out, m.down.inputs);
        let (up, down) = (m.sizes(m.gate_up, inner), m.sizes(m.down, outputs));
        // An expert with n assignments has n / 8 whole parts and at most one more.
        let parts = assignments / TOGETHER + m.experts.min(assignments);
        let mut guard = self.state();
        let state = &mut *guard;
        let mid = room(&self.device, &mut state.inner, assignments * inner * 4)?.place();
        let part = room(&self.device, &mut state.part, assignments * outputs * 4)?.place();
        let list_bytes = (assignments * 4).next_multiple_of(16);
        let count = room(&self.device, &mut state.lists, 16 + list_bytes + parts * WORK)?.place();
        let (list, work) = (Place { at: 16, ..count }, Place { at: 16 + list_bytes, ..count });
        let (chosen, weights) = (m.routing.experts.place(), m.routing.weights.place());
        let (experts, top_k) = (m.experts as u32, m.routing.top_k as u32);
        let args = args![chosen, assignments as u32, experts, list, work, count];
        // SAFETY: the parameters of `experts_group`; the lists have room for every assignment and part.
        unsafe { self.device.launch("experts_group", [1, 1, 1], 256, (m.experts + 1) * 4, args)? };
        let grid = [inner.div_ceil(GROUPS), parts, 1];
        let (data, scales) = m.gate_up.places();
        let args = args![data, scales, up, m.x, list, work, count, mid];
        // SAFETY: the parameters of `experts_gate_up_*_many`; the caller checked sizes, the scratch has room for every assignment.
        unsafe { self.device.launch(by_format!(m.gate_up.format, "experts_gate_up_", "_many"), grid, 128, 0, args)? };
        let grid = [outputs.div_ceil(2 * GROUPS), parts, 1];
        let (data, scales) = m.down.places();
        let args = args![data, scales, down, mid, list, work, count, part];
        // SAFETY: the parameters of `experts_down_*_many`, as above.
        unsafe { self.device.launch(by_format!(m.down.format, "experts_down_", "_many"), grid, 128, 0, args)? };
        let args = args![part, experts, outputs as u32, chosen, weights, top_k, m.dst];
        // SAFETY: the parameters of `experts_combine`, as above.
        unsafe { self.device.launch("experts_combine", [outputs.div_ceil(256), m.rows, 1], 256, 0, args) }
    }
}
