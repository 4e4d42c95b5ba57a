//! What the manifest says about rows, looked up once: indices instead of names.

use borealis_weights::{CodeRange, Grid, InputMode, Manifest, PlanKind, Predict};

/// The modality whose latent frames are grids of positions; every other one has one position for a latent frame.
const PICTURES: &str = "video";

/// One modality of a block.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Index in the manifest.
    pub modality: usize,
    /// Its name.
    pub name: String,
    /// Its stream of noise (plus 16 for each variant): 1 state, 2 video, 3 audio; others follow.
    pub noise: u32,
    /// Block b decides latent frame b + offset.
    pub offset: i32,
    /// How a latent frame is cut into groups.
    pub plan: PlanKind,
    /// How its codes are decided.
    pub predict: Predict,
    /// It has the picture's grid; otherwise one position.
    pub pictures: bool,
    /// Codes of a position.
    pub row_codes: usize,
    /// Slots of a position.
    pub slots: usize,
    /// Ranges of the codes of a slot.
    pub codes: Vec<CodeRange>,
    /// Index of the stream whose row of the same block conditions it.
    pub condition: Option<usize>,
    /// Row kinds.
    pub kinds: Kinds,
}

/// Row kinds of a stream; `None` where the checkpoint has no such kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds {
    /// With input codes.
    pub plain: Option<u32>,
    /// Without input codes.
    pub bos: Option<u32>,
    /// Rows of sources in the prompt.
    pub source: Option<u32>,
    /// Reading the source instead of the previous latent frame.
    pub edit: Option<u32>,
}

impl Stream {
    /// Positions of a latent frame.
    pub fn places(&self, grid: Grid) -> usize {
        if self.pictures { grid.len() } else { 1 }
    }

    /// The kind of a media row.
    pub fn kind(&self, has_input: bool, input: InputMode) -> Option<u32> {
        match (has_input, input) {
            (false, _) => self.kinds.bos.or(self.kinds.plain),
            (true, InputMode::Source) => self.kinds.edit.or(self.kinds.plain),
            (true, InputMode::Previous) => self.kinds.plain,
        }
    }
}

/// Rows of text-like ids and the streams of a block.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Index of the text modality.
    pub text: usize,
    /// Other modalities of one code, and the range of their ids.
    pub ones: Vec<(usize, CodeRange)>,
    /// Row kinds of text and of scene ids.
    pub text_kinds: (Option<u32>, Option<u32>),
    /// First id of the scene segment; ids from it on are scene ids.
    pub scene_start: u32,
    /// In the order of a block.
    pub streams: Vec<Stream>,
    /// Indices into `streams`: groups decided one after another.
    pub groups: Vec<Vec<usize>>,
    /// Blocks that a media row sees, its own included.
    pub window: usize,
    /// The rows of a block are conditioned on the scene plan directly.
    pub scene_condition: bool,
    /// Factor on the time axis of rotary positions.
    pub time_scale: f32,
    /// Added to all coordinates of rotary positions.
    pub position_offset: f32,
    /// Index of the stream that features are measured from.
    pub near: Option<usize>,
}

impl Layout {
    /// Looks everything up; `None` when the checkpoint has no text modality, or is our own and has no media.
    pub fn new(manifest: &Manifest) -> Option<Self> {
        let (text, _) = manifest.modality("text")?;
        let Some(media) = manifest.media.as_ref() else {
            return manifest.family.as_ref().map(|_| Self::without_media(manifest, text));
        };
        let at = |modality: usize| media.block.iter().position(|&m| m == modality);
        let streams: Vec<Stream> = media.block.iter().map(|&m| stream(manifest, &media.block, m)).collect();
        let groups = media.groups.iter().map(|g| g.iter().filter_map(|&m| at(m)).collect()).collect();
        let kind = |name: &str| manifest.row_kind(name);
        Some(Self {
            text,
            ones: ones(manifest, text),
            text_kinds: (kind("text"), kind("scene").or(kind("text"))),
            scene_start: manifest.segment("scene").map_or(u32::MAX, |s| s.start),
            groups,
            window: media.window as usize,
            scene_condition: media.scene_condition,
            time_scale: media.time_scale,
            position_offset: media.position_offset,
            near: manifest.row_features.as_ref().and_then(|f| f.near.as_ref()).and_then(|n| at(n.modality)),
            streams,
        })
    }

