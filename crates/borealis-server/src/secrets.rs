//! Random bytes, hashes and signatures.

use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::error::{Result, ServerError};

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// 32 unpredictable bytes: the hash of 488 bits of the system's random numbers.
pub(crate) fn random() -> [u8; 32] {
    let mut hash = Sha256::new();
    for _ in 0..4 {
        hash.update(uuid::Uuid::new_v4().as_bytes());
    }
    hash.finalize().into()
}

/// 256 random bits that fit into a URL.
pub(crate) fn token() -> String {
    URL_SAFE_NO_PAD.encode(random())
}

/// The secret of a data folder: signs URLs and webhooks.
#[derive(Clone)]
pub(crate) struct Secret([u8; 32]);

impl Secret {
    /// Reads the secret of the data folder, or makes one that only its owner can read.
    pub fn open(data: &Path) -> Result<Self> {
        let path = data.join("secret");
        let fail = |source| ServerError::Data { path: path.clone(), source };
        match std::fs::read(&path) {
            Ok(bytes) => {
                let bytes = bytes.try_into().map_err(|_| fail(std::io::ErrorKind::InvalidData.into()))?;
                return Ok(Self(bytes));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail(error)),
        }
        let secret = random();
        // tempfile's files are private; the name appears with all bytes or not at all, and the first of two processes wins.
        let mut file = tempfile::NamedTempFile::new_in(data).map_err(fail)?;
        file.write_all(&secret).and_then(|()| file.as_file().sync_all()).map_err(fail)?;
        match file.persist_noclobber(&path) {
            Ok(_) => Ok(Self(secret)),
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Self::open(data),
            Err(error) => Err(fail(error.error)),
        }
    }

    /// A secret for tests.
    #[cfg(test)]
    pub fn fixed() -> Self {
        Self([7; 32])
    }

    /// HMAC-SHA-256 of a message for a purpose.
    fn mac(&self, purpose: &str, message: &str) -> Hmac<Sha256> {
        let mut mac = keyed(&self.0);
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(message.as_bytes());
        mac
    }

    /// A signature that fits into a URL.
    pub fn sign(&self, purpose: &str, message: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(purpose, message).finalize().into_bytes())
    }

    /// Whether a signature is right, in constant time.
    pub fn verify(&self, purpose: &str, message: &str, signature: &str) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        self.mac(purpose, message).verify_slice(&bytes).is_ok()
    }

    /// The key with which webhooks of an account are signed.
    pub fn webhook_key(&self, account: &str) -> [u8; 32] {
        self.mac("webhook", account).finalize().into_bytes().into()
    }
}

/// A webhook key as Standard Webhooks writes it.
pub(crate) fn webhook_secret(key: &[u8; 32]) -> String {
    format!("whsec_{}", STANDARD.encode(key))
}

/// The `webhook-signature` of Standard Webhooks 1.0: HMAC-SHA-256 over `id.timestamp.body`.
pub(crate) fn webhook_signature(key: &[u8; 32], id: &str, timestamp: i64, body: &[u8]) -> String {
    let mut mac = keyed(key);
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_bound_to_purpose_and_message() {
        let secret = Secret::fixed();
        let signature = secret.sign("url", "a.mp4 1");
        assert!(secret.verify("url", "a.mp4 1", &signature));
        assert!(!secret.verify("url", "a.mp4 2", &signature));
        assert!(!secret.verify("webhook", "a.mp4 1", &signature));
        assert!(!secret.verify("url", "a.mp4 1", "!!"));
        assert!(!secret.verify("url", "a.mp4 1", ""));
    }

    #[test]
    fn webhooks_are_signed_as_the_standard_says() {
        // The example of the Standard Webhooks reference libraries.
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mut mac = keyed(&key);
        mac.update(b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}");
        assert_eq!(STANDARD.encode(mac.finalize().into_bytes()), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let other = webhook_signature(&[1; 32], "m", 5, b"{}");
        assert!(other.starts_with("v1,") && other != webhook_signature(&[1; 32], "m", 6, b"{}"));
    }

    #[test]
    fn the_secret_stays() {
        let folder = tempfile::tempdir().unwrap();
        let one = Secret::open(folder.path()).unwrap().sign("url", "x");
        assert!(Secret::open(folder.path()).unwrap().verify("url", "x", &one));
        assert_ne!(random(), random());
        assert_eq!(hex(&[0, 255]), "00ff");
    }
}
