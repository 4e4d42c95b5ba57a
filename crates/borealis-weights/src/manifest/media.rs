//! Blocks, groups, windows and grids (`weights.md`, section 4).

use super::ModalitySpec;
use crate::Result;
use crate::json::Node;
use std::collections::BTreeMap;

/// How clips are cut into blocks of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Media {
    /// Frames per second of a clip.
    pub fps: u32,
    /// Frames of a latent frame (the first one shows a single frame).
    pub frames_per_latent: u32,
    /// Latent frames per second: `fps / frames_per_latent`.
    pub latent_fps: u32,
    /// Blocks that a media row sees, its own included; at least 1.
    pub window: u32,
    /// Factor on the time axis of rotary positions; 1 unless given.
    pub time_scale: f32,
    /// Added to all three coordinates of media rows: keeps their distance from a prompt that has grown longer.
    pub position_offset: f32,
    /// The rows of a block are conditioned on the scene plan directly (`scene_rows`).
    pub scene_condition: bool,
    /// Indices of the modalities of a block, in the order of their rows.
    pub block: Vec<usize>,
    /// The same indices in the groups that are decided one after another.
    pub groups: Vec<Vec<usize>>,
    /// Positions of a picture by aspect ratio (`16:9`).
    pub grids: BTreeMap<String, Grid>,
    /// Cells of a picture by aspect ratio, where the checkpoint says so: a position holds a square of cells, and the last row or column of positions may be half empty.
    pub canvas_cells: BTreeMap<String, Grid>,
}

/// Rows and columns of positions of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grid {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Grid {
    /// Positions in all.
    pub fn len(&self) -> usize {
        self.height * self.width
    }

    /// Never: a grid has at least one position.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Media {
    /// Frames of a clip of `latents` latent frames.
    pub fn frames(&self, latents: usize) -> usize {
        if latents == 0 { 0 } else { 1 + self.frames_per_latent as usize * (latents - 1) }
    }

    /// Latent frames of the shortest clip with at least `frames` frames.
    pub fn latents(&self, frames: usize) -> usize {
        if frames == 0 { 0 } else { 1 + (frames - 1).div_ceil(self.frames_per_latent as usize) }
    }

    pub(super) fn read(root: &Node<'_>, modalities: &[ModalitySpec]) -> Result<Option<Self>> {
        let Some(node) = root.opt("media")?.filter(|n| n.entries().map_or(true, |e| !e.is_empty())) else {
            return Ok(None);
        };
        node.only(&[
            "fps",
            "frames_per_latent",
            "latent_fps",
            "window",
            "block",
            "groups",
            "grids",
            "time_scale",
            "position_offset",
            "canvas_cells",
            "scene_condition",
        ])?;
        let fps = node.get("fps")?.u32(1, 240)?;
        let frames_per_latent = node.get("frames_per_latent")?.u32(1, 240)?;
        let latent_node = node.get("latent_fps")?;
        let latent_fps = latent_node.u32(1, 240)?;
        if latent_fps * frames_per_latent != fps {
            return Err(latent_node.fail(format!("must be fps / frames_per_latent = {fps} / {frames_per_latent}")));
        }
        let block_node = node.get("block")?;
        let block = block(&block_node, modalities)?;
        let groups = match node.opt("groups")? {
            Some(n) => groups(&n, modalities, &block)?,
            None => vec![block.clone()],
        };
        let window = node.get("window")?.u32(1, 1 << 16)?;
        let time_scale = node.opt("time_scale")?.map_or(Ok(1.0), |n| n.number(-1e6, 1e6))? as f32;
        let position_offset = node.opt("position_offset")?.map_or(Ok(0.0), |n| n.number(-1e6, 1e6))? as f32;
        let scene_condition = node.opt("scene_condition")?.map_or(Ok(false), |n| n.boolean())?;
        let grids = read_grids(&node.get("grids")?)?;
        let canvas_cells = match node.opt("canvas_cells")? {
            Some(n) => canvas(&n, &grids, modalities)?,
            None => BTreeMap::new(),
        };
        Ok(Some(Self {
            fps,
            frames_per_latent,
            latent_fps,
            window,
            time_scale,
            position_offset,
            scene_condition,
            block,
            groups,
            grids,
            canvas_cells,
        }))
    }
}

