//! The model as the engine sees it: one object, whatever the device.

use std::sync::Arc;

use borealis_kernels::{Backend, Cpu, Device, DeviceSpec, KvFormat, QuantFormat};
use borealis_weights::Checkpoint;

use crate::batch::{Batch, Logits};
use crate::cache::{KvCache, SlotRange};
use crate::config::ModelConfig;
use crate::cost::{StepCost, Summary};
use crate::error::{ModelError, Result};
use crate::hot::CopyTotals;
use crate::model::{Model, Trace};
use crate::names::tensor_names;
use crate::options::LoadOptions;
use crate::ranks::{Exchange, Placement, Spread, Traffic};

/// A model with its KV cache, on some device.
///
/// One step computes any number of rows of any number of sequences:
///
/// 1. [`Forward::allocate`] once, then [`Forward::reserve`] a range of slots for each sequence.
/// 2. [`Forward::step`]: the rows' keys and values go to their slots, the queried rows' logits come back, or the ids that the batch asks to draw from them.
/// 3. When a query's modality is predicted by `depth`, its logits are those of code 0 of each slot: decide them, hand the ids to
///    [`Forward::depth_step`], which gives the logits of the next code; repeat until it returns false.
/// 4. [`Forward::release`] when the sequence ends.
pub trait Forward: Send {
    /// The configuration.
    fn config(&self) -> &ModelConfig;
    /// Name of the backend that computes.
    fn backend(&self) -> &'static str;
    /// Whether a row's results have the same bits whatever rows are computed beside it.
    fn rows_are_independent(&self) -> bool;
    /// How weights are kept on the device.
    fn format(&self) -> QuantFormat;
    /// How keys and values are kept: f32 until [`Forward::keep`] says otherwise.
    fn kv_format(&self) -> KvFormat;
    /// Keeps keys and values in this format from now on: the KV cache is made anew, without slots. Fails while slots are reserved, and for a format that the
    /// backend does not have.
    fn keep(&mut self, format: KvFormat) -> Result<()>;
    /// Makes the KV cache anew, for `slots` positions and steps of up to `max_rows` rows. Fails while slots are reserved.
    fn allocate(&mut self, slots: usize, max_rows: usize) -> Result<()>;
    /// Bytes that [`Forward::allocate`] takes: keys, values and the buffers of a step.
    fn cache_bytes(&self, slots: usize, max_rows: usize) -> u64;
    /// Slots of the cache, and how many of them are free.
    fn slots(&self) -> (usize, usize);
    /// Reserves `slots` slots in a row.
    fn reserve(&mut self, slots: usize) -> Result<SlotRange>;
    /// Gives a range back; releasing it twice is an error.
    fn release(&mut self, range: SlotRange) -> Result<()>;
    /// Copies the keys and values of slots `from..from + len` to `to..`.
    fn copy_slots(&mut self, from: u32, to: u32, len: u32) -> Result<()>;
    /// Computes a batch and writes the logits of its queries, and the ids that are drawn from them where they lie.
    fn step(&mut self, batch: &Batch, out: &mut Logits) -> Result<()>;
    /// The next code of the last step's `depth` queries. `ids`: for each of them, in order, the ids just decided (one for each slot).
    /// `out` has one entry for each `depth` query, empty where no code is left. False (and `out` empty) when no query has a code left.
    fn depth_step(&mut self, ids: &[u32], out: &mut Logits) -> Result<bool>;
    /// As [`Forward::step`], and what every layer did: for goldens and tests, slow.
    fn trace(&mut self, batch: &Batch, out: &mut Logits) -> Result<Trace>;
    /// What a step of this batch costs.
    fn costs(&self, batch: &Batch) -> StepCost;
    /// Sizes, for `borealis inspect`.
    fn summary(&self) -> Summary;
    /// What copying experts to the device has cost so far; `None` when all of them are there.
    fn copies(&self) -> Option<CopyTotals> {
        None
    }
}

/// A [`Model`] and its [`KvCache`].
pub struct Runner<B: Backend> {
    model: Arc<Model<B>>,
    cache: KvCache<B>,
    kv: KvFormat,
}

impl<B: Backend> Runner<B> {
    /// A runner with an empty cache; see [`Forward::allocate`].
    pub fn new(model: Arc<Model<B>>) -> Result<Self> {
        let kv = KvFormat::F32;
        let cache = KvCache::new(&model, 0, 1, kv)?;
        Ok(Self { model, cache, kv })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model<B>> {
        &self.model
    }

    /// From now on the experts of other ranks are reached by `exchange`; the model was loaded with those of rank 0.
    pub(crate) fn spread(
        &mut self,
        exchange: Box<dyn Exchange>,
        placement: Arc<Placement>,
        traffic: Arc<Traffic>,
    ) -> Result<()> {
        let width = self.model.config().hidden_size;
        let spread = Spread::new(self.model.backend(), width, exchange, placement, traffic)?;
        self.cache.scratch.layer.spread = Some(Box::new(spread));
        Ok(())
    }

    /// A new cache in the place of the old one, whose slots are all free.
    fn renew(&mut self, slots: usize, max_rows: usize, kv: KvFormat) -> Result<()> {
        match self.cache.reserved_slots() {
            0 => {
                let mut cache = KvCache::new(&self.model, slots, max_rows, kv)?;
                cache.scratch.layer.spread = self.cache.scratch.layer.spread.take();
                (self.cache, self.kv) = (cache, kv);
                Ok(())
            }
            n => Err(ModelError::CacheInUse(n)),
        }
    }

    fn begin(&mut self) {
        if let Some(spread) = &mut self.cache.scratch.layer.spread {
            spread.begin();
        }
    }
}

impl<B: Backend> Forward for Runner<B> {
    fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    fn backend(&self) -> &'static str {
        self.model.backend().name()
    }

