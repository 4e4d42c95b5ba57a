//! Weights, repacked once when they are loaded.
//!
//! A matrix `[out, in]` becomes panels of 16 outputs (the last one padded with zeros); a panel holds, for each input
//! in turn, its 16 weights side by side. A kernel then walks a panel from front to back, whatever the number of rows:
//! it multiplies one number of a row by 16 weights at a time, and every output is one chain of multiply-adds over the inputs in
//! order. No result depends on how rows are blocked, and no sum over lanes is needed at the end.
//!
//! * f32: 16 numbers.
//! * bf16: 16 numbers, in the order 0, 8, 1, 9, ..: two shifts and masks of one load give outputs 0-7 and 8-15.
//! * int8: lines of 16 outputs x 4 inputs (output-major), codes plus 128; for every 64 inputs 16 scales in f16 (as checkpoints store them).
//! * int4: such lines of 8 inputs: the first four in the low halves of the bytes, the others in the high halves, codes plus 8; scales as for int8.
//!
//! Inputs of int8 and int4 are filled up to whole groups with zeros.
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
    Codes { bits: Bits, codes: Aligned<u8>, scales: Aligned<u16> },
}

/// Bits of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bits {
    Eight,
    Four,
}

impl Bits {
    /// Bytes of a group of [`GROUP`] inputs of a panel.
    pub(crate) fn group(self) -> usize {
        match self {
            Self::Eight => GROUP * PANEL,
            Self::Four => GROUP * PANEL / 2,
        }
    }

    /// Bytes that stand for zeros.
    fn zeros(self) -> u8 {
        match self {
            Self::Eight => 128,
            Self::Four => 0x88,
        }
    }

    /// Place of the code of an input of a group and an output of the panel: its byte, and by how many bits it is shifted.
    fn place(self, input: usize, lane: usize) -> (usize, usize) {
        match self {
            Self::Eight => (input / 4 * 64 + lane * 4 + input % 4, 0),
            Self::Four => (input / 8 * 64 + lane * 4 + input % 4, input / 4 % 2 * 4),
        }
    }

    /// Puts a code where zeros are.
    fn put(self, panel: &mut [u8], input: usize, lane: usize, code: i8) {
        let (byte, shift) = self.place(input % GROUP, lane);
        let byte = &mut panel[input / GROUP * self.group() + byte];
        match self {
            Self::Eight => *byte = code as u8 ^ 128,
            Self::Four => *byte = *byte & !(15 << shift) | ((code + 8) as u8 & 15) << shift,
        }
    }

    fn get(self, group: &[u8], input: usize, lane: usize) -> i8 {
        let (byte, shift) = self.place(input, lane);
        match self {
            Self::Eight => (group[byte] ^ 128) as i8,
            Self::Four => (group[byte] >> shift & 15) as i8 - 8,
        }
    }

    fn format(self) -> QuantFormat {
        match self {
            Self::Eight => QuantFormat::Int8,
            Self::Four => QuantFormat::Int4,
        }
    }
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
    Codes { bits: Bits, codes: &'a [u8], scales: &'a [u16] },
}

/// Place of output `lane` among the 16 bf16 numbers of one input.
fn bf16_place(lane: usize) -> usize {
    (lane % 8) * 2 + lane / 8
}

impl CpuWeight {
    /// Converts and repacks a host tensor.
    pub(crate) fn pack(tensor: &HostTensor<'_>, format: QuantFormat, pool: &Pool) -> Result<Self> {
        tensor.check()?;
        let mut weight = match *tensor.shape {
            [out, inputs] => Self { stacked: false, ..Self::zeros([1, out, inputs], format) },
            [e, out, inputs] => Self::zeros([e, out, inputs], format),
            _ => {
                let what = format!("expected [out, in] or [E, out, in], not {:?}", tensor.shape);
                return Err(check::shape("weight", what));
            }
        };
        weight.put(0, weight.count, tensor, pool);
        Ok(weight)
    }

    /// A stack `[E, out, in]` of zeros.
    pub(crate) fn zeros([count, out, inputs]: [usize; 3], format: QuantFormat) -> Self {
        let panels = out.div_ceil(PANEL);
        let numbers = count * panels * PANEL * inputs;
        let groups = count * panels * inputs.div_ceil(GROUP);
        let coded = |bits: Bits| Store::Codes {
            bits,
            codes: Aligned::new(groups * bits.group()),
            scales: Aligned::new(groups * PANEL),
        };
        let store = match format {
            QuantFormat::F32 => Store::F32(Aligned::new(numbers)),
            QuantFormat::Bf16 => Store::Bf16(Aligned::new(numbers)),
            QuantFormat::Int8 => coded(Bits::Eight),
            QuantFormat::Int4 => coded(Bits::Four),
        };
        Self { stacked: true, count, out, inputs, store }
    }

