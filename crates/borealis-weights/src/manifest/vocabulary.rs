//! Segments, control tokens and row kinds (`weights.md`, sections 2 and 3).

use crate::Result;
use crate::json::Node;
use std::collections::BTreeMap;

/// A range of ids of one kind: `[start, start + size)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// `text`, `control`, `scene`, `state`, `video`, `audio`, or another.
    pub name: String,
    /// First id.
    pub start: u32,
    /// Number of ids, at least 1.
    pub size: u32,
}

impl Segment {
    /// One past the last id.
    pub fn end(&self) -> u32 {
        self.start + self.size
    }

    /// Whether `[start, start + size)` lies inside.
    pub fn holds(&self, start: u32, size: u32) -> bool {
        self.start <= start && start.checked_add(size).is_some_and(|end| end <= self.end())
    }
}

/// The segments in order; they must cover `[0, vocab_size)` without gap or overlap.
pub(super) fn segments(root: &Node<'_>, vocab_size: u32) -> Result<Vec<Segment>> {
    let list = root.get("segments")?;
    let mut nodes = Vec::new();
    for node in list.list(64)? {
        node.only(&["name", "start", "size"])?;
        let (start, size) = (node.get("start")?.u32(0, vocab_size)?, node.get("size")?.u32(1, vocab_size)?);
        nodes.push((Segment { name: node.get("name")?.string()?.to_string(), start, size }, node));
    }
    nodes.sort_by_key(|(s, _)| s.start);
    let mut end = 0;
    let mut before = String::from("the vocabulary's start");
    for (i, (segment, node)) in nodes.iter().enumerate() {
        if nodes[..i].iter().any(|(s, _)| s.name == segment.name) {
            return Err(node.get("name")?.fail("must be unique: another segment has this name"));
        }
        if segment.start != end {
            return Err(node
                .get("start")?
                .fail(format!("must be {end}, right after {before}: segments may not overlap or leave a gap")));
        }
        end = segment.end();
        before = format!("segment \"{}\"", segment.name);
    }
    if end != vocab_size {
        return Err(root.get("vocab_size")?.fail(format!("the segments cover {end} ids: both must agree")));
    }
    Ok(nodes.into_iter().map(|(s, _)| s).collect())
}

/// Control tokens: distinct ids, inside segment `control` where there is one.
pub(super) fn controls(root: &Node<'_>, segments: &[Segment]) -> Result<BTreeMap<String, u32>> {
    let Some(node) = root.opt("controls")? else { return Ok(BTreeMap::new()) };
    let mut controls = BTreeMap::new();
    let mut names: BTreeMap<u32, &str> = BTreeMap::new();
    for (name, node) in node.entries()? {
        let id = node.u32(0, u32::MAX)?;
        if segments.last().is_some_and(|s| id >= s.end()) {
            return Err(node.fail("must be an id of the vocabulary"));
        }
        if let Some(segment) = segments.iter().find(|s| s.name == "control")
            && !segment.holds(id, 1)
        {
            return Err(node.fail(format!(
                "must lie in segment \"control\", {} to {}",
                segment.start,
                segment.end() - 1
            )));
        }
        if let Some(other) = names.insert(id, name) {
            return Err(node.fail(format!("is also the id of control \"{other}\": ids must differ")));
        }
        controls.insert(name.to_string(), id);
    }
    Ok(controls)
}

/// Names of the rows of `model.row_kinds.weight`.
pub(super) fn row_kinds(root: &Node<'_>) -> Result<Vec<String>> {
    let Some(node) = root.opt("row_kinds")? else { return Ok(Vec::new()) };
    let mut kinds: Vec<String> = Vec::new();
    for node in node.list(256)? {
        let name = node.string()?;
        if kinds.iter().any(|k| k == name) {
            return Err(node.fail("must be unique: another row kind has this name"));
        }
        kinds.push(name.to_string());
    }
    Ok(kinds)
}
