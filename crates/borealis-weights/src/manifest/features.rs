//! The numbers that media rows carry (`weights.md`, section 4).

use super::ModalitySpec;
use crate::Result;
use crate::json::Node;

/// Layout of a media row's features: sines and cosines of where and when it is, then of how far it is from the objects of a condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Frequencies of the horizontal place.
    pub x: Vec<f32>,
    /// Frequencies of the vertical place.
    pub y: Vec<f32>,
    /// Frequencies of the time in seconds.
    pub seconds: Vec<f32>,
    /// Cells of a unit (the canvas's short side): the centre of the video position (r, c) lies at ((2c + 1), (2r + 1)) / this for positions of 2 x 2 cells.
    pub cells_per_unit: u32,
    /// Distances to the objects of another modality's row.
    pub near: Option<Near>,
}

/// Features of the distance to objects, for each slot of `modality` and each of its points.
#[derive(Debug, Clone, PartialEq)]
pub struct Near {
    /// Index of the modality whose codes say where the objects are.
    pub modality: usize,
    /// Its slots.
    pub slots: usize,
    /// Pairs of codes (x, y) of a slot that are a point.
    pub points: Vec<[usize; 2]>,
    /// Levels per unit: coordinate = level / scale + shift; the last level of a code means that there is no object.
    pub scale: f32,
    /// See `scale`.
    pub shift: f32,
    /// Frequencies of dx and dy.
    pub frequencies: Vec<f32>,
    /// d of `exp(-d (dx^2 + dy^2))`.
    pub decays: Vec<f32>,
    /// The same offsets as the object sees them.
    pub object: Option<ObjectFrame>,
}

/// Offsets of every cell of a position in an object's own frame: in radii, and turned with the object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectFrame {
    /// Cells along a side of a position.
    pub side: usize,
    /// Frequencies of x, y and the distance, per radius.
    pub frequencies: Vec<f32>,
    /// Multiples of the direction from the object's centre.
    pub harmonics: usize,
    /// Radii that a longer offset is shortened to.
    pub limit: f32,
    /// Code of a slot that is the radius, in units: `first + step * level`; the last level of the code means none.
    pub radius: usize,
    /// See `radius`.
    pub radius_first: f32,
    /// See `radius`.
    pub radius_step: f32,
    /// Code of a slot that is the angle; the last level of the code means none.
    pub angle: usize,
    /// Levels of the angle in a full turn.
    pub angle_steps: f32,
}

impl Features {
    /// F: numbers of a row.
    pub fn len(&self) -> usize {
        2 * (self.x.len() + self.y.len() + self.seconds.len()) + self.near.as_ref().map_or(0, Near::len)
    }

    /// Whether rows carry nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn read(root: &Node<'_>, modalities: &[ModalitySpec]) -> Result<Option<Self>> {
        let Some(node) = root.opt("row_features")?.filter(|n| n.entries().map_or(true, |e| !e.is_empty())) else {
            return Ok(None);
        };
        node.only(&KEYS)?;
        node.get("type")?.choice(&TYPES)?;
        let absolute = numbers(&node, "absolute")?;
        let features = Self {
            x: absolute.clone(),
            y: absolute,
            seconds: numbers(&node, "seconds")?,
            cells_per_unit: node.opt("cells_per_unit")?.map_or(Ok(9), |n| n.u32(1, 1 << 16))?,
            near: Near::read(&node, modalities)?,
        };
        let size = node.get("size")?;
        if size.size(0, 1 << 16)? != features.len() {
            return Err(size.fail(format!("the lists make {} numbers: both must agree", features.len())));
        }
        Ok(if features.is_empty() { None } else { Some(features) })
    }
}

impl Near {
    fn len(&self) -> usize {
        let object = self.object.as_ref().map_or(0, ObjectFrame::size);
        self.slots * self.points.len() * (4 * self.frequencies.len() + self.decays.len() + object)
    }

    /// Objects are those of modality `state`: codes 0, 1 and 2, 3 of each slot are the places at the start and at the end of the latent frame.
    fn read(node: &Node<'_>, modalities: &[ModalitySpec]) -> Result<Option<Self>> {
        let (frequencies, decays) = (numbers(node, "relative")?, numbers(node, "near")?);
        if frequencies.is_empty() && decays.is_empty() {
            return Ok(None);
        }
        let state = modalities.iter().position(|m| m.name == "state" && m.codes.len() >= 4);
        let Some(modality) = state else {
            return Err(node
                .get("relative")?
                .fail("needs a modality \"state\" whose first four codes are x0, y0, x1, y1"));
        };
        Ok(Some(Self {
            modality,
            slots: modalities[modality].slots,
            points: vec![[0, 1], [2, 3]],
            scale: node.get("position_bins_per_unit")?.number(1e-6, 1e6)? as f32,
            shift: -node.get("position_origin")?.number(-1e6, 1e6)? as f32,
            frequencies,
            decays,
            object: node.opt("object")?.map(|n| ObjectFrame::read(&n, modalities, modality)).transpose()?,
        }))
    }
}

impl ObjectFrame {
    /// Numbers of one object and one of its points.
    pub fn size(&self) -> usize {
        self.side * self.side * (6 * self.frequencies.len() + 2 * self.harmonics)
    }

    /// Radius and angle are the fifth and the sixth code of the modality `state`.
    fn read(node: &Node<'_>, modalities: &[ModalitySpec], state: usize) -> Result<Self> {
        node.only(&OBJECT_KEYS)?;
        if modalities[state].codes.len() < 6 {
            return Err(node.fail("needs a modality \"state\" whose fifth and sixth codes are radius and angle"));
        }
        Ok(Self {
            side: modalities.iter().find(|m| m.name == "video").map_or(1, |m| m.slots.isqrt()),
            frequencies: numbers(node, "frequencies")?,
            harmonics: node.get("harmonics")?.size(0, 64)?,
            limit: node.get("limit")?.number(1e-3, 1e6)? as f32,
            radius: 4,
            radius_first: node.get("radius_first")?.number(1e-6, 1e6)? as f32,
            radius_step: node.get("radius_step")?.number(0.0, 1e6)? as f32,
            angle: 5,
            angle_steps: node.get("angle_steps")?.number(1.0, 1e6)? as f32,
        })
    }
}

/// Keys of `row_features`.
const KEYS: [&str; 10] = [
    "size",
    "type",
    "absolute",
    "seconds",
    "relative",
    "near",
    "object",
    "position_bins_per_unit",
    "position_origin",
    "cells_per_unit",
];
/// Keys of `row_features.object`.
const OBJECT_KEYS: [&str; 6] = ["frequencies", "harmonics", "limit", "radius_first", "radius_step", "angle_steps"];
/// The layouts that exist.
const TYPES: [(&str, ()); 1] = [("relative_fourier", ())];

fn numbers(node: &Node<'_>, key: &str) -> Result<Vec<f32>> {
    let Some(list) = node.opt(key)? else { return Ok(Vec::new()) };
    list.list(256)?.iter().map(|n| n.number(0.0, 1e6).map(|v| v as f32)).collect()
}
