//! From logits to an id: temperature, top-k, top-p, and the noise of `philox.rs` as the only randomness.
//!
//! The id is the argmax over the ids that are left of `logit / temperature + g`, g a Gumbel variable: this draws from the
//! softmax (Gumbel 1954), needs no normalisation, and its noise is addressed by position, so that the draw at a position does not depend
//! on when or beside what it is made.

use crate::philox::Noise;

/// How ids of one kind are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// 0 takes the most likely id (ties: the lowest).
    pub temperature: f32,
    /// Keep the `top_k` most likely ids; 0 = all.
    pub top_k: usize,
    /// Then keep the most likely ids that together reach this probability; 1 = all.
    pub top_p: f32,
}

impl Default for Rule {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0 }
    }
}

/// Draws ids; holds scratch memory only.
#[derive(Debug, Default)]
pub struct Sampler {
    order: Vec<u32>,
    scaled: Vec<f64>,
}

impl Sampler {
    /// Draws a local id (an index of `logits`) at `(position, code)` of the noise's stream. `None` when a logit is not a number or all are minus infinity.
    pub fn sample(&mut self, logits: &[f32], rule: &Rule, noise: &Noise, position: u32, code: u32) -> Option<u32> {
        if logits.iter().any(|x| x.is_nan() || *x == f32::INFINITY) {
            return None;
        }
        if rule.temperature == 0.0 || rule.top_k == 1 {
            return greedy(logits);
        }
        self.scaled.clear();
        self.scaled.extend(logits.iter().map(|&x| f64::from(x) / f64::from(rule.temperature)));
        if (rule.top_k > 0 && rule.top_k < logits.len()) || rule.top_p < 1.0 {
            self.narrow(rule);
        }
        let mut best: Option<(f64, u32)> = None;
        for (block, four) in self.scaled.chunks(4).enumerate() {
            if four.iter().all(|&x| x == f64::NEG_INFINITY) {
                continue;
            }
            let g = noise.gumbel4(position, code, block as u32);
            for (j, &x) in four.iter().enumerate() {
                let value = x + g[j];
                if value > best.map_or(f64::NEG_INFINITY, |b| b.0) {
                    best = Some((value, (4 * block + j) as u32));
                }
            }
        }
        best.map(|b| b.1)
    }

    /// Sets the ids that top-k and top-p remove to minus infinity.
    fn narrow(&mut self, rule: &Rule) {
        let scaled = &mut self.scaled;
        self.order.clear();
        self.order.extend(0..scaled.len() as u32);
        // Descending, ties by the lower id: which ids are kept must not depend on the sort.
        self.order.sort_unstable_by(|&a, &b| scaled[b as usize].total_cmp(&scaled[a as usize]).then(a.cmp(&b)));
        let mut keep = if rule.top_k == 0 { scaled.len() } else { rule.top_k.min(scaled.len()) };
        if rule.top_p < 1.0 {
            let top = scaled[self.order[0] as usize];
            let weight = |id: u32| (scaled[id as usize] - top).exp();
            let goal = f64::from(rule.top_p) * self.order[..keep].iter().map(|&id| weight(id)).sum::<f64>();
            let mut sum = 0.0;
            let reached = self.order[..keep].iter().position(|&id| {
                sum += weight(id);
                sum >= goal
            });
            keep = reached.map_or(keep, |n| n + 1);
        }
        for &id in &self.order[keep..] {
            scaled[id as usize] = f64::NEG_INFINITY;
        }
    }
}

