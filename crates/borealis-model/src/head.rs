//! From the residual stream of queried rows to logits, and to the ids that are drawn from them: norm, slot vectors, the head sliced to what is allowed, copy gates.

use std::ops::Range;

use borealis_kernels::{Backend, Columns, Draw};
use borealis_weights::Predict;

use crate::batch::{Batch, Logits, Query};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::model::Model;
use crate::scratch::{HostScratch, Scratch};

/// No place.
const NONE: u32 = u32::MAX;

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

/// Sets where each query's logits start, after deciding which of them the host gets. `cuts` are the first rows of the pieces behind the first: two branches that
/// are computed in two pieces meet on the host.
pub(crate) fn layout(config: &ModelConfig, batch: &Batch, cuts: &[usize], host: &mut HostScratch, out: &mut Logits) {
    let piece = |q: usize| cuts.partition_point(|cut| *cut <= batch.queries[q].row);
    let n = batch.queries.len();
    host.kept.clear();
    host.kept.resize(n, true);
    host.beside.clear();
    host.beside.extend(0..n);
    let near = |d: &&Draw| d.against.is_none_or(|other| piece(other) == piece(d.row));
    for d in batch.draws.list.iter().filter(near) {
        host.kept[d.row] = false;
        if let Some(other) = d.against {
            host.kept[other] = false;
            host.beside[other] = d.row;
        }
    }
    for d in batch.draws.list.iter().filter(|d| !near(d)) {
        [Some(d.row), d.against].into_iter().flatten().for_each(|q| host.kept[q] = true);
    }
    out.offsets.clear();
    out.offsets.push(0);
    let mut at = 0;
    for (q, kept) in batch.queries.iter().zip(&host.kept) {
        at += if *kept { config.modalities[q.modality].slots * slot_width(config, q) } else { 0 };
        out.offsets.push(at);
    }
    out.values.resize(at, 0.0);
    out.ids.clear();
    out.ids.resize(batch.draws.list.len(), None);
}

/// Makes the draws whose branches were computed in different pieces.
pub(crate) fn draw_late(batch: &Batch, host: &mut HostScratch, out: &mut Logits) {
    for (i, d) in batch.draws.list.iter().enumerate().filter(|(_, d)| host.kept[d.row]) {
        out.ids[i] = out.draw(&mut host.drawer, d, batch.draws.seen(d));
    }
}

