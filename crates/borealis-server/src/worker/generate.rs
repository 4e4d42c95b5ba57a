//! The generator that ships: the engine.

use std::collections::HashMap;
use std::sync::Mutex;

use borealis_engine::{
    Conditioning, Engine, EngineError, ErrorKind, EventStream, Media, OutputKind, Preset, Request, Resolution, Usage,
};

use super::{Context, Failure, Generator, OpenEngine, Product, WorkerConfig, clip, internal, lock, still};
use crate::error::{Result, ServerError};
use crate::moderation::Moderation;
use crate::store::{Claimed, now_ms};
use crate::types::{AssetRef, JobKind, JobUsage, Spec};

/// Engines that are kept loaded.
const LOADED: usize = 2;

/// Engines by the name of their checkpoint, loaded when they are asked for.
pub(super) struct EngineGenerator {
    open: OpenEngine,
    default: String,
    engines: Mutex<HashMap<String, Engine>>,
    /// The default's.
    loaded: Engine,
    pub(super) moderation: Moderation,
}

impl EngineGenerator {
    /// Loads the default checkpoint; a worker that cannot do that never claims a job.
    pub fn new(config: &WorkerConfig, open: OpenEngine) -> Result<Self> {
        let bad = |problem| ServerError::Config { field: "--model", problem, remedy: "give another".into() };
        let engine = open(&config.checkpoint).map_err(bad)?;
        Ok(Self {
            open,
            default: config.checkpoint.clone(),
            engines: Mutex::new(HashMap::from([(config.checkpoint.clone(), engine.clone())])),
            loaded: engine,
            moderation: crate::moderate::open(&config.moderation)?,
        })
    }

    /// The engine of a checkpoint.
    fn engine(&self, name: &str) -> std::result::Result<Engine, Failure> {
        let mut engines = lock(&self.engines);
        if let Some(engine) = engines.get(name) {
            return Ok(engine.clone());
        }
        let missing =
            |why: String| Failure::error("failed_precondition", format!("the model \"{name}\" cannot be used: {why}"));
        let engine = (self.open)(name).map_err(missing)?;
        if engines.len() >= LOADED {
            // Jobs that use it keep it until they are done.
            engines.retain(|known, _| *known == self.default);
        }
        engines.insert(name.to_string(), engine.clone());
        Ok(engine)
    }
}

impl Generator for EngineGenerator {
    fn generate(&self, job: &Claimed, context: &Context) -> std::result::Result<Product, Failure> {
        let name = job.spec.checkpoint.as_deref().unwrap_or(&self.default);
        let engine = self.engine(name)?;
        let begin = now_ms();
        let task = Task { engine: &engine, job, context, moderation: &self.moderation };
        let mut product = if job.spec.kind.is_still() { still::make(&task)? } else { clip::make(&task)? };
        let text = engine.tokenizers().text().and_then(|text| text.encode(&job.spec.prompt)).map_or(0, |ids| ids.len());
        let usage = &mut product.usage;
        usage.text_tokens = text as u64;
        usage.image_tokens = usage.image_tokens.saturating_sub(usage.text_tokens);
        usage.queued_seconds = (begin - job.created_at).max(0) as f64 / 1000.0;
        usage.compute_seconds = (now_ms() - begin).max(0) as f64 / 1000.0;
        Ok(product)
    }

    fn info(&self) -> String {
        // A load in progress holds the lock for long; the default is always there.
        let default = self.loaded.info();
        let mut info = serde_json::json!({
            "model": self.default,
            "backend": default.backend,
            "dtype": default.dtype.name(),
            "process": std::process::id(),
        });
        if let Some(copies) = self.loaded.expert_copies() {
            info["experts"] = serde_json::json!({
                "hits": copies.hits,
                "misses": copies.misses,
                "copied_bytes": copies.bytes,
                "copy_seconds": copies.took.as_secs_f64(),
            });
        }
        info.to_string()
    }
}

/// Kind, lines and ratio of an output.
pub(super) type Shape = (OutputKind, Resolution, Option<String>);

