//! Pulls from a hub of the test's own on loopback: whole, interrupted, slow, damaged, refused.

mod hub;
mod pulls;
