//! The transformer: a batch of ids and a KV cache in, logits out.

mod batch;

pub use batch::{Batch, Logits, Query, Row};
