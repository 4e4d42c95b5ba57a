//! Weights, repacked once when they are loaded.
//!
//! A matrix `[out, in]` becomes panels of 16 outputs (the last one padded with zeros); a panel holds, for each input
//! in turn, its 16 weights side by side. A kernel then walks a panel from front to back, whatever the number of rows:
//! it multiplies one number of a row by 16 weights at a time, and every output is one chain of multiply-adds over the inputs in
//! order. No result depends on how rows are blocked, and no sum over lanes is needed at the end.
//!
//! * f32: 16 numbers.
//! * bf16: 16 numbers, in the order 0, 8, 1, 9, ..: two shifts and masks of one load give outputs 0-7 and 8-15.
//! * int8: 16 bytes, and for every 64 inputs 16 scales in f16 (as checkpoints store them).
//!
//! A stack `[E, out, in]` is E such matrices, one after another.

use half::bf16;

use super::memory::{Aligned, Shared};
use super::pool::Pool;
use crate::backend::Result;
use crate::{GROUP, HostTensor, QuantFormat, check};

/// Outputs of a panel.
pub(crate) const PANEL: usize = 16;

#[derive(Debug)]
enum Store {
    F32(Aligned<f32>),
    Bf16(Aligned<u16>),
    Int8 { q: Aligned<i8>, scales: Aligned<u16> },
}

/// A weight of [`crate::Cpu`].
#[derive(Debug)]
pub struct CpuWeight {
    stacked: bool,
    count: usize,
    out: usize,
    inputs: usize,
    store: Store,
}

/// One matrix of a weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) out: usize,
    pub(crate) inputs: usize,
    pub(crate) data: Data<'a>,
}

/// Panels of one matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Data<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
    Int8 { q: &'a [i8], scales: &'a [u16] },
}

/// Place of output `lane` among the 16 bf16 numbers of one input.
fn bf16_place(lane: usize) -> usize {
    (lane % 8) * 2 + lane / 8
}

impl CpuWeight {
    /// Converts and repacks a host tensor.
    pub(crate) fn pack(tensor: &HostTensor<'_>, format: QuantFormat, pool: &Pool) -> Result<Self> {
        tensor.check()?;
        let (stacked, count, out, inputs) = match *tensor.shape {
            [out, inputs] => (false, 1, out, inputs),
            [e, out, inputs] => (true, e, out, inputs),
            _ => {
                let what = format!("expected [out, in] or [E, out, in], not {:?}", tensor.shape);
                return Err(check::shape("weight", what));
            }
        };
        let panels = out.div_ceil(PANEL);
        let numbers = count * panels * PANEL * inputs;
        let scales = count * panels * PANEL * inputs.div_ceil(GROUP);
        let mut store = match format {
            QuantFormat::F32 => Store::F32(Aligned::new(numbers)),
            QuantFormat::Bf16 => Store::Bf16(Aligned::new(numbers)),
            QuantFormat::Int8 => Store::Int8 { q: Aligned::new(numbers), scales: Aligned::new(scales) },
        };
        let rows = |panel: usize| {
            let first = panel % panels * PANEL;
            let matrix = panel / panels;
            (0..PANEL.min(out - first)).map(move |lane| (lane, matrix * out + first + lane))
        };
        store.fill(tensor, count * panels, rows, pool);
        Ok(Self { stacked, count, out, inputs, store })
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.store {
            Store::F32(d) => d.len() * 4,
            Store::Bf16(d) => d.len() * 2,
            Store::Int8 { q, scales } => q.len() + scales.len() * 2,
        }
    }

    /// The only matrix.
    pub(crate) fn matrix(&self, op: &'static str) -> Result<Matrix<'_>> {
        if self.stacked {
            let what = format!("expected [out, in], not [{}, {}, {}]", self.count, self.out, self.inputs);
            return Err(check::shape(op, what));
        }
        Ok(self.expert(0))
    }

    /// Number of stacked matrices.
    pub(crate) fn stack(&self, op: &'static str) -> Result<usize> {
        if !self.stacked {
            return Err(check::shape(op, format!("expected [E, out, in], not [{}, {}]", self.out, self.inputs)));
        }
        Ok(self.count)
    }

    /// Matrices in the stack (1 for a plain matrix).
    pub(crate) fn expert_count(&self) -> usize {
        self.count
    }

    /// Outputs and inputs of each matrix.
    pub(crate) fn dims(&self) -> (usize, usize) {
        (self.out, self.inputs)
    }

    /// Matrix `e` of the stack.
    pub(crate) fn expert(&self, e: usize) -> Matrix<'_> {
        let padded = self.out.div_ceil(PANEL) * PANEL;
        let (n, s) = (padded * self.inputs, padded * self.inputs.div_ceil(GROUP));
        let data = match &self.store {
            Store::F32(d) => Data::F32(&d[e * n..(e + 1) * n]),
            Store::Bf16(d) => Data::Bf16(&d[e * n..(e + 1) * n]),
            Store::Int8 { q, scales } => Data::Int8 { q: &q[e * n..(e + 1) * n], scales: &scales[e * s..(e + 1) * s] },
        };
        Matrix { out: self.out, inputs: self.inputs, data }
    }
}

