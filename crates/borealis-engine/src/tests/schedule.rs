//! The scheduler on the mock model: ids do not depend on what runs beside a request, slots are never lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use borealis_model::{Forward, Logits};
use borealis_weights::{Grid, InputMode, Manifest, PlanKind, Predict, testing::tiny_config};
use proptest::prelude::*;

use super::mock::Mock;
use crate::decode::{NamedIds, ToDecoder};
use crate::error::EngineError;
use crate::features::FeatureWriter;
use crate::job::{TailRow, Work};
use crate::layout::Layout;
use crate::plan::{Plan, PlanSpec};
use crate::prompt::{PromptBuilder, Source, SourceFrame};
use crate::sampler::Rule;
use crate::scheduler::{Scheduler, Step};
use crate::stream::{EventStream, Outlet, Waker};
use crate::window::Window;

/// What a test varies.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub seed: u64,
    pub variants: usize,
    pub guidance: f32,
    pub latents: usize,
    pub window: usize,
    pub plan: PlanKind,
    pub words: usize,
    pub input: InputMode,
    pub continued: bool,
    pub forced: bool,
    pub sources: usize,
    pub temperature: f32,
    /// Positions of a variant in a step.
    pub ahead: usize,
}

pub(super) const PLAIN: Case = Case {
    seed: 1,
    variants: 1,
    guidance: 1.0,
    latents: 3,
    window: 1,
    plan: PlanKind::Frame,
    words: 5,
    input: InputMode::Previous,
    continued: false,
    forced: false,
    sources: 0,
    temperature: 1.0,
    ahead: 1,
};

pub(super) fn manifest() -> Manifest {
    Manifest::new(&tiny_config(), None).unwrap()
}

/// Some valid ids of a latent frame of a stream.
fn frame_ids(layout: &Layout, stream: usize, grid: Grid, salt: u32) -> Vec<u32> {
    let s = &layout.streams[stream];
    let codes = s.codes.iter().cycle();
    codes
        .take(s.places(grid) * s.row_codes)
        .enumerate()
        .map(|(i, c)| c.start + (i as u32 * 7 + salt) % c.size)
        .collect()
}

pub(super) fn work(manifest: &Manifest, case: &Case, id: u64) -> (Work, EventStream) {
    let mut layout = Layout::new(manifest).unwrap();
    layout.window = case.window;
    for stream in &mut layout.streams {
        stream.plan = case.plan;
    }
    let grid = Grid { height: 2, width: 3 };
    let features = FeatureWriter::new(manifest, grid, (4, 6));
    let scene = &manifest.scene.fields;
    let mut tail = vec![TailRow::new(Some(258), Some((scene[0].start, scene[0].start + scene[0].size)))];
    tail.push(TailRow::new(None, Some((scene[1].start, scene[1].start + scene[1].size))));
    tail.extend([TailRow::new(None, None), TailRow::new(Some(259), None)]);
    let frame = |t: u32| {
        let ids = |s: usize| if s == 0 { Vec::new() } else { frame_ids(&layout, s, grid, 3 + t) };
        SourceFrame { t: t as i32, ids: (0..3).map(ids).collect() }
    };
    let frames: Vec<SourceFrame> = (0..case.sources.max(1) as u32).map(frame).collect();
    let sources: Vec<Source> =
        (0..case.sources.min(1)).map(|_| Source { control: 268, frames: frames.clone() }).collect();
    let builder = PromptBuilder { layout: &layout, grid, features: features.as_ref() };
    let words: Vec<u32> = (0..case.words as u32).map(|i| (i * 31 + case.seed as u32 % 7) % 256).collect();
    let guided = case.guidance != 1.0;
    let prompts = [words, vec![257]].into_iter().take(1 + usize::from(guided));
    let prompts = prompts.map(|ids| builder.build(&sources, &ids, tail.len())).collect();
    let spec = PlanSpec {
        grid,
        latents: case.latents,
        first: if case.continued { 9 } else { 0 },
        input: case.input,
        source: case.sources,
        continued: case.continued,
        forced: usize::from(case.forced),
        tail: tail.len(),
    };
    let of_source = |s: usize| frames.iter().flat_map(|f| f.ids[s].clone()).collect::<Vec<_>>();
    let rule = Rule { temperature: case.temperature, ..Rule::default() };
    let (outlet, stream) = Outlet::new(case.variants, Waker::new().0, Waker::new().0);
    let work = Work {
        id,
        outlet,
        plan: Plan::for_output(&layout, spec),
        given: (0..3).map(|s| if case.continued { frames[0].ids[s].clone() } else { Vec::new() }).collect(),
        source: (0..3).map(of_source).collect(),
        forced: if case.forced { frames[0].ids[1].clone() } else { Vec::new() },
        text_rule: rule,
        rules: vec![rule; 3],
        layout: Arc::new(layout),
        features,
        prompts,
        tail,
        variants: case.variants,
        seed: case.seed,
        guidance: case.guidance,
        open: None,
        window: Window::Fixed(case.ahead),
        prompt_tokens: 0,
        encode_seconds: 0.0,
        submitted: Instant::now(),
    };
    (work, stream)
}

