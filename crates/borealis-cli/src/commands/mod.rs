//! One module per subcommand.

pub mod bench;
pub mod completions;
pub mod generate;
pub mod hub;
pub mod inspect;
pub mod sound;
pub mod tokenize;
