//! Hashes of files, computed while they arrive.

use std::fmt::Write as _;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What the hub says of a file: the SHA-256 of its bytes (large files), or its git object id, which is a SHA-1 over a header and its bytes (small ones). Both are the file's name among
/// the cache's blobs.
pub(crate) enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    /// For a file of `size` bytes whose hash will be compared with `expected`; `None` when that is neither kind of hash.
    pub fn new(expected: &str, size: u64) -> Option<Self> {
        if !expected.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return None;
        }
        match expected.len() {
            64 => Some(Self::Sha256(Sha256::new())),
            40 => Some(Self::Git(Sha1::new_with_prefix(format!("blob {size}\0")))),
            _ => None,
        }
    }

    /// Takes bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Git(hash) => hash.update(bytes),
        }
    }

    /// Hexadecimal digits.
    pub fn finish(self) -> String {
        let digest: Vec<u8> = match self {
            Self::Sha256(hash) => hash.finalize().to_vec(),
            Self::Git(hash) => hash.finalize().to_vec(),
        };
        digest.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Hasher;

    fn hash(kind: usize, bytes: &[u8]) -> String {
        let mut hasher = Hasher::new(&"0".repeat(kind), bytes.len() as u64).unwrap();
        let (a, b) = bytes.split_at(bytes.len() / 2);
        hasher.update(a);
        hasher.update(b);
        hasher.finish()
    }

    /// `printf 'hello\n' | sha256sum` and `printf 'hello\n' | git hash-object --stdin`.
    #[test]
    fn hashes_are_those_of_sha256sum_and_git() {
        assert_eq!(hash(64, b"hello\n"), "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        assert_eq!(hash(40, b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert!(Hasher::new("abc", 3).is_none() && Hasher::new(&"../x".repeat(10), 3).is_none());
    }
}
