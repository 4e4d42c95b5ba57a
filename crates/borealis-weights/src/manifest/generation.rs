//! `generation_config.json` (`weights.md`, section 7).

use super::{Media, ModalitySpec, Segment};
use crate::Result;
use crate::json::Node;
use std::collections::BTreeMap;

/// Defaults of a generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Guidance scale; 1 = off.
    pub guidance: f32,
    /// Sampling by modality (or by segment, for ids of the scene plan). Absent ones have [`SamplingSpec::default`].
    pub sampling: BTreeMap<String, SamplingSpec>,
    /// The best that the checkpoint does.
    pub quality: PresetSpec,
    /// Faster, plainer.
    pub speed: PresetSpec,
}

/// How an id is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingSpec {
    /// At least 0; 0 takes the most likely id.
    pub temperature: f32,
    /// The most likely ids that are kept; 0 = all.
    pub top_k: usize,
    /// In (0, 1].
    pub top_p: f32,
    /// In [0, 1]; 0 = off.
    pub min_p: f32,
    /// In (0, 10]; 1 = off.
    pub repetition_penalty: f32,
}

impl Default for SamplingSpec {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 }
    }
}

/// What a preset changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PresetSpec {
    /// Only every n-th frame is decoded, and shown n times.
    pub fps_divisor: u32,
    /// Guidance scale instead of the default.
    pub guidance: Option<f32>,
}

impl Default for PresetSpec {
    fn default() -> Self {
        Self { fps_divisor: 1, guidance: None }
    }
}

impl Generation {
    /// Sampling of a modality or segment.
    pub fn sampling(&self, name: &str) -> SamplingSpec {
        self.sampling.get(name).copied().unwrap_or_default()
    }

    pub(super) fn read(
        root: &Node<'_>,
        modalities: &[ModalitySpec],
        segments: &[Segment],
        media: Option<&Media>,
    ) -> Result<Self> {
        root.only(&["guidance", "sampling", "presets"])?;
        let mut sampling = BTreeMap::new();
        if let Some(node) = root.opt("sampling")? {
            for (name, node) in node.entries()? {
                if !modalities.iter().any(|m| m.name == name) && !segments.iter().any(|s| s.name == name) {
                    return Err(node.fail("is for no modality and no segment of config.json: remove it"));
                }
                sampling.insert(name.to_string(), SamplingSpec::read(&node)?);
            }
        }
        let presets = root.opt("presets")?;
        if let Some(node) = &presets {
            node.only(&["quality", "speed"])?;
        }
        let preset = |name: &str| -> Result<PresetSpec> {
            match presets.as_ref().map(|n| n.opt(name)).transpose()?.flatten() {
                Some(node) => PresetSpec::read(&node, media),
                None => Ok(PresetSpec::default()),
            }
        };
        Ok(Self {
            guidance: root.opt("guidance")?.map_or(Ok(1.0), |n| guidance(&n))?,
            sampling,
            quality: preset("quality")?,
            speed: preset("speed")?,
        })
    }
}

impl SamplingSpec {
    fn read(node: &Node<'_>) -> Result<Self> {
        node.only(&["temperature", "top_k", "top_p", "min_p", "repetition_penalty"])?;
        let default = Self::default();
        Ok(Self {
            temperature: node
                .opt("temperature")?
                .map_or(Ok(default.temperature), |n| n.number(0.0, 100.0).map(|v| v as f32))?,
            top_k: node.opt("top_k")?.map_or(Ok(default.top_k), |n| n.size(0, u32::MAX))?,
            top_p: node.opt("top_p")?.map_or(Ok(default.top_p), |n| n.number(1e-6, 1.0).map(|v| v as f32))?,
            min_p: node.opt("min_p")?.map_or(Ok(default.min_p), |n| n.number(0.0, 1.0).map(|v| v as f32))?,
            repetition_penalty: node
                .opt("repetition_penalty")?
                .map_or(Ok(default.repetition_penalty), |n| n.number(1e-3, 10.0).map(|v| v as f32))?,
        })
    }
}

impl PresetSpec {
    fn read(node: &Node<'_>, media: Option<&Media>) -> Result<Self> {
        node.only(&["fps_divisor", "guidance"])?;
        let mut preset = Self { guidance: node.opt("guidance")?.map(|n| guidance(&n)).transpose()?, ..Self::default() };
        if let Some(n) = node.opt("fps_divisor")? {
            preset.fps_divisor = n.u32(1, 240)?;
            if let Some(media) = media.filter(|m| !m.frames_per_latent.is_multiple_of(preset.fps_divisor)) {
                return Err(n.fail(format!("must divide media.frames_per_latent, {}", media.frames_per_latent)));
            }
        }
        Ok(preset)
    }
}

fn guidance(node: &Node<'_>) -> Result<f32> {
    node.number(0.0, 100.0).map(|v| v as f32)
}
