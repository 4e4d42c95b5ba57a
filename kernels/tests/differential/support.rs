//! Seeded data, host tensors and the comparison itself.

use borealis_kernels::{Backend, Cpu, Cuda, HostTensor, HostType, Instructions, Metal, QuantFormat, Reference};
use half::{bf16, f16};

/// xorshift64*: the same cases on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// In `from..=to`.
    pub fn size(&mut self, from: usize, to: usize) -> usize {
        from + (self.next() >> 33) as usize % (to - from + 1)
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.size(0, of.len() - 1)]
    }

    /// About normal: the sum of four uniform numbers.
    pub fn number(&mut self) -> f32 {
        let uniform = (0..4).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum::<f32>();
        uniform * 1.7
    }

    pub fn numbers(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.number()).collect()
    }

    pub fn ids(&mut self, n: usize, below: usize) -> Vec<u32> {
        let none = |r: &mut Self| r.size(0, 9) == 0;
        (0..n).map(|_| if none(self) { u32::MAX } else { self.size(0, below - 1) as u32 }).collect()
    }
}

/// A tensor of a checkpoint and the format in which a backend shall keep it.
#[derive(Clone)]
pub struct Host {
    dtype: HostType,
    shape: Vec<usize>,
    /// One byte too many in front: the data is not aligned.
    data: Vec<u8>,
    scales: Vec<u8>,
    group: usize,
    pub format: QuantFormat,
}

pub const FORMATS: [QuantFormat; 4] = QuantFormat::ALL;
const TYPES: [HostType; 5] = [HostType::F32, HostType::F16, HostType::Bf16, HostType::I8, HostType::I4];

impl Host {
    /// Random values of about the size that a layer's weights have.
    pub fn random(r: &mut Random, shape: &[usize], format: QuantFormat) -> Self {
        let (n, width) = (shape.iter().product::<usize>(), shape[shape.len() - 1]);
        let dtype = match r.pick(&TYPES) {
            HostType::I4 if width % 2 == 1 => HostType::I8,
            dtype => dtype,
        };
        let factor = 1.0 / (width as f32).sqrt();
        let values: Vec<f32> = r.numbers(n).into_iter().map(|x| x * factor).collect();
        let mut data = vec![0u8];
        let group = r.pick(&[32, 64, 128]);
        let mut scales = Vec::new();
        match dtype {
            HostType::F32 => values.iter().for_each(|x| data.extend(x.to_le_bytes())),
            HostType::F16 => values.iter().for_each(|x| data.extend(f16::from_f32(*x).to_le_bytes())),
            HostType::Bf16 => values.iter().for_each(|x| data.extend(bf16::from_f32(*x).to_le_bytes())),
            HostType::I8 | HostType::I4 => {
                let (bytes, most) = if dtype == HostType::I8 { (n, 60.0) } else { (n / 2, 4.0) };
                data.extend((0..bytes).map(|_| r.size(0, 255) as u8));
                let groups = n / width * width.div_ceil(group);
                (0..groups).for_each(|_| scales.extend(f16::from_f32(factor * r.number() / most).to_le_bytes()));
            }
        }
        Self { dtype, shape: shape.to_vec(), data, scales, group, format }
    }

    /// f32 values as given.
    pub fn exact(shape: &[usize], values: &[f32]) -> Self {
        let data = std::iter::once(0).chain(values.iter().flat_map(|x| x.to_le_bytes())).collect();
        let shape = shape.to_vec();
        Self { dtype: HostType::F32, shape, data, scales: Vec::new(), group: 64, format: QuantFormat::F32 }
    }

    pub fn tensor(&self) -> HostTensor<'_> {
        let scales = self.dtype.coded().then_some((&self.scales[..], self.group));
        HostTensor { dtype: self.dtype, shape: &self.shape, data: &self.data[1..], scales }
    }

    /// Matrices `range` of a stack.
    pub fn matrices(&self, range: std::ops::Range<usize>) -> Self {
        let cut = |bytes: &[u8]| {
            let size = bytes.len() / self.shape[0];
            bytes[range.start * size..range.end * size].to_vec()
        };
        let shape = vec![range.len(), self.shape[1], self.shape[2]];
        let data = [&[0], &cut(&self.data[1..])[..]].concat();
        Self { shape, data, scales: cut(&self.scales), ..self.clone() }
    }

    pub fn on<B: Backend>(&self, b: &B) -> B::Weight {
        b.weight(&self.tensor(), self.format).unwrap()
    }
}

/// Whether a backend may round the rows that it multiplies with weights of this format.
pub fn coded(format: QuantFormat) -> bool {
    matches!(format, QuantFormat::Int8 | QuantFormat::Int4)
}

