//! `borealis inspect`: what a model is and what it takes.

use std::fmt::Write as _;
use std::io::Write;

use borealis_kernels::HostType;
use borealis_weights::{Checkpoint, InputMode, Manifest, ModalitySpec, PlanKind, Predict};
use serde::Serialize;

use crate::args::MachineArgs;
use crate::error::{CliError, Result};
use crate::model;

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
    backend: String,
    dtype: String,
    parameters: u64,
    active_parameters: u64,
    /// Bytes of the transformer's tensors by type as they lie in the files.
    stored_bytes: Vec<(String, u64)>,
    /// Bytes of the tokenizers' tensors.
    video_tokenizer_bytes: u64,
    audio_tokenizer_bytes: u64,
    /// Bytes of the transformer's weights on the device.
    device_bytes: u64,
    kv_bytes_per_position: u64,
    vocab_size: u32,
    segments: Vec<Segment>,
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

/// Loads the model and tells.
pub fn run(args: Args) -> Result<()> {
    let checkpoint = model::open(args.machine.model.as_deref())?;
    let report = Report::new(&checkpoint, &args.machine)?;
    let text = if args.json {
        let mut text = serde_json::to_string_pretty(&report).map_err(CliError::failed)?;
        text.push('\n');
        text
    } else {
        report.text()
    };
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

impl Report {
    fn new(checkpoint: &Checkpoint, machine: &MachineArgs) -> Result<Self> {
        let model = borealis_engine::load_model(checkpoint, &machine.engine())?;
        let tensors = checkpoint.tensors("").map_err(CliError::failed)?;
        let summary = model.summary();
        let manifest = checkpoint.manifest();
        Ok(Self {
            name: checkpoint.name().to_string(),
            location: checkpoint.location().to_string(),
            backend: model.backend().to_string(),
            dtype: model.format().name().to_string(),
            parameters: summary.parameters,
            active_parameters: summary.active_parameters,
            stored_bytes: borealis_model::Summary::of(model.config(), tensors).stored,
            video_tokenizer_bytes: stored(checkpoint, "video_tokenizer"),
            audio_tokenizer_bytes: stored(checkpoint, "audio_tokenizer"),
            device_bytes: summary.device_bytes,
            kv_bytes_per_position: summary.kv_bytes_per_position,
            vocab_size: manifest.vocab_size,
            segments: segments(manifest),
            modalities: manifest.modalities.iter().map(modality).collect(),
            media: media(manifest),
            scene_fields: manifest.scene.fields.iter().map(|field| field.name.clone()).collect(),
            modes: modes(manifest),
            fused: summary.fused,
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
        line("device", format!("{}, weights {}", self.backend, self.dtype));
        line(
            "parameters",
            format!("{}, {} at work in each position", count(self.parameters), count(self.active_parameters)),
        );
        let mut files: Vec<_> =
            self.stored_bytes.iter().map(|(dtype, bytes)| format!("{} {dtype}", size(*bytes))).collect();
        files.push(format!("video tokenizer {}", size(self.video_tokenizer_bytes)));
        files.push(format!("audio tokenizer {}", size(self.audio_tokenizer_bytes)));
        line("files", list(files));
        line(
            "memory",
            format!(
                "weights {}, keys and values {} per position",
                size(self.device_bytes),
                size(self.kv_bytes_per_position)
            ),
        );
        let segments = self.segments.iter().map(|s| format!("{} {}..{}", s.name, s.start, s.start + s.size));
        line("vocabulary", format!("{} ids: {}", self.vocab_size, list(segments.collect())));
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
        line("modes", list(self.modes.iter().map(|mode| mode.name.clone()).collect()));
        let fused = if self.fused.is_empty() {
            vec!["nothing: each operation by itself".to_string()]
        } else {
            self.fused.clone()
        };
        line("fused", list(fused));
        out
    }
}

/// Bytes of a set of tensors; 0 when the checkpoint has no such set.
fn stored(checkpoint: &Checkpoint, set: &str) -> u64 {
    let Ok(tensors) = checkpoint.tensors(set) else { return 0 };
    let bytes = |name: &str| {
        tensors.get(name).map_or(0, |tensor| {
            let width = match tensor.dtype {
                HostType::F32 => 4,
                HostType::F16 | HostType::Bf16 => 2,
                HostType::I8 => 1,
            };
            let scales = tensor.scales.map_or(0, |(bytes, _)| bytes.len());
            tensor.shape.iter().product::<usize>() * width + scales
        }) as u64
    };
    tensors.names().map(bytes).sum()
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
fn size(bytes: u64) -> String {
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