/// The cells of each grid: as many as its positions hold, less than one position fewer on each side.
fn canvas(
    node: &Node<'_>,
    grids: &BTreeMap<String, Grid>,
    modalities: &[ModalitySpec],
) -> Result<BTreeMap<String, Grid>> {
    let cells = read_grids(node)?;
    let side = modalities.iter().find(|m| m.name == "video").map_or(1, |m| m.slots.isqrt());
    for (ratio, grid) in grids {
        let Some(c) = cells.get(ratio) else {
            return Err(node.missing(ratio, "every ratio of media.grids has one: add it"));
        };
        if (c.height.div_ceil(side), c.width.div_ceil(side)) != (grid.height, grid.width) {
            let what =
                format!("in squares of {side} x {side} cells must make the grid [{}, {}]", grid.height, grid.width);
            return Err(node.get(ratio)?.fail(what));
        }
    }
    match cells.keys().find(|ratio| !grids.contains_key(*ratio)) {
        Some(ratio) => Err(node.get(ratio)?.fail("is for no ratio of media.grids")),
        None => Ok(cells),
    }
}

fn index(node: &Node<'_>, modalities: &[ModalitySpec]) -> Result<usize> {
    let name = node.string()?;
    modalities.iter().position(|m| m.name == name).ok_or_else(|| {
        let names: Vec<_> = modalities.iter().map(|m| m.name.as_str()).collect();
        node.fail(format!("must be a modality: {}", names.join(", ")))
    })
}

fn block(list: &Node<'_>, modalities: &[ModalitySpec]) -> Result<Vec<usize>> {
    let mut block = Vec::new();
    for node in list.list(32)? {
        let m = index(&node, modalities)?;
        if block.contains(&m) {
            return Err(node.fail("must be unique: it is already in the block"));
        }
        block.push(m);
    }
    if block.is_empty() {
        return Err(list.fail("must name at least one modality"));
    }
    Ok(block)
}

fn groups(list: &Node<'_>, modalities: &[ModalitySpec], block: &[usize]) -> Result<Vec<Vec<usize>>> {
    let mut groups = Vec::new();
    for node in list.list(32)? {
        let members = node.list(32)?.iter().map(|n| index(n, modalities)).collect::<Result<Vec<_>>>()?;
        if members.is_empty() {
            return Err(node.fail("must name at least one modality"));
        }
        groups.push(members);
    }
    let (mut all, mut wanted) = (groups.concat(), block.to_vec());
    all.sort_unstable();
    wanted.sort_unstable();
    if all != wanted {
        return Err(list.fail("must hold every modality of media.block exactly once"));
    }
    Ok(groups)
}

fn read_grids(node: &Node<'_>) -> Result<BTreeMap<String, Grid>> {
    let mut grids = BTreeMap::new();
    for (ratio, node) in node.entries()? {
        let part = |s: &str| s.parse::<u32>().is_ok_and(|v| (1..=100).contains(&v));
        if !ratio.split_once(':').is_some_and(|(w, h)| part(w) && part(h)) {
            return Err(node.fail("the name must be a ratio such as \"16:9\""));
        }
        let sides = node.list(2)?;
        let [height, width] = sides.as_slice() else {
            return Err(node.fail("must be [rows, columns]"));
        };
        grids.insert(ratio.to_string(), Grid { height: height.size(1, 1024)?, width: width.size(1, 1024)? });
    }
    if grids.is_empty() {
        return Err(node.fail("must have at least one aspect ratio"));
    }
    Ok(grids)
}
