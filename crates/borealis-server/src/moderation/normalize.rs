//! A prompt as a sequence of plain words, however it was spelled.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Letters of other scripts that look like Latin ones (the common part of Unicode's confusables table, in lower case), and look-alikes of letters that
/// people use on purpose.
const CONFUSABLES: &[(char, char)] = &[
    ('а', 'a'),
    ('в', 'b'),
    ('с', 'c'),
    ('ԁ', 'd'),
    ('е', 'e'),
    ('ё', 'e'),
    ('һ', 'h'),
    ('і', 'i'),
    ('ї', 'i'),
    ('ј', 'j'),
    ('к', 'k'),
    ('ӏ', 'l'),
    ('м', 'm'),
    ('н', 'h'),
    ('о', 'o'),
    ('р', 'p'),
    ('ԛ', 'q'),
    ('ѕ', 's'),
    ('т', 't'),
    ('у', 'y'),
    ('ѵ', 'v'),
    ('ԝ', 'w'),
    ('х', 'x'),
    ('α', 'a'),
    ('β', 'b'),
    ('ε', 'e'),
    ('η', 'n'),
    ('ι', 'i'),
    ('κ', 'k'),
    ('ν', 'v'),
    ('ο', 'o'),
    ('ρ', 'p'),
    ('τ', 't'),
    ('υ', 'u'),
    ('χ', 'x'),
    ('γ', 'y'),
    ('ɑ', 'a'),
    ('ɡ', 'g'),
    ('ı', 'i'),
    ('ł', 'l'),
    ('ø', 'o'),
    ('đ', 'd'),
    ('ħ', 'h'),
    ('ŧ', 't'),
    ('ʀ', 'r'),
    ('ɴ', 'n'),
    ('ᴀ', 'a'),
    ('ᴅ', 'd'),
    ('ᴇ', 'e'),
    ('ᴋ', 'k'),
    ('ᴍ', 'm'),
    ('ᴏ', 'o'),
    ('ᴘ', 'p'),
    ('ᴛ', 't'),
    ('ᴜ', 'u'),
    ('ᴠ', 'v'),
    ('ᴡ', 'w'),
    ('ᴢ', 'z'),
];

/// Digits and signs inside words that stand for letters.
const LEET: &[(char, char)] =
    &[('0', 'o'), ('1', 'i'), ('3', 'e'), ('4', 'a'), ('5', 's'), ('7', 't'), ('@', 'a'), ('$', 's'), ('!', 'i')];

fn look_up(table: &[(char, char)], c: char) -> Option<char> {
    table.iter().find(|(from, _)| *from == c).map(|(_, to)| *to)
}

/// Characters that are drawn as nothing: they only split words.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
}

/// The words of a text: compatibility forms folded (NFKC), lower case, marks and invisible characters dropped, confusable letters Latin, letters that are
/// written apart ("n u d e", "n.u.d.e") joined. Digits that stand for letters inside a word are read as letters.
pub(super) fn words(text: &str) -> Vec<String> {
    let folded: String = text
        .nfkc()
        .filter(|c| !is_invisible(*c))
        .flat_map(char::to_lowercase)
        .nfkd()
        .filter(|c| !is_combining_mark(*c))
        .map(|c| look_up(CONFUSABLES, c).unwrap_or(c))
        .collect();
    let sign = |c: char| c.is_alphanumeric() || look_up(LEET, c).is_some();
    join_letters(folded.split(|c: char| !sign(c)).map(letters).filter(|w| !w.is_empty()))
}

/// A word whose look-alikes are letters when it has letters at all: "p0rn" is "porn", "2024" stays; a sign at its end ("stop!") is punctuation.
fn letters(word: &str) -> String {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    if word.chars().any(char::is_alphabetic) {
        word.chars().map(|c| look_up(LEET, c).unwrap_or(c)).collect()
    } else {
        word.to_string()
    }
}

/// Joins runs of three and more single letters to one word.
fn join_letters(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut run: Vec<String> = Vec::new();
    let flush = |run: &mut Vec<String>, out: &mut Vec<String>| {
        if run.len() >= 3 {
            out.push(run.concat())
        } else {
            out.append(run)
        }
        run.clear();
    };
    for word in words {
        if word.chars().count() == 1 && word.chars().all(char::is_alphabetic) {
            run.push(word);
        } else {
            flush(&mut run, &mut out);
            out.push(word);
        }
    }
    flush(&mut run, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_of_one_word() {
        for text in [
            "porn",
            "PORN",
            "ｐｏｒｎ",
            "p0rn",
            "pоrn",
            "p\u{200b}o\u{ad}rn",
            "pörn",
            "p o r n",
            "p.o.r.n",
            "𝓹𝓸𝓻𝓷",
            "ᴘᴏʀɴ",
            "(porn!)",
        ] {
            assert_eq!(words(text), ["porn"], "{text:?}");
        }
        assert_eq!(words("a red ball in 2024, stop!"), ["a", "red", "ball", "in", "2024", "stop"]);
        assert_eq!(words("plan b"), ["plan", "b"]);
    }

    proptest! {
        #[test]
        fn invisible_characters_change_nothing(text in "[a-z]{2,8}( [a-z]{2,8}){0,4}", at in 0usize..40) {
            let mut hidden: Vec<char> = text.chars().collect();
            hidden.insert(at.min(hidden.len()), '\u{200d}');
            prop_assert_eq!(words(&hidden.into_iter().collect::<String>()), words(&text));
        }

        #[test]
        fn any_text_has_words(text in any::<String>()) {
            prop_assert!(words(&text).iter().all(|w| !w.is_empty()));
        }
    }
}
