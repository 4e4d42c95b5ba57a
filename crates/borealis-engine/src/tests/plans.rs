//! Plans against naive versions of the rules of `weights.md`, section 4.

use std::collections::{BTreeSet, HashMap};

use borealis_weights::{Grid, InputMode, Manifest, PlanKind, testing::tiny_config};
use proptest::prelude::*;

use crate::layout::Layout;
use crate::plan::{Input, Plan, PlanRow, PlanSpec};

fn layout() -> Layout {
    let manifest = Manifest::new(&tiny_config(), None).unwrap();
    Layout::new(&manifest).unwrap()
}

#[test]
fn an_offset_moves_media_rows_along_every_axis() {
    let mut config = tiny_config();
    config["media"]["position_offset"] = (-9).into();
    let moved = Layout::new(&Manifest::new(&config, None).unwrap()).unwrap();
    let (still, grid) = (layout(), Grid { height: 5, width: 8 });
    for stream in 0..still.streams.len() {
        for place in 0..40 {
            let [t, y, x] = still.position(stream, grid, 3, place);
            assert_eq!(moved.position(stream, grid, 3, place), [t - 9.0, y - 9.0, x - 9.0]);
        }
    }
}

/// (stream, block, place)
type Key = (usize, i32, usize);

fn key(row: &PlanRow) -> Key {
    (row.stream, row.t, row.place)
}

/// Which step of its group decides a position.
fn step(kind: PlanKind, pictures: bool, grid: Grid, place: usize) -> usize {
    match kind {
        PlanKind::Raster => place,
        PlanKind::Row if pictures => place / grid.width,
        PlanKind::Wavefront if pictures => place / grid.width + place % grid.width,
        _ => 0,
    }
}

fn order(layout: &Layout, grid: Grid, row: &PlanRow) -> (usize, usize) {
    let group = layout.groups.iter().position(|g| g.contains(&row.stream)).unwrap();
    let s = &layout.streams[row.stream];
    (group, step(s.plan, s.pictures, grid, row.place))
}

fn plan_kind() -> impl Strategy<Value = PlanKind> {
    prop_oneof![Just(PlanKind::Raster), Just(PlanKind::Row), Just(PlanKind::Wavefront), Just(PlanKind::Frame)]
}

fn cases() -> impl Strategy<Value = (Layout, PlanSpec)> {
    let kinds = (plan_kind(), plan_kind(), plan_kind());
    let groups = prop_oneof![
        Just(vec![vec![0], vec![1, 2]]),
        Just(vec![vec![0, 1, 2]]),
        Just(vec![vec![0], vec![1], vec![2]]),
        Just(vec![vec![0, 2], vec![1]]),
    ];
    let spec = ((1usize..5, 1usize..5), 1usize..7, 0usize..50, any::<bool>(), any::<bool>(), 0usize..2, 0usize..6);
    (kinds, groups, 1usize..6, -2i32..1, spec).prop_map(|((a, b, c), groups, window, delay, spec)| {
        let ((height, width), latents, first, source, continued, forced, tail) = spec;
        let mut layout = layout();
        for (stream, plan) in layout.streams.iter_mut().zip([a, b, c]) {
            stream.plan = plan;
        }
        layout.streams[2].offset = delay;
        layout.groups = groups;
        layout.window = window;
        let input = if source { InputMode::Source } else { InputMode::Previous };
        (
            layout,
            PlanSpec { grid: Grid { height, width }, latents, first, input, source: latents, continued, forced, tail },
        )
    })
}

