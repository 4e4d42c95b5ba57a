//! What a row holds and how it is predicted (`weights.md`, section 3).

use super::{Media, Segment};
use crate::Result;
use crate::json::Node;

/// One kind of position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModalitySpec {
    /// `text`, `state`, `video`, `audio`, or another.
    pub name: String,
    /// Groups of codes in a position, at least 1.
    pub slots: usize,
    /// The codes of a slot, at least 1: ranges of ids, the same for every slot.
    pub codes: Vec<CodeRange>,
    /// How its codes are decided.
    pub predict: Predict,
    /// Logits of the input's codes get a learned bonus.
    pub copy_gate: bool,
    /// Block b decides latent frame b + offset.
    pub offset: i32,
    /// In which groups the positions of a latent frame are decided.
    pub plan: PlanKind,
    /// The modality whose row of the same block is added to this one's rows.
    pub condition: Option<String>,
    /// Its ids have an embedding and a head of their own instead of rows of the common tables.
    pub tables: Option<Tables>,
}

/// Sizes of an embedding and a head that are a modality's own: the last ids of the vocabulary. An id's embedding is a row of `embedding_size`
/// through `layers` linear layers to H; the head is linear to `projection_size`, then linear to the ids; GELU stands between linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tables {
    /// Width of the table.
    pub embedding_size: usize,
    /// Linear layers behind it.
    pub layers: usize,
    /// Width inside the head.
    pub projection_size: usize,
}

impl ModalitySpec {
    /// Codes of one position: slots times codes of a slot.
    pub fn row_codes(&self) -> usize {
        self.slots * self.codes.len()
    }
}

/// The ids that a code can have: `[start, start + size)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeRange {
    /// First id.
    pub start: u32,
    /// Number of ids, at least 1.
    pub size: u32,
}

impl CodeRange {
    /// One past the last id.
    pub fn end(&self) -> u32 {
        self.start + self.size
    }

    /// Whether `id` is one of its ids.
    pub fn contains(&self, id: u32) -> bool {
        (self.start..self.end()).contains(&id)
    }
}

/// How the codes of a position are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predict {
    /// One id: the plain next one.
    One,
    /// All codes of the position at once.
    Parallel,
    /// The codes of a slot one after another, by the depth transformer.
    Depth,
}

/// Groups in which the positions of a latent frame are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanKind {
    /// One position after another.
    Raster,
    /// A row of the grid at once.
    Row,
    /// Anti-diagonals.
    Wavefront,
    /// All at once.
    Frame,
}

const MAX_OFFSET: i64 = 64;

/// All modalities; names unique, ranges inside the vocabulary.
pub(super) fn read(root: &Node<'_>, vocab_size: u32, segments: &[Segment]) -> Result<Vec<ModalitySpec>> {
    let list = root.get("modalities")?;
    let mut modalities: Vec<ModalitySpec> = Vec::new();
    for node in list.list(32)? {
        let m = read_one(&node, vocab_size, segments)?;
        if modalities.iter().any(|o| o.name == m.name) {
            return Err(node.get("name")?.fail("must be unique: another modality has this name"));
        }
        modalities.push(m);
    }
    if modalities.is_empty() {
        return Err(list.fail("must have at least one modality"));
    }
    Ok(modalities)
}

