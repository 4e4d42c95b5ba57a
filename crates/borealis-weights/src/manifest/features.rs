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
        let Some(node) = root.opt("row_features")? else { return Ok(None) };
        node.only(&["size", "x", "y", "seconds", "near"])?;
        let features = Self {
            x: numbers(&node, "x")?,
            y: numbers(&node, "y")?,
            seconds: numbers(&node, "seconds")?,
            near: node.opt("near")?.map(|n| Near::read(&n, modalities)).transpose()?,
        };
        if let Some(size) = node.opt("size")?
            && size.size(0, 1 << 16)? != features.len()
        {
            return Err(size.fail(format!("the lists make {} numbers: both must agree", features.len())));
        }
        Ok(if features.is_empty() { None } else { Some(features) })
    }
}

impl Near {
    fn len(&self) -> usize {
        self.slots * self.points.len() * (4 * self.frequencies.len() + self.decays.len())
    }

    fn read(node: &Node<'_>, modalities: &[ModalitySpec]) -> Result<Self> {
        node.only(&["modality", "points", "scale", "shift", "frequencies", "decays"])?;
        let name = node.get("modality")?;
        let wanted = name.string()?;
        let Some(modality) = modalities.iter().position(|m| m.name == wanted) else {
            return Err(name.fail("must be a modality"));
        };
        let ModalitySpec { slots, codes, .. } = &modalities[modality];
        let mut points = Vec::new();
        for point in node.get("points")?.list(16)? {
            let pair = point.list(2)?;
            let [x, y] = pair.as_slice() else { return Err(point.fail("must be [code of x, code of y]")) };
            let last = codes.len() as u32 - 1;
            points.push([x.size(0, last)?, y.size(0, last)?]);
        }
        Ok(Self {
            modality,
            slots: *slots,
            points,
            scale: node.get("scale")?.number(1e-6, 1e6)? as f32,
            shift: node.get("shift")?.number(-1e6, 1e6)? as f32,
            frequencies: numbers(node, "frequencies")?,
            decays: numbers(node, "decays")?,
        })
    }
}

fn numbers(node: &Node<'_>, key: &str) -> Result<Vec<f32>> {
    let Some(list) = node.opt(key)? else { return Ok(Vec::new()) };
    list.list(256)?.iter().map(|n| n.number(0.0, 1e6).map(|v| v as f32)).collect()
}
