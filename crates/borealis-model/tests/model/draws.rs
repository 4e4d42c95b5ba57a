//! Ids that the model draws are those that the host draws from its logits, also where both branches of a guided query are computed in different pieces.

use borealis_kernels::{Draw, Drawer, Noise, Rule};
use borealis_model::{Batch, Forward, Logits};
use borealis_weights::Predict;
use borealis_weights::testing::tiny_config;

use crate::support::*;

/// Two sequences of the same form, and draws from every query but those of `depth` modalities: of the first sequence against the second, or from each alone.
fn batch(model: &dyn Forward, guided: bool, penalty: f32) -> Batch {
    let config = model.config();
    let mut batch = media_sequence(config, 0, 2).batch;
    let n = batch.queries.len();
    join(&mut batch, &media_sequence(config, 40, 3).batch);
    let mut dice = Dice::new(8);
    for q in 0..if guided { n } else { 2 * n } {
        let query = &batch.queries[q];
        let spec = &config.modalities[query.modality];
        if spec.predict == Predict::Depth {
            continue;
        }
        let sizes: Vec<usize> = match query.allowed {
            Some((start, end)) => vec![(end - start) as usize],
            None => (0..spec.slots).flat_map(|_| spec.codes.iter().map(|c| c.size as usize)).collect(),
        };
        let mut from = 0;
        for (code, size) in sizes.into_iter().enumerate() {
            let seen = batch.draws.seen.len();
            batch.draws.seen.extend((0..3).map(|_| dice.below(size as u32)));
            batch.draws.list.push(Draw {
                row: q,
                against: guided.then_some(q + n),
                guidance: 2.0,
                part: (from, from + size),
                except: (0, usize::from(size > 4)),
                rule: Rule { repetition_penalty: penalty, temperature: 0.9, top_k: 6, top_p: 0.95, min_p: 0.01 },
                seen: (seen, seen + 3),
                noise: Noise::new(77, 2),
                position: q as u32,
                code: code as u32,
            });
            from += size;
        }
    }
    batch
}

#[test]
fn drawn_ids_are_those_of_the_logits() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 1);
    for device in &devices() {
        // All at once; each sequence a piece of its own; and pieces within them.
        for max_rows in [64, 15, 8] {
            let mut model = runner(&checkpoint, device, max_rows);
            for (guided, penalty) in [(false, 1.0), (true, 1.0), (true, 1.2)] {
                let batch = batch(model.as_ref(), guided, penalty);
                let logits = step(model.as_mut(), &Batch { draws: Default::default(), ..batch.clone() });
                assert!(logits.ids.is_empty());
                let mut host = Drawer::default();
                let want: Vec<_> =
                    batch.draws.list.iter().map(|d| logits.draw(&mut host, d, batch.draws.seen(d))).collect();
                let mut out = Logits::default();
                model.step(&batch, &mut out).unwrap();
                assert_eq!(out.ids, want, "{device}, pieces of {max_rows}, guided {guided}, penalty {penalty}");
                assert!(want.iter().all(Option::is_some) && want.len() > 20);
                // What was drawn from on the device is not handed to the host.
                if max_rows == 64 {
                    assert!(out.values.len() < logits.values.len());
                }
            }
        }
    }
}

#[test]
fn draws_that_make_no_sense_are_refused() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 1);
    let mut model = runner(&checkpoint, &devices()[1], 64);
    let good = batch(model.as_ref(), true, 1.0);
    let mut refused = |change: &dyn Fn(&mut Draw)| {
        let mut batch = good.clone();
        change(batch.draws.list.last_mut().unwrap());
        model.step(&batch, &mut Logits::default()).unwrap_err().to_string()
    };
    let queries = good.queries.len();
    for (message, change) in [
        (format!("query {queries} of {queries}"), &(|d: &mut Draw| d.row = queries) as &dyn Fn(&mut Draw)),
        ("draws go in ascending order".into(), &|d| d.row = 0),
        ("its unconditional one predict other ids".into(), &|d| d.against = Some(0)),
        ("is among logits".into(), &|d| d.part.1 += 1000),
    ] {
        let error = refused(change);
        assert!(error.contains(&message), "{error}");
    }
}
