//! What is not made: rules for prompts, and a hook for a classifier of pictures.
//!
//! A prompt is brought to plain words (compatibility forms, look-alike letters, invisible characters, letters written apart: `normalize.rs`) and compared
//! with rules (`rules.json`, the operator's file). The rules are on by default. They are a coarse sieve with reasons that can be read, not a judge: an operator
//! who serves strangers adds a classifier.

mod classifier;
mod normalize;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use classifier::ClassifierConfig;
pub use rules::Rule;

/// Our rules.
const BUILT_IN: &str = include_str!("rules.json");

/// Why something is not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// Name of the rule.
    pub category: String,
    /// For the user, without the words that matched.
    pub reason: String,
}

impl std::fmt::Display for Blocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (rule \"{}\")", self.reason, self.category)
    }
}

/// The operator's policy file, JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Categories of the built-in rules that do not apply (`minors` and `non_consensual` always do).
    pub disable: Vec<String>,
    /// Further rules.
    pub rules: Vec<Rule>,
    /// Whether `"mode": "spicy"` lifts the category `suggestive`.
    pub spicy: bool,
    /// The program that looks at pictures.
    pub classifier: Option<ClassifierConfig>,
}

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("the policy file {path}: {source}: give a JSON file that can be read")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not a policy.
    #[error("the policy file {path}: {source}: its fields are disable, rules, spicy and classifier")]
    Parse {
        /// The file.
        path: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A category of `disable` that no built-in rule has, or that always holds.
    #[error("the policy file: disable: \"{category}\" cannot be disabled: it can name {known}")]
    Category {
        /// The category.
        category: String,
        /// What can be disabled.
        known: String,
    },
    /// A classifier without a program.
    #[error("the policy file: classifier: command is empty: name a program")]
    Command,
}

/// Checks prompts and pictures. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Moderation {
    rules: Vec<rules::Compiled>,
    spicy: bool,
    classifier: Option<ClassifierConfig>,
}

impl Moderation {
    /// Our rules and the operator's.
    ///
    /// # Errors
    /// [`PolicyError`] for a policy that names what does not exist.
    pub fn new(policy: Policy) -> Result<Self, PolicyError> {
        let built_in: Policy = serde_json::from_str(BUILT_IN)
            .map_err(|source| PolicyError::Parse { path: "(built in)".into(), source })?;
        let known: BTreeSet<_> = built_in.rules.iter().filter(|r| !r.always).map(|r| r.category.clone()).collect();
        if let Some(category) = policy.disable.iter().find(|c| !known.contains(*c)) {
            let known = Vec::from_iter(known).join(", ");
            return Err(PolicyError::Category { category: category.clone(), known });
        }
        if policy.classifier.as_ref().is_some_and(|c| c.command.is_empty()) {
            return Err(PolicyError::Command);
        }
        let ours = built_in.rules.iter().filter(|r| r.always || !policy.disable.contains(&r.category));
        let rules = ours.chain(&policy.rules).map(rules::Compiled::new).collect();
        Ok(Self { rules, spicy: policy.spicy, classifier: policy.classifier })
    }

    /// Our rules and those of a file.
    ///
    /// # Errors
    /// [`PolicyError`] for a file that cannot be read or is not a policy.
    pub fn open(path: &Path) -> Result<Self, PolicyError> {
        let name = || path.display().to_string();
        let text = std::fs::read(path).map_err(|source| PolicyError::Read { path: name(), source })?;
        let policy = serde_json::from_slice(&text).map_err(|source| PolicyError::Parse { path: name(), source })?;
        Self::new(policy)
    }

    /// No rules at all: the operator has switched moderation off.
    pub fn off() -> Self {
        Self { rules: Vec::new(), spicy: true, classifier: None }
    }

    /// Whether a prompt may be made. `spicy`: the request asked for that mode.
    ///
    /// # Errors
    /// The first rule that matches.
    pub fn prompt(&self, text: &str, spicy: bool) -> Result<(), Blocked> {
        let words = normalize::words(text);
        let lifted = |rule: &rules::Compiled| spicy && self.spicy && rule.category == "suggestive";
        match self.rules.iter().find(|rule| !lifted(rule) && rule.matches(&words)) {
            Some(rule) => Err(Blocked { category: rule.category.clone(), reason: rule.reason.clone() }),
            None => Ok(()),
        }
    }

    /// Whether pictures are looked at.
    pub fn has_classifier(&self) -> bool {
        self.classifier.is_some()
    }

    /// Frames of a clip that the classifier wants to see; 0 without one.
    pub fn frames_per_clip(&self) -> usize {
        self.classifier.as_ref().map_or(0, |c| c.frames.max(1))
    }

    /// Asks the classifier, when there is one, about a picture (PNG): one that a user gave, or a frame of an output.
    ///
    /// # Errors
    /// The classifier's verdict; a classifier that fails blocks.
    pub async fn picture(&self, png: &[u8]) -> Result<(), Blocked> {
        match &self.classifier {
            Some(config) => classifier::classify(config, png).await,
            None => Ok(()),
        }
    }
}
