//! From a request to the work of the worker and of the decoder.

use std::sync::Arc;
use std::time::Instant;

use borealis_kernels::{Cpu, Device, KvFormat, QuantFormat};
use borealis_media::PixelFormat;
use borealis_model::{Forward, ModelError};
use borealis_tokenizers::{FrameSpec, Output, Part, Prompt, StreamDecoder, Tokenizers};
use borealis_weights::{Checkpoint, PresetSpec, SamplingSpec};

use crate::decode::{self, Decode, Line};
use crate::engine::{Command, Core, EngineConfig};
use crate::error::{EngineError, Result};
use crate::event::{Event, Stage};
use crate::features::FeatureWriter;
use crate::geometry::Geometry;
use crate::inputs::{InputReader, Inputs};
use crate::layout::Layout;
use crate::open;
use crate::plan::{Plan, PlanSpec};
use crate::prompt::PromptBuilder;
use crate::request::{OutputKind, Preset, Request, Sampling};
use crate::stream::{Outlet, ROOM};
use crate::validate::{self, Checked};
use crate::window::Window;
use crate::work::{TailRow, Work};
use borealis_kernels::Rule;

/// Bytes of a decoder's buffers for each cell of its grid, about.
const DECODER_BYTES: u64 = 64 << 10;

/// The tokenizers of a checkpoint, on the device that was asked for.
pub fn open_tokenizers(checkpoint: &Checkpoint, config: &EngineConfig) -> Result<Tokenizers> {
    Ok(match config.device.open().map_err(ModelError::from)? {
        Device::Reference(reference) => Tokenizers::open(checkpoint, reference)?,
        Device::Cuda(cuda) => Tokenizers::open(checkpoint, cuda)?,
        Device::Metal(metal) => Tokenizers::open(checkpoint, metal)?,
        Device::Cpu => Tokenizers::open(checkpoint, Cpu::new(config.threads.unwrap_or(0)))?,
    })
}

/// How keys and values are kept beside weights of this format when nobody says otherwise: exactly beside exact ones, else as bf16 (`docs/adr/0015`).
pub fn suited_kv(weights: QuantFormat) -> KvFormat {
    match weights {
        QuantFormat::F32 => KvFormat::F32,
        _ => KvFormat::Bf16,
    }
}

/// Lets a model that was just loaded keep its keys and values as this configuration says, without a wish as suits the weights.
pub fn keep_kv(model: &mut dyn Forward, config: &EngineConfig) -> Result<()> {
    let format = config.kv_dtype.unwrap_or_else(|| suited_kv(model.format()));
    Ok(model.keep(format)?)
}

/// Threads that compute the model's steps under this configuration.
pub fn step_threads(checkpoint: &Checkpoint, config: &EngineConfig) -> Result<usize> {
    Ok(config.threads.map_or_else(|| borealis_model::default_threads(checkpoint), Ok)?)
}

/// How the model's matrices are kept under this configuration: as asked, else as the checkpoint keeps them.
pub fn weight_format(checkpoint: &Checkpoint, config: &EngineConfig) -> Result<QuantFormat> {
    if let Some(format) = config.dtype {
        return Ok(format);
    }
    Ok(checkpoint.tensors("")?.get("model.embed_tokens.weight")?.dtype.format())
}

