//! From logits to an id: repetition penalty, temperature, top-k, top-p, min-p, and the noise of `philox.rs` as the only randomness.
//!
//! The filters, their order and what they do with equals are those of Hugging Face transformers, so that the settings of a published `generation_config.json` mean here
//! what they mean there. The id is the argmax over the ids that are left of `logit / temperature + g`, g a Gumbel variable: this draws from the
//! softmax (Gumbel 1954), needs no normalisation, and its noise is addressed by position, so that the draw at a position does not depend
//! on when or beside what it is made.

use super::philox::{MOST_GUMBEL, Noise, gumbel, gumbel_bound};

/// How ids of one kind are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Logits of ids that were there before are divided by this when they are positive and multiplied when they are negative; 1 = off.
    pub repetition_penalty: f32,
    /// 0 takes the most likely id (ties: the lowest).
    pub temperature: f32,
    /// Keep the `top_k` most likely ids, and those that equal the last of them; 0 = all.
    pub top_k: usize,
    /// Then keep the most likely ids that together reach this probability (of equals the lowest ids first); 1 = all.
    pub top_p: f32,
    /// Then keep the ids that are at least this times as likely as the most likely one; 0 = all.
    pub min_p: f32,
}

impl Default for Rule {
    fn default() -> Self {
        Self { repetition_penalty: 1.0, temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

/// Of so many scores, one is looked at to guess where the k largest begin.
const SAMPLED: usize = 16;

/// Draws ids; holds scratch memory only.
#[derive(Debug, Default)]
pub struct Sampler {
    order: Vec<u32>,
    scores: Vec<f64>,
    /// The scores again, partly sorted.
    sorted: Vec<f64>,
}

impl Sampler {
    /// Draws a local id (an index of `logits`) at `(position, code)` of the noise's stream. `seen`: local ids that were there before, in any order and number; read only
    /// with a repetition penalty. `None` when a logit is not a number or all are minus infinity.
    pub fn sample(
        &mut self,
        logits: &[f32],
        rule: &Rule,
        seen: &[u32],
        noise: &Noise,
        position: u32,
        code: u32,
    ) -> Option<u32> {
        let scores = self.scores(logits, rule, seen)?;
        if rule.temperature == 0.0 {
            return greedy(scores);
        }
        let top = greedy(scores)?;
        // The likeliest id first: what cannot reach it, or the best so far, needs no noise.
        let mut best = (scores[top as usize] + noise.gumbel(position, code, top), top);
        for (block, four) in scores.chunks(4).enumerate() {
            if four.iter().all(|&x| x + MOST_GUMBEL < best.0) {
                continue;
            }
            let words = noise.words(position, code, block as u32);
            for (j, (&x, word)) in four.iter().zip(words).enumerate() {
                if x + gumbel_bound(word) < best.0 {
                    continue;
                }
                let (value, id) = (x + gumbel(word), (4 * block + j) as u32);
                if value > best.0 || (value == best.0 && id < best.1) {
                    best = (value, id);
                }
            }
        }
        Some(best.1)
    }

    /// The logits after all filters, divided by the temperature (unless that is 0); minus infinity for ids that are removed. `None` when a logit is not a number or
    /// plus infinity.
    pub fn scores(&mut self, logits: &[f32], rule: &Rule, seen: &[u32]) -> Option<&[f64]> {
        // Without a way out, so that it is done for several at once.
        if logits.iter().fold(false, |bad, x| bad | x.is_nan() | (*x == f32::INFINITY)) {
            return None;
        }
        self.scores.clear();
        self.scores.extend(logits.iter().map(|&x| f64::from(x)));
        if rule.repetition_penalty != 1.0 {
            let penalty = f64::from(rule.repetition_penalty);
            for &id in seen {
                // From the logit itself: an id counts once however often it was there.
                if let (Some(score), Some(&x)) = (self.scores.get_mut(id as usize), logits.get(id as usize)) {
                    *score = if x < 0.0 { f64::from(x) * penalty } else { f64::from(x) / penalty };
                }
            }
        }
        if rule.temperature > 0.0 {
            if rule.temperature != 1.0 {
                self.scores.iter_mut().for_each(|x| *x /= f64::from(rule.temperature));
            }
            self.top_k(rule.top_k);
            self.top_p(f64::from(rule.top_p));
            self.min_p(f64::from(rule.min_p));
        }
        Some(&self.scores)
    }

    fn top_k(&mut self, k: usize) {
        if k == 0 || k >= self.scores.len() {
            return;
        }
        // The largest of some scores tell about where the least of the k will be; if too few are above that, all are looked at.
        let some = self.scores.len() / SAMPLED;
        self.sorted.clear();
        self.sorted.extend(self.scores.iter().step_by(SAMPLED));
        let rank = (k + k / 2) / SAMPLED + 8;
        let guess = if rank < some {
            *self.sorted.select_nth_unstable_by(rank, |a, b| b.total_cmp(a)).1
        } else {
            f64::NEG_INFINITY
        };
        self.sorted.clear();
        self.sorted.extend(self.scores.iter().filter(|x| **x >= guess));
        if self.sorted.len() < k {
            self.sorted.clone_from(&self.scores);
        }
        let (_, &mut least, _) = self.sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        remove_if(&mut self.scores, |x| x < least);
    }

    fn top_p(&mut self, p: f64) {
        let top = largest(&self.scores);
        if p >= 1.0 || top == f64::NEG_INFINITY {
            return;
        }
        let scores = &self.scores;
        self.order.clear();
        self.order.extend((0..scores.len() as u32).filter(|&id| scores[id as usize] > f64::NEG_INFINITY));
        let goal = p * self.order.iter().map(|&id| (scores[id as usize] - top).exp()).sum::<f64>();
        // Descending; which of several equals are kept must not depend on the sort (transformers leaves it to its sort).
        let by_score = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
        // The likely ids of a large vocabulary are few: they alone are sorted.
        let (mut sorted, mut keep, mut sum) = (0, self.order.len(), 0.0);
        while sorted < keep {
            let from = sorted;
            let rest = &mut self.order[from..];
            let count = (256.max(3 * from)).min(rest.len());
            if count < rest.len() {
                rest.select_nth_unstable_by(count, by_score);
            }
            rest[..count].sort_unstable_by(by_score);
            sorted += count;
            let reached = rest[..count].iter().position(|&id| {
                sum += (scores[id as usize] - top).exp();
                sum >= goal
            });
            keep = reached.map_or(keep, |n| from + n + 1);
        }
        for &id in &self.order[keep..] {
            self.scores[id as usize] = f64::NEG_INFINITY;
        }
    }

    fn min_p(&mut self, p: f64) {
        if p > 0.0 {
            let top = largest(&self.scores);
            remove_if(&mut self.scores, |x| (x - top).exp() < p);
        }
    }
}

fn remove_if(scores: &mut [f64], removed: impl Fn(f64) -> bool) {
    scores.iter_mut().filter(|x| removed(**x)).for_each(|x| *x = f64::NEG_INFINITY);
}

/// The largest score; minus infinity without any.
fn largest(scores: &[f64]) -> f64 {
    // Four maxima at a time: one chain of comparisons would wait for itself.
    let (four, rest) = scores.as_chunks::<4>();
    let larger = |a: f64, b: f64| if b > a { b } else { a };
    let lanes = four.iter().fold([f64::NEG_INFINITY; 4], |m, x| std::array::from_fn(|i| larger(m[i], x[i])));
    lanes.into_iter().chain(rest.iter().copied()).fold(f64::NEG_INFINITY, larger)
}

/// The id with the largest score; the lowest of equals.
fn greedy(scores: &[f64]) -> Option<u32> {
    let top = largest(scores);
    let at = scores.iter().position(|x| *x == top).filter(|_| top > f64::NEG_INFINITY);
    at.map(|id| id as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draw(logits: &[f32], rule: Rule, seed: u64, position: u32) -> Option<u32> {
        Sampler::default().sample(logits, &rule, &[], &Noise::new(seed, 2), position, 0)
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
        chi_square(Rule { temperature: 1.7, top_k: 8, top_p: 1.0, ..Rule::default() }, &all);
    }

    #[test]
    fn top_k_and_top_p_remove_the_unlikely() {
        chi_square(Rule { temperature: 1.0, top_k: 3, top_p: 1.0, ..Rule::default() }, &[2, 4, 6]);
        // Probabilities .455 .185 .151 .083 .062 .041 .019 .005 of ids 2 4 6 0 3 5 1 7.
        chi_square(Rule { temperature: 1.0, top_k: 0, top_p: 0.6, ..Rule::default() }, &[2, 4]);
        chi_square(Rule { temperature: 1.0, top_k: 0, top_p: 0.65, ..Rule::default() }, &[2, 4, 6]);
        // Top-p is measured after top-k.
        chi_square(Rule { temperature: 1.0, top_k: 3, top_p: 0.8, ..Rule::default() }, &[2, 4]);
    }

    #[test]
    fn min_p_and_repetition_remove_and_weaken() {
        chi_square(Rule { temperature: 1.0, min_p: 0.3, ..Rule::default() }, &[2, 4, 6]);
        let rule = Rule { repetition_penalty: 2.0, ..Rule::default() };
        let logits = [1.5f32, -1.0, 1.0, 0.9];
        let pick = |seen: &[u32]| Sampler::default().sample(&logits, &rule, seen, &Noise::new(1, 1), 0, 0);
        assert_eq!(pick(&[]), Some(0));
        // Once or thrice is the same; ids that the logits do not have do not matter.
        assert_eq!(pick(&[0]), Some(2));
        assert_eq!(pick(&[0, 0, 0, 99]), Some(2));
        assert_eq!(pick(&[0, 2]), Some(3));
        let mut sampler = Sampler::default();
        assert_eq!(sampler.scores(&logits, &rule, &[1, 0]), Some(&[0.75, -2.0, 1.0, f64::from(0.9f32)][..]));
    }

    #[test]
    fn equals_of_the_last_of_top_k_are_kept() {
        let rule = Rule { temperature: 1.0, top_k: 2, ..Rule::default() };
        let mut sampler = Sampler::default();
        let kept: Vec<bool> = sampler
            .scores(&[1.0, 3.0, 2.0, 2.0, 0.0], &rule, &[])
            .expect("finite")
            .iter()
            .map(|x| x.is_finite())
            .collect();
        assert_eq!(kept, [false, true, true, true, false]);
    }

    proptest! {
        /// Top-p that sorts the likely ids alone keeps what a full sort would keep.
        #[test]
        fn top_p_of_a_large_vocabulary(seed: u64, p in 0.01f32..1.0, spread in 0.0f32..6.0) {
            let noise = Noise::new(seed, 3);
            // Rounded: there are equals.
            let logits: Vec<f32> = (0..3000).map(|i| (noise.gumbel(0, 0, i) as f32 * spread * 8.0).round() / 8.0).collect();
            let mut sampler = Sampler::default();
            let scores = sampler.scores(&logits, &Rule { temperature: 1.0, top_p: p, ..Rule::default() }, &[]).expect("finite");
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
            let weight = |v: usize| f64::from(logits[v]).exp();
            let goal = f64::from(p) * (0..logits.len()).map(weight).sum::<f64>();
            let mut sum = 0.0;
            for id in order {
                // Within rounding of the goal both answers are right.
                if (sum - goal).abs() > 1e-9 * goal {
                    prop_assert_eq!(scores[id].is_finite(), sum < goal, "id {}", id);
                }
                sum += weight(id);
            }
        }

        #[test]
        fn kept_ids_are_the_largest(
            logits in prop::collection::vec(-8.0f32..8.0, 1..80), k in 1usize..90, p in 0.05f32..1.0, seed: u64, t in 0.2f32..3.0,
        ) {
            let id = draw(&logits, Rule { temperature: t, top_k: k, top_p: 1.0, ..Rule::default() }, seed, 5).expect("finite") as usize;
            prop_assert!(logits.iter().filter(|&&x| x > logits[id]).count() < k);
            let id = draw(&logits, Rule { temperature: t, top_k: 0, top_p: p, ..Rule::default() }, seed, 5).expect("finite") as usize;
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
            used.sample(&[1.0; 50], &Rule { top_k: 3, ..rule }, &[], &noise, 1, 1);
            let again = Sampler::default().sample(&logits, &rule, &[], &noise, position, code);
            prop_assert_eq!(used.sample(&logits, &rule, &[], &noise, position, code), again);
            // The same draw, naively.
            let naive = (0..logits.len()).max_by(|&a, &b| {
                let f = |v: usize| f64::from(logits[v]) + noise.gumbel(position, code, v as u32);
                f(a).total_cmp(&f(b))
            });
            prop_assert_eq!(again.map(|v| v as usize), naive);
        }

        /// Ids that get no noise, because they cannot win, are never those that win with noise for all.
        #[test]
        fn a_draw_of_a_large_vocabulary(seed: u64, position: u32, spread in 0.0f32..9.0, top_k in 0usize..900) {
            let (noise, from) = (Noise::new(seed, 1), Noise::new(seed, 2));
            // Rounded: there are equals.
            let logits: Vec<f32> = (0..3001).map(|i| (from.gumbel(0, 0, i) as f32 * spread).round()).collect();
            let rule = Rule { temperature: 0.9, top_k, ..Rule::default() };
            let mut sampler = Sampler::default();
            let scores = sampler.scores(&logits, &rule, &[]).expect("finite").to_vec();
            let value = |id: &u32| scores[*id as usize] + noise.gumbel(position, 7, *id);
            let naive = (0..3001u32).reduce(|a, b| if value(&b) > value(&a) { b } else { a });
            prop_assert_eq!(sampler.sample(&logits, &rule, &[], &noise, position, 7), naive);
        }

        #[test]
        fn shifting_all_logits_changes_nothing(logits in prop::collection::vec(-3i32..3, 2..40), seed: u64) {
            let a: Vec<f32> = logits.iter().map(|&x| x as f32).collect();
            let b: Vec<f32> = logits.iter().map(|&x| x as f32 + 16.0).collect();
            let rule = Rule { temperature: 0.5, top_k: 9, top_p: 0.9, ..Rule::default() };
            prop_assert_eq!(draw(&a, rule, seed, 3), draw(&b, rule, seed, 3));
        }
    }
}
