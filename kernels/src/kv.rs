//! How keys and values are kept, and what that costs.

/// How a backend keeps the keys and values of the KV slab. They are rounded once, when they are stored; attention computes in f32 with what was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KvFormat {
    /// IEEE binary32: nothing is rounded.
    #[default]
    F32,
    /// bfloat16, to the nearest, ties to even.
    Bf16,
    /// Signed bytes with one f32 scale for the key, and one for the value, of each slot and head: `s = max|x| / 127` over its `head_dim` numbers, at least the
    /// smallest normal f32; `q = round(x / s)`, ties to even; the number that is kept is `q * s`.
    ///
    /// One scale for a whole vector, so that it can be multiplied to a score or to a weight after the sum over codes: the inner loops see bytes alone.
    /// In f32 because it needs no rounding of its own, no clamping and no special cases; against f16 that is 2 bytes of `head_dim + 4`.
    /// A vector with a number that is not finite is kept as NaN.
    Int8,
}

impl KvFormat {
    /// All of them, from the most exact to the smallest.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    /// The name users write (`--kv-dtype`).
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// Bytes of one key, or of one value, of `head_dim` numbers.
    pub fn bytes(self, head_dim: usize) -> usize {
        match self {
            Self::F32 => 4 * head_dim,
            Self::Bf16 => 2 * head_dim,
            Self::Int8 => head_dim + 4,
        }
    }
}

impl std::str::FromStr for KvFormat {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let unknown = || format!("unknown type of keys and values \"{s}\": use f32, bf16 or int8");
        Self::ALL.into_iter().find(|f| f.name() == s).ok_or_else(unknown)
    }
}
