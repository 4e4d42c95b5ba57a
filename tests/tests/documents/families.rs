//! The name tables of `weights.md` are the program's.

use borealis_weights::{FAMILIES, Piece};
use std::collections::BTreeSet;

#[test]
fn weights_md_has_every_family_s_name_table() {
    let text = super::document("weights.md");
    let section = text.split("\n## Families").nth(1).expect("weights.md has the families");
    let section = section.split("\n# ").next().unwrap_or_default();
    for family in &FAMILIES {
        let heading = format!("\n### `{}`\n", family.name);
        let part = section.split(&heading).nth(1).unwrap_or_else(|| panic!("no section of {}", family.name));
        let part = part.split("\n### ").next().unwrap_or_default();
        for kind in family.model_types {
            assert!(part.contains(&format!("`{kind}`")), "{}: model_type {kind} is not named", family.name);
        }
        let written: BTreeSet<&str> = part.lines().filter(|l| l.starts_with("| `")).collect();
        let line = |r: &borealis_weights::Rule| {
            let set = if r.set.is_empty() { String::new() } else { format!("{}/", r.set) };
            let piece = match r.piece {
                Piece::Whole => "all",
                Piece::Gate => "gate rows of {e}",
                Piece::Up => "up rows of {e}",
                Piece::Down => "matrix {e}",
                Piece::Dropped => "not read",
            };
            format!("| `{}` | `{set}{}` | {piece} |", r.published, r.canonical)
        };
        let known: Vec<String> = family.rules.iter().map(line).collect();
        assert_eq!(written, known.iter().map(String::as_str).collect(), "the table of {}", family.name);
    }
}