/// The largest logit; the lowest id of equals.
fn greedy(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(f32, u32)> = None;
    for (id, &x) in logits.iter().enumerate() {
        if x > best.map_or(f32::NEG_INFINITY, |b| b.0) {
            best = Some((x, id as u32));
        }
    }
    best.map(|b| b.1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draw(logits: &[f32], rule: Rule, seed: u64, position: u32) -> Option<u32> {
        Sampler::default().sample(logits, &rule, &Noise::new(seed, 2), position, 0)
    }

    #[test]
    fn greedy_takes_the_lowest_of_equals() {
        let rule = Rule::default();
        assert_eq!(draw(&[1.0, 3.0, 3.0, 2.0], rule, 1, 0), Some(1));
        assert_eq!(draw(&[f32::NEG_INFINITY, -5.0], rule, 1, 0), Some(1));
        assert_eq!(draw(&[f32::NEG_INFINITY; 3], rule, 1, 0), None);
        assert_eq!(draw(&[0.0, f32::NAN], rule, 1, 0), None);
        assert_eq!(draw(&[], rule, 1, 0), None);
    }

    /// 20,000 draws of 8 ids: the chi-square statistic with 7 degrees of freedom stays under its 99.9 % point, 24.32.
    fn chi_square(rule: Rule, kept: &[usize]) {
        let logits = [0.3f32, -1.2, 2.0, 0.0, 1.1, -0.4, 0.9, -2.5];
        let weight = |v: usize| (f64::from(logits[v]) / f64::from(rule.temperature)).exp();
        let total: f64 = kept.iter().map(|&v| weight(v)).sum();
        let n = 20_000u32;
        let mut counts = [0u32; 8];
        for position in 0..n {
            counts[draw(&logits, rule, 12345, position).expect("finite logits") as usize] += 1;
        }
        let mut statistic = 0.0;
        for (v, &count) in counts.iter().enumerate() {
            if kept.contains(&v) {
                let expected = f64::from(n) * weight(v) / total;
                statistic += (f64::from(count) - expected).powi(2) / expected;
            } else {
                assert_eq!(count, 0, "id {v} was removed");
            }
        }
        assert!(statistic < 24.32, "chi-square {statistic:.1}, counts {counts:?}");
    }

    #[test]
    fn draws_follow_the_softmax() {
        let all = [0, 1, 2, 3, 4, 5, 6, 7];
        chi_square(Rule { temperature: 1.0, ..Rule::default() }, &all);
        chi_square(Rule { temperature: 0.7, ..Rule::default() }, &all);
        chi_square(Rule { temperature: 1.7, top_k: 8, top_p: 1.0 }, &all);
    }

    #[test]
    fn top_k_and_top_p_remove_the_unlikely() {
        chi_square(Rule { temperature: 1.0, top_k: 3, top_p: 1.0 }, &[2, 4, 6]);
        // Probabilities .455 .185 .151 .083 .062 .041 .019 .005 of ids 2 4 6 0 3 5 1 7.
        chi_square(Rule { temperature: 1.0, top_k: 0, top_p: 0.6 }, &[2, 4]);
        chi_square(Rule { temperature: 1.0, top_k: 0, top_p: 0.65 }, &[2, 4, 6]);
        // Top-p is measured after top-k.
        chi_square(Rule { temperature: 1.0, top_k: 3, top_p: 0.8 }, &[2, 4]);
    }

    proptest! {
        #[test]
        fn kept_ids_are_the_largest(
            logits in prop::collection::vec(-8.0f32..8.0, 1..80), k in 1usize..90, p in 0.05f32..1.0, seed: u64, t in 0.2f32..3.0,
        ) {
            let id = draw(&logits, Rule { temperature: t, top_k: k, top_p: 1.0 }, seed, 5).expect("finite") as usize;
            prop_assert!(logits.iter().filter(|&&x| x > logits[id]).count() < k);
            let id = draw(&logits, Rule { temperature: t, top_k: 0, top_p: p }, seed, 5).expect("finite") as usize;
            let weight = |x: f32| (f64::from(x) / f64::from(t)).exp();
            let above: f64 = logits.iter().filter(|&&x| x > logits[id]).map(|&x| weight(x)).sum();
            let all: f64 = logits.iter().map(|&x| weight(x)).sum();
            prop_assert!(above / all < f64::from(p) + 1e-9);
        }

        #[test]
        fn a_cold_draw_is_greedy(logits in prop::collection::vec(-8.0f32..8.0, 1..40), seed: u64) {
            let cold = draw(&logits, Rule { temperature: 1e-6, ..Rule::default() }, seed, 0).expect("finite") as usize;
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            prop_assert!(top - logits[cold] < 1e-3);
        }

        #[test]
        fn a_draw_depends_on_its_address_alone(
            logits in prop::collection::vec(-3.0f32..3.0, 2..40), seed: u64, position: u32, code in 0u32..40,
        ) {
            let rule = Rule { temperature: 1.0, ..Rule::default() };
            let noise = Noise::new(seed, 1);
            let mut used = Sampler::default();
            used.sample(&[1.0; 50], &Rule { top_k: 3, ..rule }, &noise, 1, 1);
            let again = Sampler::default().sample(&logits, &rule, &noise, position, code);
            prop_assert_eq!(used.sample(&logits, &rule, &noise, position, code), again);
            // The same draw, naively.
            let naive = (0..logits.len()).max_by(|&a, &b| {
                let f = |v: usize| f64::from(logits[v]) + noise.gumbel(position, code, v as u32);
                f(a).total_cmp(&f(b))
            });
            prop_assert_eq!(again.map(|v| v as usize), naive);
        }

        #[test]
        fn shifting_all_logits_changes_nothing(logits in prop::collection::vec(-3i32..3, 2..40), seed: u64) {
            let a: Vec<f32> = logits.iter().map(|&x| x as f32).collect();
            let b: Vec<f32> = logits.iter().map(|&x| x as f32 + 16.0).collect();
            let rule = Rule { temperature: 0.5, top_k: 9, top_p: 0.9 };
            prop_assert_eq!(draw(&a, rule, seed, 3), draw(&b, rule, seed, 3));
        }
    }
}
