//! Files of ids, as `borealis tokenize` and `borealis generate --save-ids` write them: one JSON object, or plain lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use borealis_tokenizers::{TokenId, nearest_ratio};
use borealis_weights::Manifest;
use serde::{Deserialize, Serialize};

use crate::error::{CliError, Result};

/// The ids of a text, a picture, a clip or a sound, by modality, in the order of their positions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ids {
    /// Which grid the pictures have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aspect_ratio: Option<String>,
    /// How many frames they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<usize>,
    /// How many samples of sound they are, at the checkpoint's rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Modality -> ids.
    pub ids: BTreeMap<String, Vec<TokenId>>,
}

impl Ids {
    /// One modality alone.
    pub fn one(modality: &str, ids: Vec<TokenId>) -> Self {
        Self { ids: BTreeMap::from([(modality.to_string(), ids)]), ..Self::default() }
    }

    /// The ids of a modality, if there are any.
    pub fn get(&self, modality: &str) -> Option<&[TokenId]> {
        self.ids.get(modality).map(Vec::as_slice).filter(|ids| !ids.is_empty())
    }

    /// One line of JSON.
    pub fn json(&self) -> Result<String> {
        let mut text = serde_json::to_string(self).map_err(CliError::failed)?;
        text.push('\n');
        Ok(text)
    }

    /// A line `NAME VALUE...` for each entry.
    pub fn plain(&self) -> String {
        let mut out = String::new();
        let numbers = [("frames", self.frames), ("samples", self.samples)];
        if let Some(ratio) = &self.aspect_ratio {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "aspect_ratio {ratio}");
        }
        for (name, number) in numbers.into_iter().filter_map(|(name, n)| Some((name, n?))) {
            let _ = writeln!(out, "{name} {number}");
        }
        for (modality, ids) in &self.ids {
            out.push_str(modality);
            for id in ids {
                let _ = write!(out, " {id}");
            }
            out.push('\n');
        }
        out
    }

    /// Reads either form. The error says what is wrong, without the file's name.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        if text.trim_start().starts_with('{') {
            return serde_json::from_str(text).map_err(|error| error.to_string());
        }
        let mut all = Self::default();
        for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            let number = |word: &str| word.parse().map_err(|_| format!("line {}: \"{word}\" is not a number", n + 1));
            match name {
                "aspect_ratio" => all.aspect_ratio = words.next().map(str::to_string),
                "frames" => all.frames = words.next().map(|w| number(w).map(|n: u32| n as usize)).transpose()?,
                "samples" => all.samples = words.next().map(|w| number(w).map(|n: u32| n as usize)).transpose()?,
                _ => {
                    let ids = words.map(number).collect::<std::result::Result<Vec<TokenId>, _>>()?;
                    all.ids.entry(name.to_string()).or_default().extend(ids);
                }
            }
        }
        if all.ids.is_empty() { Err("it holds no ids".into()) } else { Ok(all) }
    }
}

/// The name of the grid that is nearest to a picture's ratio.
pub fn nearest(manifest: &Manifest, width: u32, height: u32) -> Option<String> {
    let parse = |name: &String| {
        let (w, h) = name.split_once(':')?;
        Some((name.clone(), (w.parse().ok()?, h.parse().ok()?)))
    };
    let grids = manifest.media.as_ref()?.grids.keys();
    let (names, ratios): (Vec<String>, Vec<(usize, usize)>) = grids.filter_map(parse).unzip();
    nearest_ratio(width as usize, height as usize, &ratios).map(|n| names[n].clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_back() {
        let mut ids = Ids::one("video", vec![3, 1, 2]);
        ids.ids.insert("audio".into(), vec![9]);
        ids.aspect_ratio = Some("16:9".into());
        ids.frames = Some(5);
        assert_eq!(Ids::parse(&ids.json().unwrap()), Ok(ids.clone()));
        assert_eq!(ids.plain(), "aspect_ratio 16:9\nframes 5\naudio 9\nvideo 3 1 2\n");
        assert_eq!(Ids::parse(&ids.plain()), Ok(ids));
    }

    #[test]
    fn wrong_files_are_told() {
        assert_eq!(Ids::parse(""), Err("it holds no ids".into()));
        assert_eq!(Ids::parse("text 1 x"), Err("line 1: \"x\" is not a number".into()));
        assert!(Ids::parse("{\"ids\": {\"text\": [-1]}}").is_err());
    }
}
