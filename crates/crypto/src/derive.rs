//! Keys derived from the key-encryption key (HKDF-SHA256, RFC 5869).
//!
//! Where an installation brings no key of its own for a purpose, the purpose gets a labelled subkey:
//! stable across restarts and replicas, and worthless for finding the key-encryption key or another
//! purpose's subkey.

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use caracal_core::Secret;
use thiserror::Error;

use crate::hmac_key::HmacKey;
use crate::kek::Kek;

/// What a derived key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Digests of idempotency keys (`IDEMPOTENCY_HMAC_KEY`).
    Idempotency,
    /// Console sessions (`CARACAL_AUTH_SECRET`).
    ConsoleSession,
    /// The keyed hash of generated client secrets.
    SecretPepper,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Idempotency => b"caracal/idempotency/v1",
            Self::ConsoleSession => b"caracal/console-session/v1",
            Self::SecretPepper => b"caracal/secret-pepper/v1",
        }
    }
}

/// The cryptographic module cannot derive a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the cryptographic module cannot derive a key")]
pub struct DeriveError;

/// The 32-byte subkey of `kek` for `purpose`.
///
/// # Errors
/// [`DeriveError`] when the cryptographic module fails.
pub fn derive(kek: &Kek, purpose: Purpose) -> Result<Secret<[u8; 32]>, DeriveError> {
    let mut key = [0; 32];
    Salt::new(HKDF_SHA256, b"caracal derived keys")
        .extract(kek.bytes())
        .expand(&[purpose.label()], HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key))
        .map_err(|_| DeriveError)?;
    Ok(Secret::new(key))
}

/// The subkey of `kek` for `purpose`, as an HMAC key.
///
/// # Errors
/// [`DeriveError`] when the cryptographic module fails.
pub fn derive_hmac_key(kek: &Kek, purpose: Purpose) -> Result<HmacKey, DeriveError> {
    Ok(HmacKey::from_secret_bytes(derive(kek, purpose)?.expose()))
}
