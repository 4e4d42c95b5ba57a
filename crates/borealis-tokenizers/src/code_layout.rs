//! How the codes of a latent frame lie in the positions of the transformer.

use crate::{Result, TokenId, TokenizerError};

/// Ids of one modality's positions <-> codes of the tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeLayout {
    /// For messages.
    name: String,
    /// Groups of codes in a position.
    slots: usize,
    /// First id and number of ids of each code of a slot.
    ranges: Vec<(TokenId, usize)>,
}

impl CodeLayout {
    /// `slots` groups of codes whose ids are `ranges` (first id, number of ids).
    ///
    /// # Errors
    /// [`TokenizerError::Config`] when there is no slot or no code, or a range is empty or larger than 65,536.
    pub fn new(name: &str, slots: usize, ranges: Vec<(TokenId, usize)>) -> Result<Self> {
        let bad = |what: &str| Err(TokenizerError::config("config.json", &format!("modalities.{name}"), what));
        if slots == 0 || ranges.is_empty() {
            return bad("must have a slot and a code");
        }
        if ranges.iter().any(|r| r.1 == 0 || r.1 > 1 << 16) {
            return bad("has a code whose range is empty or larger than 65536 ids");
        }
        Ok(Self { name: name.to_string(), slots, ranges })
    }

    /// Ids of a position.
    pub fn ids_per_position(&self) -> usize {
        self.slots * self.ranges.len()
    }

    /// Cells of a position along each side; the slots of pictures are a square of cells.
    pub fn side(&self) -> usize {
        self.slots.isqrt()
    }

    fn check_square(&self) -> Result<()> {
        if self.side() * self.side() == self.slots {
            return Ok(());
        }
        let what = format!("is {}: pictures need a square number of slots", self.slots);
        Err(TokenizerError::config("config.json", &format!("modalities.{}.slots", self.name), what))
    }

    /// Positions (rows, columns) of a grid of cells.
    pub fn positions(&self, rows: usize, columns: usize) -> (usize, usize) {
        (rows.div_ceil(self.side()), columns.div_ceil(self.side()))
    }

    /// Ids in their order -> codes in the same order.
    ///
    /// # Errors
    /// [`TokenizerError::Length`] when a slot is incomplete, [`TokenizerError::Code`] when an id is not in its code's range.
    pub fn codes(&self, ids: &[TokenId]) -> Result<Vec<u16>> {
        if !ids.len().is_multiple_of(self.ranges.len()) {
            return Err(TokenizerError::length(&self.name, ids.len(), ids.len().next_multiple_of(self.ranges.len())));
        }
        ids.iter().zip(self.ranges.iter().cycle()).map(|(&id, &range)| self.code(id, range)).collect()
    }

    fn code(&self, id: TokenId, (start, size): (TokenId, usize)) -> Result<u16> {
        match id.checked_sub(start) {
            Some(code) if (code as usize) < size => Ok(code as u16),
            _ => Err(TokenizerError::code(&self.name, id.into(), start as usize + size)),
        }
    }

    /// Codes in their order -> ids in the same order.
    ///
    /// # Errors
    /// As [`CodeLayout::codes`].
    pub fn ids(&self, codes: &[u16]) -> Result<Vec<TokenId>> {
        let id = |(&code, &(start, size)): (&u16, &(TokenId, usize))| {
            let fits = usize::from(code) < size;
            fits.then(|| start + TokenId::from(code)).ok_or_else(|| TokenizerError::code(&self.name, code.into(), size))
        };
        codes.iter().zip(self.ranges.iter().cycle()).map(id).collect()
    }

    /// Ids of a latent frame, position by position -> codes `[rows, columns, codes]`, cell by cell. Cells beyond the grid are left out.
    ///
    /// # Errors
    /// As [`CodeLayout::codes`], and when positions are missing.
    pub fn cells(&self, ids: &[TokenId], rows: usize, columns: usize) -> Result<Vec<u16>> {
        self.check_square()?;
        let (ph, pw) = self.positions(rows, columns);
        if ids.len() != ph * pw * self.ids_per_position() {
            return Err(TokenizerError::length(&self.name, ids.len(), ph * pw * self.ids_per_position()));
        }
        let n = self.ranges.len();
        let mut codes = Vec::with_capacity(rows * columns * n);
        for cell in 0..rows * columns {
            let at = self.slot_of(cell / columns, cell % columns, pw) * n;
            for (&id, &range) in ids[at..at + n].iter().zip(&self.ranges) {
                codes.push(self.code(id, range)?);
            }
        }
        Ok(codes)
    }

    /// Codes `[rows, columns, codes]` of a latent frame -> ids, position by position. Cells beyond the grid repeat its last row and column.
    ///
    /// # Errors
    /// As [`CodeLayout::codes`], and when cells are missing.
    pub fn cell_ids(&self, codes: &[u16], rows: usize, columns: usize) -> Result<Vec<TokenId>> {
        self.check_square()?;
        let n = self.ranges.len();
        if rows == 0 || columns == 0 || codes.len() != rows * columns * n {
            return Err(TokenizerError::length(&self.name, codes.len(), rows * columns * n));
        }
        let ((ph, pw), side) = (self.positions(rows, columns), self.side());
        let mut ids = Vec::with_capacity(ph * pw * self.ids_per_position());
        for position in 0..ph * pw {
            for slot in 0..side * side {
                let row = (position / pw * side + slot / side).min(rows - 1);
                let column = (position % pw * side + slot % side).min(columns - 1);
                ids.extend(self.ids(&codes[(row * columns + column) * n..][..n])?);
            }
        }
        Ok(ids)
    }

    /// Index of the slot, over all positions, that holds a cell.
    fn slot_of(&self, row: usize, column: usize, pw: usize) -> usize {
        let side = self.side();
        (row / side * pw + column / side) * self.slots + row % side * side + column % side
    }
}
