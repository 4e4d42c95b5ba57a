//! Layers that see the last positions only (`sliding_window`; Mistral, 2310.06825, section 2).

use borealis_kernels::Span;
use borealis_weights::Node;

use crate::config::layers;
use crate::error::Result;

/// Which layers see a window of the past, and how long it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Positions that a row sees, its own included.
    pub positions: u32,
    /// For each layer: whether it has the window.
    pub layers: Vec<bool>,
}

impl SlidingWindow {
    pub(crate) fn parse(node: &Node<'_>, all: usize) -> Result<Option<Self>> {
        let Some(positions) = node.opt("sliding_window")? else { return Ok(None) };
        let with = match node.opt("sliding_layers")? {
            Some(_) => layers(node, "sliding_layers", all)?,
            None => (0..all).collect(),
        };
        let layers = (0..all).map(|i| with.contains(&i)).collect();
        Ok(Some(Self { positions: positions.u32(1, u32::MAX)?, layers }))
    }

    /// What is left of the slots of a row, which lie in the order of their positions and end with its own.
    pub(crate) fn last(&self, sees: Span) -> Span {
        let n = self.positions;
        let (start, end) = sees.recent;
        if end - start >= n {
            return Span { prefix: (0, 0), recent: (end - n, end) };
        }
        let kept = sees.prefix.1.saturating_sub(n - (end - start)).max(sees.prefix.0);
        Span { prefix: (kept, sees.prefix.1), recent: sees.recent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slots_are_kept_wherever_they_lie() {
        let window = |positions| SlidingWindow { positions, layers: vec![true] };
        let last = |n, prefix, recent| {
            let span = window(n).last(Span { prefix, recent });
            (span.prefix, span.recent)
        };
        assert_eq!(last(4, (10, 20), (0, 0)), ((16, 20), (0, 0)));
        assert_eq!(last(4, (10, 13), (0, 0)), ((10, 13), (0, 0)));
        assert_eq!(last(4, (10, 20), (30, 33)), ((19, 20), (30, 33)));
        assert_eq!(last(4, (10, 20), (30, 34)), ((0, 0), (30, 34)));
        assert_eq!(last(4, (10, 20), (30, 40)), ((0, 0), (36, 40)));
        assert_eq!(last(1, (0, 1), (0, 0)), ((0, 1), (0, 0)));
    }
}