/// Rows of `width` numbers that are exact as eight-bit codes in groups of 64: whole numbers with a largest of 127, times a power of two.
pub fn exact_rows(r: &mut Random, rows: usize, width: usize) -> Vec<f32> {
    let mut x = Vec::new();
    for _ in 0..rows {
        for at in (0..width).step_by(64) {
            let n = 64.min(width - at);
            let (scale, largest) = ((r.size(0, 12) as f32 - 10.0).exp2(), r.size(0, n - 1));
            let number = |r: &mut Random| r.size(0, 254) as f32 - 127.0;
            // Now and then a group of zeros.
            let zero = r.size(0, 9) == 0;
            x.extend((0..n).map(|i| if zero { 0.0 } else { scale * if i == largest { -127.0 } else { number(r) } }));
        }
    }
    x
}

pub fn buffer<B: Backend>(b: &B, data: &[f32]) -> B::Buffer {
    let mut buffer = b.alloc(data.len()).unwrap();
    b.write(&mut buffer, 0, data).unwrap();
    buffer
}

pub fn read<B: Backend>(b: &B, buffer: &B::Buffer, n: usize) -> Vec<f32> {
    let mut out = vec![0f32; n];
    b.read(buffer, 0, &mut out).unwrap();
    out
}

/// One operation with its data.
pub trait Case {
    /// All results, row after row.
    fn run<B: Backend>(&self, b: &B) -> Vec<f32>;
    /// Rows of the result.
    fn rows(&self) -> usize;
    /// The same with these rows only; `None` when the operation has no rows.
    fn only(&self, rows: std::ops::Range<usize>) -> Option<Self>
    where
        Self: Sized;
    /// Largest normalised mean squared error against the reference.
    fn limit(&self) -> f64 {
        1e-11
    }
}

/// Mean squared error over mean square.
pub fn nmse(have: &[f32], want: &[f32]) -> f64 {
    assert_eq!(have.len(), want.len());
    let square = |x: f64| x * x;
    let error: f64 = have.iter().zip(want).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let power: f64 = want.iter().map(|b| square(f64::from(*b))).sum();
    if error == 0.0 { 0.0 } else { error / power.max(1e-30) }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// The first NVIDIA GPU; without one the test's half for it is skipped, saying why.
pub fn gpu() -> Option<Cuda> {
    Cuda::open(0).inspect_err(|why| eprintln!("skipped: no device: {why}")).ok()
}

/// The Mac's GPU, or its emulator; as [`gpu`].
pub fn metal() -> Option<Metal> {
    Metal::open().inspect_err(|why| eprintln!("skipped: no device: {why}")).ok()
}

/// The backends under test; made once, so that scratch memory is reused with other shapes.
pub struct Backends {
    reference: Reference,
    cpu: Cpu,
    two: Cpu,
    avx2: Cpu,
    scalar: Cpu,
    gpu: Option<Cuda>,
    metal: Option<Metal>,
}

impl Backends {
    pub fn new() -> Self {
        let with = |most| Cpu::with_instructions(1, most);
        let (avx2, scalar) = (with(Instructions::Avx2), with(Instructions::Scalar));
        let (reference, cpu, two) = (Reference::new(), Cpu::new(1), Cpu::new(2));
        Self { reference, cpu, two, avx2, scalar, gpu: gpu(), metal: metal() }
    }

    /// Reference ~ CPU ~ GPUs; one thread == two threads == no SIMD; on each, any number of rows gives the same bits.
    pub fn check<C: Case>(&self, what: &str, case: &C) {
        let want = case.run(&self.reference);
        let have = close(what, case, &self.cpu, &want);
        rows_are_independent(what, case, &self.cpu, &have);
        if let Some(gpu) = &self.gpu {
            rows_are_independent(what, case, gpu, &close(what, case, gpu, &want));
        }
        if let Some(metal) = &self.metal {
            rows_are_independent(what, case, metal, &close(what, case, metal, &want));
        }
        assert_eq!(bits(&have), bits(&case.run(&self.two)), "{what}: two threads give other bits than one");
        assert_eq!(bits(&have), bits(&case.run(&self.avx2)), "{what}: AVX2 gives other bits");
        assert_eq!(bits(&have), bits(&case.run(&self.scalar)), "{what}: SIMD gives other bits than scalar");
    }
}

/// The results of a backend, near the reference's.
fn close<C: Case, B: Backend>(what: &str, case: &C, b: &B, want: &[f32]) -> Vec<f32> {
    let have = case.run(b);
    let error = nmse(&have, want);
    assert!(error <= case.limit(), "{what}: NMSE {error:e} of {} against the reference", b.name());
    have
}

fn rows_are_independent<C: Case, B: Backend>(what: &str, case: &C, b: &B, have: &[f32]) {
    let rows = case.rows();
    if rows == 0 {
        return;
    }
    let width = have.len() / rows;
    for some in [0..1, rows - 1..rows, rows / 3..rows.min(rows / 3 + 5)] {
        let Some(part) = case.only(some.clone()) else { return };
        let alone = part.run(b);
        let among = &have[some.start * width..some.end * width];
        let name = b.name();
        assert_eq!(
            bits(&alone),
            bits(among),
            "{what}: rows {some:?} alone give other bits than among {rows} on {name}"
        );
    }
}
