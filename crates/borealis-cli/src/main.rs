//! The `borealis` command.
fn main() {}
