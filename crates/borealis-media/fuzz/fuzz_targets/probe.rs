//! `cargo +nightly fuzz run probe` in this folder: hostile bytes give an error, never a panic or a hang.
#![no_main]

use borealis_media::{Source, probe};
use borealis_media_fuzz::limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let source = Source::Bytes { name: "fuzz", data };
    let _ = probe(source, &limits());
});
