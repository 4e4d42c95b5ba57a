//! Every family with experts, spread over 2, 3 and 4 ranks: greedy ids and all logits have the bits of one rank.

use std::sync::Arc;

use borealis_kernels::{DeviceSpec, QuantFormat};
use borealis_model::LoadOptions;
use borealis_model::ranks::{Placement, Traffic, load_threads};
use borealis_weights::Checkpoint;

use crate::sequence::{Sequence, best};

const CPU: DeviceSpec = DeviceSpec::Cpu;
/// Ids that are generated.
const MORE: usize = 6;

/// Compares; false when the model has no experts.
pub fn check(name: &str, checkpoint: &Checkpoint, prompt: &[u32]) -> bool {
    let config = borealis_model::check(checkpoint).expect("a model");
    let Some(experts) = config.experts.as_ref().map(|e| e.router.experts) else { return false };
    let one = greedy(&mut Sequence::new(checkpoint, &CPU, QuantFormat::F32), prompt);
    for ranks in (2..=4).filter(|n| *n <= experts) {
        let placement = Arc::new(Placement::round_robin(&config, ranks).expect("a placement"));
        let options = LoadOptions { threads: ranks, ..LoadOptions::new(QuantFormat::F32) };
        let model = load_threads(checkpoint, &CPU.for_ranks(ranks), &options, &placement, Arc::new(Traffic::default()));
        let found = greedy(&mut Sequence::of(checkpoint, model.expect("a model"), true), prompt);
        assert!(found == one, "{name}: {ranks} ranks compute other bits than one");
    }
    true
}

/// Logits of the prompt and of each id after it.
fn greedy(s: &mut Sequence<'_>, prompt: &[u32]) -> (Vec<u32>, Vec<Vec<f32>>) {
    let (mut ids, mut logits) = (Vec::new(), s.push(prompt));
    for _ in 0..MORE {
        let id = best(logits.last().expect("a row"), |_| true);
        ids.push(id);
        logits.extend(s.push(&[id]));
    }
    (ids, logits)
}
