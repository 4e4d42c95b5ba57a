//! The scene plan and the modes (`weights.md`, section 5).

use super::{ModalitySpec, Predict, Segment};
use crate::Result;
use crate::json::Node;
use std::collections::BTreeMap;

/// The scene plan: one id per field, between `<scene>` and `<media>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scene {
    /// In the order of the plan; empty without a scene plan.
    pub fields: Vec<Field>,
}

/// One id of the scene plan and the ids that it can be: `[start, start + size)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// First id.
    pub start: u32,
    /// Number of ids.
    pub size: u32,
}

/// A way of generating.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mode {
    /// Name of its control token.
    pub control: String,
    /// Its id.
    pub id: u32,
    /// What media rows read.
    pub input: InputMode,
}

/// What a media row's input codes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputMode {
    /// Its predecessor by the plan.
    Previous,
    /// The same place in the same latent frame of the source clip.
    Source,
}

/// The modes that exist.
pub(crate) const MODES: [&str; 7] =
    ["text_to_image", "text_to_video", "image_to_video", "edit_image", "edit_video", "extend", "reference"];

impl Scene {
    pub(super) fn read(root: &Node<'_>, segments: &[Segment], modalities: &[ModalitySpec]) -> Result<Self> {
        let Some(node) = root.opt("scene")? else { return Ok(Self::default()) };
        node.only(&["fields"])?;
        let Some(list) = node.opt("fields")? else { return Ok(Self::default()) };
        let mut fields: Vec<Field> = Vec::new();
        for node in list.list(1024)? {
            node.only(&["name", "start", "size"])?;
            let name = node.get("name")?;
            let field = Field {
                name: name.string()?.to_string(),
                start: node.get("start")?.u32(0, u32::MAX)?,
                size: node.get("size")?.u32(1, u32::MAX)?,
            };
            let Some(segment) = segments.iter().find(|s| s.name == "scene") else {
                return Err(root.get("segments")?.fail("must have a segment \"scene\", there is a scene plan"));
            };
            if !segment.holds(field.start, field.size) {
                let what = format!(
                    "{} ids from it must lie in segment \"scene\", {} to {}",
                    field.size,
                    segment.start,
                    segment.end() - 1
                );
                return Err(node.get("start")?.fail(what));
            }
            // A field's id is the prediction of a text row.
            let reach =
                |m: &ModalitySpec| m.codes[0].start <= field.start && field.start + field.size <= m.codes[0].end();
            if !modalities.iter().any(|m| m.name == "text" && m.predict == Predict::One && reach(m)) {
                return Err(node.get("start")?.fail("must be among the ids that modality \"text\" predicts"));
            }
            if fields.iter().any(|f| f.name == field.name) {
                return Err(name.fail("must be unique: another field has this name"));
            }
            fields.push(field);
        }
        Ok(Self { fields })
    }
}

/// The modes; their controls and those that every prompt needs must exist.
pub(super) fn modes(
    root: &Node<'_>,
    controls: &BTreeMap<String, u32>,
    scene: &Scene,
) -> Result<BTreeMap<String, Mode>> {
    let Some(node) = root.opt("modes")? else { return Ok(BTreeMap::new()) };
    node.only(&MODES)?;
    let mut modes = BTreeMap::new();
    for (name, node) in node.entries()? {
        node.only(&["control", "input"])?;
        let control = node.get("control")?;
        let id = controls.get(control.string()?).ok_or_else(|| control.fail("must be one of \"controls\""))?;
        let inputs = [("previous", InputMode::Previous), ("source", InputMode::Source)];
        let input = node.opt("input")?.map_or(Ok(InputMode::Previous), |n| n.choice(&inputs))?;
        modes.insert(name.to_string(), Mode { control: control.string()?.to_string(), id: *id, input });
    }
    let needed: &[&str] = match (modes.is_empty(), scene.fields.is_empty()) {
        (true, _) => &[],
        (false, true) => &["<text>", "<media>"],
        (false, false) => &["<text>", "<scene>", "<media>"],
    };
    for name in needed {
        if !controls.contains_key(*name) {
            return Err(root.missing(&format!("controls.{name}"), "every prompt needs it: add it"));
        }
    }
    Ok(modes)
}
