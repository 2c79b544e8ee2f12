//! Base64url without padding (RFC 4648 §5, as RFC 7515 §2 uses it), strict: padding, foreign
//! characters and non-zero trailing bits are refused, so that every value has one spelling.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub(crate) fn encode(data: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(data)
}

pub(crate) fn encode_onto(data: impl AsRef<[u8]>, text: &mut String) {
    URL_SAFE_NO_PAD.encode_string(data, text);
}

pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Decodes exactly `N` bytes.
pub(crate) fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    decode(text)?.try_into().ok()
}
