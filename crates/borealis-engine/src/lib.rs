//! Requests to streams of text, frames and samples.
