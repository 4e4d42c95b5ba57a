//! Pictures of an open checkpoint <-> ids of its vocabulary.

use borealis_media::{Frame, PixelFormat};
use borealis_weights::{Checkpoint, Node, parse_json};

use crate::vq::config::VqFamily;
use crate::vq::map::FeatureMap;
use crate::vq::picture::PictureRule;
use crate::vq::tokenizer::{CodeGrid, VqTokenizer};
use crate::vq::tower::VisionTower;
use crate::{Result, TokenId, TokenizerError};

/// Folders of a checkpoint's tensors (`weights.md`, "Open checkpoints").
const TOKENIZER: &str = "image_tokenizer";
const DECODER: &str = "image_decoder";
const TOWER: &str = "vision_tower";

/// The ids of a picture, raster order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureIds {
    /// Places, top to bottom.
    pub rows: usize,
    /// Places, left to right.
    pub columns: usize,
    /// `rows * columns` ids of the vocabulary.
    pub ids: Vec<TokenId>,
}

/// The picture tokenizer of a checkpoint, and its vision tower if it looks at pictures with one. Weights only; share it.
#[derive(Debug)]
pub struct Pictures {
    vq: VqTokenizer,
    /// A decoder of its own, where the checkpoint has an encoder only.
    decoder: Option<VqTokenizer>,
    rule: PictureRule,
    tower: Option<VisionTower>,
    /// First id of pictures.
    start: TokenId,
    /// Places along each side, for families that know one size.
    side: Option<usize>,
}

impl Pictures {
    /// What the checkpoint has; `None` when it has no picture tokenizer.
    ///
    /// # Errors
    /// When a configuration is wrong or not supported, or tensors do not fit it, or the vocabulary has fewer picture ids than the tokenizer codes.
    pub fn open(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        let manifest = checkpoint.manifest();
        let Some(segment) = manifest.segment("image").filter(|_| checkpoint.has(TOKENIZER)) else { return Ok(None) };
        let load = |folder: &str| -> Result<VqTokenizer> {
            let file = format!("{folder}/config.json");
            let json = parse_json(&file, checkpoint.file(&file)?)?;
            VqTokenizer::load(&Node::root(&file, &json), manifest.family.as_deref(), checkpoint.tensors(folder)?)
        };
        let vq = load(TOKENIZER)?;
        let decoder = checkpoint.has(DECODER).then(|| load(DECODER)).transpose()?;
        for codes in [Some(&vq), decoder.as_ref()].into_iter().flatten().map(|t| t.config().codes) {
            if codes != segment.size as usize {
                let what =
                    format!("has {codes} codes, the vocabulary {} ids of pictures: they must be equal", segment.size);
                return Err(TokenizerError::config(&format!("{TOKENIZER}/config.json"), "the codebook", what));
            }
        }
        let tower = checkpoint
            .has(TOWER)
            .then(|| {
                let file = format!("{TOWER}/config.json");
                let json = parse_json(&file, checkpoint.file(&file)?)?;
                VisionTower::load(&Node::root(&file, &json), checkpoint.tensors(TOWER)?)
            })
            .transpose()?;
        let (config, factor) = (vq.config(), vq.config().spatial_factor());
        let side = match config.family {
            VqFamily::Emu3 | VqFamily::Ibq | VqFamily::Taming => None,
            // Chameleon's tokenizer, with pictures of any size.
            VqFamily::Chameleon if manifest.family.as_deref() == Some("lumina-mgpt") => None,
            VqFamily::Chameleon | VqFamily::Janus => config.side.map(|pixels| pixels / factor),
        };
        let rule = PictureRule::new(config.family, factor, checkpoint.file("preprocessor_config.json").ok())?;
        let rule = side.map_or(rule.clone(), |side| rule.with_side(side * factor));
        Ok(Some(Self { decoder, rule, tower, start: segment.start, side, vq }))
    }

    /// Pixels of a place, along each side.
    pub fn factor(&self) -> usize {
        self.vq.config().spatial_factor()
    }

    /// Places along each side of every picture, for families that know one size.
    pub fn side(&self) -> Option<usize> {
        self.side
    }

    /// Whether it makes pictures.
    pub fn can_decode(&self) -> bool {
        self.painter().can_decode()
    }

    /// The tower that looks at pictures instead of reading their ids.
    pub fn tower(&self) -> Option<&VisionTower> {
        self.tower.as_ref()
    }

    fn painter(&self) -> &VqTokenizer {
        self.decoder.as_ref().unwrap_or(&self.vq)
    }

    /// The ids of a picture, resized as the family does it.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] without an encoder; [`TokenizerError::Size`] for a picture of an impossible size.
    pub fn encode(&self, picture: &Frame) -> Result<PictureIds> {
        let grid = self.vq.encode(&self.rule.pixels(picture)?)?;
        let ids = grid.codes.iter().map(|code| self.start + code).collect();
        Ok(PictureIds { rows: grid.rows, columns: grid.columns, ids })
    }

    /// The picture of some ids, in RGB and in its own size.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] without a decoder; [`TokenizerError::Length`] and [`TokenizerError::Code`] for ids that are not those of such a picture.
    pub fn decode(&self, picture: &PictureIds) -> Result<Frame> {
        let codes = self.vq.config().codes;
        let code = |id: &TokenId| {
            let code = id.checked_sub(self.start).filter(|c| (*c as usize) < codes);
            code.ok_or_else(|| TokenizerError::code("picture", (*id).into(), self.start as usize + codes))
        };
        let codes = picture.ids.iter().map(code).collect::<Result<_>>()?;
        let grid = CodeGrid { frames: 1, rows: picture.rows, columns: picture.columns, codes };
        let pixels = self.painter().decode(&grid)?;
        if pixels.channels != 3 {
            return Err(TokenizerError::length("colours of a picture", pixels.channels, 3));
        }
        let (width, height) = (pixels.width as u32, pixels.height as u32);
        Ok(Frame::new(width, height, PixelFormat::Rgb8, self.rule.bytes(&pixels.data))?)
    }

    /// The rows that the vision tower makes of a picture.
    ///
    /// # Errors
    /// [`TokenizerError::Absent`] without a tower.
    pub fn look(&self, picture: &Frame) -> Result<FeatureMap> {
        let tower = self.tower.as_ref();
        let tower =
            tower.ok_or_else(|| TokenizerError::absent("vision tower", "use a checkpoint that looks at pictures"))?;
        tower.apply(&self.rule.clone().with_side(tower.side()).pixels(picture)?)
    }
}