impl<B: Backend> Model<B> {
    /// Computes the logits of those queries whose row is in `rows`, the piece that lies in `s.hidden`, and draws from them or hands them to the host.
    pub(crate) fn head(&self, batch: &Batch, rows: Range<usize>, s: &mut Scratch<B>, out: &mut Logits) -> Result<()> {
        let mut order = std::mem::take(&mut s.host.queries);
        order.clear();
        order.extend((0..batch.queries.len()).filter(|q| rows.contains(&batch.queries[*q].row)));
        let beside = &s.host.beside;
        let kind = |q: &usize| (batch.queries[*q].modality, batch.queries[*q].allowed);
        order.sort_unstable_by_key(|q| (kind(q), beside[*q], *q));
        s.host.places.resize(batch.queries.len(), 0);
        let mut result = Ok(());
        for mut group in order.chunk_by(|a, b| kind(a) == kind(b)) {
            let query = &batch.queries[group[0]];
            let wide = self.config.modalities[query.modality].slots * slot_width(&self.config, query).max(1);
            let most = (s.logits_len / wide).clamp(1, s.max_rows);
            while !group.is_empty() && result.is_ok() {
                let mut n = most.min(group.len());
                // Both branches of a guided query in one chunk.
                if n > 1 && n < group.len() && s.host.beside[group[n]] == s.host.beside[group[n - 1]] {
                    n -= 1;
                }
                let (chunk, rest) = group.split_at(n);
                result = self.head_chunk(batch, rows.start, chunk, s, out);
                group = rest;
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
        if c.modalities[m].predict == Predict::Depth {
            self.begin_depth(batch, chunk, s)?;
            return self.depth_logits(m, s, out, chunk);
        }
        if let Some(gate) = &self.modalities[m].copy_gate {
            b.matmul(&s.layer.x, n, gate, None, false, &mut s.gates)?;
        }
        self.products(&batch.queries[chunk[0]], n, s)?;
        self.add_gates(batch, chunk, s)?;
        self.draw(batch, chunk, s, out)?;
        self.keep(batch, chunk, s, out)
    }

    /// The logits of `n` queries like `query` whose normed rows lie in `s.layer.x`, one after another in `s.logits`.
    fn products(&self, query: &Query, n: usize, s: &mut Scratch<B>) -> Result<()> {
        let (b, c, m) = (&self.backend, &self.config, query.modality);
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
        let rows = n * c.modalities[m].slots;
        let stride = slot_width(c, query);
        let mut at = 0;
        for (start, end) in runs(ranges(c, query)) {
            let (from, to) = (start as usize - first, end as usize - first);
            let width = to - from;
            if let Some(t) = tables {
                // The product is added to the bias.
                let bias = &t.out_bias[from..to];
                s.host.logits.clear();
                (0..rows).for_each(|_| s.host.logits.extend_from_slice(bias));
                b.write(&mut s.logits, 0, &s.host.logits)?;
            }
            match s.part.as_mut().filter(|_| width < stride) {
                None => b.matmul(vectors, rows, head, Some((from, to)), tables.is_some(), &mut s.logits)?,
                Some(part) => {
                    b.matmul(vectors, rows, head, Some((from, to)), false, part)?;
                    let (own, all) = (Columns { stride: width, at: 0 }, Columns { stride, at });
                    b.copy_columns(part, own, &mut s.logits, all, width, rows)?;
                }
            }
            at += width;
        }
        Ok(())
    }

    /// Adds each query's copy gates to the logits of its row's input ids.
    fn add_gates(&self, batch: &Batch, chunk: &[usize], s: &mut Scratch<B>) -> Result<()> {
        let m = batch.queries[chunk[0]].modality;
        if self.modalities[m].copy_gate.is_none() {
            return Ok(());
        }
        let n = self.config.row_codes(m);
        s.host.index.clear();
        let mut start = 0;
        for q in chunk {
            let query = &batch.queries[*q];
            let row = &batch.rows[query.row];
            let codes = row.codes.filter(|_| row.modality == m).map(|at| &batch.codes[at..at + n]);
            let all = ranges(&self.config, query).cycle().take(n);
            for (j, (from, to)) in all.enumerate() {
                let id = codes.map_or(NONE, |codes| codes[j]);
                s.host.index.push(if (from..to).contains(&id) { start + id - from } else { NONE });
                start += to - from;
            }
        }
        Ok(self.backend.add_at(&mut s.logits, &s.host.index, &s.gates)?)
    }

    /// Makes the draws from the queries of a chunk whose logits lie in `s.logits`.
    fn draw(&self, batch: &Batch, chunk: &[usize], s: &mut Scratch<B>, out: &mut Logits) -> Result<()> {
        let host = &mut s.host;
        chunk.iter().enumerate().for_each(|(place, q)| host.places[*q] = place);
        host.draws.clear();
        host.numbers.clear();
        let list = &batch.draws.list;
        for q in chunk.iter().filter(|q| !host.kept[**q]) {
            let mine = list.partition_point(|d| d.row < *q)..list.partition_point(|d| d.row <= *q);
            for d in &list[mine.clone()] {
                let against = d.against.map(|other| host.places[other]);
                host.draws.list.push(Draw { row: host.places[*q], against, ..*d });
            }
            host.numbers.extend(mine);
        }
        if host.numbers.is_empty() {
            return Ok(());
        }
        host.draws.seen.extend_from_slice(&batch.draws.seen);
        let query = &batch.queries[chunk[0]];
        let width = self.config.modalities[query.modality].slots * slot_width(&self.config, query);
        host.drawn.clear();
        self.backend.sample(&s.logits, width, &host.draws, &mut host.drawer, &mut host.drawn)?;
        host.numbers.iter().zip(&host.drawn).for_each(|(number, id)| out.ids[*number] = *id);
        Ok(())
    }

    /// Hands logits of a chunk to the host.
    fn keep(&self, batch: &Batch, chunk: &[usize], s: &mut Scratch<B>, out: &mut Logits) -> Result<()> {
        let Some(last) = chunk.iter().rposition(|q| s.host.kept[*q]) else { return Ok(()) };
        let query = &batch.queries[chunk[0]];
        let width = self.config.modalities[query.modality].slots * slot_width(&self.config, query);
        s.host.logits.resize((last + 1) * width, 0.0);
        self.backend.read(&s.logits, 0, &mut s.host.logits)?;
        for (values, q) in s.host.logits.chunks_exact(width.max(1)).zip(chunk).filter(|(_, q)| s.host.kept[**q]) {
            out.values[out.offsets[*q]..out.offsets[*q + 1]].copy_from_slice(values);
        }
        Ok(())
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
