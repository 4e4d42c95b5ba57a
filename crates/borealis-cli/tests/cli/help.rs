//! What `--help` says.

use crate::run::{borealis, succeed};

fn help(arguments: &[&str]) -> String {
    String::from_utf8(succeed(borealis().args(arguments)).stdout).unwrap()
}

#[test]
fn help_of_the_command() {
    insta::assert_snapshot!(help(&["--help"]));
}

#[test]
fn help_of_generate() {
    insta::assert_snapshot!(help(&["generate", "--help"]));
}

#[test]
fn help_of_tokenize() {
    insta::assert_snapshot!(help(&["tokenize", "--help"]));
}

#[test]
fn help_of_inspect() {
    insta::assert_snapshot!(help(&["inspect", "--help"]));
}

#[test]
fn help_of_bench() {
    insta::assert_snapshot!(help(&["bench", "--help"]));
}

#[test]
fn help_of_bench_latency() {
    insta::assert_snapshot!(help(&["bench", "latency", "--help"]));
}

#[test]
fn version() {
    assert_eq!(help(&["--version"]), format!("borealis {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = help(&["completions", shell]);
        assert!(script.contains("aspect-ratio"), "{shell}");
    }
}
