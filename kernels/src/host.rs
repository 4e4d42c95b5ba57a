//! Tensors as they lie in host memory (usually a mapped checkpoint file).

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
