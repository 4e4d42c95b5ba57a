//! Tensors as they lie in host memory (usually a mapped checkpoint file), and the values that a weight has in each format.

use half::{bf16, f16};

use crate::KernelError;

/// Element type of a [`HostTensor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// Signed bytes in groups along the last axis; see [`HostTensor::scales`].
    I8,
}

/// How a backend keeps a weight matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QuantFormat {
    /// IEEE binary32.
    F32,
    /// bfloat16.
    Bf16,
    /// Signed bytes with one scale for each group of 64 inputs, `q = round(w / s)`, `s = max|w| / 127`.
    Int8,
}

impl QuantFormat {
    /// The name users write (`--dtype`).
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

impl std::str::FromStr for QuantFormat {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => Err(format!("unknown dtype \"{s}\": use f32, bf16 or int8")),
        }
    }
}

/// A borrowed, contiguous, row-major tensor of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct HostTensor<'a> {
    /// Element type of `data`.
    pub dtype: HostType,
    /// Shape, outermost first.
    pub shape: &'a [usize],
    /// Little-endian bytes, not necessarily aligned; `shape.product() * size_of(dtype)` of them.
    pub data: &'a [u8],
    /// For [`HostType::I8`]: f16 bytes, one scale per group of `group` elements of the last axis.
    pub scales: Option<(&'a [u8], usize)>,
}

/// Inputs that share one scale in [`QuantFormat::Int8`].
pub const GROUP: usize = 64;

/// One row of signed bytes with one scale per [`GROUP`] (the last group may be shorter).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QuantRow {
    pub(crate) q: Vec<i8>,
    pub(crate) scales: Vec<f16>,
}

impl QuantRow {
    /// `s = f16(max|w| / 127)`, `q = round(w / s)`: the scale is rounded first, as a checkpoint would store it.
    fn quantise(w: &[f32]) -> Self {
        let mut row = Self { q: Vec::with_capacity(w.len()), scales: Vec::with_capacity(w.len().div_ceil(GROUP)) };
        for group in w.chunks(GROUP) {
            let max = group.iter().fold(0f32, |m, x| m.max(x.abs()));
            let scale = f16::from_f32((max / 127.0).min(f16::MAX.to_f32()));
            let s = scale.to_f32();
            row.scales.push(scale);
            row.q.extend(
                group.iter().map(|x| if s == 0.0 { 0 } else { (x / s).round_ties_even().clamp(-127.0, 127.0) as i8 }),
            );
        }
        row
    }

    fn expand(&self, out: &mut [f32]) {
        for (g, (o, q)) in out.chunks_mut(GROUP).zip(self.q.chunks(GROUP)).enumerate() {
            let s = self.scales[g].to_f32();
            o.iter_mut().zip(q).for_each(|(o, &q)| *o = f32::from(q) * s);
        }
    }
}

/// Quantises one row as [`QuantFormat::Int8`] does: appends its codes and the bytes of its f16 scales.
pub fn quantise(row: &[f32], codes: &mut Vec<u8>, scales: &mut Vec<u8>) {
    let row = QuantRow::quantise(row);
    codes.extend(row.q.iter().map(|q| *q as u8));
    scales.extend(row.scales.iter().flat_map(|s| s.to_le_bytes()));
}

fn bad(what: String) -> KernelError {
    KernelError::Shape { op: "weight", what }
}

impl HostTensor<'_> {
    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of the last axis.
    pub fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Vectors along the last axis.
    pub fn rows(&self) -> usize {
        self.shape[..self.shape.len().saturating_sub(1)].iter().product()
    }

    /// Checks that the bytes (and the scales of [`HostType::I8`]) are as many as the shape says.
    pub fn check(&self) -> Result<(), KernelError> {
        let size = match self.dtype {
            HostType::F32 => 4,
            HostType::F16 | HostType::Bf16 => 2,
            HostType::I8 => 1,
        };
        let elements = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let bytes = elements.and_then(|n| n.checked_mul(size));
        if bytes != Some(self.data.len()) {
            return Err(bad(format!("{} bytes of {:?} for shape {:?}", self.data.len(), self.dtype, self.shape)));
        }
        if self.dtype != HostType::I8 {
            return Ok(());
        }
        match self.scales {
            None => Err(bad(format!("an int8 tensor of shape {:?} needs scales", self.shape))),
            Some((_, 0)) => Err(bad("an int8 group of 0 elements".into())),
            Some((bytes, group)) => {
                let want = self.rows() * self.width().div_ceil(group) * 2;
                if bytes.len() == want {
                    return Ok(());
                }
                Err(bad(format!(
                    "{} bytes of scales for shape {:?} in groups of {group}: expected {want}",
                    bytes.len(),
                    self.shape
                )))
            }
        }
    }

    /// Decodes vector `row` of the last axis. Call [`Self::check`] first.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let w = self.width();
        debug_assert_eq!(out.len(), w);
        let halves = |at: usize| [self.data[at], self.data[at + 1]];
        match self.dtype {
            HostType::F32 => {
                let bytes = &self.data[row * w * 4..(row + 1) * w * 4];
                for (o, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *o = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                }
            }
            HostType::F16 => {
                out.iter_mut()
                    .enumerate()
                    .for_each(|(i, o)| *o = f16::from_le_bytes(halves((row * w + i) * 2)).to_f32());
            }
            HostType::Bf16 => {
                out.iter_mut()
                    .enumerate()
                    .for_each(|(i, o)| *o = bf16::from_le_bytes(halves((row * w + i) * 2)).to_f32());
            }
            HostType::I8 => {
                let group = self.scales.map_or(1, |(_, g)| g);
                for (i, o) in out.iter_mut().enumerate() {
                    *o = f32::from(self.data[row * w + i] as i8) * self.scale(row, i / group);
                }
            }
        }
    }

    fn scale(&self, row: usize, index: usize) -> f32 {
        let Some((bytes, group)) = self.scales else { return 1.0 };
        let at = (row * self.width().div_ceil(group) + index) * 2;
        f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
    }

    /// Vector `row` in int8. Bytes of a checkpoint are kept as they are when its groups are whole numbers of ours; everything else is quantised.
    pub(crate) fn quantised(&self, row: usize) -> QuantRow {
        let w = self.width();
        if let (HostType::I8, Some((_, group))) = (self.dtype, self.scales)
            && group % GROUP == 0
        {
            return QuantRow {
                q: self.data[row * w..(row + 1) * w].iter().map(|&b| b as i8).collect(),
                scales: (0..w.div_ceil(GROUP)).map(|g| f16::from_f32(self.scale(row, g * GROUP / group))).collect(),
            };
        }
        let mut values = vec![0f32; w];
        self.row(row, &mut values);
        QuantRow::quantise(&values)
    }

    /// All values as f32.
    pub fn to_f32(&self) -> Result<Vec<f32>, KernelError> {
        self.rounded(QuantFormat::F32)
    }

    /// The values, as f32, that a weight has when it is kept in `format`: rounded to bf16, or quantised and expanded again.
    pub fn rounded(&self, format: QuantFormat) -> Result<Vec<f32>, KernelError> {
        self.check()?;
        let mut out = vec![0f32; self.len()];
        if out.is_empty() {
            return Ok(out);
        }
        for (r, row) in out.chunks_exact_mut(self.width()).enumerate() {
            match format {
                QuantFormat::F32 => self.row(r, row),
                QuantFormat::Bf16 => {
                    self.row(r, row);
                    row.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32());
                }
                QuantFormat::Int8 => self.quantised(r).expand(row),
            }
        }
        Ok(out)
    }
}
