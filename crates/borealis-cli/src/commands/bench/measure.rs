//! Steps of a model against the clock, beside the limits of the machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use borealis_kernels::{
    Backend, Cpu, Device, DeviceSpec, Instructions, KernelError, KvFormat, QuantFormat, Span, limits,
};
use borealis_model::{Batch, Forward, Logits, Model, ModelConfig, Query, Row, Runner, StepCost};
use borealis_weights::Checkpoint;
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::limits::GpuLimits;

/// Most bytes from which the bandwidth is measured: more than any last-level cache keeps for one program.
const DRAM: u64 = 512 << 20;
/// Batches that take turns, with other ids and so other experts in each.
const BATCHES: usize = 16;
/// Least steps for a figure.
const STEPS: usize = 3;

/// All figures of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub figures: Vec<Figure>,
}

/// Where they were taken.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub instructions: String,
    /// Programs that wanted a core in the minute before, if the system tells.
    pub load: Option<f64>,
}

impl Machine {
    /// This machine, now, with at most these instructions.
    pub fn here(most: Instructions) -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name =
            info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':')).map(|(_, name)| name.trim());
        Self {
            processor: name.unwrap_or("unknown").to_string(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            instructions: format!("{:?}", Cpu::with_instructions(1, most).instructions()).to_lowercase(),
            load: load(),
        }
    }
}

/// Seconds of processor time that the threads of this process got so far, if the system tells. Exact to some milliseconds: for many steps, not for one.
fn busy() -> Option<f64> {
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    let nanoseconds: Option<u64> = std::fs::read_dir("/proc/self/task").ok()?.map(of).sum();
    Some(nanoseconds? as f64 / 1e9)
}

fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// One figure.
#[derive(Debug, Serialize)]
pub struct Figure {
    pub model: String,
    pub dtype: &'static str,
    pub kv_dtype: &'static str,
    pub threads: usize,
    /// `prefill` or `decode`.
    pub phase: &'static str,
    /// Rows of a step.
    pub rows: usize,
    pub steps: usize,
    /// Seconds of a step: the middle one and the fastest.
    pub median_seconds: f64,
    pub best_seconds: f64,
    /// The same on average: what steps that had to wait for a core cost is in it.
    pub mean_seconds: f64,
    /// Processor time of a step, on average: the time that it takes on one thread when no other program wants the core.
    pub busy_seconds: Option<f64>,
    /// Rows of a step over the middle time.
    pub positions_per_second: f64,
    /// Bytes of weights, keys and values that a step reads or writes.
    pub bytes_per_step: f64,
    /// Operations of a step; a multiply-add counts as two.
    pub operations_per_step: f64,
    /// Bytes per second that the threads read at most from a working set as large as the weights.
    pub limit_bytes_per_second: f64,
    /// Operations per second that the threads do at most, of the kind that the weights' type needs.
    pub limit_operations_per_second: f64,
    /// What the middle step read and did, over the limits.
    pub share_of_bandwidth: f64,
    pub share_of_operations: f64,
    /// The larger of the two shares, for the fastest step: how near the machine's limit the program comes when it is let alone.
    pub best_share_of_limit: f64,
    pub load: Option<f64>,
}

/// A model and how it is loaded.
pub struct Load<'a> {
    pub name: &'a str,
    pub checkpoint: &'a Checkpoint,
    pub dtype: QuantFormat,
    pub kv: KvFormat,
    pub device: &'a DeviceSpec,
    pub threads: Option<usize>,
    pub instructions: Instructions,
}

/// What is measured of it.
pub struct Work {
    pub rows: Vec<usize>,
    pub prefill: usize,
    pub context: usize,
    pub budget: Duration,
}

/// Measures one model in one type.
pub fn figures(load: &Load<'_>, work: &Work, report: &mut Report, say: &mut dyn FnMut(String)) -> Result<()> {
    let threads = match load.threads {
        Some(threads) => threads,
        None => borealis_model::default_threads(load.checkpoint).map_err(CliError::failed)?,
    };
    let most = work.rows.iter().copied().max().unwrap_or(1);
    let slots = work.prefill.max(most * work.context);
    let allocated = |mut model: Box<dyn Forward>| -> Result<Box<dyn Forward>> {
        model.keep(load.kv).and_then(|()| model.allocate(slots, most.max(work.prefill))).map_err(CliError::failed)?;
        Ok(model)
    };
    let (mut model, limit) = match load.device.open().map_err(|error| CliError::usage(error.to_string()))? {
        Device::Cuda(cuda) => {
            let limit = beside(crate::limits::gpu(&cuda), threads, load, say)?;
            (allocated(runner(load, cuda)?)?, limit)
        }
        Device::Metal(metal) => {
            let limit = beside(crate::limits::apple_gpu(&metal), threads, load, say)?;
            (allocated(runner(load, metal)?)?, limit)
        }
        Device::Cpu | Device::Reference(_) => {
            say(format!("{} {} on {threads} thread(s)", load.name, load.dtype.name()));
            let model = allocated(runner(load, Cpu::with_instructions(threads, load.instructions))?)?;
            let limit = Limit {
                threads,
                bytes: limits::read_bandwidth(model.summary().device_bytes.min(DRAM) as usize, threads),
                operations: match load.dtype {
                    QuantFormat::Int8 | QuantFormat::Int4 => limits::peak_codes(threads),
                    QuantFormat::F32 | QuantFormat::Bf16 => limits::peak_flops(threads),
                },
            };
            (model, limit)
        }
    };
    let config = model.config().clone();
    if work.prefill > 0 {
        let batches: Vec<Batch> = (0..4).map(|i| prompt(&config, work.prefill, i)).collect();
        report.figures.push(figure(model.as_mut(), load, "prefill", &batches, work.budget, &limit)?);
    }
    for &rows in &work.rows {
        let batches: Vec<Batch> = (0..BATCHES).map(|i| newest(&config, rows, work.context, i)).collect();
        report.figures.push(figure(model.as_mut(), load, "decode", &batches, work.budget, &limit)?);
    }
    Ok(())
}

