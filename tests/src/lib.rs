//! Tests across the crates; see the `[[test]]` entries.
