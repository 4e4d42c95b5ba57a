//! Measures the operations of a step on a GPU: what the device can do at most, then products, experts and attention beside it. One JSON object a line.
//!
//! `cargo run --release -p borealis-kernels --example gpu [DEVICE] [--small]`; `--small` takes sizes that the emulator of scripts/gpu.sh can do.

mod step;

use std::time::Instant;

use borealis_kernels::{
    Backend, Cuda, HostTensor, HostType, KernelError, KvFormat, QuantFormat, RouterSpec, Scoring, Span,
};

type Result<T> = std::result::Result<T, KernelError>;

/// Sizes of what is measured.
struct Sizes {
    /// Bytes of a copy.
    copy: usize,
    /// Bytes of weights that are gone through, so that none stays in a cache.
    weights: usize,
    hidden: usize,
    experts: usize,
    top_k: usize,
    inner: usize,
    rows: &'static [usize],
    contexts: &'static [u32],
    seconds: f64,
    /// Whole steps: shapes, rows, context, and how many are timed together.
    shapes: &'static [step::Shape],
    step_rows: &'static [usize],
    step_context: u32,
    steps: u32,
}

const LARGE: Sizes = Sizes {
    copy: 1 << 30,
    weights: 512 << 20,
    hidden: 2048,
    experts: 128,
    top_k: 8,
    inner: 768,
    rows: &[1, 2, 4, 8, 16, 32, 64, 128, 512],
    contexts: &[1024, 8192],
    seconds: 0.15,
    shapes: &step::LARGE,
    step_rows: &[1, 2, 4, 8, 16, 32, 64, 128, 320],
    step_context: 8192,
    steps: 20,
};
const SMALL: Sizes = Sizes {
    copy: 1 << 20,
    weights: 1 << 16,
    hidden: 64,
    experts: 8,
    top_k: 2,
    inner: 32,
    rows: &[1, 8, 32],
    contexts: &[300],
    seconds: 0.0,
    shapes: &step::SMALL,
    step_rows: &[1, 3],
    step_context: 40,
    steps: 1,
};

struct Bench {
    gpu: Cuda,
    sizes: Sizes,
    copy: f64,
}

/// Random bytes of bf16 numbers of about the size of weights.
fn random(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Exponents around 2^-5: nothing overflows, nothing is denormal.
        0x3d00 | (state as u16 & 0x80ff)
    };
    (0..len).flat_map(|_| next().to_le_bytes()).collect()
}

impl Bench {
    fn weight(&self, shape: &[usize], format: QuantFormat) -> Result<<Cuda as Backend>::Weight> {
        let data = random(shape.iter().product());
        self.gpu.weight(&HostTensor { dtype: HostType::Bf16, shape, data: &data, scales: None }, format)
    }

    fn buffer(&self, len: usize) -> Result<<Cuda as Backend>::Buffer> {
        let mut buffer = self.gpu.alloc(len)?;
        let numbers: Vec<f32> = (0..len).map(|i| ((i * 7919 % 1000) as f32 - 500.0) / 500.0).collect();
        self.gpu.write(&mut buffer, 0, &numbers)?;
        Ok(buffer)
    }

    /// Seconds of one call: many in a row, until the stream is done.
    fn time(&self, mut work: impl FnMut(usize) -> Result<()>) -> Result<f64> {
        let (mut n, probe) = (1, self.gpu.alloc(1)?);
        loop {
            let start = Instant::now();
            (0..n).try_for_each(&mut work)?;
            self.gpu.read(&probe, 0, &mut [0.0])?;
            let seconds = start.elapsed().as_secs_f64();
            if seconds >= self.sizes.seconds {
                return Ok(seconds / n as f64);
            }
            n *= 2;
        }
    }

    fn tell(&self, what: &str, rows: usize, seconds: f64, bytes: f64, operations: f64) {
        let rate = bytes / seconds;
        println!(
            "{{\"op\":\"{what}\",\"rows\":{rows},\"microseconds\":{:.2},\"gigabytes_per_second\":{:.1},\"share_of_copy\":{:.3},\"gigaflops\":{:.1}}}",
            seconds * 1e6,
            rate / 1e9,
            rate / self.copy,
            operations / seconds / 1e9
        );
    }

    fn products(&self, format: QuantFormat) -> Result<()> {
        let side = self.sizes.hidden;
        let one = self.weight(&[side, side], format)?;
        let bytes = self.gpu.weight_bytes(&one);
        let count = (self.sizes.weights / bytes).clamp(1, 64);
        let weights = (0..count).map(|_| self.weight(&[side, side], format)).collect::<Result<Vec<_>>>()?;
        for &rows in self.sizes.rows {
            let (x, mut out) = (self.buffer(rows * side)?, self.gpu.alloc(rows * side)?);
            let seconds = self.time(|i| self.gpu.matmul(&x, rows, &weights[i % count], None, false, &mut out))?;
            let operations = 2.0 * (rows * side * side) as f64;
            self.tell(&format!("matmul {side}x{side} {}", format.name()), rows, seconds, bytes as f64, operations);
        }
        Ok(())
    }