    fn rows_are_independent(&self) -> bool {
        self.model.backend().rows_are_independent()
    }

    fn format(&self) -> QuantFormat {
        self.model.format()
    }

    fn kv_format(&self) -> KvFormat {
        self.kv
    }

    fn keep(&mut self, format: KvFormat) -> Result<()> {
        self.renew(0, 1, format)
    }

    fn allocate(&mut self, slots: usize, max_rows: usize) -> Result<()> {
        self.renew(slots, max_rows, self.kv)
    }

    fn cache_bytes(&self, slots: usize, max_rows: usize) -> u64 {
        KvCache::<B>::bytes(self.config(), slots, self.kv) + KvCache::<B>::scratch_bytes(self.config(), max_rows)
    }

    fn slots(&self) -> (usize, usize) {
        (self.cache.slots(), self.cache.free_slots())
    }

    fn reserve(&mut self, slots: usize) -> Result<SlotRange> {
        self.cache.reserve(slots)
    }

    fn release(&mut self, range: SlotRange) -> Result<()> {
        self.cache.release(range)
    }

    fn copy_slots(&mut self, from: u32, to: u32, len: u32) -> Result<()> {
        self.cache.copy(self.model.backend(), from, to, len)
    }

    fn step(&mut self, batch: &Batch, out: &mut Logits) -> Result<()> {
        self.begin();
        self.model.forward_into(batch, &mut self.cache, out)
    }

    fn depth_step(&mut self, ids: &[u32], out: &mut Logits) -> Result<bool> {
        self.model.depth_step(ids, &mut self.cache, out)
    }

    fn trace(&mut self, batch: &Batch, out: &mut Logits) -> Result<Trace> {
        self.begin();
        self.model.trace(batch, &mut self.cache, out)
    }

    fn costs(&self, batch: &Batch) -> StepCost {
        self.model.costs(batch, self.kv)
    }

    fn summary(&self) -> Summary {
        self.model.summary(self.kv)
    }

    fn copies(&self) -> Option<CopyTotals> {
        self.model.copies_experts().then(|| *self.model.copies.lock())
    }
}

/// Bytes of weights for which a further thread pays: below, waking it costs a step more than it computes.
const THREAD_BYTES: u64 = 16 << 20;

/// Threads that compute a checkpoint's steps on the CPU unless the user says otherwise: all cores, but fewer for a small model.
/// Decoding and encoding use the cores that are left.
pub fn default_threads(checkpoint: &Checkpoint) -> Result<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let paying = 1 + checkpoint.tensors("")?.bytes() / THREAD_BYTES;
    Ok(cores.min(usize::try_from(paying).unwrap_or(cores)))
}

/// Refuses a checkpoint whose configuration is not understood or whose tensors do not fit it. Reads no tensor: fast, whatever its size.
pub fn check(checkpoint: &Checkpoint) -> Result<ModelConfig> {
    let config = ModelConfig::new(checkpoint.manifest())?;
    checkpoint.tensors("")?.check(&tensor_names(&config))?;
    Ok(config)
}

/// Something that is made on whatever device was asked for.
pub(crate) trait OnDevice {
    /// What is made.
    type Out;
    /// Makes it.
    fn run<B: Backend>(self, backend: B) -> Result<Self::Out>;
}

/// Makes the backend that the user asked for: the only place that chooses one. `threads` is for the CPU (0 = [`default_threads`]).
pub(crate) fn on_device<T: OnDevice>(
    checkpoint: &Checkpoint,
    device: &DeviceSpec,
    threads: usize,
    what: T,
) -> Result<T::Out> {
    let threads = match threads {
        0 => default_threads(checkpoint)?,
        n => n,
    };
    match device.open()? {
        Device::Reference(reference) => what.run(reference),
        Device::Cuda(cuda) => what.run(cuda),
        Device::Metal(metal) => what.run(metal),
        Device::Cpu => what.run(Cpu::new(threads)),
    }
}

/// Loads a checkpoint on the device that the user asked for. `threads` is for the CPU (0 = [`default_threads`]).
pub fn load(
    checkpoint: &Checkpoint,
    device: &DeviceSpec,
    format: QuantFormat,
    threads: usize,
) -> Result<Box<dyn Forward>> {
    load_with(checkpoint, device, &LoadOptions { threads, ..LoadOptions::new(format) })
}

/// [`load`] with all options.
pub fn load_with(checkpoint: &Checkpoint, device: &DeviceSpec, options: &LoadOptions) -> Result<Box<dyn Forward>> {
    struct Whole<'a>(&'a Checkpoint, &'a LoadOptions);
    impl OnDevice for Whole<'_> {
        type Out = Box<dyn Forward>;
        fn run<B: Backend>(self, backend: B) -> Result<Self::Out> {
            Ok(Box::new(Runner::new(Arc::new(Model::load_share(self.0, backend, self.1, None)?))?))
        }
    }
    on_device(checkpoint, device, options.threads, Whole(checkpoint, options))
}
