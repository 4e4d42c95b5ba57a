//! Held-out prompts, what is asked of each mode, and the table of how often it came out.

mod runner;
mod sheet;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::analyse::{BACKGROUNDS, COLORS, MOTIONS, SHAPES, median};

pub use runner::Runner;
pub use sheet::write_sheet;

/// What is made from what.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// A clip from words.
    Text,
    /// A picture, changed.
    Edit,
    /// A clip that begins with a picture.
    Image,
    /// A clip, continued.
    Extend,
}

impl Mode {
    /// As in `weights.md`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text_to_video",
            Self::Edit => "edit_image",
            Self::Image => "image_to_video",
            Self::Extend => "extend",
        }
    }
}

/// A prompt and what it should show; indices into the lists of `analyse`.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    pub text: String,
    pub background: usize,
    pub color: usize,
    pub shape: usize,
    pub motion: &'static str,
}

impl Prompt {
    /// From a line `PROMPT<tab>background<tab>colour<tab>shape<tab>motion`; the message says what is wrong with it.
    pub fn parse(line: &str) -> Result<Self, String> {
        let cells: Vec<&str> = line.split('\t').map(str::trim).collect();
        let [text, background, color, shape, motion] = cells[..] else {
            return Err(format!("{} cells between tabs: give prompt, background, colour, shape, motion", cells.len()));
        };
        let find = |what: &str, names: &[&str], name: &str| {
            names
                .iter()
                .position(|n| *n == name)
                .ok_or(format!("{what} \"{name}\" is unknown: use one of {}", names.join(", ")))
        };
        let colors = COLORS.map(|(name, _)| name);
        Ok(Self {
            text: text.to_string(),
            background: find("background", &BACKGROUNDS, background)?,
            color: find("colour", &colors, color)?,
            shape: find("shape", &SHAPES, shape)?,
            motion: MOTIONS[find("motion", &MOTIONS, motion)?],
        })
    }
}

/// What one generation came to.
#[derive(Debug, Clone, Serialize)]
pub struct Score {
    #[serde(serialize_with = "mode_name")]
    pub mode: Mode,
    pub prompt: String,
    /// What came out right, by what was asked.
    pub right: Vec<(&'static str, bool)>,
    /// What was measured, by name; every value of a list is one measurement.
    pub measured: BTreeMap<&'static str, Vec<f32>>,
    /// What the analyser saw.
    pub seen: String,
    /// Six frames, when a sheet is wanted.
    #[serde(skip)]
    pub frames: Vec<borealis_media::Frame>,
}

fn mode_name<S: serde::Serializer>(mode: &Mode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(mode.name())
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub mode: &'static str,
    pub what: &'static str,
    pub n: usize,
    #[serde(flatten)]
    pub value: Value,
}

/// A share with its 95 % Wilson interval, or a list's middle.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Value {
    Share { share: f64, low: f64, high: f64 },
    Median { median: f32, median_of_sizes: f32, within_42: f32, within_84: f32 },
}

/// Shares of what came out right and middles of what was measured, by mode in the order of `scores`.
pub fn table(scores: &[Score]) -> Vec<Line> {
    let mut modes: Vec<Mode> = Vec::new();
    scores.iter().for_each(|s| {
        if !modes.contains(&s.mode) {
            modes.push(s.mode)
        }
    });
    modes.into_iter().flat_map(|mode| lines(mode, scores.iter().filter(|s| s.mode == mode).collect())).collect()
}

fn lines(mode: Mode, scores: Vec<&Score>) -> Vec<Line> {
    let mut names: Vec<&'static str> = Vec::new();
    scores.iter().flat_map(|s| &s.right).for_each(|(name, _)| {
        if !names.contains(name) {
            names.push(name)
        }
    });
    let share = |what: &'static str| {
        let all: Vec<bool> =
            scores.iter().flat_map(|s| &s.right).filter(|(n, _)| *n == what).map(|(_, ok)| *ok).collect();
        let (share, low, high) = wilson(all.iter().filter(|ok| **ok).count(), all.len());
        Line { mode: mode.name(), what, n: all.len(), value: Value::Share { share, low, high } }
    };
    let mut measured: BTreeMap<&'static str, Vec<f32>> = BTreeMap::new();
    for (name, values) in scores.iter().flat_map(|s| &s.measured) {
        measured.entry(name).or_default().extend(values);
    }
    let middle = |(what, values): (&'static str, Vec<f32>)| {
        let sizes: Vec<f32> = values.iter().map(|v| v.abs()).collect();
        let within = |limit: f32| sizes.iter().filter(|v| **v <= limit).count() as f32 / sizes.len().max(1) as f32;
        let (within_42, within_84, n) = (within(42.0), within(84.0), values.len());
        let value = Value::Median { median: median(values), median_of_sizes: median(sizes), within_42, within_84 };
        Line { mode: mode.name(), what, n, value }
    };
    names.into_iter().map(share).chain(measured.into_iter().map(middle)).collect()
}

