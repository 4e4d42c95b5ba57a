//! Ids drawn by a device are those that the host draws, whatever the rules.

use borealis_kernels::{Backend, Cpu, Draw, Drawer, Draws, Noise, Reference, Rule};

use crate::support::{Random, buffer, gpu};

/// Rows of logits, and ids to draw from them.
struct Case {
    width: usize,
    logits: Vec<f32>,
    draws: Draws,
}

fn rule(r: &mut Random, most: usize) -> Rule {
    let some = |r: &mut Random, x: f32| if r.size(0, 1) == 0 { None } else { Some(x) };
    let temperature = r.pick(&[0.0, 1e-5, 0.3, 1.0, 1.0, 2.5]);
    let (k, p, least) = (r.size(1, most + 2), r.size(0, 1000) as f32 / 1000.0, r.pick(&[0.01, 0.2, 0.9, 1.0]));
    Rule {
        repetition_penalty: r.pick(&[1.0, 1.0, 1.0, 1.3]),
        temperature,
        top_k: if r.size(0, 1) == 0 { 0 } else { k },
        top_p: some(r, p).unwrap_or(1.0),
        min_p: some(r, least).unwrap_or(0.0),
    }
}

impl Case {
    fn random(r: &mut Random, largest: usize) -> Self {
        let (rows, width) = (r.size(1, 4), r.size(1, largest));
        // Steps of an eighth now and then: there are equals.
        let (spread, coarse) = (r.pick(&[0.1, 2.0, 20.0]), r.size(0, 2) == 0);
        let number = |r: &mut Random| match r.size(0, 40) {
            0 => f32::NEG_INFINITY,
            1 => r.pick(&[0.0, -0.0]),
            _ if coarse => (r.number() * spread * 8.0).round() / 8.0,
            _ => r.number() * spread,
        };
        let mut logits: Vec<f32> = (0..rows * width).map(|_| number(r)).collect();
        match r.size(0, 12) {
            0 => logits[..width].fill(f32::NEG_INFINITY),
            1 => logits[width / 2] = r.pick(&[f32::NAN, f32::INFINITY]),
            _ => {}
        }
        let mut draws = Draws::default();
        for row in 0..rows {
            for code in 0..r.size(1, 4) {
                let from = r.size(0, width - 1);
                let to = r.size(from, width);
                let seen = draws.seen.len();
                (0..r.size(0, 6)).for_each(|_| draws.seen.push(r.size(0, width) as u32));
                let except = (r.size(0, 3), r.size(0, 3));
                draws.list.push(Draw {
                    row,
                    against: (r.size(0, 2) == 0).then(|| r.size(0, rows - 1)),
                    guidance: r.pick(&[1.0, 3.0, 0.7]),
                    part: (from, to),
                    except,
                    rule: rule(r, to - from),
                    seen: (seen, draws.seen.len()),
                    noise: Noise::new(r.next(), r.size(0, 40) as u32),
                    position: r.next() as u32,
                    code: code as u32,
                });
            }
        }
        Self { width, logits, draws }
    }

    fn on<B: Backend>(&self, b: &B) -> Vec<Option<u32>> {
        let logits = buffer(b, &self.logits);
        // What was drawn before stays.
        let mut ids = vec![Some(7)];
        b.sample(&logits, self.width, &self.draws, &mut Drawer::default(), &mut ids).unwrap();
        assert_eq!(ids.remove(0), Some(7));
        ids
    }

    fn check<B: Backend>(&self, b: &B) {
        let row = |r: usize| &self.logits[r * self.width..(r + 1) * self.width];
        let mut host = Drawer::default();
        for (d, id) in self.draws.list.iter().zip(self.on(b)) {
            let want = host.draw(row(d.row), d.against.map(row), d, self.draws.seen(d));
            assert_eq!(id, want, "{} of width {}: {d:?}", b.name(), self.width);
        }
    }
}

#[test]
fn ids_are_those_of_the_host() {
    let (reference, cpu, gpu, mut r) = (Reference::new(), Cpu::new(1), gpu(), Random::new(31));
    for i in 0..120 {
        // Both sizes of blocks, and more ids than threads.
        let case = Case::random(&mut r, if i % 4 == 0 { 3000 } else { 40 });
        case.check(&reference);
        case.check(&cpu);
        if let Some(gpu) = &gpu {
            case.check(gpu);
        }
    }
}

/// Equal logits everywhere: only ids and noise decide, and top-p cuts between equals.
#[test]
fn ids_among_equals() {
    let (cpu, gpu) = (Cpu::new(1), gpu());
    for (p, k) in [(1.0, 0), (0.5, 0), (0.501, 0), (0.0, 0), (0.999, 3)] {
        let list = (0..8).map(|position| Draw {
            row: 0,
            against: None,
            guidance: 1.0,
            part: (0, 700),
            except: (0, 0),
            rule: Rule { temperature: 1.0, top_p: p, top_k: k, ..Rule::default() },
            seen: (0, 0),
            noise: Noise::new(3, 1),
            position,
            code: 0,
        });
        let case = Case { width: 700, logits: vec![1.5; 700], draws: Draws { list: list.collect(), seen: Vec::new() } };
        case.check(&cpu);
        if let Some(gpu) = &gpu {
            case.check(gpu);
        }
    }
}

#[test]
fn parts_outside_of_a_row_are_refused() {
    let mut r = Random::new(5);
    let mut case = Case::random(&mut r, 9);
    case.draws.list[0].part = (0, case.width + 1);
    let (cpu, mut ids) = (Cpu::new(1), Vec::new());
    let logits = buffer(&cpu, &case.logits);
    let error = cpu.sample(&logits, case.width, &case.draws, &mut Drawer::default(), &mut ids).unwrap_err().to_string();
    assert!(error.starts_with("sample: draw 0 is among logits 0.."), "{error}");
    assert!(ids.is_empty());
}
