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

/// Logits -> logarithms of probabilities, in place.
///
/// Guided logits differ from guided log-probabilities by one number for the whole row, which changes no probability. A repetition penalty looks at signs: where there is
/// one, both rows are normalised before they are combined, as the reference does.
pub fn log_softmax(logits: &mut [f32]) {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if top == f32::NEG_INFINITY {
        return;
    }
    let sum: f64 = logits.iter().map(|&x| f64::from(x - top).exp()).sum();
    let shift = f64::from(top) + sum.ln();
    logits.iter_mut().for_each(|x| *x = (f64::from(*x) - shift) as f32);
}

#[cfg(test)]
mod tests {
    use super::{combine, log_softmax};

    #[test]
    fn log_softmax_normalises() {
        let mut row = [1.0f32, -2.0, 0.5, f32::NEG_INFINITY, 300.0];
        log_softmax(&mut row);
        let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6 && row[4] == 0.0 && (row[0] - row[1] - 3.0).abs() < 1e-4, "{row:?}");
    }

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
