//! Windows and sharing on the mock model: ids do not depend on the window, guesses save steps where pictures repeat, and everybody gets a turn.

use borealis_weights::{PlanKind, testing::tiny_config};
use proptest::prelude::*;

use super::bench::{Bench, Case, PLAIN, alone, cases, manifest, work};
use crate::decode::NamedIds;
use crate::stream::EventStream;

/// Ids of every request that run together on a model that repeats, and the model's steps and rows.
fn together(list: &[Case], repeats: f32) -> (Vec<Vec<NamedIds>>, usize, usize) {
    let manifest = manifest();
    let mut bench = Bench::new(&manifest);
    bench.model.repeats = repeats;
    let streams: Vec<EventStream> = list
        .iter()
        .enumerate()
        .map(|(id, case)| {
            let (work, stream) = work(&manifest, case, id as u64);
            bench.submit(work);
            stream
        })
        .collect();
    bench.finish();
    drop(streams);
    let ids = (0..list.len() as u64).map(|id| bench.ids.remove(&id).unwrap()).collect();
    (ids, bench.model.steps, bench.model.rows)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any window, in any company, on models that repeat more or less.
    #[test]
    fn ids_do_not_depend_on_the_window(
        list in prop::collection::vec(cases(), 1..4), windows in prop::collection::vec(1usize..33, 4), repeats in 0.0f32..6.0,
    ) {
        let raster = |case: &Case, ahead: usize| Case { plan: PlanKind::Raster, ahead, ..case.clone() };
        let wide: Vec<Case> = list.iter().zip(&windows).map(|(case, &ahead)| raster(case, ahead)).collect();
        let (found, steps, _) = together(&wide, repeats);
        let one: Vec<Case> = list.iter().map(|case| raster(case, 1)).collect();
        let (wanted, sequential, _) = together(&one, repeats);
        prop_assert_eq!(found, wanted);
        prop_assert!(steps <= sequential);
    }
}

#[test]
fn a_picture_that_repeats_takes_fewer_steps() {
    let case = |ahead: usize| Case { plan: PlanKind::Raster, latents: 24, ahead, variants: 2, guidance: 2.0, ..PLAIN };
    let (wanted, sequential, _) = together(&[case(1)], 14.0);
    // Over 24 latent frames luck averages out.
    for (ahead, share) in [(2, 0.8), (3, 0.67), (8, 0.6)] {
        let (found, steps, _) = together(&[case(ahead)], 14.0);
        println!("window {ahead}: {steps} steps instead of {sequential}");
        assert_eq!(found, wanted, "window {ahead}");
        assert!((steps as f64) < share * sequential as f64, "window {ahead}: {steps} of {sequential} steps");
    }
}

#[test]
fn wrong_guesses_end_no_request() {
    // The window of a model without any pattern is always wrong, and costs rows, never steps.
    let case = |ahead: usize| Case { plan: PlanKind::Raster, ahead, ..PLAIN };
    let (wanted, sequential, _) = together(&[case(1)], 0.0);
    let (found, steps, _) = together(&[case(32)], 0.0);
    assert_eq!(found, wanted);
    assert!(steps <= sequential);
}

#[test]
fn codes_of_several_rounds_in_a_window() {
    let mut config = tiny_config();
    config["modalities"][2]["predict"] = "depth".into();
    config["modalities"][2]["copy_gate"] = false.into();
    config["depth"] =
        serde_json::json!({"num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 16});
    let manifest = borealis_weights::Manifest::new(&config, None).unwrap();
    let case = |ahead: usize| Case { plan: PlanKind::Raster, ahead, guidance: 2.0, ..PLAIN };
    assert_eq!(alone(&manifest, &case(5)), alone(&manifest, &case(1)));
}

#[test]
fn the_prompt_is_computed_once_for_all_variants() {
    let rows = |variants: usize, words: usize| {
        let case = Case { variants, words, guidance: 2.0, ..PLAIN };
        together(&[case], 0.0).2
    };
    // What a longer prompt adds does not depend on the number of variants: 60 words, of one branch.
    for variants in [1, 4] {
        assert_eq!(rows(variants, 70) - rows(variants, 10), 60, "{variants} variants");
    }
}

#[test]
fn variants_branches_and_requests_share_steps() {
    let steps = |list: &[Case]| together(list, 0.0).1;
    let one = steps(&[PLAIN]);
    assert_eq!(steps(&[Case { variants: 4, guidance: 2.0, ..PLAIN }]), one);
    // Three requests of different lengths take the steps of the longest.
    let list = [PLAIN, Case { seed: 2, latents: 7, ..PLAIN }, Case { seed: 3, latents: 2, variants: 3, ..PLAIN }];
    assert_eq!(steps(&list), steps(&list[1..2]));
}

/// Many wide requests: not all of them fit a step. Each one moves on at least once in as many turns as there are requests, and none is ahead by more.
#[test]
fn nobody_starves() {
    let manifest = manifest();
    let mut bench = Bench::new(&manifest);
    let many = 9;
    // 4 variants of 2 branches of frames with 6 places and more: about 70 rows each, and 256 fit.
    let case = Case { latents: 12, variants: 4, guidance: 2.0, ..PLAIN };
    let mut streams = Vec::new();
    for id in 0..many {
        let (work, stream) = work(&manifest, &Case { seed: id, ..case.clone() }, id);
        bench.submit(work);
        streams.push(stream);
    }
    let progress =
        |bench: &Bench| -> Vec<usize> { (0..many).map(|id| bench.latents.get(&id).map_or(0, Vec::len)).collect() };
    while bench.latents.len() < many as usize {
        bench.turn();
    }
    let mut full = 0;
    let mut before = progress(&bench);
    while bench.ids.is_empty() {
        let mut moved = vec![false; many as usize];
        for _ in 0..many {
            bench.turn();
            full += usize::from(bench.step.batch.rows.len() > 200);
            let now = progress(&bench);
            moved.iter_mut().zip(now.iter().zip(&before)).for_each(|(moved, (now, before))| *moved |= now > before);
            before = now;
        }
        let done = |id: u64| bench.ids.contains_key(&id);
        let still: Vec<u64> = (0..many).filter(|&id| !moved[id as usize] && !done(id)).collect();
        assert!(still.is_empty(), "{still:?} did not move in {many} turns: {before:?}");
        // No variant is far behind the others of its request.
        for id in 0..many {
            let of = |variant: usize| bench.latents[&id].iter().filter(|(v, _)| *v == variant).count();
            let counts: Vec<usize> = (0..4).map(of).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(most - least <= 4, "request {id}: {counts:?}");
        }
    }
    assert!(full > 0, "the steps were never full");
    bench.finish();
    let wanted = alone(&manifest, &Case { seed: 3, ..case });
    assert_eq!(bench.ids[&3], wanted);
}
