//! `borealis inspect`: what a model is and what it takes.

use std::fmt::Write as _;

use borealis_kernels::{Backend, Cpu, Device, DeviceSpec, HostType, QuantFormat};
use borealis_model::{Summary, weight_bytes};
use borealis_weights::{Checkpoint, InputMode, Manifest, ModalitySpec, PlanKind, Predict};
use serde::Serialize;

use crate::args::MachineArgs;
use crate::error::{CliError, Result};
use crate::{model, output};

pub const EXAMPLES: &str = "\
Examples:
  borealis inspect
  borealis inspect --model models/other --dtype int8
  borealis inspect --json | jq .parameters";

/// Arguments of `borealis inspect`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    machine: MachineArgs,
    /// One JSON object on standard output
    #[arg(long, help_heading = "Messages")]
    pub json: bool,
}

/// Everything that is told, in the order it is told.
#[derive(Serialize)]
struct Report {
    name: String,
    location: String,
    /// The family of open checkpoints that it comes from; null for our own.
    family: Option<String>,
    backend: String,
    dtype: String,
    kv_dtype: &'static str,
    parameters: u64,
    active_parameters: u64,
    /// Bytes of the transformer's tensors by type as they lie in the files.
    stored_bytes: Vec<(String, u64)>,
    /// Bytes of the tokenizers' tensors.
    video_tokenizer_bytes: u64,
    audio_tokenizer_bytes: u64,
    image_tokenizer_bytes: u64,
    vision_tower_bytes: u64,
    /// Bytes of the transformer's weights on the device.
    device_bytes: u64,
    /// The same for every type that weights can be kept in.
    weight_bytes: Vec<(&'static str, u64)>,
    kv_bytes_per_position: u64,
    kv_bytes_per_1000_positions: u64,
    /// Types in which weights and 1,000 positions fit the memory that is free now.
    fits: Vec<&'static str>,
    vocab_size: u32,
    segments: Vec<Segment>,
    /// Positions that a row sees in layers with a sliding window, and the number of these layers.
    sliding_window: Option<(u32, usize)>,
    modalities: Vec<Modality>,
    media: Option<Media>,
    scene_fields: Vec<String>,
    modes: Vec<Mode>,
    fused: Vec<String>,
}

#[derive(Serialize)]
struct Segment {
    name: String,
    start: u32,
    size: u32,
}

#[derive(Serialize)]
struct Modality {
    name: String,
    slots: usize,
    codes: usize,
    predict: &'static str,
    plan: &'static str,
    offset: i32,
    copy_gate: bool,
}

#[derive(Serialize)]
struct Media {
    fps: u32,
    frames_per_latent: u32,
    window: u32,
    /// Names of the modalities of a block, group by group in the order they are decided.
    groups: Vec<Vec<String>>,
    /// Aspect ratio, rows, columns.
    grids: Vec<(String, usize, usize)>,
}

#[derive(Serialize)]
struct Mode {
    name: String,
    input: &'static str,
}

/// Reads configurations and headers, no tensor, and tells: a model that does not fit this machine can be looked at, too.
pub fn run(args: Args) -> Result<()> {
    let checkpoint = model::open(args.machine.model.as_deref())?;
    let report = Report::new(&checkpoint, &args.machine)?;
    output::print(args.json, &report, Report::text)
}

impl Report {
    fn new(checkpoint: &Checkpoint, machine: &MachineArgs) -> Result<Self> {
        let config = borealis_model::check(checkpoint).map_err(CliError::failed)?;
        let tensors = checkpoint.tensors("").map_err(CliError::failed)?;
        let format = machine.dtype.unwrap_or_else(|| stored_format(checkpoint));
        let kv = machine.kv_dtype.0.unwrap_or_else(|| borealis_engine::suited_kv(format));
        let summary = Summary::of(&config, tensors, kv);
        let (backend, fused) = device(machine.device())?;
        let sizes = QuantFormat::ALL.map(|f| (f.name(), weight_bytes(&config, f)));
        let cache = 1000 * summary.kv_bytes_per_position;
        let free = machine.memory.0.or_else(|| machine.device().open().ok()?.free_memory());
        let fits = |bytes: u64| free.is_none_or(|free| bytes + cache <= free);
        let manifest = checkpoint.manifest();
        Ok(Self {
            name: checkpoint.name().to_string(),
            location: checkpoint.location().to_string(),
            family: manifest.family.clone(),
            backend: backend.to_string(),
            dtype: format.name().to_string(),
            kv_dtype: kv.name(),
            parameters: summary.parameters,
            active_parameters: summary.active_parameters,
            stored_bytes: summary.stored,
            video_tokenizer_bytes: stored(checkpoint, "video_tokenizer"),
            audio_tokenizer_bytes: stored(checkpoint, "audio_tokenizer"),
            image_tokenizer_bytes: stored(checkpoint, "image_tokenizer"),
            vision_tower_bytes: stored(checkpoint, "vision_tower"),
            device_bytes: weight_bytes(&config, format),
            weight_bytes: sizes.to_vec(),
            kv_bytes_per_position: summary.kv_bytes_per_position,
            kv_bytes_per_1000_positions: cache,
            fits: sizes.iter().filter(|(_, bytes)| fits(*bytes)).map(|(name, _)| *name).collect(),
            vocab_size: manifest.vocab_size,
            segments: segments(manifest),
            sliding_window: config.window.as_ref().map(|w| (w.positions, w.layers.iter().filter(|l| **l).count())),
            modalities: manifest.modalities.iter().map(modality).collect(),
            media: media(manifest),
            scene_fields: manifest.scene.fields.iter().map(|field| field.name.clone()).collect(),
            modes: modes(manifest),
            fused,
        })
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, text: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name:<12}{text}");
        };
        let list = |items: Vec<String>| items.join(", ");
        line("model", format!("{} ({})", self.name, self.location));
        if let Some(family) = &self.family {
            line("family", family.clone());
        }
        line("device", format!("{}, weights {}, keys and values {}", self.backend, self.dtype, self.kv_dtype));
        line(
            "parameters",
            format!("{}, {} at work in each position", count(self.parameters), count(self.active_parameters)),
        );
        let mut files: Vec<_> =
            self.stored_bytes.iter().map(|(dtype, bytes)| format!("{} {dtype}", size(*bytes))).collect();
        let parts = [
            ("video tokenizer", self.video_tokenizer_bytes),
            ("audio tokenizer", self.audio_tokenizer_bytes),
            ("image tokenizer", self.image_tokenizer_bytes),
            ("vision tower", self.vision_tower_bytes),
        ];
        files.extend(parts.iter().filter(|p| p.1 > 0).map(|(name, bytes)| format!("{name} {}", size(*bytes))));
        line("files", list(files));
        line(
            "memory",
            format!(
                "weights {}, keys and values {} per position",
                size(self.device_bytes),
                size(self.kv_bytes_per_position)
            ),
        );
        let weights = self.weight_bytes.iter().map(|(name, bytes)| format!("{name} {}", size(*bytes)));
        line("estimates", list(weights.collect()));
        let fits = self.fits.iter().map(|f| f.to_string()).collect();
        line("fits", if self.fits.is_empty() { "not into the memory that is free now".into() } else { list(fits) });
        let segments = self.segments.iter().map(|s| format!("{} {}..{}", s.name, s.start, s.start + s.size));
        line("vocabulary", format!("{} ids: {}", self.vocab_size, list(segments.collect())));
        if let Some((positions, layers)) = self.sliding_window {
            line("window", format!("{positions} positions in {layers} layers"));
        }
        for m in &self.modalities {
            let gate = if m.copy_gate { ", copy gate" } else { "" };
            let what =
                format!("{} x {} codes, {}, plan {}, offset {}{gate}", m.slots, m.codes, m.predict, m.plan, m.offset);
            line("modality", format!("{}: {what}", m.name));
        }
        if let Some(media) = &self.media {
            let groups: Vec<_> = media.groups.iter().map(|names| names.join(" + ")).collect();
            let blocks = format!("{} frames a block, decided {}", media.frames_per_latent, groups.join(" then "));
            line("media", format!("{} fps, {blocks}, window {} block(s)", media.fps, media.window));
            line(
                "grids",
                list(media.grids.iter().map(|(ratio, rows, columns)| format!("{ratio} {columns}x{rows}")).collect()),
            );
        }
        if !self.scene_fields.is_empty() {
            line("scene", list(self.scene_fields.clone()));
        }
        if !self.modes.is_empty() {
            line("modes", list(self.modes.iter().map(|mode| mode.name.clone()).collect()));
        }
        let fused = if self.fused.is_empty() {
            vec!["nothing: each operation by itself".to_string()]
        } else {
            self.fused.clone()
        };
        line("fused", list(fused));
        out
    }
}

