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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha256;

    fn derived(seed: &[u8], purpose: Purpose) -> String {
        let kek = Kek::from_bytes(Secret::new(sha256(seed))).unwrap();
        hex::encode(derive(&kek, purpose).unwrap().expose())
    }

    #[test]
    fn derived_keys_do_not_change() {
        for (purpose, expected) in [
            (Purpose::Idempotency, IDEMPOTENCY),
            (Purpose::ConsoleSession, CONSOLE_SESSION),
            (Purpose::SecretPepper, SECRET_PEPPER),
        ] {
            assert_eq!(derived(b"kek", purpose), expected);
        }
    }

    #[test]
    fn another_key_derives_another_subkey() {
        assert_ne!(derived(b"other", Purpose::Idempotency), IDEMPOTENCY);
    }

    /// The subkeys of SHA-256(`kek`), computed apart from this code.
    const IDEMPOTENCY: &str = "c4facdc125ca32e57689e225ee38303912ca3c31ad2eb7899c01c0413b3fc410";
    const CONSOLE_SESSION: &str =
        "57e3834ddda3a92417b956c3922d287b6041f8842c71b37c871688386611a125";
    const SECRET_PEPPER: &str = "098d41b8c189a73ea2e96ba72c78683a9cd4fcc7f7737b6b3f7f556f3e30c849";
}
