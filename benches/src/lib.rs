//! Criterion benches; see the `[[bench]]` entries.