/// `hits` of `n` and its 95 % Wilson interval.
fn wilson(hits: usize, n: usize) -> (f64, f64, f64) {
    let (n, z) = (n.max(1) as f64, 1.96f64);
    let p = hits as f64 / n;
    let (middle, scale) = (p + z * z / (2.0 * n), 1.0 + z * z / n);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    (p, ((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0))
}

/// The table for people.
pub fn print(lines: &[Line]) -> String {
    let mut out = format!("{:<15} {:<24} {:>4}  share and 95 % interval, or median\n", "mode", "what", "n");
    for line in lines {
        let value = match &line.value {
            Value::Share { share, low, high } => format!("{share:.2} [{low:.2}, {high:.2}]"),
            Value::Median { median, median_of_sizes, within_42, within_84 } if line.what == SYNC => {
                format!(
                    "{median:+.0} ms; size {median_of_sizes:.0} ms, {within_42:.2} within 42 ms, {within_84:.2} within 84 ms"
                )
            }
            Value::Median { median, .. } => format!("{median:.1}"),
        };
        out.push_str(&format!("{:<15} {:<24} {:>4}  {value}\n", line.mode, line.what, line.n));
    }
    out
}

/// The name of the measure of sound against picture.
pub const SYNC: &str = "impact to onset";

/// Table and clips for programs.
pub fn json(lines: &[Line], scores: &[Score]) -> serde_json::Result<String> {
    let all = serde_json::json!({ "table": lines, "clips": scores });
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_wilson_s() {
        // Values of the recipe's `interval`.
        for (hits, n, want) in
            [(96, 96, (1.0, 0.9615, 1.0)), (16, 96, (0.1667, 0.1053, 0.2537)), (0, 6, (0.0, 0.0, 0.3903))]
        {
            let got = wilson(hits, n);
            for (g, w) in [(got.0, want.0), (got.1, want.1), (got.2, want.2)] {
                assert!((g - w).abs() < 1e-4, "{hits} of {n}: {got:?}");
            }
        }
    }

    #[test]
    fn lines_of_prompts() {
        let prompt = Prompt::parse("a red ball\tsky\tred\tball\tbounce").unwrap();
        assert_eq!((prompt.background, prompt.color, prompt.shape, prompt.motion), (0, 0, 0, "bounce"));
        let errors = ["a red ball", "a\tsea\tred\tball\tbounce", "a\tsky\tred\tball\tjump"]
            .map(|l| Prompt::parse(l).unwrap_err());
        assert!(errors[0].contains("1 cells"), "{}", errors[0]);
        assert!(errors[1].contains("background \"sea\" is unknown: use one of sky"), "{}", errors[1]);
        assert!(errors[2].contains("motion \"jump\""), "{}", errors[2]);
    }

    #[test]
    fn the_table_counts_by_mode() {
        let score = |mode, shape, sync: Vec<f32>| Score {
            mode,
            prompt: String::new(),
            right: vec![("shape", shape)],
            measured: if sync.is_empty() { BTreeMap::new() } else { BTreeMap::from([(SYNC, sync)]) },
            seen: String::new(),
            frames: Vec::new(),
        };
        let scores = [
            score(Mode::Text, true, vec![10.0, -50.0]),
            score(Mode::Text, false, vec![-90.0]),
            score(Mode::Edit, true, vec![]),
        ];
        let text = print(&table(&scores));
        assert!(text.contains("text_to_video   shape                       2  0.50 [0.09, 0.91]"), "{text}");
        assert!(text.contains("-50 ms; size 50 ms, 0.33 within 42 ms, 0.67 within 84 ms"), "{text}");
        assert!(text.contains("edit_image      shape                       1  1.00 [0.21, 1.00]"), "{text}");
        let all: serde_json::Value = serde_json::from_str(&json(&table(&scores), &scores).unwrap()).unwrap();
        assert_eq!(all["table"][0]["share"], 0.5);
        assert_eq!(all["clips"][2]["mode"], "edit_image");
    }
}
