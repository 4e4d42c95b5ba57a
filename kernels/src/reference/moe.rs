//! Router and experts in plain tensors.

use candle_core::{IndexOp, Tensor};

use super::ops::swiglu;
use crate::backend::Result;
use crate::{RouterSpec, Scoring, check};

/// Chosen experts and weights of every row of `logits` `[rows, E + null]`, in descending order of selection score.
pub(super) fn choose(logits: &Tensor, spec: &RouterSpec) -> Result<Vec<Vec<(u32, f32)>>> {
    let scores = match spec.scoring {
        Scoring::Softmax => candle_nn::ops::softmax_last_dim(logits)?,
        Scoring::Sigmoid => candle_nn::ops::sigmoid(logits)?,
    };
    Ok(scores.to_vec2::<f32>()?.iter().map(|s| choose_row(s, spec)).collect())
}

fn choose_row(scores: &[f32], spec: &RouterSpec) -> Vec<(u32, f32)> {
    let selection = |i: usize| scores[i] + spec.selection_bias.get(i).copied().unwrap_or(0.0);
    let mut groups = vec![0.0; spec.groups];
    let open = check::open_groups(spec, selection, &mut groups);
    let mut order: Vec<usize> = (0..scores.len()).filter(|i| open(*i)).collect();
    // The sort is stable: among equals the lower index stays first.
    order.sort_by(|&a, &b| selection(b).total_cmp(&selection(a)));
    order.truncate(spec.top_k);
    let sum = order.iter().map(|&i| scores[i]).sum::<f32>() + 1e-20;
    let norm = if spec.normalise { sum } else { 1.0 };
    order.into_iter().map(|i| (i as u32, scores[i] / norm * spec.scale)).collect()
}

/// `sum of weight * down[e] @ swiglu(gate_up[e] @ x)` for one row `x` `[1, H]`, in ascending order of the expert's index.
/// Null experts add nothing; `None` when all are null.
pub(super) fn mix(x: &Tensor, chosen: &[(u32, f32)], gate_up: &Tensor, down: &Tensor) -> Result<Option<Tensor>> {
    let mut chosen: Vec<_> = chosen.iter().filter(|(e, _)| (*e as usize) < gate_up.dims()[0]).collect();
    chosen.sort_by_key(|(e, _)| *e);
    let mut sum: Option<Tensor> = None;
    for &&(e, weight) in &chosen {
        let inner = swiglu(&x.matmul(&gate_up.i(e as usize)?.t()?)?)?;
        let y = (inner.matmul(&down.i(e as usize)?.t()?)? * f64::from(weight))?;
        sum = Some(match sum {
            Some(sum) => (sum + y)?,
            None => y,
        });
    }
    Ok(sum)
}
