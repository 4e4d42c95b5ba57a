//! Router, experts, and rows that are rounded to eight bits.

use std::ops::Range;

use borealis_kernels::{Backend, Cpu, Instructions, Reference, RouterSpec, Scoring};

use crate::rows::cut;
use crate::support::{Backends, Case, FORMATS, Host, Random, buffer, coded, exact_rows, gpu, metal, nmse, read};

#[derive(Clone)]
struct Moe {
    spec: RouterSpec,
    router: Host,
    gate_up: Host,
    down: Host,
    inputs: usize,
    outputs: usize,
    x: Vec<f32>,
    before: Vec<f32>,
}

impl Case for Moe {
    /// Per row: the chosen experts, their weights, and the sum.
    fn run<B: Backend>(&self, b: &B) -> Vec<f32> {
        let (x, mut dst) = (buffer(b, &self.x), buffer(b, &self.before));
        // One row more than needed: capacity is not the number of rows.
        let mut routing = b.routing(self.rows() + 1, self.spec.top_k).unwrap();
        b.route(&x, self.rows(), &self.router.on(b), &self.spec, &mut routing).unwrap();
        b.experts(&x, self.rows(), &routing, &self.gate_up.on(b), &self.down.on(b), &mut dst).unwrap();
        let sums = read(b, &dst, self.before.len());
        let chosen = b.read_routing(&routing, self.rows()).unwrap();
        let row = |(chosen, sum): (&Vec<(u32, f32)>, &[f32])| -> Vec<f32> {
            chosen.iter().flat_map(|&(e, w)| [e as f32, w]).chain(sum.iter().copied()).collect()
        };
        chosen.iter().zip(sums.chunks_exact(self.outputs)).flat_map(row).collect()
    }
    fn rows(&self) -> usize {
        self.x.len() / self.inputs
    }
    fn only(&self, rows: Range<usize>) -> Option<Self> {
        let before = cut(&self.before, self.outputs, rows.clone());
        Some(Self { x: cut(&self.x, self.inputs, rows), before, ..self.clone() })
    }
    fn limit(&self) -> f64 {
        // The values between the two products are rounded to eight bits.
        if coded(self.down.format) { 5e-4 } else { 1e-11 }
    }
}

/// With rows that are not exact: the error is that of eight bits, no more.
#[test]
fn rows_are_rounded_to_eight_bits() {
    let mut r = Random::new(14);
    let (reference, cpu) = (Reference::new(), Cpu::new(1));
    for format in [FORMATS[2], FORMATS[3]] {
        let (rows, inputs, outputs) = (40, 256, 100);
        let w = Host::random(&mut r, &[outputs, inputs], format);
        let x = r.numbers(rows * inputs);
        fn run<B: Backend>(b: &B, w: &Host, x: &[f32], rows: usize, outputs: usize) -> Vec<f32> {
            let mut out = b.alloc(rows * outputs).unwrap();
            b.matmul(&buffer(b, x), rows, &w.on(b), None, false, &mut out).unwrap();
            read(b, &out, rows * outputs)
        }
        let error = nmse(&run(&cpu, &w, &x, rows, outputs), &run(&reference, &w, &x, rows, outputs));
        assert!((1e-6..5e-5).contains(&error), "{}: NMSE {error:e}", format.name());
    }
}

/// A group of zeros gives zeros; NaN and infinities are not lost.
#[test]
fn codes_of_strange_rows() {
    let b = Cpu::new(1);
    for format in FORMATS {
        let mut w = Host::exact(&[3, 70], &[0.5; 210]);
        w.format = format;
        for (value, fine) in [(0.0f32, true), (1e-38, true), (1e30, true), (f32::NAN, false), (f32::INFINITY, false)] {
            let mut x = vec![0.0; 140];
            x[70 + 66] = value;
            let mut out = b.alloc(6).unwrap();
            b.matmul(&buffer(&b, &x), 2, &w.on(&b), None, false, &mut out).unwrap();
            let found = read(&b, &out, 6);
            assert_eq!(found[..3], [0.0; 3], "the other row");
            assert_eq!(found[3..].iter().all(|v| v.is_finite()), fine, "{value} in {}", format.name());
        }
    }
}