/// Name of the backend of a device, and what it runs as one kernel.
fn device(device: &DeviceSpec) -> Result<(&'static str, Vec<String>)> {
    fn of<B: Backend>(b: &B) -> (&'static str, Vec<String>) {
        (b.name(), b.fused().iter().map(|f| f.to_string()).collect())
    }
    Ok(match device.open().map_err(|e| CliError::usage(e.to_string()))? {
        Device::Reference(reference) => of(&reference),
        Device::Cuda(cuda) => of(&cuda),
        Device::Metal(metal) => of(&metal),
        Device::Cpu => of(&Cpu::new(1)),
    })
}

/// The type that the engine takes when none is asked for: that of the embedding table.
fn stored_format(checkpoint: &Checkpoint) -> QuantFormat {
    let set = checkpoint.tensors("").ok();
    let dtype = set.and_then(|s| s.stored().find(|t| t.0 == "model.embed_tokens.weight").map(|t| t.1));
    dtype.map_or(QuantFormat::F32, HostType::format)
}

/// Bytes of a set of tensors; 0 when the checkpoint has no such set.
fn stored(checkpoint: &Checkpoint, set: &str) -> u64 {
    checkpoint.tensors(set).map_or(0, |tensors| tensors.bytes())
}

fn segments(manifest: &Manifest) -> Vec<Segment> {
    manifest.segments.iter().map(|s| Segment { name: s.name.clone(), start: s.start, size: s.size }).collect()
}

