//! What ranks must have in common: compared before anything is computed.

use std::fmt;

use borealis_kernels::QuantFormat;
use borealis_weights::Checkpoint;

use super::placement::Placement;
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};

/// Bytes of weights that are read for the digest at most; of larger checkpoints every n-th block.
const READ: u64 = 2 << 30;
/// Bytes of a block.
const BLOCK: usize = 4096;

/// Digests of what a rank runs with. Two ranks with the same identity compute the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Of the program's own file.
    pub build: u64,
    /// Of the configuration and the tensors.
    pub weights: u64,
    /// Of how it is spread and kept: placement, ranks, format, kind of device.
    pub settings: u64,
}

/// A digest of 64 bits in which each step is a bijection: inputs of one length that differ in one word always differ in the result.
#[derive(Clone, Copy)]
struct Digest(u64);

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        for word in words.iter().chain([&last, &(bytes.len() as u64).to_le_bytes()]) {
            // An odd factor and a rotation, both invertible.
            self.0 = (self.0 ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        }
    }
}

impl Identity {
    /// Of this program with this checkpoint, spread so, on a device of this kind (as [`borealis_kernels::Device::name`]).
    pub fn new(checkpoint: &Checkpoint, format: QuantFormat, kind: &str, placement: &Placement) -> Result<Self> {
        let program = std::env::current_exe().and_then(std::fs::read).map_err(|error| {
            ModelError::Ranks(format!("cannot read this program's own file, which all ranks compare: {error}"))
        })?;
        let mut build = Digest(1);
        build.add(&program);
        let mut settings = Digest(3);
        settings.add(format!("{} {kind} {}", format.name(), placement.spelled()).as_bytes());
        Ok(Self { build: build.0, weights: weights(checkpoint)?, settings: settings.0 })
    }

    /// What a rank has that the home has not; `None` when they agree.
    pub fn difference(&self, home: &Self) -> Option<&'static str> {
        if self.build != home.build {
            Some("is another build of this program: start the same file on all ranks")
        } else if self.weights != home.weights {
            Some("has other weights: give all ranks the same model")
        } else if self.settings != home.settings {
            Some("has other settings: give all ranks the same --dtype, --device, --ranks and --expert-load")
        } else {
            None
        }
    }

    /// For a message.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [self.build, self.weights, self.settings].iter().flat_map(|d| d.to_le_bytes()).collect()
    }

    /// Of a message; `None` when it is none.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.as_chunks::<8>() {
            ([a, b, c], []) => {
                let of = |word: &[u8; 8]| u64::from_le_bytes(*word);
                Some(Self { build: of(a), weights: of(b), settings: of(c) })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "build {:016x}, weights {:016x}, settings {:016x}", self.build, self.weights, self.settings)
    }
}

/// Names, types, shapes and values of all tensors, and what the configuration says.
fn weights(checkpoint: &Checkpoint) -> Result<u64> {
    let tensors = checkpoint.tensors("")?;
    let mut digest = Digest(2);
    digest.add(format!("{:?}", ModelConfig::new(checkpoint.manifest())?).as_bytes());
    let every = tensors.bytes().div_ceil(READ).max(1) as usize;
    for (name, dtype, shape, _) in tensors.stored() {
        digest.add(format!("{name} {dtype:?} {shape:?}").as_bytes());
        let scales = tensors.scales(name)?.map(|(bytes, _)| bytes.into());
        for bytes in tensors.pieces(name)?.chain(scales) {
            if every == 1 {
                digest.add(&bytes);
            } else {
                bytes.chunks(BLOCK).step_by(every).for_each(|block| digest.add(block));
            }
        }
        tensors.release(name)?;
    }
    Ok(digest.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_byte_shows_wherever_it_is() {
        let bytes: Vec<u8> = (0..100u8).collect();
        let of = |bytes: &[u8]| {
            let mut d = Digest(7);
            d.add(bytes);
            d.0
        };
        for i in 0..bytes.len() {
            let mut other = bytes.clone();
            other[i] ^= 1;
            assert_ne!(of(&bytes), of(&other), "byte {i}");
        }
        assert_ne!(of(&bytes[..96]), of(&[&bytes[..96], &[0]].concat()));
    }

    #[test]
    fn an_identity_survives_the_wire() {
        let id = Identity { build: 1, weights: u64::MAX, settings: 3 };
        assert_eq!(Identity::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!(Identity::from_bytes(&[0; 23]), None);
        let other = Identity { weights: 5, ..id };
        assert!(other.difference(&id).unwrap().starts_with("has other weights"));
        assert_eq!(id.difference(&id), None);
    }
}
