//! The one vocabulary: which ids are what.

use std::collections::BTreeMap;
use std::fmt;

use borealis_weights::{CodeRange, Manifest, ModalitySpec, Segment};

use crate::code_layout::CodeLayout;
use crate::{Result, TokenizerError};

/// A position in the vocabulary.
pub type TokenId = u32;

/// What an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Modality {
    /// A piece of text.
    Text,
    /// A control token such as `<media>`.
    Control,
    /// A value of the scene plan.
    Scene,
    /// A code of an object's state.
    State,
    /// A code of a picture.
    Video,
    /// A code of sound.
    Audio,
    /// A segment that this program has no decoder for.
    Other,
}

impl Modality {
    /// By the name of its segment.
    pub fn of_segment(name: &str) -> Self {
        match name {
            "text" => Self::Text,
            "control" => Self::Control,
            "scene" => Self::Scene,
            "state" => Self::State,
            "video" => Self::Video,
            "audio" => Self::Audio,
            _ => Self::Other,
        }
    }

    /// The name of its segment; `other` for the rest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Control => "control",
            Self::Scene => "scene",
            Self::State => "state",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Segments, control tokens and modalities of a checkpoint.
#[derive(Debug, Clone)]
pub struct Vocab {
    size: u32,
    segments: Vec<Segment>,
    controls: BTreeMap<String, TokenId>,
    names: BTreeMap<TokenId, String>,
    modalities: Vec<ModalitySpec>,
}

impl Vocab {
    /// The vocabulary that a manifest declares.
    pub fn new(manifest: &Manifest) -> Self {
        Self {
            size: manifest.vocab_size,
            segments: manifest.segments.clone(),
            names: manifest.controls.iter().map(|(name, id)| (*id, name.clone())).collect(),
            controls: manifest.controls.clone(),
            modalities: manifest.modalities.clone(),
        }
    }

    /// Number of ids.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// All segments, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The segment of this name.
    pub fn segment(&self, name: &str) -> Option<&Segment> {
        self.segments.iter().find(|s| s.name == name)
    }

    /// What `id` stands for; `None` beyond the vocabulary.
    pub fn modality(&self, id: TokenId) -> Option<Modality> {
        let at = self.segments.partition_point(|s| s.end() <= id);
        self.segments.get(at).map(|s| Modality::of_segment(&s.name))
    }

    /// The id of a control token such as `<media>`.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] when the checkpoint has no such token.
    pub fn control(&self, name: &str) -> Result<TokenId> {
        let absent = || TokenizerError::absent(format!("control token {name}"), "use another checkpoint");
        self.controls.get(name).copied().ok_or_else(absent)
    }

    /// The name of a control token's id.
    pub fn control_name(&self, id: TokenId) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// How a modality's positions are made of codes.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] when the checkpoint has no such modality.
    pub fn layout(&self, modality: &str) -> Result<CodeLayout> {
        let absent = || TokenizerError::absent(format!("modality \"{modality}\""), "use another checkpoint");
        let spec = self.modalities.iter().find(|m| m.name == modality).ok_or_else(absent)?;
        let range = |r: &CodeRange| (r.start, r.size as usize);
        CodeLayout::new(&spec.name, spec.slots, spec.codes.iter().map(range).collect())
    }
}