fn read_one(node: &Node<'_>, vocab_size: u32, segments: &[Segment]) -> Result<ModalitySpec> {
    node.only(&["name", "slots", "codes", "predict", "copy_gate", "offset", "plan", "condition", "tables"])?;
    let predict = node.get("predict")?.choice(&[
        ("one", Predict::One),
        ("parallel", Predict::Parallel),
        ("depth", Predict::Depth),
    ])?;
    let slots = node.opt("slots")?.map_or(Ok(1), |n| n.size(1, 256))?;
    let codes = codes(&node.get("codes")?, predict, vocab_size, segments)?;
    if predict == Predict::One && (slots != 1 || codes.len() != 1) {
        let what =
            format!("is for one slot of one code, here are {slots} of {}: use \"parallel\" or \"depth\"", codes.len());
        return Err(node.get("predict")?.fail(what));
    }
    let copy_gate = node.opt("copy_gate")?.map_or(Ok(false), |n| n.boolean())?;
    if copy_gate && predict != Predict::Parallel {
        return Err(node.get("copy_gate")?.fail("is for modalities with predict \"parallel\""));
    }
    let plans = [
        ("raster", PlanKind::Raster),
        ("row", PlanKind::Row),
        ("wavefront", PlanKind::Wavefront),
        ("frame", PlanKind::Frame),
    ];
    Ok(ModalitySpec {
        name: node.get("name")?.string()?.to_string(),
        slots,
        codes,
        predict,
        copy_gate,
        offset: node.opt("offset")?.map_or(Ok(0), |n| n.int(-MAX_OFFSET, MAX_OFFSET))? as i32,
        plan: node.opt("plan")?.map_or(Ok(PlanKind::Raster), |n| n.choice(&plans))?,
        condition: node.opt("condition")?.map(|n| n.string().map(String::from)).transpose()?,
        tables: node.opt("tables")?.map(|n| tables(&n, predict)).transpose()?,
    })
}

fn tables(node: &Node<'_>, predict: Predict) -> Result<Tables> {
    node.only(&["embedding_size", "layers", "projection_size"])?;
    if predict != Predict::One {
        return Err(node.fail("is for modalities with predict \"one\""));
    }
    Ok(Tables {
        embedding_size: node.get("embedding_size")?.size(1, 1 << 20)?,
        layers: node.get("layers")?.size(1, 16)?,
        projection_size: node.get("projection_size")?.size(1, 1 << 20)?,
    })
}

/// The code ranges. A single next id may come from several segments (text, controls and scene ids are one stream); a code of several has one segment.
fn codes(list: &Node<'_>, predict: Predict, vocab_size: u32, segments: &[Segment]) -> Result<Vec<CodeRange>> {
    let mut codes = Vec::new();
    for node in list.list(256)? {
        node.only(&["start", "size"])?;
        let (start, size) = (node.get("start")?, node.get("size")?);
        let range = CodeRange { start: start.u32(0, vocab_size - 1)?, size: size.u32(1, vocab_size)? };
        if range.size > vocab_size - range.start {
            return Err(
                size.fail(format!("must be at most {}: the vocabulary ends at {vocab_size}", vocab_size - range.start))
            );
        }
        if predict != Predict::One && !segments.iter().any(|s| s.holds(range.start, range.size)) {
            return Err(size.fail(format!(
                "the range {} to {} must lie inside one segment",
                range.start,
                range.end() - 1
            )));
        }
        codes.push(range);
    }
    if codes.is_empty() {
        return Err(list.fail("must have at least one range"));
    }
    Ok(codes)
}

/// Checks what modalities say about blocks: offsets and conditions.
pub(super) fn check_media(root: &Node<'_>, modalities: &[ModalitySpec], media: Option<&Media>) -> Result<()> {
    for (m, node) in modalities.iter().zip(root.get("modalities")?.list(32)?) {
        let in_block = |name: &str| media.is_some_and(|media| media.block.iter().any(|b| modalities[*b].name == name));
        if m.offset != 0 && !in_block(&m.name) {
            return Err(node.get("offset")?.fail("is for modalities of media.block"));
        }
        let Some(condition) = &m.condition else { continue };
        let node = node.get("condition")?;
        if *condition == m.name || !in_block(&m.name) || !in_block(condition) {
            return Err(node.fail("must be another modality of media.block, and so must the modality that has it"));
        }
        let chained = modalities.iter().any(|o| o.name == *condition && o.condition.is_some());
        if chained {
            return Err(node.fail("must be a modality that has no condition itself"));
        }
    }
    Ok(())
}
