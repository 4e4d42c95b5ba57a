//! The most similar of some names, for messages.

/// The candidate with the smallest edit distance to `name`, when it is close enough to be what was meant: at most a third of the name's length.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = name.chars().count().div_ceil(3).clamp(1, 24);
    candidates
        .into_iter()
        .filter(|c| c.len().abs_diff(name.len()) <= 4 * limit)
        .map(|c| (distance(name, c, limit), c))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, c)| c)
}

/// Levenshtein distance, two rows; gives up (returns `limit + 1`) when every entry of a row exceeds `limit`.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
        if row.iter().all(|d| *d > limit) {
            return limit + 1;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let names = ["model.norm.weight", "lm_head.weight", "model.layers.0.mlp.gate.weight"];
        assert_eq!(nearest("model.norms.weight", names), Some("model.norm.weight"));
        assert_eq!(nearest("model.layers.1.mlp.gate.weight", names), Some("model.layers.0.mlp.gate.weight"));
        assert_eq!(nearest("x", names), None);
        assert_eq!(distance("kitten", "sitting", 9), 3);
    }
}
