//! `cargo +nightly fuzz run probe` in this folder: hostile bytes give an error, never a panic or a hang.
#![no_main]

use std::time::Duration;

use borealis_media::{Limits, Source, probe};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = Limits {
        max_seconds: 20.0,
        max_pixels: 1 << 20,
        max_bytes: 1 << 22,
        max_frames: 500,
        max_decoded_bytes: 1 << 26,
        max_wall: Duration::from_secs(10),
        ..Limits::default()
    };
    let source = Source::Bytes { name: "fuzz", data };
    let _ = probe(source, &limits);
});
