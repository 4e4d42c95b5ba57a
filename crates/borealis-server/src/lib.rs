//! REST and gRPC spellings of `Engine::submit`, with durable jobs.

mod error;
mod types;
pub mod service;

pub use error::{Result, ServerError};
