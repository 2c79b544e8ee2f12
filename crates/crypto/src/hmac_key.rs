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

#[cfg(test)]
mod tests {
    use super::*;

    fn key(hex: &str) -> HmacKey {
        HmacKey::from_hex(&Secret::new(hex.to_owned())).unwrap()
    }

    fn counting_from(first: u8) -> HmacKey {
        let bytes: Vec<u8> = (first..first + 32).collect();
        key(&hex::encode(bytes))
    }

    #[test]
    fn audit_frames_are_signed_over_their_exact_text() {
        assert_eq!(
            counting_from(0).sign_hex(br#"{"id":"ev-1","zone_id":"zone-1"}"#),
            "1df486da4eb93478d3c680fda4bb90f4986446c36b4d661bb5b39d0659698ef3"
        );
        let exchange = r#"{"id":"0197a000-0000-7000-8000-000000000101","zone_id":"zone-a","event_type":"token_exchange","request_id":"req-1","decision":"allow","policy_set_version_id":"psv-1","manifest_sha":"sha256:aa11","evaluation_status":"complete","determining_policies_json":[{"policy_id":"p1"}],"diagnostics_json":[],"metadata_json":{"resource":"resource://api","requested_scopes":["read"]},"occurred_at":"2026-01-02T03:04:05.123456789Z"}"#;
        let request = r#"{"id":"0197a000-0000-7000-8000-000000000102","zone_id":"zone-a","event_type":"gateway_resource_request","request_id":"req-1","decision":"allow","evaluation_status":"complete","determining_policies_json":[],"diagnostics_json":[],"metadata_json":{"method":"GET","latency_ms":12,"gateway_status":200},"occurred_at":"2026-01-02T03:04:05.2Z"}"#;
        let collision = r#"{"id":"0197a000-0000-7000-8000-000000000103","zone_id":"zone-a","event_type":"jti_collision","request_id":"req-2","decision":"deny","evaluation_status":"anomaly","determining_policies_json":null,"diagnostics_json":null,"occurred_at":"2026-01-02T03:04:06Z"}"#;
        for (data, expected) in [
            (
                exchange,
                "80d086ae52b233efbdada1540b1771badf9a09ab6d1ca59720e3e88cf0ae63f0",
            ),
            (
                request,
                "fe196dae850ee926b6c42359523f9b68262a9d25d9037a79118777dbe9b8e057",
            ),
            (
                collision,
                "b094ca7b6770736c1e152b43c985ccd3114cfae7fad61d47332f31cc333bd4d0",
            ),
        ] {
            assert_eq!(counting_from(0xa0).sign_hex(data.as_bytes()), expected);
        }
    }

    #[test]
    fn a_reveal_event_is_signed_over_its_exact_text() {
        let data = r#"{"id":"0195a5f0-0000-7000-8000-0000000000aa","zone_id":"z1","event_type":"credential_revealed","request_id":"req-1","decision":"allow","evaluation_status":"complete","determining_policies_json":[],"diagnostics_json":[],"metadata_json":{"credential":"workload_secret","workload_id":"w1","workload_name":"nightly","actor":"admin:t1"},"occurred_at":"2026-03-01T12:00:00.000Z"}"#;
        assert_eq!(
            key(&format!("{}01", "00".repeat(31))).sign_hex(data.as_bytes()),
            "6ef3affb9b175f97d69e4e4185b5773ef4c97dd4067a6c92907a69b43f320a2a"
        );
    }

    #[test]
    fn idempotency_keys_are_digested_behind_a_label() {
        let digest = |key: &str| {
            let parts = [
                b"caracal:coordinator:idempotency:v1".as_slice(),
                b"\0",
                key.as_bytes(),
            ];
            hex::encode(counting_from(0).sign_parts(&parts))
        };
        assert_eq!(
            digest("op-123"),
            "7b0069f9db7dab6434e2ee3ad40ae395343723e8d73e61ba4d93406269fca0be"
        );
        assert_eq!(
            digest("ticket-queue:v1:PP-8412"),
            "042914e4e841704771a7a967d4422338cf9cec3b65159948d3555dca548de05d"
        );
    }

    #[test]
    fn a_tag_verifies_in_either_case_and_only_whole() {
        let key = counting_from(0);
        let tag = key.sign_hex(b"message");
        assert!(key.verify_hex(b"message", &tag));
        assert!(key.verify_hex(b"message", &tag.to_uppercase()));
        assert!(!key.verify_hex(b"massage", &tag));
        for bad in ["", &tag[..62], &format!("{tag}00"), "zz"] {
            assert!(!key.verify_hex(b"message", bad), "{bad}");
        }
        assert!(!key.verify(b"message", &key.sign(b"message")[..16]));
    }

    #[test]
    fn a_key_needs_thirty_two_bytes_of_hex() {
        let refusal = |text: &str| HmacKey::from_hex(&Secret::new(text.to_owned())).err();
        assert_eq!(refusal(""), Some(HmacKeyError::TooShort));
        assert_eq!(refusal(&"ab".repeat(31)), Some(HmacKeyError::TooShort));
        assert_eq!(refusal(&"xy".repeat(32)), Some(HmacKeyError::NotHex));
        assert_eq!(refusal(&"a".repeat(65)), Some(HmacKeyError::NotHex));
        assert_eq!(refusal(&"ab".repeat(64)), None);
    }

    #[test]
    fn debug_output_hides_the_key() {
        assert_eq!(format!("{:?}", counting_from(0)), "HmacKey(***)");
    }
}
