//! Patches, sub-pixels and painting.

use std::ops::Range;

use borealis_kernels::{Backend, Canvas, Cpu, Instructions, Patches, QuantFormat, Reference, Target};

use crate::support::{Backends, Case, Host, Random, buffer, gpu, metal, nmse, read};

struct Copies {
    p: Patches,
    x: Vec<f32>,
}

impl Case for Copies {
    fn run<B: Backend>(&self, b: &B) -> Vec<f32> {
        let (p, x) = (self.p, buffer(b, &self.x));
        let (oh, ow) = p.out();
        let n = p.n * oh * ow * p.kernel * p.kernel * p.c;
        let mut out = buffer(b, &vec![7.0; n]);
        b.patches(&x, p, &mut out).unwrap();
        let mut all = read(b, &out, n);
        if p.c.is_multiple_of(4) {
            let mut out = buffer(b, &vec![7.0; self.x.len()]);
            b.pixel_shuffle2(&x, p.n, p.h, p.w, p.c / 4, &mut out).unwrap();
            all.extend(read(b, &out, self.x.len()));
        }
        all
    }
    fn rows(&self) -> usize {
        0
    }
    fn only(&self, _: Range<usize>) -> Option<Self> {
        None
    }
    fn limit(&self) -> f64 {
        0.0
    }
}

#[test]
fn patches_and_pixel_shuffle() {
    let (b, mut r) = (Backends::new(), Random::new(21));
    for _ in 0..60 {
        let kernel = r.size(1, 5);
        let p = Patches {
            n: r.size(1, 3),
            h: r.size(kernel, 12),
            w: r.size(kernel, 12),
            c: r.size(1, 9),
            kernel,
            stride: r.size(1, 3),
            pad: r.size(0, kernel - 1),
        };
        let x = r.numbers(p.n * p.h * p.w * p.c);
        b.check(&format!("{p:?}"), &Copies { p, x });
    }
}

/// A convolution is patches and a product: compared with a direct sum.
#[test]
fn patches_make_a_convolution() {
    let mut r = Random::new(22);
    let p = Patches { n: 2, h: 7, w: 6, c: 3, kernel: 3, stride: 2, pad: 1 };
    let (x, w, out) = (r.numbers(2 * 7 * 6 * 3), r.numbers(4 * 27), 4);
    let (oh, ow) = p.out();
    let mut want = Vec::new();
    for (n, oy, ox, o) in
        (0..2 * oh * ow * out).map(|i| (i / (oh * ow * out), i / (ow * out) % oh, i / out % ow, i % out))
    {
        let mut sum = 0f64;
        for (ky, kx, c) in (0..27).map(|i| (i / 9, i / 3 % 3, i % 3)) {
            let (y, x_) = ((2 * oy + ky) as isize - 1, (2 * ox + kx) as isize - 1);
            if (0..7).contains(&y) && (0..6).contains(&x_) {
                let at = ((n * 7 + y as usize) * 6 + x_ as usize) * 3 + c;
                sum += f64::from(x[at]) * f64::from(w[o * 27 + ky * 9 + kx * 3 + c]);
            }
        }
        want.push(sum as f32);
    }
    let cpu = Cpu::new(2);
    let weight = cpu.weight(&Host::exact(&[4, 27], &w).tensor(), QuantFormat::F32).unwrap();
    let rows = 2 * oh * ow;
    let (mut gathered, mut y) = (cpu.alloc(rows * 27).unwrap(), cpu.alloc(rows * 4).unwrap());
    cpu.patches(&buffer(&cpu, &x), p, &mut gathered).unwrap();
    cpu.matmul(&gathered, rows, &weight, None, false, &mut y).unwrap();
    let error = nmse(&read(&cpu, &y, want.len()), &want);
    assert!(error < 1e-12, "{error:e}");
}

struct Paint {
    masks: Vec<f32>,
    colours: Vec<f32>,
    at: usize,
    canvas: Canvas,
}

impl Case for Paint {
    fn run<B: Backend>(&self, b: &B) -> Vec<f32> {
        let (masks, colours) = (buffer(b, &self.masks), buffer(b, &self.colours));
        let (h, w) = self.canvas.size;
        let mut rgb = vec![7f32; 3 * h * w];
        b.paint(&masks, self.at, &colours, self.at, self.canvas, Target::Rgb(&mut rgb)).unwrap();
        rgb
    }
    fn rows(&self) -> usize {
        0
    }
    fn only(&self, _: Range<usize>) -> Option<Self> {
        None
    }
    fn limit(&self) -> f64 {
        1e-10
    }
}

impl Paint {
    fn random(r: &mut Random, even: bool) -> Self {
        let grid = (r.size(1, 12), r.size(1, 40));
        let layers = r.pick(&[1, 2, 3, 4, 4, 6]);
        // Stretched a lot, a little, and shrunk.
        let full = (r.size(2, 60), r.size(2, 130));
        let mut size = (r.size(2, full.0), r.size(2, full.1));
        if even {
            size = (size.0 / 2 * 2, size.1 / 2 * 2);
        }
        let (cells, at) = (grid.0 * grid.1 * layers, r.size(0, 5));
        let canvas = Canvas { grid, layers, scale: 4.0, full, size };
        Self { masks: r.numbers(at + 4 * cells), colours: r.numbers(at + 3 * cells), at, canvas }
    }

    fn i420<B: Backend>(&self, b: &B) -> Vec<u8> {
        let (masks, colours) = (buffer(b, &self.masks), buffer(b, &self.colours));
        let n = self.canvas.size.0 * self.canvas.size.1;
        let mut out = vec![7u8; n + n / 2];
        let (y, c) = out.split_at_mut(n);
        let (u, v) = c.split_at_mut(n / 4);
        b.paint(&masks, self.at, &colours, self.at, self.canvas, Target::I420(y, u, v)).unwrap();
        out
    }
}

#[test]
fn paint() {
    let (b, mut r) = (Backends::new(), Random::new(23));
    for i in 0..40 {
        let case = Paint::random(&mut r, i % 2 == 0);
        b.check(&format!("{:?}", case.canvas), &case);
    }
}

#[test]
fn paint_i420() {
    let mut r = Random::new(24);
    let (reference, cpu, two, scalar) =
        (Reference::new(), Cpu::new(1), Cpu::new(2), Cpu::with_instructions(1, Instructions::Scalar));
    let (gpu, metal) = (gpu(), metal());
    for _ in 0..40 {
        let case = Paint::random(&mut r, true);
        let (want, have) = (case.i420(&reference), case.i420(&cpu));
        // A value at the edge of rounding may fall to either side.
        assert!(want.iter().zip(&have).all(|(a, b)| a.abs_diff(*b) <= 1), "{:?}", case.canvas);
        let others = want.iter().zip(&have).filter(|(a, b)| a != b).count();
        assert!(others * 200 <= want.len(), "{others} of {} bytes differ, {:?}", want.len(), case.canvas);
        let on_gpus = [gpu.as_ref().map(|gpu| case.i420(gpu)), metal.as_ref().map(|metal| case.i420(metal))];
        for have in on_gpus.into_iter().flatten() {
            assert!(want.iter().zip(&have).all(|(a, b)| a.abs_diff(*b) <= 1), "{:?}", case.canvas);
        }
        assert_eq!(have, case.i420(&two));
        assert_eq!(have, case.i420(&scalar));
    }
}
