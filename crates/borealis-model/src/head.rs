//! From the residual stream of queried rows to logits: norm, slot vectors, the head sliced to what is allowed, copy gates.

use std::ops::Range;

use borealis_kernels::Backend;
use borealis_weights::Predict;

use crate::batch::{Batch, Logits, Query};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::model::Model;
use crate::scratch::Scratch;

/// Ids that a code is decided among, `[start, end)`.
pub(crate) type IdRange = (u32, u32);

/// Ranges of a query, code by code: its modality's codes, cut to the allowed ids where there is one code, only code 0 for `depth`.
pub(crate) fn ranges<'a>(config: &'a ModelConfig, query: &'a Query) -> impl Iterator<Item = IdRange> + Clone + 'a {
    let spec = &config.modalities[query.modality];
    let codes = match spec.predict {
        Predict::Depth => 1,
        _ => spec.codes.len(),
    };
    spec.codes[..codes].iter().map(|c| query.allowed.unwrap_or((c.start, c.start + c.size)))
}

/// Logits of one slot of a query.
pub(crate) fn slot_width(config: &ModelConfig, query: &Query) -> usize {
    ranges(config, query).map(|(start, end)| (end - start) as usize).sum()
}

/// Where each query's logits start.
pub(crate) fn layout(config: &ModelConfig, batch: &Batch, out: &mut Logits) {
    out.offsets.clear();
    out.offsets.push(0);
    let mut at = 0;
    for q in &batch.queries {
        at += config.modalities[q.modality].slots * slot_width(config, q);
        out.offsets.push(at);
    }
    out.values.resize(at, 0.0);
}

impl<B: Backend> Model<B> {
    /// Writes the logits of those queries whose row is in `rows`, the piece that lies in `s.hidden`.
    pub(crate) fn head(&self, batch: &Batch, rows: Range<usize>, s: &mut Scratch<B>, out: &mut Logits) -> Result<()> {
        let key = |q: &usize| (batch.queries[*q].modality, batch.queries[*q].allowed, *q);
        let mut order = std::mem::take(&mut s.host.queries);
        order.clear();
        order.extend((0..batch.queries.len()).filter(|q| rows.contains(&batch.queries[*q].row)));
        order.sort_unstable_by_key(key);
        let same = |a: &usize, b: &usize| (key(a).0, key(a).1) == (key(b).0, key(b).1);
        let mut result = Ok(());
        for group in order.chunk_by(same) {
            let query = &batch.queries[group[0]];
            let wide = self.config.modalities[query.modality].slots * slot_width(&self.config, query).max(1);
            for chunk in group.chunks((s.logits_len / wide).clamp(1, s.max_rows)) {
                result = result.and_then(|()| self.head_chunk(batch, rows.start, chunk, s, out));
            }
        }
        s.host.queries = order;
        result
    }

    /// Queries of one modality and one allowed range, few enough for the buffers.
    fn head_chunk(
        &self,
        batch: &Batch,
        first_row: usize,
        chunk: &[usize],
        s: &mut Scratch<B>,
        out: &mut Logits,
    ) -> Result<()> {
        let (b, c) = (&self.backend, &self.config);
        let m = batch.queries[chunk[0]].modality;
        let n = chunk.len();
        s.host.index.clear();
        s.host.index.extend(chunk.iter().map(|q| (batch.queries[*q].row - first_row) as u32));
        b.gather(&s.hidden, &s.host.index, c.hidden_size, &mut s.gathered)?;
        b.rms_norm(&s.gathered, &self.norm, c.rms_norm_eps, n, &mut s.layer.x)?;
        if let Some(gate) = &self.modalities[m].copy_gate {
            b.matmul(&s.layer.x, n, gate, None, false, &mut s.gates)?;
            s.host.gates.resize(n * c.row_codes(m), 0.0);
            b.read(&s.gates, 0, &mut s.host.gates)?;
        }
        if c.modalities[m].predict == Predict::Depth {
            self.begin_depth(batch, chunk, s)?;
            return self.depth_logits(m, s, out, chunk);
        }
        let tables = self.modalities[m].tables.as_ref();
        let vectors = match (&self.modalities[m].out_proj, tables) {
            (Some(out_proj), _) => {
                b.matmul(&s.layer.x, n, out_proj, None, false, &mut s.vectors)?;
                &s.vectors
            }
            (None, Some(tables)) => {
                tables.project(b, &s.layer.x, n, &mut s.vectors)?;
                &s.vectors
            }
            (None, None) => &s.layer.x,
        };
        let (head, first) = tables.map_or((self.head_weight(), 0), |t| (&t.out, t.start as usize));
        let slots = c.modalities[m].slots;
        let width = slot_width(c, &batch.queries[chunk[0]]);
        let mut done = 0;
        for (start, end) in runs(ranges(c, &batch.queries[chunk[0]])) {
            let size = (end - start) as usize;
            let rows = (start as usize - first, end as usize - first);
            b.matmul(vectors, n * slots, head, Some(rows), false, &mut s.logits)?;
            s.host.logits.resize(n * slots * size, 0.0);
            b.read(&s.logits, 0, &mut s.host.logits)?;
            for (row, values) in s.host.logits.chunks_exact(size).enumerate() {
                let at = out.offsets[chunk[row / slots]] + row % slots * width + done;
                let to = &mut out.values[at..at + size];
                to.copy_from_slice(values);
                if let Some(t) = tables {
                    to.iter_mut().zip(&t.out_bias[rows.0..rows.1]).for_each(|(v, bias)| *v += bias);
                }
            }
            done += size;
        }
        self.add_gates(batch, chunk, s, out);
        Ok(())
    }

    /// Adds each query's copy gates to the logits of its row's input ids.
    fn add_gates(&self, batch: &Batch, chunk: &[usize], s: &Scratch<B>, out: &mut Logits) {
        let m = batch.queries[chunk[0]].modality;
        if self.modalities[m].copy_gate.is_none() {
            return;
        }
        let n = self.config.row_codes(m);
        for (i, q) in chunk.iter().enumerate() {
            let row = &batch.rows[batch.queries[*q].row];
            let Some(codes) = row.codes.filter(|_| row.modality == m) else { continue };
            let gates = &s.host.gates[i * n..(i + 1) * n];
            let mut at = out.offsets[*q];
            let all = ranges(&self.config, &batch.queries[*q]).cycle();
            for ((id, gate), (start, end)) in batch.codes[codes..codes + n].iter().zip(gates).zip(all) {
                if (start..end).contains(id) {
                    out.values[at + (id - start) as usize] += gate;
                }
                at += (end - start) as usize;
            }
        }
    }
}

/// Joins ranges that follow each other, so that digits with neighbouring id ranges are one multiplication.
fn runs(ranges: impl Iterator<Item = IdRange> + Clone) -> impl Iterator<Item = IdRange> {
    let mut rest = ranges.peekable();
    std::iter::from_fn(move || {
        let (start, mut end) = rest.next()?;
        while let Some((_, e)) = rest.next_if(|next| next.0 == end) {
            end = e;
        }
        Some((start, end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_ranges_are_joined() {
        let joined: Vec<_> = runs([(0, 8), (8, 16), (20, 21), (0, 4), (4, 5)].into_iter()).collect();
        assert_eq!(joined, [(0, 16), (20, 21), (0, 5)]);
    }
}
