//! The published keys of one zone (JWK Set, RFC 7517 §5).
//!
//! Reading is lenient per key and strict in sum: a key that is not one of ours is skipped, so that a
//! set can grow kinds that we don't know, but a set without any usable key is an error.

use caracal_core::id::KeyId;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::zone_key::VerifyingKey;

/// The largest document that is read, in bytes.
pub const MAX_JWKS_BYTES: usize = 256 * 1_024;

/// The most keys that are kept of one document.
const MAX_KEYS: usize = 32;

/// A document is no usable key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeySetError {
    /// Longer than [`MAX_JWKS_BYTES`].
    #[error("the key set exceeds {MAX_JWKS_BYTES} bytes")]
    TooLarge,
    /// Not a JSON object with an array `keys`.
    #[error("the key set is not a JSON Web Key Set")]
    Malformed,
    /// No key of the set can verify mandates.
    #[error("the key set has no usable key")]
    NoUsableKey,
}

/// The keys that verify a zone's mandates, found by `kid`.
#[derive(Debug, Clone, Default)]
pub struct KeySet(Vec<VerifyingKey>);

impl KeySet {
    /// Reads a JWK Set.
    ///
    /// # Errors
    /// [`KeySetError`] when the document is too large, malformed, or holds no usable key.
    pub fn from_jwks_json(document: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        if document.len() > MAX_JWKS_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let document: Document =
            serde_json::from_slice(document).map_err(|_| KeySetError::Malformed)?;
        let set: Self = document
            .keys
            .into_iter()
            .filter_map(usable)
            .take(MAX_KEYS)
            .collect();
        if set.is_empty() {
            Err(KeySetError::NoUsableKey)
        } else {
            Ok(set)
        }
    }

    /// Writes the set as a JWK Set, in the order of the keys: put the active one first.
    #[must_use]
    pub fn to_jwks_json(&self) -> Vec<u8> {
        let keys: Vec<String> = self.0.iter().map(jwk_json).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(",")).into_bytes()
    }

    /// The key with this id.
    #[must_use]
    pub fn get(&self, kid: &str) -> Option<&VerifyingKey> {
        self.0.iter().find(|key| key.kid().as_str() == kid)
    }

    /// Whether the set has no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys, in order.
    pub fn iter(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.0.iter()
    }
}

/// Of several keys with one id the first is kept.
impl FromIterator<VerifyingKey> for KeySet {
    fn from_iter<I: IntoIterator<Item = VerifyingKey>>(keys: I) -> Self {
        let mut set = Self::default();
        for key in keys {
            if set.get(key.kid().as_str()).is_none() {
                set.0.push(key);
            }
        }
        set
    }
}

fn usable(key: Value) -> Option<VerifyingKey> {
    #[derive(Deserialize)]
    struct Jwk {
        kty: String,
        crv: String,
        alg: String,
        kid: KeyId,
        #[serde(rename = "use", default)]
        key_use: Option<String>,
        #[serde(default)]
        key_ops: Option<Vec<String>>,
        x: String,
        y: String,
    }
    let jwk: Jwk = serde_json::from_value(key).ok()?;
    let fits = jwk.kty == "EC"
        && jwk.crv == "P-256"
        && jwk.alg == "ES256"
        && jwk.key_use.is_none_or(|key_use| key_use == "sig")
        && jwk
            .key_ops
            .is_none_or(|ops| ops.is_empty() || ops.iter().any(|op| op == "verify"));
    if !fits {
        return None;
    }
    VerifyingKey::from_coordinates(jwk.kid, &jwk.x, &jwk.y).ok()
}

/// A key id is of the id alphabet, so nothing needs escaping.
fn jwk_json(key: &VerifyingKey) -> String {
    format!(
        r#"{{"kty":"EC","crv":"P-256","use":"sig","kid":"{}","alg":"ES256","x":"{}","y":"{}"}}"#,
        key.kid(),
        key.x(),
        key.y()
    )
}

#[cfg(test)]
#[path = "key_set/tests.rs"]
mod tests;
