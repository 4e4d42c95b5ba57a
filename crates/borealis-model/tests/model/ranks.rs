//! Spread over ranks the model computes the same bits, each rank holds its share only, and a rank that is gone is named.

use std::sync::Arc;

use crate::support::*;
use borealis_kernels::{DeviceSpec, QuantFormat};
use borealis_model::ranks::{
    Exchange, Identity, Local, Member, Parcel, Placement, Threads, Traffic, load_home, load_shard, load_threads, serve,
};
use borealis_model::{Batch, Forward, LoadOptions, Logits, ModelConfig, load};
use borealis_weights::Checkpoint;
use borealis_weights::testing::{text_config, tiny_config};
use proptest::prelude::*;
use serde_json::{Value, json};

const CPU: DeviceSpec = DeviceSpec::Cpu;

/// `base` with some keys replaced.
fn with(base: Value, changes: Value) -> Value {
    let mut config = base;
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// A batch that a model of this configuration takes.
fn batch(c: &ModelConfig, seed: u64) -> Batch {
    if c.modalities.len() > 1 {
        return media_sequence(c, 4, seed).batch;
    }
    let mut rows = Rows::new(c);
    rows.text(9, 0, 4, &mut Dice::new(seed));
    rows.batch
}

fn with_threads(format: QuantFormat, threads: usize) -> LoadOptions {
    LoadOptions { threads, ..LoadOptions::new(format) }
}

fn spread(checkpoint: &Checkpoint, format: QuantFormat, placement: Placement) -> (Box<dyn Forward>, Arc<Traffic>) {
    let (traffic, on) = (Arc::new(Traffic::default()), CPU.for_ranks(placement.ranks()));
    let model = load_threads(checkpoint, &on, &with_threads(format, 2), &Arc::new(placement), traffic.clone()).unwrap();
    (model, traffic)
}

/// Any placement in which every rank holds an expert of every routed layer.
fn any_placement(c: &ModelConfig, ranks: usize, dice: &mut Dice) -> Placement {
    let layer = |l: usize, dice: &mut Dice| {
        let experts = c.routed(l).map_or(0, |e| e.router.experts);
        let mut of: Vec<usize> =
            (0..experts).map(|e| if e < ranks { e } else { dice.below(ranks as u32) as usize }).collect();
        for i in (1..experts).rev() {
            of.swap(i, dice.below(i as u32 + 1) as usize);
        }
        of
    };
    Placement::new(c, ranks, (0..c.num_hidden_layers).map(|l| layer(l, dice)).collect()).unwrap()
}

/// Two steps, the second over the cache of the first, are the same bits on one rank and spread so.
fn same_bits(checkpoint: &Checkpoint, format: QuantFormat, placement: Placement, what: &str) {
    let mut one = load(checkpoint, &CPU, format, 2).unwrap();
    let (mut many, traffic) = spread(checkpoint, format, placement);
    let c = one.config().clone();
    for model in [&mut one, &mut many] {
        // Small buffers: a step is computed in pieces.
        model.allocate(256, 8).unwrap();
    }
    for seed in [5, 6] {
        let batch = batch(&c, seed);
        let (mut a, mut b) = (Logits::default(), Logits::default());
        let (x, y) = (one.trace(&batch, &mut a).unwrap(), many.trace(&batch, &mut b).unwrap());
        assert!(x == y && a == b, "{what}: bits differ");
    }
    assert_eq!(traffic.totals().steps, 2);
}

fn families() -> Vec<(&'static str, Value)> {
    vec![
        ("default", tiny_config()),
        (
            "sigmoid and bias",
            with(text_config(), json!({"scoring_func": "sigmoid", "router_selection_bias": true, "num_experts": 8})),
        ),
        ("null experts", with(text_config(), json!({"num_null_experts": 3, "num_experts_per_tok": 3}))),
        (
            "shared and dense",
            with(
                text_config(),
                json!({"n_shared_experts": 2, "first_k_dense_replace": 1, "intermediate_size": 96, "num_hidden_layers": 3}),
            ),
        ),
    ]
}

#[test]
fn ranks_and_placements_do_not_matter() {
    for (name, config) in families() {
        let (_folder, checkpoint) = checkpoint(&config, 3);
        let c = ModelConfig::new(checkpoint.manifest()).unwrap();
        let experts = c.experts.as_ref().unwrap().router.experts;
        for ranks in 2..=4.min(experts) {
            let round = Placement::round_robin(&c, ranks).unwrap();
            same_bits(&checkpoint, QuantFormat::F32, round, &format!("{name}, {ranks} ranks in turn"));
            for seed in 0..2 {
                let placement = any_placement(&c, ranks, &mut Dice::new(100 * seed + ranks as u64));
                let what = format!("{name}, {placement:?}");
                same_bits(&checkpoint, QuantFormat::F32, placement, &what);
            }
        }
    }
}

#[test]
fn formats_do_not_matter() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 4);
    let c = ModelConfig::new(checkpoint.manifest()).unwrap();
    for format in [QuantFormat::Bf16, QuantFormat::Int8] {
        same_bits(&checkpoint, format, Placement::round_robin(&c, 3).unwrap(), format.name());
    }
}

