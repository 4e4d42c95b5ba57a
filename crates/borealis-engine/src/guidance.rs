//! Classifier-free guidance: two rows of a batch become one.

/// Moves the conditional logits away from the unconditional ones, in place: `c = u + scale * (c - u)`.
///
/// A scale of 1 changes no bit. Both slices have the same length (one query of one step).
pub fn combine(conditional: &mut [f32], unconditional: &[f32], scale: f32) {
    if scale == 1.0 {
        return;
    }
    for (c, &u) in conditional.iter_mut().zip(unconditional) {
        *c = u + scale * (*c - u);
    }
}

#[cfg(test)]
mod tests {
    use super::combine;

    #[test]
    fn scales() {
        let (cond, uncond) = ([1.0f32, -2.0, 0.5], [0.0f32, 1.0, 0.5]);
        let run = |s| {
            let mut c = cond;
            combine(&mut c, &uncond, s);
            c
        };
        assert_eq!(run(1.0), cond);
        assert_eq!(run(0.0), uncond);
        assert_eq!(run(3.0), [3.0, -8.0, 0.5]);
    }
}
