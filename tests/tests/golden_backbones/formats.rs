//! Weights, and keys and values, that are rounded: how far the logits move, and how often the most likely id stays the same.

use borealis_kernels::{DeviceSpec, KvFormat, QuantFormat};
use borealis_model::Trace;
use borealis_weights::Checkpoint;

use crate::goldens::Golden;
use crate::prefill;
use crate::sequence::{Sequence, best};

/// How far a format may be from the reference.
struct Limit {
    /// Of the weights, and of keys and values.
    format: QuantFormat,
    kv: KvFormat,
    /// Largest normalised mean squared error of the logits.
    nmse: f64,
    /// Largest share of rows for which rounding makes a router choose other experts than the reference: their logits are those of another network and are left out.
    other: f64,
    /// Least share of steps with the reference's id.
    agree: f64,
}

/// The goldens' weights are random: nothing was learnt that survives rounding, and routers hang by a thread. bf16 and int8 have bounds that every
/// checkpoint of these families must meet; those of int4 only notice what is broken.
const LIMITS: [Limit; 5] = [
    Limit { format: QuantFormat::F32, kv: KvFormat::Bf16, nmse: 1e-4, other: 0.25, agree: 0.98 },
    // Where no router turns, at most 1e-4; what a row that turned keeps is seen by the rows behind it.
    Limit { format: QuantFormat::F32, kv: KvFormat::Int8, nmse: 1e-2, other: 0.25, agree: 0.95 },
    Limit { format: QuantFormat::Bf16, kv: KvFormat::F32, nmse: 1e-3, other: 0.25, agree: 0.95 },
    Limit { format: QuantFormat::Int8, kv: KvFormat::F32, nmse: 1e-2, other: 0.5, agree: 0.95 },
    Limit { format: QuantFormat::Int4, kv: KvFormat::F32, nmse: 0.3, other: 1.0, agree: 0.5 },
];

impl Limit {
    fn name(&self) -> String {
        format!("weights {}, keys and values {}", self.format.name(), self.kv.name())
    }
}

/// Steps of all folders and how many agree, by format.
#[derive(Default)]
pub struct Steps([(usize, usize); LIMITS.len()]);

impl Steps {
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (limit, (same, all)) in LIMITS.iter().zip(self.0) {
            println!("{}: {same} of {all} greedy ids are the reference's", limit.name());
            if (same as f64) < limit.agree * all as f64 {
                problems.push(format!("{}: only {same} of {all} greedy ids are the reference's", limit.name()));
            }
        }
        problems
    }
}

/// Logits of every position of the golden's prompt, and of its greedy ids.
pub fn check(golden: &Golden, checkpoint: &Checkpoint, steps: &mut Steps) -> Vec<String> {
    let Some((ids, logits, _)) = prefill(golden) else { return Vec::new() };
    let (prompt, wanted) = (golden.ids(ids).1, golden.floats(logits).1);
    let mut problems = Vec::new();
    for (at, limit) in LIMITS.iter().enumerate() {
        for device in [DeviceSpec::Cpu, DeviceSpec::Reference] {
            let mut s = Sequence::new(checkpoint, &device, limit.format);
            s.keep(limit.kv);
            let (found, trace) = s.trace(&prompt);
            let same = routed_alike(golden, &trace, prompt.len());
            let width = found[0].len();
            let rows =
                (0..prompt.len()).filter(|r| same[*r]).map(|r| (&found[r][..], &wanted[r * width..(r + 1) * width]));
            let (error, power) =
                rows.fold((0.0, 0.0), |(e, p), (a, b)| (e + distance(a, b), p + distance(b, &vec![0.0; width])));
            let (nmse, turned) = (error / power, same.iter().filter(|s| !**s).count());
            let what = format!("{}: {} on {device:?}", golden.name, limit.name());
            println!("{what}: NMSE of the logits {nmse:.1e}; {turned} of {} rows chose other experts", same.len());
            if turned as f64 > limit.other * same.len() as f64 {
                problems.push(format!("{what}: {turned} rows chose other experts"));
            }
            if nmse > limit.nmse {
                problems.push(format!("{what}: NMSE {nmse:e}, at most {:e}", limit.nmse));
            }
            if device == DeviceSpec::Cpu {
                s.reset();
                count(golden, &mut s, &prompt, &mut steps.0[at]);
            }
        }
    }
    problems
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// Whether each row has the reference's experts in every layer.
fn routed_alike(golden: &Golden, trace: &Trace, rows: usize) -> Vec<bool> {
    let mut same = vec![true; rows];
    for (layer, routing) in trace.routing.iter().enumerate() {
        let prefix = format!("router_indices.model.layers.{layer}.");
        let Some(name) = golden.names().into_iter().find(|n| n.starts_with(&prefix)) else { continue };
        let (shape, wanted) = golden.ids(&name);
        for (r, row) in routing.iter().enumerate() {
            let wanted = &wanted[r * shape[1]..(r + 1) * shape[1]];
            same[r] &= row.iter().all(|(e, _)| wanted.contains(e));
        }
    }
    same
}

/// Greedy steps behind the prompt, each after the reference's ids.
fn count(golden: &Golden, s: &mut Sequence<'_>, prompt: &[u32], (same, all): &mut (usize, usize)) {
    let name = if golden.has("generated_ids") { "generated_ids" } else { "und.generated_ids" };
    let wanted = golden.ids(name).1;
    let banned = s.banned(golden);
    let found = s.push(&wanted[..wanted.len() - 1]);
    for (at, logits) in found.iter().enumerate().skip(prompt.len() - 1) {
        *all += 1;
        *same += usize::from(best(logits, |id| !banned.contains(&id)) == wanted[at + 1]);
    }
}
