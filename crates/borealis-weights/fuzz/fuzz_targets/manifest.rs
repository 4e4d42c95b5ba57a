//! Any bytes as `config.json` or `generation_config.json`: refused with one line or consistent, never a panic.
#![no_main]

use borealis_weights::testing::tiny_config;
use borealis_weights::{Manifest, parse_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(value) = parse_json("fuzz.json", data) else { return };
    let _ = Manifest::new(&tiny_config(), Some(&value));
    match Manifest::new(&value, None) {
        Ok(manifest) => {
            let last = manifest.vocab_size - 1;
            assert!(manifest.segment_of(last).is_some() && manifest.segment_of(last + 1).is_none());
            assert!(manifest.modalities.iter().flat_map(|m| &m.codes).all(|c| c.end() <= manifest.vocab_size));
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