    /// Converts and repacks the matrices of `tensor` `[n, out, in]` into the place of matrices `first..first + n`.
    pub(crate) fn replace(&mut self, first: usize, tensor: &HostTensor<'_>, pool: &Pool) -> Result<()> {
        check::replacement([self.stack("replace")?, self.out, self.inputs], first, tensor)?;
        self.put(first, tensor.shape[0], tensor, pool);
        Ok(())
    }

    /// The matrices of a tensor, which was checked, into the place of matrices `first..first + count`.
    fn put(&mut self, first: usize, count: usize, tensor: &HostTensor<'_>, pool: &Pool) {
        let (out, panels) = (self.out, self.out.div_ceil(PANEL));
        let rows = |panel: usize| {
            let first = panel % panels * PANEL;
            let matrix = panel / panels;
            (0..PANEL.min(out - first)).map(move |lane| (lane, matrix * out + first + lane))
        };
        self.store.fill(tensor, first * panels, count * panels, rows, pool);
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.store {
            Store::F32(d) => d.len() * 4,
            Store::Bf16(d) => d.len() * 2,
            Store::Codes { codes, scales, .. } => codes.len() + scales.len() * 2,
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
        let panels = self.out.div_ceil(PANEL);
        let (n, groups) = (panels * PANEL * self.inputs, panels * self.inputs.div_ceil(GROUP));
        let data = match &self.store {
            Store::F32(d) => Data::F32(&d[e * n..(e + 1) * n]),
            Store::Bf16(d) => Data::Bf16(&d[e * n..(e + 1) * n]),
            Store::Codes { bits, codes, scales } => {
                let (n, s) = (groups * bits.group(), groups * PANEL);
                Data::Codes { bits: *bits, codes: &codes[e * n..(e + 1) * n], scales: &scales[e * s..(e + 1) * s] }
            }
        };
        Matrix { out: self.out, inputs: self.inputs, data }
    }
}

impl Store {
    /// Writes `panels` panels from panel `first` on; `rows(panel)` yields (lane, row of the host tensor) of a panel counted from there.
    fn fill<I: Iterator<Item = (usize, usize)>>(
        &mut self,
        tensor: &HostTensor<'_>,
        first: usize,
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
                    let to = unsafe { data.part((first + panel) * size, size) };
                    to.iter_mut().skip(lane).step_by(PANEL).zip(values).for_each(|(d, &x)| *d = x);
                });
            }
            Self::Bf16(data) => {
                let data = Shared::new(data);
                each(&|panel, lane, values| {
                    // SAFETY: one chunk writes one panel.
                    let to = unsafe { data.part((first + panel) * size, size) };
                    let places = to.iter_mut().skip(bf16_place(lane)).step_by(PANEL);
                    places.zip(values).for_each(|(d, &x)| *d = bf16::from_f32(x).to_bits());
                });
            }
            Self::Codes { bits, codes, scales } => {
                let (bits, codes, scales) = (*bits, Shared::new(codes), Shared::new(scales));
                let groups = inputs.div_ceil(GROUP);
                let size = groups * bits.group();
                pool.run(panels, &|panel| {
                    // SAFETY: one chunk writes one panel.
                    let (codes, scales) = unsafe {
                        let at = first + panel;
                        (codes.part(at * size, size), scales.part(at * groups * PANEL, groups * PANEL))
                    };
                    codes.fill(bits.zeros());
                    for (lane, row) in rows(panel) {
                        let row = tensor.quantised(row, bits.format());
                        row.q.iter().enumerate().for_each(|(i, &q)| bits.put(codes, i, lane, q));
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
            Data::Codes { bits, codes, scales } => {
                let groups = self.inputs.div_ceil(GROUP);
                let size = bits.group();
                for (g, o) in out[..self.inputs].chunks_mut(GROUP).enumerate() {
                    let at = panel * groups + g;
                    let s = half::f16::from_bits(scales[at * PANEL + lane]).to_f32();
                    let codes = &codes[at * size..(at + 1) * size];
                    o.iter_mut().enumerate().for_each(|(i, o)| *o += f32::from(bits.get(codes, i, lane)) * s);
                }
            }
        }
    }

    /// Whether rows are coded before they are multiplied with it.
    pub(crate) fn coded(&self) -> bool {
        matches!(self.data, Data::Codes { .. })
    }

    /// Codes and scales of a matrix that has them.
    pub(crate) fn codes(&self) -> (Bits, &[u8], &[u16]) {
        match self.data {
            Data::Codes { bits, codes, scales } => (bits, codes, scales),
            // Only coded matrices come to the code kernels.
            Data::F32(_) | Data::Bf16(_) => (Bits::Eight, &[], &[]),
        }
    }
}