/// A published layout keeps an expert's matrices apart, and their types and rounding are the file's.
#[test]
fn an_open_layout_is_spread_as_it_lies() {
    let checkpoint = crate::foreign::mixtral().open().unwrap();
    let c = ModelConfig::new(checkpoint.manifest()).unwrap();
    for ranks in [2, 3] {
        same_bits(&checkpoint, QuantFormat::F32, Placement::round_robin(&c, ranks).unwrap(), "mixtral");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any weights, any placement, any number of ranks.
    #[test]
    fn any_placement_gives_the_bits_of_one_rank(seed in 0u64..1000, ranks in 1usize..5) {
        let config = with(text_config(), json!({"num_experts": 6, "num_experts_per_tok": 3}));
        let (_folder, checkpoint) = checkpoint(&config, seed);
        let c = ModelConfig::new(checkpoint.manifest()).unwrap();
        let placement = any_placement(&c, ranks, &mut Dice::new(seed));
        let mut one = load(&checkpoint, &CPU, QuantFormat::F32, 1).unwrap();
        let (mut many, _) = spread(&checkpoint, QuantFormat::F32, placement);
        one.allocate(64, 64).unwrap();
        many.allocate(64, 64).unwrap();
        let batch = batch(&c, seed);
        prop_assert!(step(one.as_mut(), &batch) == step(many.as_mut(), &batch));
    }
}

#[test]
fn the_reference_backend_spreads_too() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 3);
    let c = ModelConfig::new(checkpoint.manifest()).unwrap();
    let placement = Arc::new(Placement::round_robin(&c, 2).unwrap());
    let traffic = Arc::new(Traffic::default());
    let device = DeviceSpec::Reference;
    let mut many =
        load_threads(&checkpoint, &device.for_ranks(2), &with_threads(QuantFormat::F32, 1), &placement, traffic)
            .unwrap();
    many.allocate(256, 64).unwrap();
    let batch = batch(&c, 5);
    let one = step(runner(&checkpoint, &device, 64).as_mut(), &batch);
    assert_same("reference", &device, &step(many.as_mut(), &batch).values, &one.values);
}

/// GPUs that are not there, one too few, and mixed ones are refused before anything is loaded.
#[test]
fn devices_that_do_not_fit_the_ranks_are_refused() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 3);
    let c = ModelConfig::new(checkpoint.manifest()).unwrap();
    let placement = Arc::new(Placement::round_robin(&c, 2).unwrap());
    let said = |devices: &[DeviceSpec]| {
        let options = with_threads(QuantFormat::F32, 2);
        let loaded = load_threads(&checkpoint, devices, &options, &placement, Arc::default());
        loaded.err().unwrap().to_string()
    };
    assert_eq!(said(&[CPU]), "ranks: 2 ranks and 1 devices: name one device, or one for each rank");
    let mixed = said(&[CPU, DeviceSpec::Reference]);
    assert_eq!(mixed, "ranks: rank 1 computes on reference, rank 0 on cpu: use devices of one kind");
    let missing = said(&[DeviceSpec::Reference, DeviceSpec::Cuda(4711)]);
    assert!(missing.starts_with("ranks: rank 1: device \"cuda:4711\" cannot be used: "), "{missing}");
}

/// On all GPUs of this machine; with one, both ranks share it.
#[test]
fn ranks_on_gpus() {
    if !devices().contains(&DeviceSpec::Cuda(0)) {
        return;
    }
    let other = if DeviceSpec::Cuda(1).open().is_ok() { 1 } else { 0 };
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 3);
    let c = ModelConfig::new(checkpoint.manifest()).unwrap();
    let placement = Arc::new(Placement::round_robin(&c, 2).unwrap());
    let on = [DeviceSpec::Cuda(0), DeviceSpec::Cuda(other)];
    let mut many =
        load_threads(&checkpoint, &on, &with_threads(QuantFormat::F32, 1), &placement, Arc::default()).unwrap();
    many.allocate(256, 64).unwrap();
    let batch = batch(&c, 5);
    let one = step(runner(&checkpoint, &on[0], 64).as_mut(), &batch);
    assert!(step(many.as_mut(), &batch) == one, "two ranks give other bits than one");
}

