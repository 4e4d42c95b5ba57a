//! Models of the hub in its cache, without a network: `list`, `rm`, `pull` offline, `--model OWNER/NAME`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run::{borealis, folder, said, succeed, tiny};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The command with a cache of its own and no way out.
fn offline(cache: &Path) -> Command {
    let mut command = borealis();
    for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH"] {
        command.env_remove(name);
    }
    command.env("HF_HOME", cache).env("HF_HUB_OFFLINE", "1");
    command
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn models_that_are_not_there_are_told() {
    let cache = folder();
    let cases: [(&[&str], i32, &str); 6] = [
        (
            &["pull", "gpt2"],
            2,
            "error: \"gpt2\" is no model of the hub: there is no /: give OWNER/NAME or OWNER/NAME@REVISION",
        ),
        (&["pull", "a/../b"], 2, "error: \"a/../b\" is no model of the hub: "),
        (
            &["pull", "a/b@v1"],
            1,
            "error: a/b@v1 is not in the cache and HF_HUB_OFFLINE is set: unset it and run: borealis pull a/b@v1",
        ),
        (&["rm", "a/b"], 1, "error: a/b is not in the cache: run: borealis pull a/b"),
        (
            &["inspect", "--model", "a/b"],
            1,
            "error: there is no folder a/b, and a/b is not in the cache: run: borealis pull a/b",
        ),
        (&["list"], 0, "no models in "),
    ];
    for (arguments, code, message) in cases {
        let output = offline(cache.path()).args(arguments).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{arguments:?}");
        assert!(said(&output).starts_with(message) && said(&output).lines().count() == 1, "{}", said(&output));
    }
}

#[test]
fn a_model_in_the_cache_is_found_by_its_name() {
    let cache = folder();
    let repo = cache.path().join("hub/models--owner--tiny");
    let snapshot = repo.join("snapshots").join(COMMIT);
    copy(&tiny(), &snapshot);
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::write(repo.join("refs/main"), COMMIT).unwrap();
    for name in ["owner/tiny", "owner/tiny@main", &format!("owner/tiny@{COMMIT}")] {
        let output = succeed(offline(cache.path()).args(["inspect", "--model", name]));
        assert!(!output.stdout.is_empty(), "{name}");
    }
    let output = succeed(offline(cache.path()).args(["pull", "owner/tiny", "-q"]));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), snapshot.to_str().unwrap());
    let list = String::from_utf8(succeed(offline(cache.path()).arg("list")).stdout).unwrap();
    assert!(list.starts_with("owner/tiny ") && list.contains("01234567  main") && list.lines().count() == 1, "{list}");
    let output = succeed(offline(cache.path()).args(["rm", "owner/tiny"]));
    assert!(said(&output).starts_with("owner/tiny: removed, "), "{}", said(&output));
    assert!(!repo.exists());
}
