//! Random numbers that depend on seed, name and index alone.

/// A number in [-1, 1) from a counter (SplitMix64's finaliser, Steele, Lea and Flood 2014).
pub fn uniform(seed: u64, index: u64) -> f32 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Values for a tensor: norms around 1, everything else of a size that keeps activations near 1 (variance 1 / columns).
pub fn synth(seed: u64, name: &str, shape: &[usize]) -> Vec<f32> {
    // FNV-1a of the name: tensors of one shape must differ.
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3));
    let count = shape.iter().product::<usize>() as u64;
    let (centre, scale) = match (name.ends_with("norm.weight"), shape) {
        (true, _) => (1.0, 0.1),
        (false, [.., _, columns]) => (0.0, (3.0 / *columns as f32).sqrt()),
        _ => (0.0, 0.1),
    };
    (0..count).map(|i| centre + scale * uniform(seed ^ hash, i)).collect()
}
