//! The `borealis` command from outside: a process, its exit code, what it says and which files it leaves.
//!
//! Most tests run on the tiny golden checkpoint (`tests/goldens/tiny-default`), whose pictures are noise but whose every path is the
//! real one; `default_model.rs` runs the model that is embedded in the binary.

mod bytes;
mod default_model;
mod errors;
mod evaluate;
mod help;
mod hub;
mod inputs;
mod interrupt;
mod latency;
mod machine;
mod memory;
mod ranks;
mod run;
mod stream;
mod synth;
mod tokenize;