/// Checks a request, reads and encodes its inputs, plans it and sizes it.
pub(crate) fn prepare(core: &Core, request: Request, id: u64, outlet: Outlet) -> Result<Command> {
    if core.manifest.family.is_some() {
        return open::prepare(core, &request, id, outlet);
    }
    let begin = Instant::now();
    let checked = validate::check(&request, &core.manifest, &core.info.model)?;
    let Some(layout) = core.layout.clone() else {
        let what = "generates no pictures".to_string();
        return Err(EngineError::Unsupported {
            model: core.info.model.clone(),
            what,
            remedy: "use another model".into(),
        });
    };
    let (geometry, inputs) = InputReader { core, layout: &layout, request: &request }.read()?;
    let preparation = Preparation { core, request: &request, checked: &checked, layout: &layout, geometry: &geometry };
    let length = preparation.length(&inputs);
    let plan = preparation.plan(&inputs, &length);
    let work = preparation.work(id, &outlet, plan, &inputs, begin)?;
    let memory = preparation.memory(&work, &inputs);
    core.memory.check(&memory)?;
    outlet.send(Ok(Event::Started {
        width: geometry.width,
        height: geometry.height,
        frames: length.frames + inputs.lead.as_ref().map_or(0, |l| l.frames),
        sample_rate: if length.samples > 0 { core.info.sample_rate } else { 0 },
        memory: memory.total(),
    }));
    outlet.send(Ok(Event::Progress { stage: Stage::Queued, done: 0, total: work.total() }));
    let decoders = (0..request.variants).map(|_| preparation.decoder(&inputs, &length)).collect::<Result<_>>()?;
    let lead = inputs.lead.map(|lead| decode::lead(lead, core.waker())).transpose()?;
    let line = Line::new(id, outlet, decoders, lead, request.variants * length.latents);
    Ok(Command { work, line })
}

/// How ids are drawn: the checkpoint's rule with what the user asks for instead.
pub(crate) fn rule(asked: &Sampling, spec: SamplingSpec) -> Rule {
    Rule {
        temperature: asked.temperature.unwrap_or(spec.temperature),
        top_k: asked.top_k.unwrap_or(spec.top_k),
        top_p: asked.top_p.unwrap_or(spec.top_p),
        min_p: asked.min_p.unwrap_or(spec.min_p),
        repetition_penalty: asked.repetition_penalty.unwrap_or(spec.repetition_penalty),
    }
}

/// How long the generated part is.
pub(crate) struct Length {
    pub latents: usize,
    pub frames: usize,
    /// 0 for a silent output.
    pub samples: usize,
}

/// A request and all that is known of it.
pub(crate) struct Preparation<'a> {
    pub core: &'a Core,
    pub request: &'a Request,
    pub checked: &'a Checked<'a>,
    pub layout: &'a Arc<Layout>,
    pub geometry: &'a Geometry,
}