fn runner<B: Backend>(load: &Load<'_>, backend: B) -> Result<Box<dyn Forward>> {
    let loaded = Model::load(load.checkpoint, backend, load.dtype).and_then(|model| Runner::new(Arc::new(model)));
    Ok(Box::new(loaded.map_err(CliError::failed)?))
}

/// The limits of a GPU that was measured, said before its figures.
fn beside(
    gpu: std::result::Result<GpuLimits, KernelError>,
    threads: usize,
    load: &Load<'_>,
    say: &mut dyn FnMut(String),
) -> Result<Limit> {
    let gpu = gpu.map_err(CliError::failed)?;
    say(format!("{} {} on {}", load.name, load.dtype.name(), gpu.name));
    Ok(Limit { threads, bytes: gpu.copy_bytes_per_second, operations: gpu.flops })
}

struct Limit {
    threads: usize,
    bytes: f64,
    operations: f64,
}

fn figure(
    model: &mut dyn Forward,
    of: &Load<'_>,
    phase: &'static str,
    batches: &[Batch],
    budget: Duration,
    limit: &Limit,
) -> Result<Figure> {
    let mut logits = Logits::default();
    let mut step = |i: usize| -> Result<f64> {
        let start = Instant::now();
        model.step(&batches[i % batches.len()], &mut logits).map_err(CliError::failed)?;
        Ok(start.elapsed().as_secs_f64())
    };
    // The first step sizes the scratch memory.
    step(0)?;
    let (start, before, mut times) = (Instant::now(), busy(), Vec::new());
    while times.len() < STEPS || start.elapsed() < budget {
        times.push(step(times.len() + 1)?);
    }
    let busy_seconds = busy().zip(before).map(|(after, before)| (after - before) / times.len() as f64);
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    times.sort_by(f64::total_cmp);
    let (median, best) = (times[times.len() / 2], times[0]);
    let rows = batches[0].rows.len();
    let cost = model.costs(&batches[0]);
    let StepCost { weight_bytes, kv_bytes, multiply_adds } = cost;
    let (bytes, operations) = (weight_bytes + kv_bytes, 2.0 * multiply_adds);
    let least = (bytes / limit.bytes).max(operations / limit.operations);
    Ok(Figure {
        model: of.name.to_string(),
        dtype: of.dtype.name(),
        kv_dtype: model.kv_format().name(),
        threads: limit.threads,
        phase,
        rows,
        steps: times.len(),
        median_seconds: median,
        best_seconds: best,
        mean_seconds: mean,
        busy_seconds,
        positions_per_second: rows as f64 / median,
        bytes_per_step: bytes,
        operations_per_step: operations,
        limit_bytes_per_second: limit.bytes,
        limit_operations_per_second: limit.operations,
        share_of_bandwidth: bytes / median / limit.bytes,
        share_of_operations: operations / median / limit.operations,
        best_share_of_limit: least / best,
        load: load(),
    })
}

/// The modality that a clip consists of, or the first one.
fn modality(config: &ModelConfig) -> usize {
    config.modality("video").unwrap_or(0)
}

/// One row with ids that depend on `salt`.
fn add(config: &ModelConfig, batch: &mut Batch, position: usize, slot: u32, sees: Span, salt: usize) {
    let modality = modality(config);
    let spec = &config.modalities[modality];
    let (codes, row) = (batch.codes.len(), batch.rows.len());
    for i in 0..spec.row_codes() {
        let code = &spec.codes[i % spec.codes.len()];
        // Knuth's multiplicative hash: neighbouring rows get ids far apart.
        let hash = ((salt * 1024 + row) * 64 + i + 1).wrapping_mul(2_654_435_761) >> 7;
        batch.codes.push(code.start + (hash % code.size as usize) as u32);
    }
    let features = (config.row_features > 0 && modality > 0).then(|| {
        let at = batch.features.len();
        batch.features.resize(at + config.row_features, 0.5);
        at
    });
    let position = [position as f32; 3];
    let (condition, scene) = (None, None);
    batch.rows.push(Row { modality, kind: None, codes: Some(codes), condition, scene, features, position, slot, sees });
}

/// A prompt: rows that see each other causally; its last one is asked for a prediction.
fn prompt(config: &ModelConfig, rows: usize, salt: usize) -> Batch {
    let mut batch = Batch::default();
    for r in 0..rows {
        let sees = Span { prefix: (0, 0), recent: (0, r as u32 + 1) };
        add(config, &mut batch, r, r as u32, sees, salt);
    }
    batch.queries.push(Query { row: rows - 1, modality: modality(config), allowed: None });
    batch
}

/// The newest row of each of `rows` sequences; each is asked for a prediction.
fn newest(config: &ModelConfig, rows: usize, context: usize, salt: usize) -> Batch {
    let mut batch = Batch::default();
    for r in 0..rows {
        let (start, end) = ((r * context) as u32, ((r + 1) * context) as u32);
        let sees = Span { prefix: (0, 0), recent: (start, end) };
        add(config, &mut batch, context - 1, end - 1, sees, salt);
        batch.queries.push(Query { row: r, modality: modality(config), allowed: None });
    }
    batch
}