impl Store {
    /// Writes all panels; `rows(panel)` yields (lane, row of the host tensor).
    fn fill<I: Iterator<Item = (usize, usize)>>(
        &mut self,
        tensor: &HostTensor<'_>,
        panels: usize,
        rows: impl Fn(usize) -> I + Sync,
        pool: &Pool,
    ) {
        let inputs = tensor.width();
        let size = inputs * PANEL;
        let each = |write: &(dyn Fn(usize, usize, &[f32]) + Sync)| {
            pool.run(panels, &|panel| {
                let mut values = vec![0f32; inputs];
                for (lane, row) in rows(panel) {
                    tensor.row(row, &mut values);
                    write(panel, lane, &values);
                }
            });
        };
        match self {
            Self::F32(data) => {
                let data = Shared::new(data);
                each(&|panel, lane, values| {
                    // SAFETY: one chunk writes one panel.
                    let to = unsafe { data.part(panel * size, size) };
                    to.iter_mut().skip(lane).step_by(PANEL).zip(values).for_each(|(d, &x)| *d = x);
                });
            }
            Self::Bf16(data) => {
                let data = Shared::new(data);
                each(&|panel, lane, values| {
                    // SAFETY: one chunk writes one panel.
                    let to = unsafe { data.part(panel * size, size) };
                    let places = to.iter_mut().skip(bf16_place(lane)).step_by(PANEL);
                    places.zip(values).for_each(|(d, &x)| *d = bf16::from_f32(x).to_bits());
                });
            }
            Self::Int8 { q, scales } => {
                let (q, scales) = (Shared::new(q), Shared::new(scales));
                let groups = inputs.div_ceil(GROUP);
                pool.run(panels, &|panel| {
                    // SAFETY: one chunk writes one panel.
                    let (q, scales) =
                        unsafe { (q.part(panel * size, size), scales.part(panel * groups * PANEL, groups * PANEL)) };
                    for (lane, row) in rows(panel) {
                        let row = tensor.quantised(row);
                        q.iter_mut().skip(lane).step_by(PANEL).zip(&row.q).for_each(|(d, &x)| *d = x);
                        let places = scales.iter_mut().skip(lane).step_by(PANEL);
                        places.zip(&row.scales).for_each(|(d, x)| *d = x.to_bits());
                    }
                });
            }
        }
    }
}

impl Matrix<'_> {
    /// `out[i] += w[row, i]`.
    pub(crate) fn add_row(&self, row: usize, out: &mut [f32]) {
        let (panel, lane) = (row / PANEL, row % PANEL);
        let span = panel * PANEL * self.inputs..(panel + 1) * PANEL * self.inputs;
        match self.data {
            Data::F32(d) => {
                out.iter_mut().zip(d[span].as_chunks::<PANEL>().0).for_each(|(o, w)| *o += w[lane]);
            }
            Data::Bf16(d) => {
                let place = bf16_place(lane);
                for (o, w) in out.iter_mut().zip(d[span].as_chunks::<PANEL>().0) {
                    *o += f32::from_bits(u32::from(w[place]) << 16);
                }
            }
            Data::Int8 { q, scales } => {
                let groups = self.inputs.div_ceil(GROUP);
                let q = q[span].as_chunks::<PANEL>().0;
                for (g, (o, q)) in out.chunks_mut(GROUP).zip(q.chunks(GROUP)).enumerate() {
                    let s = half::f16::from_bits(scales[(panel * groups + g) * PANEL + lane]).to_f32();
                    o.iter_mut().zip(q).for_each(|(o, q)| *o += f32::from(q[lane]) * s);
                }
            }
        }
    }
}