impl Preparation<'_> {
    fn length(&self, inputs: &Inputs) -> Length {
        let Some(media) = &self.core.manifest.media else { return Length { latents: 1, frames: 1, samples: 0 } };
        let OutputKind::Video { seconds, audio } = self.request.output.kind else {
            return Length { latents: 1, frames: 1, samples: 0 };
        };
        let asked = (f64::from(seconds) * f64::from(media.fps)).round() as usize;
        let frames = inputs.frames.unwrap_or(asked).max(1);
        // A continuation has no frame that stands alone.
        let latents = match inputs.context {
            Some(_) => frames.div_ceil(media.frames_per_latent as usize),
            None => media.latents(frames),
        };
        let samples = if audio { frames * self.core.info.sample_rate as usize / media.fps as usize } else { 0 };
        Length { latents, frames, samples }
    }

    /// The order in which everything is decided.
    pub fn plan(&self, inputs: &Inputs, length: &Length) -> Plan {
        let source = inputs.sources.first().map_or(0, |s| s.frames.len());
        let spec = PlanSpec {
            grid: self.geometry.grid,
            latents: length.latents,
            first: inputs.first,
            input: self.checked.mode.input,
            source,
            continued: !inputs.before.is_empty(),
            forced: usize::from(inputs.starts_with_source),
            tail: self.tail().len(),
        };
        Plan::for_output(self.layout, spec)
    }

    /// `<scene>`, the fields, `<media>`; empty without a scene plan.
    fn tail(&self) -> Vec<TailRow> {
        let manifest = &self.core.manifest;
        let (Some(scene), Some(media)) = (manifest.control("<scene>"), manifest.control("<media>")) else {
            return Vec::new();
        };
        let mut fields = manifest.scene.fields.iter().map(|f| (f.start, f.start + f.size));
        let Some(first) = fields.next() else { return Vec::new() };
        let mut tail = vec![TailRow::new(Some(scene), Some(first))];
        tail.extend(fields.map(|range| TailRow::new(None, Some(range))));
        tail.push(TailRow::new(None, None));
        tail.push(TailRow::new(Some(media), None));
        tail
    }

    /// Text-like ids after the sources; `null` for the unconditional prompt.
    fn ids(&self, null: bool) -> Result<Vec<u32>> {
        let tokenizers = &self.core.tokenizers;
        let control = |name: &str| tokenizers.vocab().control(name);
        let mut ids = vec![self.checked.mode.id, control(&format!("<{}>", self.geometry.aspect))?, control("<text>")?];
        let Prompt { parts } = &self.checked.prompt;
        if null || parts.is_empty() {
            ids.push(control("<null>")?);
        } else {
            for part in parts {
                match part {
                    Part::Text(text) => ids.extend(tokenizers.text()?.encode(text)?),
                    Part::Reference(k) => ids.push(control(&format!("<image_{k}>"))?),
                    Part::Control(_) | Part::Image(_) | Part::Clip { .. } => {}
                }
            }
        }
        if self.tail().is_empty() {
            ids.push(control("<media>")?);
        }
        Ok(ids)
    }

    fn preset(&self) -> PresetSpec {
        match self.request.preset {
            Preset::Quality => self.core.manifest.generation.quality,
            Preset::Speed => self.core.manifest.generation.speed,
        }
    }

    fn guidance(&self) -> f32 {
        let asked = self.request.sampling.guidance.or(self.preset().guidance);
        let default = self.core.manifest.generation.guidance;
        // A default that the vocabulary cannot serve is no guidance.
        let possible = self.core.manifest.control("<null>").is_some();
        if possible { asked.unwrap_or(default) } else { 1.0 }
    }

    /// What the worker needs.
    pub fn work(&self, id: u64, outlet: &Outlet, plan: Plan, inputs: &Inputs, begin: Instant) -> Result<Work> {
        let (core, cells) = (self.core, self.geometry.cells);
        let features = FeatureWriter::new(&core.manifest, self.geometry.grid, (cells.rows, cells.columns));
        let tail = self.tail();
        let builder = PromptBuilder { layout: self.layout, grid: self.geometry.grid, features: features.as_ref() };
        let guidance = self.guidance();
        let branches: &[bool] = if guidance == 1.0 { &[false] } else { &[false, true] };
        let prompts = branches
            .iter()
            .map(|&null| Ok(builder.build(&inputs.sources, &self.ids(null)?, tail.len())))
            .collect::<Result<Vec<_>>>()?;
        let streams = self.layout.streams.len();
        let source = inputs.sources.first().map(|s| &s.frames[..]).unwrap_or_default();
        let of_source = |stream: usize| source.iter().flat_map(|f| f.ids[stream].iter().copied()).collect::<Vec<u32>>();
        let pictures = self.layout.streams.iter().position(|s| s.pictures);
        let generation = &core.manifest.generation;
        let scene = if generation.sampling.contains_key("scene") { "scene" } else { "text" };
        Ok(Work {
            id,
            outlet: outlet.clone(),
            layout: self.layout.clone(),
            prompt_tokens: prompts[0].codes.len() + tail.iter().filter(|t| t.id.is_some()).count(),
            text_rule: rule(&self.request.sampling, generation.sampling(scene)),
            rules: self
                .layout
                .streams
                .iter()
                .map(|s| rule(&self.request.sampling, generation.sampling(&s.name)))
                .collect(),
            given: if inputs.before.is_empty() { vec![Vec::new(); streams] } else { inputs.before.clone() },
            source: (0..streams).map(of_source).collect(),
            forced: pictures.filter(|_| plan.spec.forced > 0).map(|s| source[0].ids[s].clone()).unwrap_or_default(),
            variants: self.request.variants,
            seed: self.request.seed,
            encode_seconds: begin.elapsed().as_secs_f64(),
            submitted: Instant::now(),
            open: None,
            window: if plan.is_next_token(self.layout) { core.window(self.request.window) } else { Window::Fixed(1) },
            plan,
            features,
            prompts,
            tail,
            guidance,
        })
    }

    fn memory(&self, work: &Work, inputs: &Inputs) -> crate::memory::Estimate {
        let variants = self.request.variants as u64;
        let format = self.format();
        let frame = format.bytes(self.geometry.width, self.geometry.height) as u64;
        let mut estimate = self.core.memory.estimate(work.ranges().iter().sum(), work.widest());
        estimate.frames = ROOM as u64 * frame + variants * DECODER_BYTES * self.geometry.cells.cells() as u64;
        estimate.inputs = inputs.bytes();
        estimate
    }

    fn format(&self) -> PixelFormat {
        if matches!(self.request.output.kind, OutputKind::Image) { PixelFormat::Rgb8 } else { PixelFormat::I420 }
    }

    fn decoder(&self, inputs: &Inputs, length: &Length) -> Result<Box<dyn Decode>> {
        let (video, video_layout) = self.core.tokenizers.video()?;
        let (width, height) = (self.geometry.width as usize, self.geometry.height as usize);
        let spec = FrameSpec { width, height, format: self.format() };
        // The picture before a continuation is decoded too, and not shown.
        let hidden = usize::from(inputs.context.is_some());
        let frames = length.frames + hidden;
        let mut inner = StreamDecoder::new()
            .with_video(video, video_layout.clone(), self.geometry.cells, spec, frames)?
            .show_every(self.preset().fps_divisor as usize);
        let mut hidden_samples = 0;
        if length.samples > 0 {
            let (audio, audio_layout) = self.core.tokenizers.audio()?;
            hidden_samples = hidden * length.samples / length.frames;
            inner = inner.with_audio(audio, audio_layout.clone(), length.samples + hidden_samples);
        }
        Ok(Box::new(ClipDecoder {
            inner,
            video: self.layout.stream("video"),
            audio: self.layout.stream("audio"),
            context: inputs.context.clone(),
            hidden,
            hidden_samples,
        }))
    }
}

