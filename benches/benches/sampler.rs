//! One id from the logits of a large vocabulary: what the host does between two steps of a next-token model.
//!
//! Ids: `sampler/<vocabulary>/<rule>`. To compare with a step of the same number of rows (`decode`, `borealis bench model`).

use std::hint::black_box;

use borealis_engine::{Noise, Rule, Sampler};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const VOCABULARY: u32 = 65_536;

fn sampler(c: &mut Criterion) {
    let from = Noise::new(9, 1);
    let logits: Vec<f32> = (0..VOCABULARY).map(|id| 2.0 * from.gumbel(0, 0, id) as f32).collect();
    let plain = Rule { temperature: 1.0, ..Rule::default() };
    let rules = [
        ("greedy", Rule::default()),
        ("temperature", plain),
        ("top-k 2048", Rule { top_k: 2048, ..plain }),
        ("top-p 0.9", Rule { top_p: 0.9, ..plain }),
        ("top-k 2048 top-p 0.9", Rule { top_k: 2048, top_p: 0.9, ..plain }),
    ];
    let mut group = c.benchmark_group("sampler");
    let (mut sampler, noise, mut position) = (Sampler::default(), Noise::new(5, 3), 0);
    for (name, rule) in rules {
        group.bench_function(BenchmarkId::new(VOCABULARY.to_string(), name), |b| {
            b.iter(|| {
                position += 1;
                sampler.sample(black_box(&logits), &rule, &[], &noise, position, 0)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, sampler);
criterion_main!(benches);
