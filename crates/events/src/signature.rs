//! The signature of a stream entry, field `_sig`.
//!
//! Signed are the stream's name and a line feed, then for every other field, ascending by name,
//! `name=value` and a line feed. Nothing is escaped. The stream's name is part of it, so an entry
//! cannot be moved to another stream. The signature is 64 lower-case hex digits of HMAC-SHA256.

use caracal_crypto::HmacKey;

use crate::fields::{Fields, SIGNATURE_FIELD};

/// The bytes that are signed: `fields` as an entry of `stream`.
#[must_use]
pub fn canonical_bytes(stream: &str, fields: &Fields) -> Vec<u8> {
    let mut sorted: Vec<(&str, &str)> = fields
        .iter()
        .filter(|(name, _)| *name != SIGNATURE_FIELD)
        .collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    let length = sorted
        .iter()
        .map(|(name, value)| name.len() + value.len() + 2)
        .sum::<usize>();
    let mut bytes = Vec::with_capacity(stream.len() + 1 + length);
    bytes.extend_from_slice(stream.as_bytes());
    bytes.push(b'\n');
    for (name, value) in sorted {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(b'=');
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// The signature of `fields` as an entry of `stream`.
#[must_use]
pub fn signature(stream: &str, fields: &Fields, key: &HmacKey) -> String {
    key.sign_hex(&canonical_bytes(stream, fields))
}

/// Whether `fields`, as read from `stream`, carry their signature; hex of either case is read.
#[must_use]
pub fn is_authentic(stream: &str, fields: &Fields, key: &HmacKey) -> bool {
    fields
        .get(SIGNATURE_FIELD)
        .is_some_and(|claimed| key.verify_hex(&canonical_bytes(stream, fields), claimed))
}

#[cfg(test)]
#[path = "signature/tests.rs"]
mod tests;
