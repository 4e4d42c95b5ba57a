//! Cutting a large batch into pieces that fit the buffers, so that the result is that of computing it at once.

use crate::batch::Row;
use crate::error::{ModelError, Result};

/// Where to cut: row numbers, none when all rows fit. A cut lies only where no row before it sees the slot of a row after it.
pub(crate) fn cuts(rows: &[Row], max: usize) -> Result<Vec<usize>> {
    let mut cuts = Vec::new();
    if rows.len() <= max {
        return Ok(cuts);
    }
    let legal = legal_cuts(rows);
    let mut start = 0;
    while rows.len() - start > max {
        let next = (start + 1..=start + max).rev().find(|c| legal[*c]);
        let Some(end) = next else {
            let needed = (start + 1..=rows.len()).find(|c| legal[*c]).unwrap_or(rows.len()) - start;
            return Err(ModelError::TooManyRows { rows: needed, limit: max });
        };
        cuts.push(end);
        start = end;
    }
    Ok(cuts)
}

/// For each c in 0..=n, whether rows before c see no slot that a row from c on writes.
fn legal_cuts(rows: &[Row]) -> Vec<bool> {
    // Slots that are written, with the last row that writes them, and a table of the largest row number in ranges of them.
    let mut writers: Vec<(u32, usize)> = rows.iter().enumerate().map(|(i, r)| (r.slot, i)).collect();
    writers.sort_unstable();
    let last_in = |(start, end): (u32, u32)| {
        let from = writers.partition_point(|w| w.0 < start);
        let to = writers.partition_point(|w| w.0 < end);
        writers[from..to.max(from)].iter().map(|w| w.1).max().unwrap_or(0)
    };
    let mut legal = vec![true; rows.len() + 1];
    let mut furthest = 0;
    for (i, row) in rows.iter().enumerate() {
        furthest = furthest.max(last_in(row.sees.prefix)).max(last_in(row.sees.recent));
        legal[i + 1] = furthest <= i;
    }
    legal
}

#[cfg(test)]
mod tests {
    use super::*;
    use borealis_kernels::Span;

    fn row(slot: u32, start: u32, end: u32) -> Row {
        let sees = Span { prefix: (0, 0), recent: (start, end) };
        Row {
            modality: 0,
            kind: None,
            codes: None,
            condition: None,
            scene: None,
            features: None,
            position: [0.0; 3],
            slot,
            sees,
        }
    }

    #[test]
    fn causal_rows_are_cut_anywhere_and_blocks_only_between() {
        let causal: Vec<Row> = (0..5).map(|i| row(i, 0, i + 1)).collect();
        assert_eq!(cuts(&causal, 2).unwrap(), [2, 4]);
        let blocks: Vec<Row> = (0..6).map(|i| row(i, 0, i / 3 * 3 + 3)).collect();
        assert_eq!(cuts(&blocks, 4).unwrap(), [3]);
        assert!(cuts(&blocks, 6).unwrap().is_empty());
        let err = cuts(&blocks, 2).unwrap_err().to_string();
        assert!(err.starts_with("3 rows see each other"), "{err}");
    }
}
