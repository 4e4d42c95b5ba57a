//! `cargo +nightly fuzz run read_image` in this folder: hostile bytes give an error, never a panic or a hang.
#![no_main]

use borealis_media::{Source, read_image};
use borealis_media_fuzz::limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let source = Source::Bytes { name: "fuzz", data };
    let _ = read_image(source, &limits());
});