/// A variant and the ids of one of its latent frames, by stream.
pub(super) type Latent = (usize, Vec<Vec<u32>>);

/// A scheduler, its model, and what came out.
pub(super) struct Bench {
    pub scheduler: Scheduler,
    pub model: Mock,
    pub step: Step,
    pub logits: Logits,
    pub outlets: HashMap<u64, Outlet>,
    pub latents: HashMap<u64, Vec<Latent>>,
    pub ids: HashMap<u64, Vec<NamedIds>>,
    pub dropped: Vec<u64>,
}

impl Bench {
    pub(super) fn new(manifest: &Manifest) -> Self {
        Self {
            scheduler: Scheduler::new("mock".into(), 1 << 40, None),
            model: Mock::new(manifest),
            step: Step::default(),
            logits: Logits::default(),
            outlets: HashMap::new(),
            latents: HashMap::new(),
            ids: HashMap::new(),
            dropped: Vec::new(),
        }
    }

    pub(super) fn submit(&mut self, work: Work) {
        self.outlets.insert(work.id, work.outlet.clone());
        self.scheduler.submit(Arc::new(work));
    }

    /// One turn of the worker's loop, with a decoder that takes everything at once.
    pub(super) fn turn(&mut self) {
        let mut out = Vec::new();
        self.scheduler.admit(&mut self.model, &mut out);
        if self.scheduler.next(&mut self.step) {
            self.scheduler.run(&self.step, &mut self.model, &mut self.logits, &mut out);
        }
        for message in out {
            match message {
                ToDecoder::Latent { id, variant, ids } => {
                    self.outlets[&id].end_decode();
                    self.latents.entry(id).or_default().push((variant, ids));
                }
                ToDecoder::Finish(f) => {
                    self.ids.insert(f.id, f.ids);
                }
                ToDecoder::Drop(id) => self.dropped.push(id),
                ToDecoder::Open(_) => {}
            }
        }
    }

    pub(super) fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.scheduler.is_idle() {
                let (all, free) = self.model.slots();
                assert_eq!(all, free, "slots were lost");
                return;
            }
            self.turn();
        }
        panic!("the scheduler does not come to an end");
    }
}

/// Ids of every variant of a request that runs alone.
pub(super) fn alone(manifest: &Manifest, case: &Case) -> Vec<NamedIds> {
    let (work, _stream) = work(manifest, case, 0);
    let mut bench = Bench::new(manifest);
    bench.submit(work);
    bench.finish();
    bench.ids.remove(&0).unwrap()
}

pub(super) fn cases() -> impl Strategy<Value = Case> {
    let plan =
        prop_oneof![Just(PlanKind::Frame), Just(PlanKind::Row), Just(PlanKind::Wavefront), Just(PlanKind::Raster)];
    let guidance = prop_oneof![Just(1.0f32), Just(2.5)];
    let flags =
        (any::<bool>(), any::<bool>(), any::<bool>(), 0usize..3, prop_oneof![Just(0.0f32), Just(0.9)], 1usize..9);
    (any::<u64>(), 1usize..5, guidance, 1usize..5, 1usize..4, plan, 1usize..90, flags).prop_map(
        |(
            seed,
            variants,
            guidance,
            latents,
            window,
            plan,
            words,
            (source, continued, forced, sources, temperature, ahead),
        )| {
            let input = if source { InputMode::Source } else { InputMode::Previous };
            Case {
                seed,
                variants,
                guidance,
                latents,
                window,
                plan,
                words,
                input,
                continued,
                forced,
                sources,
                temperature,
                ahead,
            }
        },
    )
}

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
