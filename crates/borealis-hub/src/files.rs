//! Which files of a model are fetched.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::tree::Entry;
use crate::{HubError, RepoId, Result};

/// Endings of files that are, or can be, Python pickles: reading one can run any code.
const PICKLES: [&str; 12] =
    [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".joblib", ".dill", ".mar", ".nemo"];
/// Endings of what a checkpoint consists of.
const WANTED: [&str; 7] = [".safetensors", ".json", ".txt", ".model", ".jinja", ".tiktoken", ".md"];
/// Files without an ending that come along.
const NAMES: [&str; 3] = ["LICENSE", "NOTICE", "COPYING"];
const REMEDY: &str = "pickles can run code and are not read: look for a version in safetensors (also at @refs/pr/N) or convert it elsewhere";

/// What is fetched, and the pickles that are left out.
#[derive(Debug)]
pub(crate) struct Choice {
    pub files: Vec<Entry>,
    pub pickles: Vec<String>,
}

/// Chooses from the files of a model: what matches one of `include`, or all that a checkpoint needs.
pub(crate) fn choose(repo: &RepoId, include: &[String], entries: Vec<Entry>) -> Result<Choice> {
    let globs = globs(include)?;
    let wanted = |path: &str| if include.is_empty() { is_wanted(path) } else { globs.is_match(path) };
    let (pickles, rest): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| is_pickle(&entry.path));
    let pickles: Vec<String> = pickles.into_iter().map(|entry| entry.path).collect();
    let asked: Vec<&String> = pickles.iter().filter(|path| !include.is_empty() && globs.is_match(path)).collect();
    let names: Vec<String> = rest.iter().map(|entry| entry.path.clone()).collect();
    let files: Vec<Entry> = rest.into_iter().filter(|entry| wanted(&entry.path)).collect();
    let refused = |problem: String| HubError::Unsafe { repo: repo.to_string(), problem, remedy: REMEDY };
    let tensors = files.iter().any(|entry| entry.path.ends_with(".safetensors"));
    // A pattern that happens to match pickles too is fine; one that matches nothing else asks for them.
    if let Some(first) = asked.first().filter(|_| files.is_empty()) {
        return Err(refused(format!("{first} is a pickle")));
    }
    if let Some(first) = pickles.first().filter(|_| include.is_empty() && !tensors) {
        return Err(refused(format!("its weights are pickles ({first})")));
    }
    if files.is_empty() {
        let patterns = if include.is_empty() { WANTED.join(" ") } else { include.join(" ") };
        return Err(HubError::NoMatch { repo: repo.to_string(), patterns, files: some(&names) });
    }
    Ok(Choice { files, pickles })
}

fn globs(include: &[String]) -> Result<GlobSet> {
    let wrong = |value: &str, error: globset::Error| HubError::Setting {
        name: "--include",
        value: value.to_string(),
        remedy: format!("{}: give a pattern such as *.json", error.kind()),
    };
    let mut builder = GlobSetBuilder::new();
    for pattern in include {
        // As on the hub: * crosses folders.
        let glob = GlobBuilder::new(pattern).literal_separator(false).build();
        builder.add(glob.map_err(|error| wrong(pattern, error))?);
    }
    builder.build().map_err(|error| wrong(&include.join(" "), error))
}

fn is_pickle(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    PICKLES.iter().any(|ending| path.ends_with(ending))
}

fn is_wanted(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let license = NAMES.iter().any(|start| name.to_ascii_uppercase().starts_with(start));
    license || WANTED.iter().any(|ending| name.ends_with(ending))
}

/// The first few names.
fn some(names: &[String]) -> String {
    match names {
        [] => "no files".to_string(),
        [first @ .., last] if names.len() <= 5 => {
            if first.is_empty() {
                last.clone()
            } else {
                format!("{} and {last}", first.join(", "))
            }
        }
        _ => format!("{} and {} more", names[..4].join(", "), names.len() - 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose_from(include: &[&str], paths: &[&str]) -> Result<(Vec<String>, Vec<String>)> {
        let entry = |path: &&str| Entry { path: path.to_string(), size: 1, hash: "0".repeat(40) };
        let include: Vec<String> = include.iter().map(|s| s.to_string()).collect();
        let choice = choose(&"a/b".parse()?, &include, paths.iter().map(entry).collect())?;
        Ok((choice.files.into_iter().map(|e| e.path).collect(), choice.pickles))
    }

    #[test]
    fn a_checkpoint_is_fetched_without_code_and_pickles() {
        let paths = [
            "config.json",
            "model.safetensors",
            "modeling_x.py",
            "pytorch_model.bin",
            "vq/model.safetensors",
            "LICENSE",
            "x.onnx",
        ];
        let (files, pickles) = choose_from(&[], &paths).unwrap();
        assert_eq!(files, ["config.json", "model.safetensors", "vq/model.safetensors", "LICENSE"]);
        assert_eq!(pickles, ["pytorch_model.bin"]);
    }

    #[test]
    fn patterns_choose() {
        let paths = ["config.json", "a/b.json", "model.safetensors", "run.py"];
        assert_eq!(choose_from(&["*.json"], &paths).unwrap().0, ["config.json", "a/b.json"]);
        assert_eq!(choose_from(&["run.py", "model*"], &paths).unwrap().0, ["model.safetensors", "run.py"]);
        let error = choose_from(&["*.gguf"], &paths).unwrap_err().to_string();
        assert_eq!(
            error,
            "a/b has no file that matches *.gguf: it has config.json, a/b.json, model.safetensors and run.py"
        );
        assert!(choose_from(&["[x"], &paths).unwrap_err().to_string().starts_with("--include is \"[x\": "));
    }

    #[test]
    fn pickles_are_refused() {
        let error = choose_from(&[], &["config.json", "pytorch_model.bin"]).unwrap_err().to_string();
        assert!(error.starts_with("a/b: its weights are pickles (pytorch_model.bin): pickles can run code"), "{error}");
        let error = choose_from(&["*.PT"], &["x.PT", "model.safetensors"]).unwrap_err().to_string();
        assert!(error.starts_with("a/b: x.PT is a pickle: "), "{error}");
        assert_eq!(choose_from(&["*"], &["x.pt", "model.safetensors"]).unwrap().0, ["model.safetensors"]);
    }
}
