//! The producer's signature over an event's JSON text.

use std::fmt;

use caracal_crypto::HmacKey;

/// The length of a signature in bytes.
pub const SIGNATURE_LEN: usize = 32;

/// Signs exactly these bytes under `AUDIT_HMAC_KEY`.
#[must_use]
pub fn sign(key: &HmacKey, data: &[u8]) -> FrameSignature {
    FrameSignature(key.sign(data))
}

/// Whether `signature` is the key's over `data`, in constant time.
#[must_use]
pub fn verifies(key: &HmacKey, data: &[u8], signature: &FrameSignature) -> bool {
    key.verify(data, &signature.0)
}

/// HMAC-SHA256 of an event's JSON text; printed as lower-case hex, the wire's `sig`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FrameSignature(pub(crate) [u8; SIGNATURE_LEN]);

impl FrameSignature {
    /// From the raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SIGNATURE_LEN]) -> Self {
        Self(bytes)
    }

    /// From hex text, as on the wire; `None` for anything but 64 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; SIGNATURE_LEN];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SIGNATURE_LEN] {
        &self.0
    }
}

impl fmt::Display for FrameSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for FrameSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameSignature({self})")
    }
}