#[test]
fn each_rank_holds_its_share() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 3);
    let c = ModelConfig::new(checkpoint.manifest()).unwrap();
    let whole = load(&checkpoint, &CPU, QuantFormat::F32, 1).unwrap().summary().device_bytes;
    for ranks in [2, 4] {
        let placement = Arc::new(Placement::round_robin(&c, ranks).unwrap());
        let shards: Vec<u64> = (1..ranks)
            .map(|r| load_shard(&checkpoint, &CPU, &with_threads(QuantFormat::F32, 1), &placement, r).unwrap().bytes())
            .collect();
        let (home, _) = spread(&checkpoint, QuantFormat::F32, (*placement).clone());
        let home = home.summary().device_bytes;
        assert_eq!(home + shards.iter().sum::<u64>(), whole, "{ranks} ranks hold every weight once");
        assert!(home < whole && shards.iter().all(|s| *s > 0));
    }
}

#[test]
fn one_rank_costs_nothing() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 3);
    let c = ModelConfig::new(checkpoint.manifest()).unwrap();
    let traffic = Arc::new(Traffic::default());
    let placement = Arc::new(Placement::round_robin(&c, 1).unwrap());
    let exchange = (Box::new(Local) as Box<dyn Exchange>, traffic.clone());
    let mut model = load_home(&checkpoint, &CPU, &with_threads(QuantFormat::F32, 1), &placement, exchange).unwrap();
    model.allocate(64, 64).unwrap();
    let batch = batch(&c, 5);
    assert!(step(model.as_mut(), &batch) == step(runner(&checkpoint, &CPU, 64).as_mut(), &batch));
    assert_eq!(traffic.totals(), Default::default());
}

#[test]
fn the_load_is_counted_and_balances() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 3);
    let c = ModelConfig::new(checkpoint.manifest()).unwrap();
    let (mut model, traffic) = spread(&checkpoint, QuantFormat::F32, Placement::round_robin(&c, 2).unwrap());
    model.allocate(256, 64).unwrap();
    let batch = batch(&c, 5);
    let trace = model.trace(&batch, &mut Logits::default()).unwrap();
    let totals = traffic.totals();
    for (layer, routing) in trace.routing.iter().enumerate() {
        let experts = c.routed(layer).unwrap().router.experts;
        let count = |e: usize| routing.iter().flatten().filter(|(x, _)| *x as usize == e).count() as u64;
        assert_eq!(totals.load[layer], (0..experts).map(count).collect::<Vec<_>>());
    }
    assert!(totals.bytes_sent > 0 && totals.bytes_received > 0 && totals.layers as usize == trace.routing.len());
    let balanced = Placement::balanced(&c, 2, &totals.load).unwrap();
    same_bits(&checkpoint, QuantFormat::F32, balanced.clone(), "balanced");
    for (layer, load) in totals.load.iter().enumerate() {
        let sum = |rank| balanced.held(layer, rank).iter().map(|e| load[*e]).sum::<u64>();
        assert!(sum(0).abs_diff(sum(1)) <= *load.iter().max().unwrap());
    }
}

/// A member that ends after some parcels.
struct Mortal<M>(M, usize);

impl<M: Member> Member for Mortal<M> {
    fn receive(&mut self) -> borealis_model::Result<Option<Parcel>> {
        if self.1 == 0 {
            return Ok(None);
        }
        self.1 -= 1;
        self.0.receive()
    }
    fn answer(&mut self, parcel: Parcel) -> borealis_model::Result<()> {
        self.0.answer(parcel)
    }
    fn fail(&mut self, problem: &str) -> borealis_model::Result<()> {
        self.0.fail(problem)
    }
}

#[test]
fn a_rank_that_ends_is_named_with_its_step() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 3);
    let c = ModelConfig::new(checkpoint.manifest()).unwrap();
    let placement = Arc::new(Placement::round_robin(&c, 3).unwrap());
    let (exchange, members) = Threads::new(3);
    let layers = c.routed_layers();
    for (i, member) in members.into_iter().enumerate() {
        let mut shard = load_shard(&checkpoint, &CPU, &with_threads(QuantFormat::F32, 1), &placement, i + 1).unwrap();
        // Rank 2 serves two steps and dies in the third.
        let mut member = Mortal(member, if i == 1 { 2 * layers + 1 } else { usize::MAX });
        std::thread::spawn(move || serve(shard.as_mut(), &mut member));
    }
    let exchange = (Box::new(exchange) as Box<dyn Exchange>, Arc::new(Traffic::default()));
    let mut model = load_home(&checkpoint, &CPU, &with_threads(QuantFormat::F32, 1), &placement, exchange).unwrap();
    model.allocate(64, 64).unwrap();
    let batch = batch(&c, 5);
    let mut out = Logits::default();
    model.step(&batch, &mut out).unwrap();
    model.step(&batch, &mut out).unwrap();
    let error = model.step(&batch, &mut out).unwrap_err().to_string();
    assert_eq!(error, "rank 2 has ended: its thread is gone (step 3): start all ranks again");
    let error = model.step(&batch, &mut out).unwrap_err().to_string();
    assert_eq!(error, "ranks: a rank has failed in an earlier step: start all ranks again");
}