#[test]
fn route_and_experts() {
    let (b, mut r) = (Backends::new(), Random::new(12));
    for i in 0..36 {
        let format = FORMATS[i % 4];
        let (experts, null_experts) = (r.size(1, 20), if i % 4 == 0 { r.size(1, 4) } else { 0 });
        let (inputs, outputs) = (r.size(1, 140), r.size(1, 100));
        // Multiples of 16 and others: two ways through the experts.
        let inner = if i % 2 == 0 { 16 * r.size(1, 6) } else { r.size(1, 90) };
        // Some choose among groups of experts first.
        let (groups, top_groups) = if i % 6 == 3 { (r.size(2, 4), r.size(1, 2)) } else { (1, 1) };
        let (experts, null_experts) = if groups > 1 { (groups * r.size(2, 5), 0) } else { (experts, null_experts) };
        let all = experts + null_experts;
        let spec = RouterSpec {
            experts,
            null_experts,
            top_k: r.size(1, (top_groups * experts / groups + null_experts).min(8)),
            scoring: if i % 3 == 0 { Scoring::Sigmoid } else { Scoring::Softmax },
            normalise: i % 5 < 3,
            scale: if i % 2 == 0 { 1.0 } else { 2.5 },
            selection_bias: if i % 4 == 1 || groups > 1 { r.numbers(all) } else { Vec::new() },
            groups,
            top_groups,
        };
        // Many rows, so that the router is cut into chunks, too.
        let rows = if i % 9 == 4 { 400 } else { r.size(1, 50) };
        let what = format!("experts {i}: {rows} rows, {inputs} -> {inner} -> {outputs}, {spec:?}, {}", format.name());
        let router = Host::random(&mut r, &[all, inputs], borealis_kernels::QuantFormat::F32);
        let gate_up = Host::random(&mut r, &[experts, 2 * inner, inputs], format);
        let down = Host::random(&mut r, &[experts, outputs, inner], format);
        let x = if coded(format) {
            exact_rows(&mut r, rows, inputs)
        } else {
            r.numbers(rows * inputs).into_iter().map(|x| 3.0 * x).collect()
        };
        let before = r.numbers(rows * outputs);
        b.check(&what, &Moe { spec, router, gate_up, down, inputs, outputs, x, before });
    }
}

/// What ranks rely on: each choice computed alone, weighted and summed in ascending order of the expert, is the sum of `experts` to the bit.
#[test]
fn choices_one_by_one_are_the_experts() {
    let (b, mut r) = (Cpu::new(2), Random::new(14));
    for (i, format) in FORMATS.into_iter().enumerate() {
        let (rows, experts, inputs, inner, outputs) =
            (r.size(1, 40), r.size(3, 9), r.size(1, 90), r.size(1, 60), r.size(1, 70));
        let spec = RouterSpec {
            experts,
            null_experts: i,
            top_k: 3,
            scoring: Scoring::Softmax,
            normalise: i == 0,
            scale: 1.5,
            selection_bias: Vec::new(),
            groups: 1,
            top_groups: 1,
        };
        let router = Host::random(&mut r, &[experts + i, inputs], borealis_kernels::QuantFormat::F32).on(&b);
        let gate_up = Host::random(&mut r, &[experts, 2 * inner, inputs], format).on(&b);
        let down = Host::random(&mut r, &[experts, outputs, inner], format).on(&b);
        let (x, before) = (buffer(&b, &r.numbers(rows * inputs)), r.numbers(rows * outputs));
        let mut routing = b.routing(rows, 3).unwrap();
        b.route(&x, rows, &router, &spec, &mut routing).unwrap();
        let mut together = buffer(&b, &before);
        b.experts(&x, rows, &routing, &gate_up, &down, &mut together).unwrap();

        let mut sums = vec![0.0; rows * outputs];
        for (row, mut chosen) in b.read_routing(&routing, rows).unwrap().into_iter().enumerate() {
            chosen.retain(|(e, _)| (*e as usize) < experts);
            chosen.sort_by_key(|(e, _)| *e);
            for (expert, weight) in chosen {
                let (mut alone, mut one) = (b.alloc(inputs).unwrap(), b.alloc(outputs).unwrap());
                b.gather(&x, &[row as u32], inputs, &mut alone).unwrap();
                let mut assigned = b.routing(1, 1).unwrap();
                b.assign(&[expert], &mut assigned).unwrap();
                assert_eq!(b.read_routing(&assigned, 1).unwrap(), [[(expert, 1.0)]]);
                b.experts(&alone, 1, &assigned, &gate_up, &down, &mut one).unwrap();
                let sum = &mut sums[row * outputs..][..outputs];
                sum.iter_mut().zip(read(&b, &one, outputs)).for_each(|(s, v)| *s += weight * v);
            }
        }
        let mut apart = buffer(&b, &before);
        b.add(&mut apart, &buffer(&b, &sums), sums.len()).unwrap();
        assert!(read(&b, &apart, sums.len()) == read(&b, &together, sums.len()), "{} differs", format.name());
    }
    assert!(b.assign(&[0, 1], &mut b.routing(1, 1).unwrap()).is_err());
}

