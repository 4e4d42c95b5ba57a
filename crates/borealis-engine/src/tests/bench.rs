//! A scheduler on the mock model, and requests for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use borealis_model::{Forward, Logits};
use borealis_weights::{Grid, InputMode, Manifest, PlanKind, testing::tiny_config};
use proptest::prelude::*;

use super::mock::Mock;
use crate::decode::{NamedIds, ToDecoder};
use crate::features::FeatureWriter;
use crate::layout::Layout;
use crate::plan::{Plan, PlanSpec};
use crate::prompt::{PromptBuilder, Source, SourceFrame};
use crate::scheduler::{Scheduler, Step};
use crate::stream::{EventStream, Outlet, Waker};
use crate::window::Window;
use crate::work::{TailRow, Work};
use borealis_kernels::Rule;

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
pub(super) fn frame_ids(layout: &Layout, stream: usize, grid: Grid, salt: u32) -> Vec<u32> {
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
