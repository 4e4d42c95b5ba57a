//! One module per subcommand.

pub mod bench;
pub mod completions;
pub mod convert;
pub mod evaluate;
pub mod generate;
pub mod hub;
pub mod inspect;
pub mod keys;
pub mod latency;
pub mod serve;
pub mod sound;
pub mod synth;
pub mod tokenize;