/// A stack that was filled piece by piece, over what lay there before, is the weight of all its matrices, to the bit.
#[test]
fn a_stack_is_filled_piece_by_piece() {
    fn run<B: Backend>(b: &B, r: &mut Random) {
        for format in FORMATS {
            let (count, out, inputs) = (r.size(2, 7), r.size(1, 70), 2 * r.size(1, 70));
            let host = Host::random(r, &[count, out, inputs], format);
            let old = Host::random(r, &[count, out, inputs], format);
            let x = buffer(b, &r.numbers(3 * count * inputs));
            let product = |w: &B::Weight| {
                let mut y = b.alloc(3 * count * out).unwrap();
                b.matmul_heads(&x, inputs, 3, w, &mut y, out).unwrap();
                read(b, &y, 3 * count * out)
            };
            let mut stack = b.stack([count, out, inputs], format).unwrap();
            b.replace(&mut stack, 0, &old.tensor()).unwrap();
            let cut = r.size(1, count - 1);
            b.replace(&mut stack, cut, &host.matrices(cut..count).tensor()).unwrap();
            b.replace(&mut stack, 0, &host.matrices(0..cut).tensor()).unwrap();
            assert_eq!(b.weight_bytes(&stack), b.weight_bytes(&host.on(b)));
            assert!(product(&stack) == product(&host.on(b)), "{} on {}", format.name(), b.name());
            // Nothing is written outside.
            assert!(b.replace(&mut stack, cut, &host.tensor()).is_err());
            let mut other = b.stack([count, out + 1, inputs], format).unwrap();
            assert!(b.replace(&mut other, 0, &host.tensor()).is_err());
        }
        assert!(b.stack([0, 1, 1], FORMATS[0]).is_err() && b.stack([usize::MAX, 2, 2], FORMATS[0]).is_err());
        let mut matrix = Host::exact(&[1, 1], &[1.0]).on(b);
        assert!(b.replace(&mut matrix, 0, &Host::exact(&[1, 1, 1], &[1.0]).tensor()).is_err());
    }
    let mut r = Random::new(15);
    run(&Reference::new(), &mut r);
    run(&Cpu::new(2), &mut r);
    gpu().iter().for_each(|gpu| run(gpu, &mut r));
    metal().iter().for_each(|metal| run(metal, &mut r));
}

#[test]
fn ties_go_to_the_lower_expert() {
    fn chosen<B: Backend>(b: &B, spec: &RouterSpec) -> Vec<Vec<u32>> {
        // Whole numbers: the logits are exact, experts 1, 2 and 4 are equal.
        let router = Host::exact(&[5, 2], &[1.0, 0.0, 2.0, 1.0, 2.0, 1.0, 0.0, 0.0, 2.0, 1.0]).on(b);
        let x = buffer(b, &[1.0, 1.0, -1.0, -1.0]);
        let mut routing = b.routing(2, spec.top_k).unwrap();
        b.route(&x, 2, &router, spec, &mut routing).unwrap();
        let rows = b.read_routing(&routing, 2).unwrap();
        rows.iter().map(|r| r.iter().map(|(e, _)| *e).collect()).collect()
    }
    for scoring in [Scoring::Softmax, Scoring::Sigmoid] {
        let spec = RouterSpec {
            experts: 3,
            null_experts: 2,
            top_k: 4,
            scoring,
            normalise: true,
            scale: 1.0,
            selection_bias: Vec::new(),
            groups: 1,
            top_groups: 1,
        };
        let want = vec![vec![1, 2, 4, 0], vec![3, 0, 1, 2]];
        assert_eq!(chosen(&Reference::new(), &spec), want);
        assert_eq!(chosen(&Cpu::new(1), &spec), want);
        assert_eq!(chosen(&Cpu::with_instructions(1, Instructions::Scalar), &spec), want);
        gpu().iter().for_each(|gpu| assert_eq!(chosen(gpu, &spec), want));
        metal().iter().for_each(|metal| assert_eq!(chosen(metal, &spec), want));
    }
}