    /// Of an open checkpoint: ids one after another.
    fn without_media(manifest: &Manifest, text: usize) -> Self {
        Self {
            text,
            ones: ones(manifest, text),
            text_kinds: (None, None),
            scene_start: u32::MAX,
            streams: Vec::new(),
            groups: Vec::new(),
            window: 1,
            scene_condition: false,
            time_scale: 1.0,
            position_offset: 0.0,
            near: None,
        }
    }

    /// The modality of an id that stands alone in its position.
    pub fn modality(&self, id: u32) -> usize {
        self.ones.iter().find(|(_, range)| range.contains(id)).map_or(self.text, |(modality, _)| *modality)
    }

    /// The stream of this name.
    pub fn stream(&self, name: &str) -> Option<usize> {
        self.streams.iter().position(|s| s.name == name)
    }

    /// The kind of a text-like row.
    pub fn text_kind(&self, id: u32) -> Option<u32> {
        if id >= self.scene_start { self.text_kinds.1 } else { self.text_kinds.0 }
    }

    /// Rotary position of a media row of `stream` in the block of latent frame `t` (`weights.md`, section 4).
    pub fn position(&self, stream: usize, grid: Grid, t: i32, place: usize) -> [f32; 3] {
        let s = &self.streams[stream];
        let t = t as f32 * self.time_scale;
        let (height, width) = (grid.height as f32, grid.width as f32);
        let (y, x) = if s.pictures {
            let (row, column) = ((place / grid.width) as f32, (place % grid.width) as f32);
            (row - (height - 1.0) / 2.0, column - (width - 1.0) / 2.0)
        } else {
            (height / 2.0 + 2.0, if s.name == "audio" { -1.0 } else { 1.0 })
        };
        [t, y, x].map(|axis| axis + self.position_offset)
    }
}

/// Modalities of one code beside text, which holds the rest of the vocabulary.
fn ones(manifest: &Manifest, text: usize) -> Vec<(usize, CodeRange)> {
    let one = |(at, spec): (usize, &borealis_weights::ModalitySpec)| match &spec.codes[..] {
        [range] if at != text && spec.predict == Predict::One && spec.slots == 1 => Some((at, *range)),
        _ => None,
    };
    manifest.modalities.iter().enumerate().filter_map(one).collect()
}

fn stream(manifest: &Manifest, block: &[usize], modality: usize) -> Stream {
    let spec = &manifest.modalities[modality];
    let noise = match spec.name.as_str() {
        "state" => 1,
        "video" => 2,
        "audio" => 3,
        // The noise of a kind must not depend on which other kinds there are before it.
        _ => 4 + modality as u32 % 12,
    };
    let kind = |name: String| manifest.row_kind(&name);
    let name = &spec.name;
    let condition = spec.condition.as_ref().and_then(|c| block.iter().position(|&m| manifest.modalities[m].name == *c));
    Stream {
        modality,
        noise,
        offset: spec.offset,
        plan: spec.plan,
        predict: spec.predict,
        pictures: *name == PICTURES,
        row_codes: spec.row_codes(),
        slots: spec.slots,
        codes: spec.codes.clone(),
        condition,
        kinds: Kinds {
            plain: kind(name.clone()),
            bos: kind(format!("{name}_bos")),
            source: kind(format!("source_{name}")),
            edit: kind(format!("edit_{name}")),
        },
        name: spec.name.clone(),
    }
}
