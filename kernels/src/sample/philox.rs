//! Philox4x32-10: a random number is a function of its address, not of what was drawn before.
//!
//! Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Four words for a counter and a key.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..ROUNDS {
        let a = u64::from(MULTIPLIERS[0]) * u64::from(c[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(c[2]);
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
        k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
    }
    c
}

/// No word has more Gumbel noise: the largest u is 1 - 2^-33, and 33 ln 2 is 22.874.
pub const MOST_GUMBEL: f64 = 22.875;

/// Gumbel noise `-ln(-ln u)` of a random word.
pub fn gumbel(word: u32) -> f64 {
    // Exact in f64 and never 0 or 1, so that the noise is finite.
    let u = (f64::from(word) + 0.5) / 4_294_967_296.0;
    -(-u.ln()).ln()
}

/// At least [`gumbel`] of a word, for a fraction of its cost: `-ln(-ln u) <= -ln(1 - u)`, and with n leading ones `1 - u >= 2^-(n + 1)`.
pub fn gumbel_bound(word: u32) -> f64 {
    // A little more: both sides are rounded.
    const LN_2_UP: f64 = std::f64::consts::LN_2 + 1e-9;
    f64::from(word.leading_ones() + 1) * LN_2_UP
}

/// The noise of one stream of ids of one generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noise {
    pub(crate) key: [u32; 2],
    pub(crate) stream: u32,
}

impl Noise {
    /// `stream`: which kind of ids, plus 16 times the variant.
    pub fn new(seed: u64, stream: u32) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], stream }
    }

    /// Gumbel noise `-ln(-ln u)` of the local ids `4 * block .. 4 * block + 4` of code `code` at `position`.
    pub fn gumbel4(&self, position: u32, code: u32, block: u32) -> [f64; 4] {
        self.words(position, code, block).map(gumbel)
    }

    /// The random words that [`Noise::gumbel4`] is made of.
    pub fn words(&self, position: u32, code: u32, block: u32) -> [u32; 4] {
        philox4x32([position, code, block, self.stream], self.key)
    }

    /// Gumbel noise of one local id.
    pub fn gumbel(&self, position: u32, code: u32, id: u32) -> f64 {
        self.gumbel4(position, code, id >> 2)[(id & 3) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the authors' library (Random123, `kat_vectors`, philox4x32 with 10 rounds).
    #[test]
    fn known_answers() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(philox4x32(pi, [0xa409_3822, 0x299f_31d0]), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn words_are_addressed() {
        let noise = Noise::new(0x0123_4567_89ab_cdef, 34);
        for id in 0..9 {
            assert_eq!(noise.gumbel(7, 3, id), noise.gumbel4(7, 3, id / 4)[id as usize % 4]);
        }
        assert_ne!(noise.gumbel(7, 3, 0), Noise::new(0x0123_4567_89ab_cdef, 35).gumbel(7, 3, 0));
        assert_ne!(noise.gumbel(7, 3, 0), Noise::new(0x1123_4567_89ab_cdef, 34).gumbel(7, 3, 0));
    }

    #[test]
    fn noise_is_finite_and_bounded() {
        let edges = (0..=32u32).flat_map(|n| [u32::MAX.checked_shl(n).unwrap_or(0), u32::MAX >> n.min(31)]);
        let some = (0..20_000u32).map(|i| i.wrapping_mul(0x9E37_79B9));
        for w in edges.chain(some) {
            let g = gumbel(w);
            assert!(g.is_finite() && g <= gumbel_bound(w) && g <= MOST_GUMBEL, "{w:x}: {g}");
        }
        // The bound is not idle: half of all words have no more than 1.39.
        assert!(gumbel_bound(0x7fff_ffff) < 0.7 && gumbel_bound(0xbfff_ffff) < 1.4);
    }
}