proptest! {
    #[test]
    fn every_position_is_decided_once_and_after_what_it_reads((layout, spec) in cases()) {
        let plan = Plan::for_output(&layout, spec);
        let mut decided: HashMap<(usize, usize, usize), usize> = HashMap::new();
        let mut counts = vec![0; layout.streams.len()];
        let mut complete = 0;
        for (number, group) in plan.groups.iter().enumerate() {
            for row in &plan.rows[group.rows.clone()] {
                let reads = [
                    Some((row.stream, row.input)),
                    layout.streams[row.stream].condition.map(|s| (s, row.condition)),
                    layout.near.map(|s| (s, row.near)),
                ];
                for (stream, input) in reads.into_iter().flatten() {
                    if let Input::Own { latent, place } = input {
                        let at = decided.get(&(stream, latent, place));
                        prop_assert!(at.is_some_and(|&g| g < number), "{row:?} reads {input:?} of stream {stream}");
                    }
                }
            }
            for row in &plan.rows[group.rows.clone()] {
                let Some(latent) = row.latent else { continue };
                prop_assert!(decided.insert((row.stream, latent, row.place), number).is_none());
                prop_assert_eq!(row.index, counts[row.stream]);
                counts[row.stream] += 1;
            }
            // What is told to be complete is complete.
            prop_assert!(group.complete >= complete);
            complete = group.complete;
            for (s, stream) in layout.streams.iter().enumerate().filter(|(_, s)| s.offset <= 0) {
                for place in 0..stream.places(spec.grid) {
                    prop_assert!(complete == 0 || decided.contains_key(&(s, complete - 1, place)));
                }
            }
        }
        prop_assert_eq!(complete, spec.latents);
        for (s, stream) in layout.streams.iter().enumerate() {
            prop_assert_eq!(counts[s] as usize, spec.latents * stream.places(spec.grid));
        }
    }

    #[test]
    fn rows_see_the_tail_the_window_and_their_block_so_far((layout, spec) in cases()) {
        let plan = Plan::for_output(&layout, spec);
        let mut slab: Vec<Option<Key>> = vec![None; plan.region];
        let tail: Vec<Key> = (0..spec.tail).map(|i| (99, 0, i)).collect();
        for (slot, &row) in slab.iter_mut().zip(&tail) {
            *slot = Some(row);
        }
        let mut done: Vec<&PlanRow> = Vec::new();
        for group in &plan.groups {
            for m in &group.moves {
                prop_assert!(m.from >= m.to + m.len || m.to >= m.from + m.len, "overlap: {m:?}");
                for i in 0..m.len {
                    slab[m.to + i] = slab[m.from + i];
                }
            }
            let rows = &plan.rows[group.rows.clone()];
            let slots: BTreeSet<usize> = rows.iter().map(|r| r.slot).collect();
            prop_assert_eq!(slots.len(), rows.len());
            for row in rows {
                slab[row.slot] = Some(key(row));
            }
            done.extend(rows);
            for row in rows {
                let seen: Vec<Key> = slab[..row.end].iter().map(|s| s.expect("a row sees slots that were never written")).collect();
                let mut expected = tail.clone();
                expected.extend(done.iter().filter(|d| {
                    d.t < row.t && d.t > row.t - layout.window as i32
                        || d.t == row.t && order(&layout, spec.grid, d) <= order(&layout, spec.grid, row)
                }).map(|d| key(d)));
                let (mut a, mut b) = (seen.clone(), expected);
                a.sort_unstable();
                b.sort_unstable();
                prop_assert_eq!(a, b, "{:?}", row);
                prop_assert!(seen.contains(&key(row)));
            }
        }
        let block: usize = layout.streams.iter().map(|s| s.places(spec.grid)).sum();
        prop_assert!(plan.region <= spec.tail + layout.window * block);
    }
}

#[test]
fn the_default_model_decides_a_latent_frame_in_one_step() {
    let layout = layout();
    let grid = Grid { height: 5, width: 8 };
    let spec = PlanSpec {
        grid,
        latents: 37,
        first: 0,
        input: InputMode::Previous,
        source: 0,
        continued: false,
        forced: 0,
        tail: 22,
    };
    let plan = Plan::for_output(&layout, spec);
    // The opening state, then state, pictures and sound of each latent frame together.
    assert_eq!(plan.groups.len(), 38);
    assert_eq!((plan.groups[0].rows.len(), plan.groups[0].complete), (1, 0));
    assert!(
        plan.groups[1..]
            .iter()
            .enumerate()
            .all(|(i, g)| g.rows.len() == 42 && g.complete == i + 1 && g.moves.is_empty())
    );
    assert_eq!((plan.region, plan.widest), (22 + 42, 42));
    assert_eq!(plan.decided(), 37 * 42);
    // A state row sees the prompt and itself; pictures and sound see all of the block.
    let block = &plan.rows[plan.groups[9].rows.clone()];
    assert_eq!((block[0].end, block[1].end, block[41].end), (23, 64, 64));
    assert_eq!(block[0].input, Input::Own { latent: 8, place: 0 });
    assert_eq!((block[0].latent, block[1].latent), (Some(9), Some(8)));
    assert_eq!(block[1].input, Input::Own { latent: 7, place: 0 });
    assert_eq!(block[1].condition, block[0].input);
    // The last state row only conditions.
    assert_eq!(plan.rows.last().map(|r| r.latent), Some(Some(36)));
    assert_eq!(plan.rows[plan.groups[37].rows.start].latent, None);
}

#[test]
fn edits_read_the_source_and_continuations_what_was_given() {
    let layout = layout();
    let grid = Grid { height: 5, width: 5 };
    let spec = PlanSpec {
        grid,
        latents: 3,
        first: 12,
        input: InputMode::Previous,
        source: 0,
        continued: true,
        forced: 0,
        tail: 1,
    };
    let plan = Plan::for_output(&layout, spec);
    let row = |plan: &Plan, stream: usize, latent: usize| {
        plan.rows.iter().find(|r| r.stream == stream && r.latent == Some(latent) && r.place == 0).cloned().unwrap()
    };
    assert_eq!(row(&plan, 0, 0).input, Input::Bos);
    assert_eq!(row(&plan, 1, 0).input, Input::Given { place: 0 });
    assert_eq!(row(&plan, 1, 1).input, Input::Own { latent: 0, place: 0 });
    assert_eq!((row(&plan, 1, 0).t, row(&plan, 0, 0).t), (12, 11));
    let edit = PlanSpec { first: 0, input: InputMode::Source, source: 2, continued: false, ..spec };
    let plan = Plan::for_output(&layout, edit);
    assert_eq!(row(&plan, 1, 0).input, Input::Source { latent: 0, place: 0 });
    assert_eq!(row(&plan, 1, 2).input, Input::Source { latent: 1, place: 0 });
    assert_eq!(row(&plan, 0, 1).input, Input::Own { latent: 0, place: 0 });
}
