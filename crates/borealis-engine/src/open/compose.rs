//! Prompts of open checkpoints: pieces of a recipe to rows.

use borealis_kernels::Span;
use borealis_model::Row;
use borealis_tokenizers::vq::{FeatureMap, PictureIds};

use super::recipe::{Block, Piece, RowEnd};
use crate::engine::Core;
use crate::error::{EngineError, Result};
use crate::layout::Layout;
use crate::prompt::{PromptRows, text_row};

/// One position of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// An id.
    Id(u32),
    /// Of the given picture so many, row so many as the vision tower sees it.
    Seen(usize, usize),
}

/// A given picture, as the family reads it.
#[derive(Debug)]
pub(super) enum Given {
    /// As ids.
    Ids(PictureIds),
    /// As rows of numbers.
    Rows(FeatureMap),
}

/// Everything that the pieces of a prompt can stand for.
pub(super) struct Composer<'a> {
    pub core: &'a Core,
    pub block: Option<Block>,
    /// Rows and columns of the picture that is drawn.
    pub size: (usize, usize),
    /// Pixels of a place, along each side.
    pub factor: usize,
    pub given: &'a [Given],
}

impl Composer<'_> {
    /// The items of `pieces`, the user's words being `words`.
    pub fn items(&self, pieces: &[Piece], words: &str) -> Result<Vec<Item>> {
        let mut out = Vec::new();
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(fixed) => text.push_str(fixed),
                Piece::Words => text.push_str(words),
                Piece::Size => text.push_str(&format!("{}*{}", self.size.0, self.size.1)),
                Piece::Pixels => text.push_str(&format!("{}x{}", self.size.1 * self.factor, self.size.0 * self.factor)),
                Piece::Rows(none) => self.count(*none, self.size.0, &mut text, &mut out)?,
                Piece::Columns(none) => self.count(*none, self.size.1, &mut text, &mut out)?,
                Piece::Whole => {
                    let ids = self.core.tokenizers.text()?.encode_whole(words)?;
                    out.extend(ids.into_iter().map(Item::Id));
                }
                Piece::Id(..) => {
                    self.flush(&mut text, &mut out)?;
                    out.push(Item::Id(self.id(*piece)?));
                }
                Piece::Picture => {
                    self.flush(&mut text, &mut out)?;
                    self.pictures(&mut out)?;
                }
            }
        }
        self.flush(&mut text, &mut out)?;
        Ok(out)
    }

    /// The id of a [`Piece::Id`].
    pub fn id(&self, piece: Piece) -> Result<u32> {
        let Piece::Id(control, token) = piece else { return Err(self.absent("control id")) };
        let manifest = &self.core.manifest;
        let named = || self.core.tokenizers.text().ok().and_then(|text| text.token(token));
        manifest.control(control).or_else(named).ok_or_else(|| self.absent(&format!("token {token}")))
    }

    fn absent(&self, what: &str) -> EngineError {
        EngineError::Unsupported {
            model: self.core.info.model.clone(),
            what: format!("has no {what}, which the prompts of its family need"),
            remedy: "use a checkpoint with its tokenizer.json".into(),
        }
    }

    /// The token that stands for a number of rows or columns.
    fn count(&self, none: usize, side: usize, text: &mut String, out: &mut Vec<Item>) -> Result<()> {
        self.flush(text, out)?;
        let units = side / self.block.map_or(1, |b| b.unit);
        let token = format!("<reserved{:05}>", none + units);
        let id = self.core.tokenizers.text()?.token(&token);
        out.push(Item::Id(id.ok_or_else(|| self.absent(&format!("token {token}")))?));
        Ok(())
    }

    /// Words to ids; words that stand side by side are cut together.
    fn flush(&self, text: &mut String, out: &mut Vec<Item>) -> Result<()> {
        if !text.is_empty() {
            let ids = self.core.tokenizers.text()?.encode(text)?;
            out.extend(ids.into_iter().map(Item::Id));
            text.clear();
        }
        Ok(())
    }

    /// The given pictures' blocks.
    fn pictures(&self, out: &mut Vec<Item>) -> Result<()> {
        self.given.iter().enumerate().try_for_each(|(number, given)| self.picture(number, given, out))
    }

    fn picture(&self, number: usize, given: &Given, out: &mut Vec<Item>) -> Result<()> {
        let Some(block) = &self.block else { return Ok(()) };
        let size = match given {
            Given::Ids(picture) => (picture.rows, picture.columns),
            Given::Rows(_) => self.size,
        };
        let inner = Composer { size, given: &[], ..*self };
        out.extend(inner.items(block.before, "")?);
        match given {
            Given::Rows(rows) => out.extend((0..rows.places()).map(|row| Item::Seen(number, row))),
            Given::Ids(picture) => {
                let end =
                    block.row_end.map(|(piece, place)| Ok::<_, EngineError>((self.id(piece)?, place))).transpose()?;
                for (y, row) in picture.ids.chunks(picture.columns.max(1)).enumerate() {
                    out.extend(row.iter().copied().map(Item::Id));
                    match end {
                        Some((id, place)) if place == RowEnd::All || y + 1 < picture.rows => out.push(Item::Id(id)),
                        _ => {}
                    }
                }
            }
        }
        out.extend(inner.items(block.after, "")?);
        Ok(())
    }

    /// The rows of a prompt; positions count from 0.
    pub fn rows(&self, layout: &Layout, items: &[Item]) -> PromptRows {
        let mut out = PromptRows { next: items.len() as f32, ..PromptRows::default() };
        for (at, item) in items.iter().enumerate() {
            let sees = Span { prefix: (0, at as u32 + 1), recent: (0, 0) };
            let given = if let Item::Seen(number, _) = item { self.given.get(*number) } else { None };
            let row = match (item, given) {
                (Item::Seen(_, k), Some(Given::Rows(rows))) => {
                    let features = Some(out.features.len());
                    out.features.extend_from_slice(&rows.data[k * rows.channels..(k + 1) * rows.channels]);
                    let position = [at as f32; 3];
                    Row {
                        modality: layout.text,
                        kind: None,
                        codes: None,
                        condition: None,
                        scene: None,
                        features,
                        position,
                        slot: at as u32,
                        sees,
                    }
                }
                (Item::Id(id), _) => text_row(layout, *id, at as f32, at as u32, sees, &mut out.codes),
                // Rows of a picture are composed only when there are some.
                (Item::Seen(..), _) => continue,
            };
            out.rows.push(row);
            out.cuts.push(at + 1);
        }
        out
    }
}
