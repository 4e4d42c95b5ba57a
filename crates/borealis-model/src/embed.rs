//! Input embedding: from a batch's codes, kinds and features to the residual stream.

use borealis_kernels::Backend;

use crate::batch::{Batch, Row};
use crate::error::Result;
use crate::model::Model;
use crate::scratch::Scratch;

/// An id that adds nothing.
const NONE: u32 = u32::MAX;

impl<B: Backend> Model<B> {
    /// Writes the embedded input of `batch.rows[rows]` to `s.hidden`.
    pub(crate) fn embed(&self, batch: &Batch, rows: std::ops::Range<usize>, s: &mut Scratch<B>) -> Result<()> {
        let piece = &batch.rows[rows];
        let first = piece[0].modality;
        if piece.iter().all(|r| r.modality == first) {
            s.host.ids.clear();
            piece.iter().for_each(|r| self.push_ids(batch, first, r.codes, &mut s.host.ids));
            self.project(first, piece.len(), s, true)?;
        } else {
            self.clear(piece.len(), s)?;
            for m in 0..self.config.modalities.len() {
                self.embed_some(batch, piece, m, s, |r| r.codes.filter(|_| r.modality == m))?;
            }
        }
        for m in 0..self.config.modalities.len() {
            let condition = |r: &Row| r.condition.filter(|_| self.config.condition(r.modality) == Some(m));
            self.embed_some(batch, piece, m, s, condition)?;
        }
        self.add_scene(batch, piece, s)?;
        self.add_kinds(piece, s)?;
        self.add_features(batch, piece, s)
    }

    fn clear(&self, rows: usize, s: &mut Scratch<B>) -> Result<()> {
        let len = rows * self.config.hidden_size;
        s.host.features.clear();
        s.host.features.resize(len, 0.0);
        Ok(self.backend.write(&mut s.hidden, 0, &s.host.features)?)
    }

    /// Adds embeddings of modality `m` to those rows for which `codes` says where they start.
    fn embed_some(
        &self,
        batch: &Batch,
        piece: &[Row],
        m: usize,
        s: &mut Scratch<B>,
        codes: impl Fn(&Row) -> Option<usize>,
    ) -> Result<()> {
        let groups = self.collect_ids(piece, s, codes, |start, ids| self.push_ids(batch, m, start, ids));
        if groups > 0 {
            self.project(m, groups, s, false)?;
            self.add_projected(piece.len(), s)?;
        }
        Ok(())
    }

    /// Adds the sum of its scene plan's rows to every row that has one.
    fn add_scene(&self, batch: &Batch, piece: &[Row], s: &mut Scratch<B>) -> Result<()> {
        let (Some(table), Some(scene)) = (&self.scene_rows, self.config.scene) else { return Ok(()) };
        let push = |start: Option<usize>, ids: &mut Vec<u32>| match start {
            Some(at) => ids.extend(batch.codes[at..at + scene.fields].iter().map(|id| id - scene.start)),
            None => ids.extend(std::iter::repeat_n(NONE, scene.fields)),
        };
        if self.collect_ids(piece, s, |r| r.scene, push) > 0 {
            self.backend.embed(table, &s.host.ids, scene.fields, &mut s.projected)?;
            self.add_projected(piece.len(), s)?;
        }
        Ok(())
    }

    /// Lists in `s.host.ids` what the rows that `start` names begin with, and in `s.host.index` which entry each row takes.
    /// Consecutive rows with the same start (a shared condition) make one entry; a last, empty one serves the rows without. Returns the number of entries, 0 if no row has one.
    fn collect_ids(
        &self,
        piece: &[Row],
        s: &mut Scratch<B>,
        start: impl Fn(&Row) -> Option<usize>,
        push: impl Fn(Option<usize>, &mut Vec<u32>),
    ) -> usize {
        s.host.ids.clear();
        s.host.index.clear();
        let mut last: Option<usize> = None;
        let mut groups = 0;
        for row in piece {
            let at = start(row);
            if at.is_some() && at != last {
                push(at, &mut s.host.ids);
                last = at;
                groups += 1;
            }
            s.host.index.push(if at.is_some() { groups - 1 } else { NONE });
        }
        if groups == 0 {
            return 0;
        }
        push(None, &mut s.host.ids);
        s.host.index.iter_mut().filter(|i| **i == NONE).for_each(|i| *i = groups);
        groups as usize + 1
    }

    /// Adds to each row of the residual stream the entry of `s.projected` that `s.host.index` names.
    fn add_projected(&self, rows: usize, s: &mut Scratch<B>) -> Result<()> {
        let width = self.config.hidden_size;
        self.backend.gather(&s.projected, &s.host.index, width, &mut s.gathered)?;
        Ok(self.backend.add(&mut s.hidden, &s.gathered, rows * width)?)
    }

    fn push_ids(&self, batch: &Batch, m: usize, start: Option<usize>, ids: &mut Vec<u32>) {
        let n = self.config.row_codes(m);
        // Ids with a table of their own are counted from its first row.
        let first = self.modalities[m].tables.as_ref().map_or(0, |t| t.start);
        match start {
            Some(at) => ids.extend(batch.codes[at..at + n].iter().map(|id| id - first)),
            None => ids.extend(std::iter::repeat_n(NONE, n)),
        }
    }

    /// Embeds `s.host.ids` (`rows` rows of modality `m`) into `s.hidden` or `s.projected`.
    fn project(&self, m: usize, rows: usize, s: &mut Scratch<B>, direct: bool) -> Result<()> {
        let codes = self.config.modalities[m].codes.len();
        let out = if direct { &mut s.hidden } else { &mut s.projected };
        match &self.modalities[m].in_proj {
            Some(in_proj) => {
                self.backend.embed(&self.embed_tokens, &s.host.ids, codes, &mut s.embedded)?;
                self.backend.matmul(&s.embedded, rows, in_proj, None, false, out)?;
            }
            None => {
                let table = self.modalities[m].tables.as_ref().map_or(&self.embed_tokens, |t| &t.embedding);
                self.backend.embed(table, &s.host.ids, codes, out)?;
            }
        }
        Ok(())
    }

    fn add_kinds(&self, piece: &[Row], s: &mut Scratch<B>) -> Result<()> {
        if let Some(table) = &self.row_kinds {
            s.host.ids.clear();
            s.host.ids.extend(piece.iter().map(|r| r.kind.unwrap_or(NONE)));
            self.backend.add_embed(table, &s.host.ids, &mut s.hidden)?;
        }
        Ok(())
    }

    fn add_features(&self, batch: &Batch, piece: &[Row], s: &mut Scratch<B>) -> Result<()> {
        let f = self.config.row_features;
        if f > 0 && piece.iter().any(|r| r.features.is_some()) {
            s.host.features.clear();
            for row in piece {
                match row.features {
                    Some(at) => s.host.features.extend_from_slice(&batch.features[at..at + f]),
                    None => s.host.features.extend(std::iter::repeat_n(0.0, f)),
                }
            }
            self.backend.write(&mut s.features, 0, &s.host.features)?;
            match &self.in_features {
                Some(in_features) => {
                    self.backend.matmul(&s.features, piece.len(), in_features, None, true, &mut s.hidden)?;
                }
                None => self.backend.add(&mut s.hidden, &s.features, piece.len() * f)?,
            }
        }
        Ok(())
    }
}