/// A [`StreamDecoder`] that knows where its ids lie, and what it must not show.
struct ClipDecoder {
    inner: StreamDecoder,
    video: Option<usize>,
    audio: Option<usize>,
    /// Ids of the latent frame before the first.
    context: Option<(Vec<u32>, Vec<u32>)>,
    hidden: usize,
    hidden_samples: usize,
}

impl ClipDecoder {
    fn latent(&mut self, video: &[u32], audio: &[u32]) -> Result<Vec<Output>> {
        let mut out = if video.is_empty() { Vec::new() } else { self.inner.push_video(video)? };
        if !audio.is_empty() {
            out.extend(self.inner.push_audio(audio)?);
        }
        Ok(self.visible(out))
    }

    /// Leaves out what lies before the first frame.
    fn visible(&mut self, outputs: Vec<Output>) -> Vec<Output> {
        let mut kept = Vec::with_capacity(outputs.len());
        for output in outputs {
            match output {
                Output::Frame(_) if self.hidden > 0 => self.hidden -= 1,
                Output::Pcm(mut samples) => {
                    let hidden = self.hidden_samples.min(samples.len());
                    self.hidden_samples -= hidden;
                    samples.drain(..hidden);
                    kept.push(Output::Pcm(samples));
                }
                other => kept.push(other),
            }
        }
        kept
    }
}

impl Decode for ClipDecoder {
    fn push(&mut self, ids: &[Vec<u32>]) -> Result<Vec<Output>> {
        if let Some((video, audio)) = self.context.take() {
            self.latent(&video, &audio)?;
        }
        let of = |stream: Option<usize>| stream.and_then(|s| ids.get(s)).map(Vec::as_slice).unwrap_or_default();
        let (video, audio) = (of(self.video), of(self.audio));
        self.latent(video, audio)
    }

    fn finish(&mut self) -> Result<Vec<Output>> {
        let outputs = self.inner.finish();
        Ok(self.visible(outputs))
    }
}