    fn experts(&self, format: QuantFormat) -> Result<()> {
        let Sizes { hidden, experts, top_k, inner, .. } = self.sizes;
        let spec = RouterSpec {
            experts,
            null_experts: 0,
            top_k,
            scoring: Scoring::Softmax,
            normalise: true,
            scale: 1.0,
            selection_bias: Vec::new(),
            groups: 1,
            top_groups: 1,
        };
        let router = self.weight(&[experts, hidden], QuantFormat::F32)?;
        let (gate_up, down) =
            (self.weight(&[experts, 2 * inner, hidden], format)?, self.weight(&[experts, hidden, inner], format)?);
        let bytes = (self.gpu.weight_bytes(&gate_up) + self.gpu.weight_bytes(&down)) / experts;
        for &rows in self.sizes.rows {
            let (x, mut out) = (self.buffer(rows * hidden)?, self.gpu.alloc(rows * hidden)?);
            let mut routing = self.gpu.routing(rows, top_k)?;
            let seconds = self.time(|_| self.gpu.route(&x, rows, &router, &spec, &mut routing))?;
            self.tell("route", rows, seconds, (experts * hidden * 4) as f64, 2.0 * (rows * experts * hidden) as f64);
            let mut chosen: Vec<u32> =
                self.gpu.read_routing(&routing, rows)?.into_iter().flatten().map(|(e, _)| e).collect();
            chosen.sort_unstable();
            chosen.dedup();
            let seconds = self.time(|_| self.gpu.experts(&x, rows, &routing, &gate_up, &down, &mut out))?;
            let operations = 6.0 * (rows * top_k * inner * hidden) as f64;
            let read = (bytes * chosen.len()) as f64;
            let what = format!("experts {} of {experts} {}", chosen.len(), format.name());
            self.tell(&what, rows, seconds, read, operations);
        }
        Ok(())
    }

    /// Whole steps; a shape that does not fit the device's memory is left out, saying so.
    fn steps(&self) -> Result<()> {
        let Sizes { shapes, step_rows, step_context, steps, .. } = self.sizes;
        for shape in shapes {
            for format in [QuantFormat::Bf16, QuantFormat::Int8] {
                let most = step_rows.iter().copied().max().unwrap_or(1);
                match step::Model::new(self, shape, format, most, step_context) {
                    Ok(mut model) => model.tell(format, step_rows, steps)?,
                    Err(error) => eprintln!("skipped: step {} {}: {error}", shape.name, format.name()),
                }
            }
        }
        Ok(())
    }

    fn attention(&self) -> Result<()> {
        let (heads, kv_heads, dim) = (32, 4, 128);
        for &context in self.sizes.contexts {
            let kv = self.gpu.kv(context as usize, kv_heads, dim, KvFormat::F32)?;
            for &rows in self.sizes.rows.iter().filter(|r| **r <= 64) {
                let (q, mut out) = (self.buffer(rows * heads * dim)?, self.gpu.alloc(rows * heads * dim)?);
                let spans = vec![Span { prefix: (0, context), recent: (0, 0) }; rows];
                let seconds = self.time(|_| self.gpu.attention(&q, heads, &kv, &spans, 0.09, &mut out))?;
                let bytes = (context as usize * kv_heads * dim * 8) as f64;
                let operations = 4.0 * (rows * heads * dim) as f64 * f64::from(context);
                self.tell(&format!("attention over {context}"), rows, seconds, bytes, operations);
            }
        }
        Ok(())
    }
}

fn run(ordinal: usize, sizes: Sizes) -> Result<()> {
    let gpu = Cuda::open(ordinal)?;
    let copy = gpu.copy_bandwidth(sizes.copy)?;
    let side = 2 * sizes.hidden;
    let rates = QuantFormat::ALL.map(|f| gpu.matmul_rate(side, f).map(|r| format!("\"{}\":{:.1}", f.name(), r / 1e9)));
    let rates = rates.into_iter().collect::<Result<Vec<_>>>()?.join(",");
    println!(
        "{{\"device\":\"{}\",\"copy_gigabytes_per_second\":{:.1},\"product_gigaflops\":{{{rates}}}}}",
        gpu.describe(),
        copy / 1e9
    );
    let bench = Bench { gpu, sizes, copy };
    QuantFormat::ALL.into_iter().try_for_each(|f| bench.products(f))?;
    [QuantFormat::Bf16, QuantFormat::Int8, QuantFormat::Int4].into_iter().try_for_each(|f| bench.experts(f))?;
    bench.attention()?;
    bench.steps()
}

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let ordinal = args.iter().find_map(|a| a.parse().ok()).unwrap_or(0);
    let sizes = if args.iter().any(|a| a == "--small") { SMALL } else { LARGE };
    match run(ordinal, sizes) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
