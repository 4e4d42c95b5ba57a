//! The scheduler on the mock model: ids do not depend on what runs beside a request, slots are never lost.

use std::collections::HashMap;

use borealis_weights::{Grid, Manifest, Predict, testing::tiny_config};
use proptest::prelude::*;

use super::bench::*;
use crate::error::EngineError;
use crate::layout::Layout;
use crate::stream::EventStream;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn ids_do_not_depend_on_what_runs_beside(list in prop::collection::vec((cases(), 0usize..12), 2..5)) {
        let manifest = manifest();
        let mut bench = Bench::new(&manifest);
        let mut streams = Vec::new();
        for (id, (case, delay)) in list.iter().enumerate() {
            let (work, stream) = work(&manifest, case, id as u64);
            bench.submit(work);
            streams.push(stream);
            (0..*delay).for_each(|_| bench.turn());
        }
        bench.finish();
        for (id, (case, _)) in list.iter().enumerate() {
            let together = &bench.ids[&(id as u64)];
            prop_assert_eq!(together, &alone(&manifest, case));
            // Variant v of four is variant v of any number.
            let one = alone(&manifest, &Case { variants: 1, ahead: 1, ..case.clone() });
            prop_assert_eq!(&together[0], &one[0]);
        }
    }

    #[test]
    fn latent_frames_arrive_in_order_and_hold_the_final_ids(case in cases()) {
        let manifest = manifest();
        let (work, _stream) = work(&manifest, &case, 0);
        let mut bench = Bench::new(&manifest);
        bench.submit(work);
        bench.finish();
        for (variant, ids) in bench.ids[&0].iter().enumerate() {
            let mine: Vec<_> = bench.latents[&0].iter().filter(|(v, _)| *v == variant).map(|(_, ids)| ids).collect();
            prop_assert_eq!(mine.len(), case.latents);
            for (stream, name) in [(1, "video"), (2, "audio")] {
                let all: Vec<u32> = mine.iter().flat_map(|l| l[stream].clone()).collect();
                let (_, wanted) = ids.iter().find(|(n, _)| n == name).unwrap();
                prop_assert_eq!(&all, wanted);
            }
            if case.forced {
                let layout = Layout::new(&manifest).unwrap();
                prop_assert_eq!(&mine[0][1], &frame_ids(&layout, 1, Grid { height: 2, width: 3 }, 3));
            }
        }
    }

    #[test]
    fn cancelling_at_any_moment_frees_the_slots_and_harms_nobody(list in prop::collection::vec((cases(), 0usize..60), 2..5)) {
        let manifest = manifest();
        let mut bench = Bench::new(&manifest);
        let mut streams: HashMap<usize, EventStream> = HashMap::new();
        for (id, (case, _)) in list.iter().enumerate() {
            let (work, stream) = work(&manifest, case, id as u64);
            bench.submit(work);
            streams.insert(id, stream);
        }
        for turn in 0..60 {
            bench.turn();
            for (id, (_, when)) in list.iter().enumerate() {
                // The last request is left alone; dropping a stream cancels.
                if *when == turn && id + 1 < list.len() {
                    streams.remove(&id);
                }
            }
        }
        bench.finish();
        let last = list.len() - 1;
        prop_assert_eq!(&bench.ids[&(last as u64)], &alone(&manifest, &list[last].0));
        let ended = bench.dropped.len() + bench.ids.len();
        prop_assert_eq!(ended, list.len());
    }
}

#[test]
fn guidance_seed_and_window_change_ids() {
    let manifest = manifest();
    let plain = alone(&manifest, &PLAIN);
    assert_eq!(plain, alone(&manifest, &PLAIN));
    for other in [
        Case { seed: 2, ..PLAIN },
        Case { guidance: 3.0, ..PLAIN },
        Case { window: 2, ..PLAIN },
        Case { words: 6, ..PLAIN },
        Case { temperature: 0.0, ..PLAIN },
    ] {
        assert_ne!(plain, alone(&manifest, &other), "{other:?}");
    }
    let four = alone(&manifest, &Case { variants: 4, ..PLAIN });
    assert!((1..4).all(|v| four[v] != four[0]));
}

#[test]
fn codes_decided_one_after_another() {
    let mut config = tiny_config();
    config["modalities"][3]["predict"] = "depth".into();
    let heads =
        serde_json::json!({"num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 16});
    config["depth"] = heads;
    let manifest = Manifest::new(&config, None).unwrap();
    assert_eq!(manifest.modalities[3].predict, Predict::Depth);
    let case = Case { variants: 3, guidance: 2.0, ..PLAIN };
    let both = alone(&manifest, &case);
    assert_eq!(both[0], alone(&manifest, &Case { variants: 1, ..case })[0]);
    // Every id lies in its range, so every round was drawn.
    let layout = Layout::new(&manifest).unwrap();
    let codes = layout.streams[2].codes.iter().cycle();
    let (_, audio) = both[1].iter().find(|(n, _)| n == "audio").unwrap();
    assert!(audio.iter().zip(codes).all(|(id, c)| c.contains(*id)));
}

#[test]
fn long_prompts_do_not_stall_running_clips() {
    let manifest = manifest();
    let mut bench = Bench::new(&manifest);
    let (first, _keep) = work(&manifest, &Case { latents: 20, ..PLAIN }, 0);
    bench.submit(first);
    for _ in 0..6 {
        bench.turn();
    }
    let (second, _keep_too) = work(&manifest, &Case { words: 500, ..PLAIN }, 1);
    bench.submit(second);
    let before = bench.latents[&0].len();
    for _ in 0..6 {
        bench.turn();
        assert!(bench.step.batch.rows.len() <= 64 + 8 + 4, "{}", bench.step.batch.rows.len());
    }
    assert_eq!(bench.latents[&0].len(), before + 6);
    bench.finish();
}

#[test]
fn broken_weights_end_the_request_with_a_message() {
    let manifest = manifest();
    let mut bench = Bench::new(&manifest);
    bench.model.breaks_after = 5;
    let (work, stream) = work(&manifest, &PLAIN, 0);
    bench.submit(work);
    bench.finish();
    let last = { stream }.filter_map(|e| e.err()).next();
    assert!(matches!(last, Some(EngineError::NotANumber { .. })), "{last:?}");
    assert_eq!(bench.dropped, [0]);
}

#[test]
fn a_request_waits_for_slots() {
    let manifest = manifest();
    let mut bench = Bench::new(&manifest);
    // 16 KiB a slot in the mock: 4096 slots are made for the first; the second does not fit beside it.
    let large = Case { latents: 40, window: 40, variants: 4, guidance: 2.0, words: 1500, ..PLAIN };
    let mut streams = Vec::new();
    for id in 0..2 {
        let (work, stream) = work(&manifest, &large, id);
        bench.submit(work);
        streams.push(stream);
    }
    bench.finish();
    assert_eq!(bench.ids[&0], bench.ids[&1]);
}
