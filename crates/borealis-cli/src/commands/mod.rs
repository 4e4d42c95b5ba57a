//! One module per subcommand.

pub mod bench;
pub mod completions;
pub mod generate;
pub mod inspect;
pub mod tokenize;