#[test]
fn a_parcel_that_does_not_fit_is_refused() {
    let (_folder, checkpoint) = checkpoint(&tiny_config(), 3);
    let c = ModelConfig::new(checkpoint.manifest()).unwrap();
    let placement = Arc::new(Placement::round_robin(&c, 2).unwrap());
    let mut shard = load_shard(&checkpoint, &CPU, &with_threads(QuantFormat::F32, 1), &placement, 1).unwrap();
    let good = Parcel { x: vec![0.5; c.hidden_size], rows: vec![0, 0], experts: vec![0, 1], ..Parcel::default() };
    shard.compute(&mut good.clone()).unwrap();
    for bad in [
        Parcel { layer: 99, ..good.clone() },
        Parcel { rows: vec![0, 1], ..good.clone() },
        Parcel { experts: vec![0, 1000], ..good.clone() },
        Parcel { experts: vec![0], ..good.clone() },
        Parcel { x: vec![0.5; c.hidden_size - 1], ..good.clone() },
    ] {
        assert!(shard.compute(&mut bad.clone()).is_err(), "{bad:?}");
    }
}

#[test]
fn wrong_counts_and_placements_say_what_to_do() {
    let (_folder, checkpoint) = checkpoint(&with(text_config(), json!({"num_experts": 4})), 3);
    let c = ModelConfig::new(checkpoint.manifest()).unwrap();
    let said = |r: borealis_model::Result<Placement>| r.unwrap_err().to_string();
    assert_eq!(said(Placement::round_robin(&c, 5)), "ranks: 5 ranks for 4 experts in a layer: use at most 4");
    let dense = with(text_config(), json!({"num_experts": 0, "intermediate_size": 80}));
    let (_folder, dense) = crate::support::checkpoint(&dense, 3);
    let d = ModelConfig::new(dense.manifest()).unwrap();
    assert_eq!(said(Placement::round_robin(&d, 2)), "ranks: 2 ranks for a model without experts: use one rank");
    let layers = c.num_hidden_layers;
    let all = |of: [usize; 4]| Placement::new(&c, 2, vec![of.to_vec(); layers]);
    assert_eq!(said(all([0; 4])), "ranks: the placement leaves rank 1 without an expert of layer 0");
    assert_eq!(said(all([0, 1, 2, 0])), "ranks: the placement puts expert 2 of layer 0 on rank 2, there are 2");
    assert!(said(Placement::new(&c, 2, vec![vec![0, 1]; layers])).contains("names 2 experts of layer 0"));
    assert!(said(Placement::balanced(&c, 2, &[])).contains("the expert load is of 0 layers"));
}

#[test]
fn identities_tell_checkpoints_and_settings_apart() {
    let (_a, first) = checkpoint(&tiny_config(), 3);
    let (_b, second) = checkpoint(&tiny_config(), 4);
    let c = ModelConfig::new(first.manifest()).unwrap();
    let two = Placement::round_robin(&c, 2).unwrap();
    let of = |checkpoint: &Checkpoint, format, placement: &Placement| {
        Identity::new(checkpoint, format, "cpu", placement).unwrap()
    };
    let home = of(&first, QuantFormat::F32, &two);
    assert_eq!(of(&first, QuantFormat::F32, &two).difference(&home), None);
    let said = |other: Identity| other.difference(&home).unwrap();
    assert!(said(of(&second, QuantFormat::F32, &two)).starts_with("has other weights"));
    assert!(said(of(&first, QuantFormat::Bf16, &two)).starts_with("has other settings"));
    let gpu = Identity::new(&first, QuantFormat::F32, "cuda", &two).unwrap();
    assert!(said(gpu).starts_with("has other settings"));
    let three = Placement::round_robin(&c, 3).unwrap();
    assert!(said(of(&first, QuantFormat::F32, &three)).starts_with("has other settings"));
}