fn modality(spec: &ModalitySpec) -> Modality {
    let predict = match spec.predict {
        Predict::One => "one",
        Predict::Parallel => "parallel",
        Predict::Depth => "depth",
    };
    let plan = match spec.plan {
        PlanKind::Raster => "raster",
        PlanKind::Row => "row",
        PlanKind::Wavefront => "wavefront",
        PlanKind::Frame => "frame",
    };
    let (slots, codes) = (spec.slots, spec.codes.len());
    Modality { name: spec.name.clone(), slots, codes, predict, plan, offset: spec.offset, copy_gate: spec.copy_gate }
}

fn media(manifest: &Manifest) -> Option<Media> {
    let media = manifest.media.as_ref()?;
    let names = |group: &Vec<usize>| group.iter().map(|&m| manifest.modalities[m].name.clone()).collect();
    Some(Media {
        fps: media.fps,
        frames_per_latent: media.frames_per_latent,
        window: media.window,
        groups: media.groups.iter().map(names).collect(),
        grids: media.grids.iter().map(|(ratio, grid)| (ratio.clone(), grid.height, grid.width)).collect(),
    })
}

fn modes(manifest: &Manifest) -> Vec<Mode> {
    let input = |mode| match mode {
        InputMode::Previous => "previous",
        InputMode::Source => "source",
    };
    manifest.modes.iter().map(|(name, mode)| Mode { name: name.clone(), input: input(mode.input) }).collect()
}

/// `3.18 M`.
fn count(n: u64) -> String {
    scaled(n, &["", " k", " M", " G", " T"])
}

/// `6.40 MB`.
pub fn size(bytes: u64) -> String {
    scaled(bytes, &[" B", " kB", " MB", " GB", " TB"])
}

/// Three digits and a unit.
fn scaled(n: u64, units: &[&str]) -> String {
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(count(1), "1");
        assert_eq!(count(999), "999");
        assert_eq!(count(3_184_000), "3.18 M");
        assert_eq!(size(25_000_000), "25.0 MB");
        assert_eq!(size(999_700), "1.00 MB");
    }
}
