//! Tests of the engine's parts together.

mod bench;
mod features;
mod golden;
mod mock;
mod plans;
mod requests;
mod schedule;
mod threads;
mod whole;
mod windows;
