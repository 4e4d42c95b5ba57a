//! How the memory of a device is shared out before anything is loaded: weights, room for requests, and as many experts as fit beside both.

use borealis_kernels::{DeviceSpec, QuantFormat};
use borealis_model::{LoadOptions, ModelError, Sizes};
use borealis_weights::Checkpoint;

use crate::engine::EngineConfig;
use crate::error::{EngineError, Result, mebibytes};
use crate::submit;

/// Requests get this part of the memory unless [`EngineConfig::memory_limit`] says what they get.
const REQUESTS: u64 = 4;

/// Which part of a model a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Ranks of the model.
    pub ranks: usize,
    /// How many of them are threads of this process.
    pub here: usize,
    /// Processes of this machine that share its memory.
    pub neighbours: usize,
    /// Whether rank 0 is among those of this process.
    pub home: bool,
}

impl Share {
    /// The whole model on one rank.
    pub const ALL: Self = Self { ranks: 1, here: 1, neighbours: 1, home: true };
}

/// What is loaded, and what is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// How the model is loaded.
    pub options: LoadOptions,
    /// Most bytes that a request may take; `None`: what is free when it comes.
    pub requests: Option<u64>,
    /// When not all experts fit: how many of each layer do, and how many there are.
    pub experts: Option<(u64, u64)>,
}

impl Budget {
    /// Shares out [`EngineConfig::memory`] (or what is free now). Reads no tensor. Refuses a model that does not run in it even with one expert of each layer on the
    /// device, with the estimate and what would help.
    pub fn new(checkpoint: &Checkpoint, config: &EngineConfig, share: Share) -> Result<Self> {
        let format = submit::weight_format(checkpoint, config)?;
        let options = LoadOptions { threads: submit::step_threads(checkpoint, config)?, ..LoadOptions::new(format) };
        let device = config.device.open().map_err(ModelError::from)?;
        let free = || Some(device.free_memory()? / share.neighbours.max(1) as u64);
        let Some(memory) = config.memory.or_else(free) else {
            return Ok(Self { options, requests: config.memory_limit, experts: None });
        };
        let parts = Parts::new(checkpoint, config, format, share)?;
        let least = parts.least();
        if least > memory {
            return Err(parts.refusal(checkpoint, config, memory));
        }
        let requests = if share.home { config.memory_limit.unwrap_or(memory / REQUESTS) } else { 0 };
        let weights = memory.saturating_sub(requests).max(least);
        let (experts, taken) = match parts.all() <= weights {
            true => (None, parts.all()),
            false => {
                let places = parts.places(weights);
                (Some((places, parts.sizes.experts.div_ceil(share.ranks as u64))), parts.with(places))
            }
        };
        let places = experts.map(|(places, _)| places as usize);
        // Unless it was said, and on the host, what is free is looked up anew for each request.
        let limit = match config.memory_limit {
            Some(limit) => Some(limit.min(memory.saturating_sub(taken))),
            None if config.memory.is_none() && !device.has_own_memory() => None,
            None => Some(memory.saturating_sub(taken)),
        };
        Ok(Self { options: LoadOptions { experts: places, ..options }, requests: limit, experts })
    }
}

/// The estimate of what this process loads.
struct Parts {
    sizes: Sizes,
    /// Of the tokenizers, as they lie in the files.
    tokenizers: u64,
    share: Share,
}

impl Parts {
    fn new(checkpoint: &Checkpoint, config: &EngineConfig, format: QuantFormat, share: Share) -> Result<Self> {
        // The reference computes with f32 whatever the format rounds to.
        let exact = matches!(config.device, DeviceSpec::Reference | DeviceSpec::ReferenceMetal);
        let kept = if exact { QuantFormat::F32 } else { format };
        let sizes = Sizes::of(&borealis_model::check(checkpoint)?, kept);
        let sets = ["video_tokenizer", "audio_tokenizer", "image_tokenizer", "image_decoder", "vision_tower"];
        let tokenizers = sets.iter().filter_map(|set| checkpoint.tensors(set).ok()).map(|t| t.bytes()).sum();
        Ok(Self { sizes, tokenizers, share })
    }

    /// Bytes that do not depend on experts.
    fn fixed(&self) -> u64 {
        if self.share.home { self.sizes.fixed + self.tokenizers } else { 0 }
    }

    /// Bytes of one expert of each layer.
    fn layer(&self) -> u64 {
        self.sizes.expert * self.sizes.layers
    }

    /// With so many experts of each layer on each rank of this process.
    fn with(&self, places: u64) -> u64 {
        self.fixed() + (places * self.layer() + self.sizes.copying) * self.share.here as u64
    }

    /// With all experts that the ranks of this process hold.
    fn all(&self) -> u64 {
        let Share { ranks, here, .. } = self.share;
        let copying = if ranks > 1 { self.sizes.copying * here as u64 } else { 0 };
        self.fixed() + copying + (self.sizes.experts * here as u64).div_ceil(ranks as u64) * self.layer()
    }

    fn least(&self) -> u64 {
        self.all().min(self.with(1))
    }

    /// Experts of each layer and rank that fit into `weights` bytes, which hold at least one.
    fn places(&self, weights: u64) -> u64 {
        let here = self.share.here as u64;
        let room = weights.saturating_sub(self.fixed()) / here;
        (room.saturating_sub(self.sizes.copying) / self.layer().max(1)).max(1)
    }

    /// Names what is missing and what would help.
    fn refusal(&self, checkpoint: &Checkpoint, config: &EngineConfig, memory: u64) -> EngineError {
        let fits = |format: &QuantFormat| {
            Self::new(checkpoint, config, *format, self.share).ok().filter(|parts| parts.least() <= memory)
        };
        let smaller: Vec<String> = QuantFormat::ALL
            .iter()
            .filter_map(|format| Some(format!("--dtype {} ({})", format.name(), mebibytes(fits(format)?.least()))))
            .collect();
        let mut remedy = if smaller.is_empty() { String::new() } else { format!("use {}, ", smaller.join(" or ")) };
        if self.sizes.experts > 1 {
            remedy += "spread it over more machines with mpirun, ";
        }
        EngineError::ModelMemory {
            model: checkpoint.name().to_string(),
            all: self.all(),
            least: self.least(),
            memory,
            detail: format!(
                "weights that every step needs {}, one expert of each layer {}, buffers to copy experts {}, tokenizers {}",
                mebibytes(self.sizes.fixed),
                mebibytes(self.layer()),
                mebibytes(if self.sizes.experts > 1 { self.sizes.copying } else { 0 }),
                mebibytes(self.tokenizers)
            ),
            remedy: format!("{remedy}or give it more with --memory"),
        }
    }
}
