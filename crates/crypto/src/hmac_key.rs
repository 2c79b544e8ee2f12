//! Shared symmetric keys between services: HMAC-SHA256 (RFC 2104).

use std::fmt;

use aws_lc_rs::hmac;
use caracal_core::Secret;
use thiserror::Error;
use zeroize::Zeroize as _;

/// The shortest key that is accepted, in bytes.
pub const MIN_KEY_BYTES: usize = 32;

/// A text is no HMAC key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HmacKeyError {
    /// Not hex digits.
    #[error("the key must be hex digits")]
    NotHex,
    /// Shorter than [`MIN_KEY_BYTES`].
    #[error("the key must have at least {MIN_KEY_BYTES} bytes ({} hex digits)", MIN_KEY_BYTES * 2)]
    TooShort,
}

/// A key that signs and verifies with HMAC-SHA256. Cheap to clone.
#[derive(Clone)]
pub struct HmacKey(hmac::Key);

impl HmacKey {
    /// Reads hex digits, at least [`MIN_KEY_BYTES`] bytes.
    ///
    /// # Errors
    /// [`HmacKeyError`] that says what is wrong; the caller adds the variable's name.
    pub fn from_hex(text: &Secret<String>) -> Result<Self, HmacKeyError> {
        let mut decoded = hex::decode(text.expose()).map_err(|_| HmacKeyError::NotHex)?;
        if decoded.len() < MIN_KEY_BYTES {
            decoded.zeroize();
            return Err(HmacKeyError::TooShort);
        }
        let key = Self::from_secret_bytes(&decoded);
        decoded.zeroize();
        Ok(key)
    }

    /// Takes the bytes of a secret as they are: derived keys, and constructions that are defined
    /// over the UTF-8 of a token.
    #[must_use]
    pub fn from_secret_bytes(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The tag of `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        self.sign_parts(&[message])
    }

    /// The tag of the concatenated parts. Parts have no borders: put separators in.
    #[must_use]
    pub fn sign_parts(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// The tag of `message` as 64 lower-case hex digits.
    #[must_use]
    pub fn sign_hex(&self, message: &[u8]) -> String {
        hex::encode(self.sign(message))
    }

    /// Whether `tag` is the tag of `message`, in constant time.
    #[must_use]
    pub fn verify(&self, message: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, message, tag).is_ok()
    }

    /// Whether `tag`, hex digits of either case, is the tag of `message`, in constant time.
    #[must_use]
    pub fn verify_hex(&self, message: &[u8], tag: &str) -> bool {
        let mut decoded = [0; 32];
        hex::decode_to_slice(tag, &mut decoded).is_ok() && self.verify(message, &decoded)
    }
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey(***)")
    }
}
