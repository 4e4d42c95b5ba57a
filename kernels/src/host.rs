//! Tensors as they lie in host memory (usually a mapped checkpoint file), and the values that a weight has in each format.

use half::{bf16, f16};

use crate::KernelError;
use crate::quant::{GROUP, QuantRow};

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
    /// Four-bit codes in groups along the last axis, two to a byte: the even element in the low half, each plus 8. The last axis is even.
    I4,
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
    /// Codes -8..=7 with one scale for each group of 64 inputs, the one with the least squared error.
    Int4,
}

impl QuantFormat {
    /// All of them, from the most exact to the smallest.
    pub const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::Int8, Self::Int4];

    /// The name users write (`--dtype`).
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
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
            "int4" => Ok(Self::Int4),
            _ => Err(format!("unknown dtype \"{s}\": use f32, bf16, int8 or int4")),
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
    /// Little-endian bytes, not necessarily aligned; as many as elements and type say.
    pub data: &'a [u8],
    /// For [`HostType::I8`] and [`HostType::I4`]: f16 bytes, one scale per group of `group` elements of the last axis.
    pub scales: Option<(&'a [u8], usize)>,
}

fn bad(what: String) -> KernelError {
    KernelError::Shape { op: "weight", what }
}

impl HostType {
    /// Bytes of `elements` elements; `None` when there are too many to count.
    pub fn bytes(self, elements: usize) -> Option<usize> {
        match self {
            Self::F32 => elements.checked_mul(4),
            Self::F16 | Self::Bf16 => elements.checked_mul(2),
            Self::I8 => Some(elements),
            Self::I4 => Some(elements.div_ceil(2)),
        }
    }

    /// Whether elements are codes that need scales.
    pub fn coded(self) -> bool {
        matches!(self, Self::I8 | Self::I4)
    }

    /// The format in which a weight of this type is kept when nobody asks for another.
    pub fn format(self) -> QuantFormat {
        match self {
            Self::F32 | Self::F16 => QuantFormat::F32,
            Self::Bf16 => QuantFormat::Bf16,
            Self::I8 => QuantFormat::Int8,
            Self::I4 => QuantFormat::Int4,
        }
    }
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

    /// Checks that the bytes (and the scales of codes) are as many as the shape says.
    pub fn check(&self) -> Result<(), KernelError> {
        let elements = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if elements.and_then(|n| self.dtype.bytes(n)) != Some(self.data.len()) {
            return Err(bad(format!("{} bytes of {:?} for shape {:?}", self.data.len(), self.dtype, self.shape)));
        }
        if !self.dtype.coded() {
            return Ok(());
        }
        let name = self.dtype.format().name();
        if self.dtype == HostType::I4 && !self.width().is_multiple_of(2) {
            return Err(bad(format!("an int4 tensor of shape {:?}: its last axis must be even", self.shape)));
        }
        match self.scales {
            None => Err(bad(format!("an {name} tensor of shape {:?} needs scales", self.shape))),
            Some((_, 0)) => Err(bad(format!("an {name} group of 0 elements"))),
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
            HostType::I8 | HostType::I4 => {
                let group = self.scales.map_or(1, |(_, g)| g);
                for (g, part) in out.chunks_mut(group).enumerate() {
                    let scale = self.scale(row, g);
                    let codes = self.codes(row, g * group);
                    part.iter_mut().zip(codes).for_each(|(o, q)| *o = f32::from(q) * scale);
                }
            }
        }
    }

    /// The codes of vector `row` from element `from` on.
    fn codes(&self, row: usize, from: usize) -> impl Iterator<Item = i8> {
        let (w, four) = (self.width(), self.dtype == HostType::I4);
        (row * w + from..(row + 1) * w)
            .map(move |at| if four { (self.data[at / 2] >> (at % 2 * 4) & 15) as i8 - 8 } else { self.data[at] as i8 })
    }

    fn scale(&self, row: usize, index: usize) -> f32 {
        let Some((bytes, group)) = self.scales else { return 1.0 };
        let at = (row * self.width().div_ceil(group) + index) * 2;
        f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
    }

    /// Vector `row` in a format that has codes. Codes of a checkpoint are kept as they are when they are of that format and their groups are whole numbers
    /// of ours; everything else is quantised.
    pub(crate) fn quantised(&self, row: usize, format: QuantFormat) -> QuantRow {
        let w = self.width();
        if let Some((_, group)) = self.scales
            && self.dtype.coded()
            && self.dtype.format() == format
            && group % GROUP == 0
        {
            return QuantRow {
                q: self.codes(row, 0).collect(),
                scales: (0..w.div_ceil(GROUP)).map(|g| f16::from_f32(self.scale(row, g * GROUP / group))).collect(),
            };
        }
        let mut values = vec![0f32; w];
        self.row(row, &mut values);
        QuantRow::quantise(&values, format)
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
                QuantFormat::Int8 | QuantFormat::Int4 => self.quantised(r, format).expand(row),
            }
        }
        Ok(out)
    }
}