/// A job with everything that is needed to make it.
pub(super) struct Task<'a> {
    pub engine: &'a Engine,
    pub job: &'a Claimed,
    pub context: &'a Context,
    pub moderation: &'a Moderation,
}

impl Task<'_> {
    pub fn spec(&self) -> &Spec {
        &self.job.spec
    }

    /// An input for the engine; `field` is its name in messages.
    pub fn media(&self, field: &str, asset: &AssetRef) -> std::result::Result<Media, Failure> {
        Ok(Media::Bytes { name: field.into(), data: self.context.read(asset)? })
    }

    /// What the job starts from.
    pub fn conditioning(&self) -> std::result::Result<Conditioning, Failure> {
        let spec = self.spec();
        let need =
            |what: &'static str| move || Failure::error("invalid_argument", format!("{what}: it is missing: give one"));
        Ok(match spec.kind {
            JobKind::EditVideo => {
                Conditioning::Video(self.media("video", spec.video.as_ref().ok_or_else(need("video"))?)?)
            }
            JobKind::Extend => {
                Conditioning::Extend(self.media("video", spec.video.as_ref().ok_or_else(need("video"))?)?)
            }
            JobKind::EditImage => {
                Conditioning::Image(self.media("image", spec.image.as_ref().ok_or_else(need("image"))?)?)
            }
            JobKind::Image | JobKind::Video => match (&spec.image, spec.references.is_empty()) {
                (Some(image), _) => Conditioning::Image(self.media("image", image)?),
                (None, true) => Conditioning::Text,
                (None, false) => {
                    let each = spec.references.iter().map(|asset| self.media("reference_images", asset));
                    Conditioning::References(each.collect::<std::result::Result<_, _>>()?)
                }
            },
        })
    }

    /// Hands a request to the engine; it stops when the job does.
    pub fn submit(
        &self,
        conditioning: Conditioning,
        (kind, resolution, aspect_ratio): Shape,
        variants: usize,
        seed: u64,
    ) -> std::result::Result<EventStream, Failure> {
        let spec = self.spec();
        let mut request = Request { conditioning, variants, seed, ..Request::new(&spec.prompt, kind) };
        (request.output.resolution, request.output.aspect_ratio) = (resolution, aspect_ratio);
        request.sampling.guidance = spec.guidance;
        if spec.preset.as_deref() == Some("speed") {
            request.preset = Preset::Speed;
        }
        let stream = self.engine.submit(request).map_err(failure)?;
        let canceller = stream.canceller();
        self.context.on_cancel(move || canceller.cancel());
        Ok(stream)
    }

    /// Shows a picture to the classifier, when there is one.
    pub fn show(&self, frame: &borealis_media::Frame) -> std::result::Result<(), Failure> {
        if !self.moderation.has_classifier() {
            return Ok(());
        }
        let png = borealis_media::encode_png(frame).map_err(internal)?;
        self.context.wait(self.moderation.picture(&png)).map_err(|blocked| Failure::Moderated(blocked.to_string()))
    }
}

/// The engine's words for the user; a fault of ours is not told.
pub(super) fn failure(error: EngineError) -> Failure {
    if error.is_loss() {
        return Failure::Lost(error.to_string());
    }
    match error.kind() {
        ErrorKind::Cancelled => Failure::Cancelled,
        ErrorKind::InvalidArgument | ErrorKind::NotFound => Failure::error("invalid_argument", error.to_string()),
        ErrorKind::Unsupported => Failure::error("failed_precondition", error.to_string()),
        ErrorKind::ResourceExhausted => Failure::Full(error.to_string()),
        ErrorKind::Internal if matches!(error, EngineError::NotANumber { .. }) => {
            Failure::error("internal_error", error.to_string())
        }
        ErrorKind::Internal => internal(error),
    }
}

/// Adds the counts of one request of the engine.
pub(super) fn add_usage(total: &mut JobUsage, usage: &Usage) {
    // Text and pictures are told apart by the caller.
    total.image_tokens = total.image_tokens.max(usage.prompt_tokens as u64);
    total.output_tokens += usage.generated_tokens as u64;
}
