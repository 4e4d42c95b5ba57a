//! Rules over the words of a prompt: data, ours and the operator's.

use serde::{Deserialize, Serialize};

use super::normalize::words;

/// One rule: a prompt that has one of `any`, one of `with` (when given) and none of `unless` is blocked.
///
/// A phrase is words that follow each other; a word that ends with `*` is a prefix.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name in messages, and what `disable` of the policy file names.
    pub category: String,
    /// Why; shown to the user.
    pub reason: String,
    /// Cannot be disabled, and holds in every mode.
    #[serde(default)]
    pub always: bool,
    /// Phrases, one of which must occur.
    pub any: Vec<String>,
    /// Phrases, one of which must occur too; empty = no second condition.
    #[serde(default)]
    pub with: Vec<String>,
    /// Phrases that lift the rule.
    #[serde(default)]
    pub unless: Vec<String>,
}

/// The words of a phrase, each with whether it is a prefix.
type Phrase = Vec<(String, bool)>;

/// A rule with its phrases in normal form.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) category: String,
    pub(super) reason: String,
    any: Vec<Phrase>,
    with: Vec<Phrase>,
    unless: Vec<Phrase>,
}

impl Compiled {
    pub(super) fn new(rule: &Rule) -> Self {
        let phrases = |list: &[String]| list.iter().map(|p| phrase(p)).filter(|p| !p.is_empty()).collect();
        Self {
            category: rule.category.clone(),
            reason: rule.reason.clone(),
            any: phrases(&rule.any),
            with: phrases(&rule.with),
            unless: phrases(&rule.unless),
        }
    }

    pub(super) fn matches(&self, words: &[String]) -> bool {
        let has = |phrases: &[Phrase]| phrases.iter().any(|p| occurs(p, words));
        has(&self.any) && (self.with.is_empty() || has(&self.with)) && !has(&self.unless)
    }
}

fn phrase(text: &str) -> Phrase {
    text.split_whitespace()
        .flat_map(|part| {
            let prefix = part.ends_with('*');
            let parts = words(part);
            let last = parts.len().saturating_sub(1);
            parts.into_iter().enumerate().map(move |(i, word)| (word, prefix && i == last))
        })
        .collect()
}

fn occurs(phrase: &Phrase, words: &[String]) -> bool {
    words.windows(phrase.len()).any(|window| {
        window
            .iter()
            .zip(phrase)
            .all(|(word, (wanted, prefix))| word == wanted || (*prefix && word.starts_with(wanted)))
    })
}
