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
        self.slots * self.points.len() * (4 * self.frequencies.len() + self.decays.len())
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
        }))
    }
}

/// Keys of `row_features`.
const KEYS: [&str; 9] = [
    "size",
    "type",
    "absolute",
    "seconds",
    "relative",
    "near",
    "position_bins_per_unit",
    "position_origin",
    "cells_per_unit",
];
/// The layouts that exist.
const TYPES: [(&str, ()); 1] = [("relative_fourier", ())];

fn numbers(node: &Node<'_>, key: &str) -> Result<Vec<f32>> {
    let Some(list) = node.opt(key)? else { return Ok(Vec::new()) };
    list.list(256)?.iter().map(|n| n.number(0.0, 1e6).map(|v| v as f32)).collect()
}
