//! From published tensor names to canonical ones: data, used in both directions.

use crate::blocks::BlockSize;
use std::borrow::Cow;

/// How a published tensor becomes (a part of) a canonical one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// All of it.
    Whole,
    /// Gate rows of expert `{e}` of a stack `[E, 2I, H]`.
    Gate,
    /// Up rows of expert `{e}` of a stack `[E, 2I, H]`, behind its gate rows.
    Up,
    /// Matrix `{e}` of a stack `[E, H, I]`.
    Down,
    /// Not used: nothing is read of it.
    Dropped,
}

/// One line of a name table. In names, `{i}` and `{e}` are numbers (layer, expert) and `*` at the end is any rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The published name.
    pub published: &'static str,
    /// The set that it belongs to: "" (transformer), `image_tokenizer` or `vision_tower`.
    pub set: &'static str,
    /// The canonical name within the set.
    pub canonical: &'static str,
    /// Which part of the canonical tensor it is.
    pub piece: Piece,
}

/// The name table of a checkpoint: rules in order, the first that fits counts. A name that no rule knows keeps its name.
#[derive(Debug, Clone, Default)]
pub struct NameMap {
    pub(crate) rules: &'static [Rule],
    /// Experts of a stack.
    pub(crate) experts: usize,
    /// `lm_head.weight` is a copy of the embedding table.
    pub(crate) tied: bool,
    /// Layers of the transformer when further ones (for predicting several ids ahead) may follow and are not used.
    pub(crate) layers: Option<usize>,
    /// Matrices may be 8-bit floats with a scale for each block of this size.
    pub(crate) blocks: Option<BlockSize>,
}

/// Endings of tensors that are bookkeeping of the training or can be computed.
const UNUSED: [&str; 3] = [".num_batches_tracked", ".rotary_emb.inv_freq", ".embeddings.position_ids"];

/// Where a published tensor goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub set: &'static str,
    pub name: Cow<'a, str>,
    pub piece: Piece,
    pub expert: usize,
}

impl NameMap {
    /// Rules of this table.
    pub fn rules(&self) -> &[Rule] {
        self.rules
    }

    /// Where a published tensor goes; `None` when it is not used.
    pub(crate) fn place<'a>(&self, published: &'a str) -> Option<Place<'a>> {
        if UNUSED.iter().any(|end| published.ends_with(end)) || self.is_further_layer(published) {
            return None;
        }
        let place = self.rules.iter().find_map(|rule| {
            let found = captures(rule.published, published)?;
            let expert = found.iter().find(|(k, _)| *k == 'e').and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
            let name = Cow::Owned(fill(rule.canonical, &found));
            Some(Place { set: rule.set, name, piece: rule.piece, expert })
        });
        let place = place.unwrap_or(Place { set: "", name: Cow::Borrowed(published), piece: Piece::Whole, expert: 0 });
        let copy = self.tied && place.set.is_empty() && place.name == "lm_head.weight";
        (place.piece != Piece::Dropped && !copy).then_some(place)
    }

    fn is_further_layer(&self, published: &str) -> bool {
        let Some(layers) = self.layers else { return false };
        captures("model.layers.{i}.*", published)
            .and_then(|c| c[0].1.parse::<usize>().ok())
            .is_some_and(|i| i >= layers)
    }

    /// Whether a canonical tensor is a stack of gates and ups.
    pub(crate) fn is_pair(&self, set: &str, canonical: &str) -> bool {
        let fits = |r: &&Rule| r.set == set && captures(r.canonical, canonical).is_some();
        self.rules.iter().find(fits).is_some_and(|r| matches!(r.piece, Piece::Gate | Piece::Up))
    }

    /// The published name of (a piece of) a canonical tensor: for messages. `piece` counts the parts of a stack.
    pub(crate) fn published(&self, set: &str, canonical: &str, piece: usize) -> String {
        for rule in self.rules.iter().filter(|r| r.set == set && r.piece != Piece::Dropped) {
            let Some(mut found) = captures(rule.canonical, canonical) else { continue };
            let wanted = match rule.piece {
                Piece::Gate | Piece::Up => {
                    found.push(('e', Cow::Owned((piece / 2).to_string())));
                    if piece.is_multiple_of(2) { Piece::Gate } else { Piece::Up }
                }
                Piece::Down => {
                    found.push(('e', Cow::Owned(piece.to_string())));
                    Piece::Down
                }
                other => other,
            };
            if rule.piece == wanted {
                return fill(rule.published, &found);
            }
        }
        canonical.to_string()
    }
}

/// What stands in the places of a pattern, when the name fits it.
fn captures<'n>(pattern: &str, name: &'n str) -> Option<Vec<(char, Cow<'n, str>)>> {
    let (mut pattern, mut name, mut found) = (pattern, name, Vec::new());
    loop {
        let at = pattern.find(['{', '*']).unwrap_or(pattern.len());
        name = name.strip_prefix(&pattern[..at])?;
        pattern = &pattern[at..];
        match pattern.chars().next() {
            None => return name.is_empty().then_some(found),
            Some('*') => {
                found.push(('*', Cow::Borrowed(name)));
                return Some(found);
            }
            Some(_) => {
                let digits = name.len() - name.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                let key = pattern.chars().nth(1).filter(|_| digits > 0)?;
                found.push((key, Cow::Borrowed(&name[..digits])));
                (pattern, name) = (pattern.get(3..)?, &name[digits..]);
            }
        }
    }
}

/// The pattern with what was found in its places.
fn fill(pattern: &str, found: &[(char, Cow<'_, str>)]) -> String {
    found.iter().fold(pattern.to_string(), |text, (key, value)| match key {
        '*' => text.replace('*', value),
        key => text.replace(&format!("{{{key}}}"), value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &[Rule] = &[
        Rule { published: "a.{i}.x.{e}.w1", set: "", canonical: "b.{i}.gate_up", piece: Piece::Gate },
        Rule { published: "a.{i}.x.{e}.w3", set: "", canonical: "b.{i}.gate_up", piece: Piece::Up },
        Rule { published: "vq.*", set: "image_tokenizer", canonical: "*", piece: Piece::Whole },
        Rule { published: "old.*", set: "", canonical: "", piece: Piece::Dropped },
    ];

    #[test]
    fn names_go_both_ways() {
        let map = NameMap { rules: RULES, experts: 4, tied: true, layers: Some(2), blocks: None };
        let place = |name: &'static str| map.place(name).map(|p| (p.set, p.name.into_owned(), p.piece, p.expert));
        assert_eq!(place("a.12.x.3.w3"), Some(("", "b.12.gate_up".into(), Piece::Up, 3)));
        assert_eq!(place("vq.encoder.in"), Some(("image_tokenizer", "encoder.in".into(), Piece::Whole, 0)));
        assert_eq!(place("a.12.x.three.w3"), Some(("", "a.12.x.three.w3".into(), Piece::Whole, 0)));
        for unused in ["old.w", "lm_head.weight", "vq.norm.num_batches_tracked", "model.layers.2.norm.weight"] {
            assert_eq!(map.place(unused), None, "{unused}");
        }
        assert!(map.place("model.layers.1.norm.weight").is_some());
        assert_eq!(map.published("", "b.12.gate_up", 7), "a.12.x.3.w3");
        assert_eq!(map.published("", "b.12.gate_up", 6), "a.12.x.3.w1");
        assert_eq!(map.published("image_tokenizer", "encoder.in", 0), "vq.encoder.in");
        assert_eq!(map.published("", "model.norm.weight", 0), "model.norm.weight");
    }
}
