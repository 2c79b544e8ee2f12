//! The key-encryption key (`SECRET_STORE_KEK`) and its ring.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use caracal_core::Secret;
use thiserror::Error;
use zeroize::Zeroize as _;

use crate::digest::sha256;

/// A text is no key-encryption key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KekError {
    /// Not hex digits.
    #[error("the key must be hex digits")]
    NotHex,
    /// Not 32 bytes.
    #[error("the key must be 32 bytes (64 hex digits)")]
    WrongLength,
    /// All bytes are zero.
    #[error("the key is all zero: generate a random one")]
    AllZero,
    /// All bytes are the same.
    #[error("the key repeats one byte: generate a random one")]
    OneByte,
    /// The bytes count up or down by one.
    #[error("the key counts up or down: generate a random one")]
    Sequence,
    /// The key repeats two bytes.
    #[error("the key repeats two bytes: generate a random one")]
    BytePair,
    /// The cryptographic module refused the key.
    #[error("the cryptographic module refuses the key")]
    Module,
}

/// A key-encryption key: 32 bytes that look random.
pub struct Kek {
    bytes: Secret<[u8; 32]>,
    fingerprint: [u8; 8],
    cipher: LessSafeKey,
}

impl Kek {
    /// Reads 64 hex digits and refuses patterns that no random generator makes.
    ///
    /// # Errors
    /// [`KekError`] that says what is wrong; the caller adds the variable's name.
    pub fn from_hex(text: &Secret<String>) -> Result<Self, KekError> {
        let mut decoded = hex::decode(text.expose()).map_err(|error| match error {
            hex::FromHexError::OddLength => KekError::WrongLength,
            _ => KekError::NotHex,
        })?;
        let bytes = <[u8; 32]>::try_from(decoded.as_slice());
        decoded.zeroize();
        Self::from_bytes(Secret::new(bytes.map_err(|_| KekError::WrongLength)?))
    }

    /// Takes 32 bytes, under the same refusals.
    ///
    /// # Errors
    /// [`KekError`] for a weak pattern.
    pub fn from_bytes(bytes: Secret<[u8; 32]>) -> Result<Self, KekError> {
        refuse_patterns(bytes.expose())?;
        let unbound =
            UnboundKey::new(&AES_256_GCM, bytes.expose()).map_err(|_| KekError::Module)?;
        let mut fingerprint = [0; 8];
        fingerprint.copy_from_slice(&sha256(bytes.expose())[..8]);
        Ok(Self {
            bytes,
            fingerprint,
            cipher: LessSafeKey::new(unbound),
        })
    }

    /// The first 8 bytes of SHA-256 over the key: says which key, not what key.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 8] {
        self.fingerprint
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        self.bytes.expose()
    }

    pub(crate) fn cipher(&self) -> &LessSafeKey {
        &self.cipher
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kek({})", hex::encode(self.fingerprint))
    }
}

/// The current key, which seals, and during a rotation the previous one, which still opens.
#[derive(Debug)]
pub struct KeyRing {
    current: Kek,
    previous: Option<Kek>,
}

impl KeyRing {
    /// A ring; `previous` only while a rotation is under way.
    #[must_use]
    pub fn new(current: Kek, previous: Option<Kek>) -> Self {
        Self { current, previous }
    }

    /// The key that seals.
    #[must_use]
    pub fn current(&self) -> &Kek {
        &self.current
    }

    /// The key that still opens.
    #[must_use]
    pub fn previous(&self) -> Option<&Kek> {
        self.previous.as_ref()
    }

    pub(crate) fn by_fingerprint(&self, fingerprint: &[u8]) -> Option<&Kek> {
        std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|kek| kek.fingerprint == fingerprint)
    }
}

fn refuse_patterns(bytes: &[u8; 32]) -> Result<(), KekError> {
    let steps_by = |step: u8| {
        bytes
            .windows(2)
            .all(|pair| pair[1] == pair[0].wrapping_add(step))
    };
    if bytes.iter().all(|byte| *byte == 0) {
        Err(KekError::AllZero)
    } else if steps_by(0) {
        Err(KekError::OneByte)
    } else if steps_by(1) || steps_by(u8::MAX) {
        Err(KekError::Sequence)
    } else if bytes.windows(3).all(|three| three[0] == three[2]) {
        Err(KekError::BytePair)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Option<KekError> {
        Kek::from_hex(&Secret::new(text.to_owned())).err()
    }

    fn refusal_of_bytes(byte: impl Fn(u8) -> u8) -> Option<KekError> {
        let bytes: Vec<u8> = (0..32).map(byte).collect();
        refusal(&hex::encode(bytes))
    }

    #[test]
    fn a_random_key_is_read_in_either_case() {
        let text = "8affeb86aaed33bfa011aafdd6b56492c518074449d71a505cb490a3ce5562f3";
        for text in [text.to_owned(), text.to_uppercase()] {
            let kek = Kek::from_hex(&Secret::new(text)).unwrap();
            assert_eq!(hex::encode(kek.fingerprint()), "30c18d2f7fd1c40a");
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong() {
        assert_eq!(refusal(""), Some(KekError::WrongLength));
        assert_eq!(refusal("abc"), Some(KekError::WrongLength));
        assert_eq!(refusal(&"a1".repeat(31)), Some(KekError::WrongLength));
        assert_eq!(refusal(&"a1".repeat(33)), Some(KekError::WrongLength));
        assert_eq!(refusal(&"xy".repeat(32)), Some(KekError::NotHex));
        assert_eq!(
            refusal(&format!("{}\n ", "a1".repeat(31))),
            Some(KekError::NotHex)
        );
    }

    #[test]
    fn keys_that_nobody_drew_are_refused() {
        assert_eq!(refusal_of_bytes(|_| 0), Some(KekError::AllZero));
        assert_eq!(refusal_of_bytes(|_| 0xaa), Some(KekError::OneByte));
        assert_eq!(refusal_of_bytes(|n| n), Some(KekError::Sequence));
        assert_eq!(refusal_of_bytes(|n| 0x80 - n), Some(KekError::Sequence));
        assert_eq!(
            refusal_of_bytes(|n| n.wrapping_add(0xf0)),
            Some(KekError::Sequence)
        );
        assert_eq!(
            refusal_of_bytes(|n| if n % 2 == 0 { 1 } else { 9 }),
            Some(KekError::BytePair)
        );
    }

    #[test]
    fn debug_output_hides_the_key() {
        let text = "8affeb86aaed33bfa011aafdd6b56492c518074449d71a505cb490a3ce5562f3";
        let kek = Kek::from_hex(&Secret::new(text.to_owned())).unwrap();
        assert_eq!(format!("{kek:?}"), "Kek(30c18d2f7fd1c40a)");
    }
}
