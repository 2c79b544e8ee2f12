//! Signed requests between the Gateway (or the Admin API) and the STS.
//!
//! The signature covers time, nonce, method, path and body. Verifying proves origin and freshness;
//! that a nonce is used once is the caller's store to say, which is why [`verify`] hands the nonce
//! back as a value that must not be dropped unseen.

use caracal_core::random::bytes;
use caracal_core::{Random, Timestamp, id::is_id};
use thiserror::Error;

use crate::digest::sha256_hex;
use crate::hmac_key::HmacKey;

/// The header with the Unix seconds of signing.
pub const TIMESTAMP_HEADER: &str = "x-caracal-gateway-timestamp";
/// The header with the nonce.
pub const NONCE_HEADER: &str = "x-caracal-gateway-request";
/// The header with the signature.
pub const SIGNATURE_HEADER: &str = "x-caracal-gateway-signature";

/// How far the signer's clock may be off, either way, in seconds.
pub const MAX_SKEW_SECONDS: i64 = 60;
/// How long a nonce must be remembered, in seconds: the whole window in which it could come again.
pub const NONCE_SECONDS: i64 = 2 * MAX_SKEW_SECONDS;

/// What is signed of a request.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// The method; signed in upper case.
    pub method: &'a str,
    /// The path exactly as sent, percent-encoding included, without the query.
    pub path: &'a str,
    /// The exact body.
    pub body: &'a [u8],
}

/// The values of the three headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestSignature {
    /// Unix seconds, decimal.
    pub timestamp: String,
    /// 64 lower-case hex digits.
    pub nonce: String,
    /// 64 lower-case hex digits.
    pub signature: String,
}

/// The values of the three headers as received.
#[derive(Debug, Clone, Copy)]
pub struct PresentedSignature<'a> {
    /// [`TIMESTAMP_HEADER`].
    pub timestamp: &'a str,
    /// [`NONCE_HEADER`].
    pub nonce: &'a str,
    /// [`SIGNATURE_HEADER`].
    pub signature: &'a str,
}

/// A verified signature's nonce: the request is authentic once a store has taken it for the first
/// time within [`NONCE_SECONDS`].
#[must_use = "an authentic request may still be a replay: remember its nonce"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnspentNonce(Box<str>);

impl UnspentNonce {
    /// The nonce, of the id alphabet.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a request's signature is refused. All of them are one answer to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestSignatureError {
    /// A header value has the wrong form.
    #[error("the request's signature headers are malformed")]
    Malformed,
    /// Signed too long ago, or in the future.
    #[error("the request was signed more than {MAX_SKEW_SECONDS} seconds from now")]
    Stale,
    /// The signature does not fit the request.
    #[error("the request's signature does not verify")]
    Mismatch,
}

/// Signs `request` at `now` with a fresh nonce.
#[must_use]
pub fn sign(
    key: &HmacKey,
    request: &SignedRequest<'_>,
    now: Timestamp,
    random: &dyn Random,
) -> RequestSignature {
    let nonce = hex::encode(bytes::<32>(random));
    let timestamp = now.seconds().to_string();
    let signature = key.sign_hex(signed_text(&timestamp, &nonce, request).as_bytes());
    RequestSignature {
        timestamp,
        nonce,
        signature,
    }
}

/// Verifies that the holder of `key` signed `request` within [`MAX_SKEW_SECONDS`] of `now`.
///
/// # Errors
/// [`RequestSignatureError`] otherwise.
pub fn verify(
    key: &HmacKey,
    request: &SignedRequest<'_>,
    presented: &PresentedSignature<'_>,
    now: Timestamp,
) -> Result<UnspentNonce, RequestSignatureError> {
    let signed_at = unix_seconds(presented.timestamp).ok_or(RequestSignatureError::Malformed)?;
    if !is_id(presented.nonce) {
        return Err(RequestSignatureError::Malformed);
    }
    if signed_at.abs_diff(now.seconds()) > MAX_SKEW_SECONDS.unsigned_abs() {
        return Err(RequestSignatureError::Stale);
    }
    let text = signed_text(presented.timestamp, presented.nonce, request);
    if key.verify_hex(text.as_bytes(), presented.signature) {
        Ok(UnspentNonce(presented.nonce.into()))
    } else {
        Err(RequestSignatureError::Mismatch)
    }
}

/// Decimal digits only: a sign or white space would be a second spelling of the same instant.
fn unix_seconds(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

fn signed_text(timestamp: &str, nonce: &str, request: &SignedRequest<'_>) -> String {
    let method = request.method.to_ascii_uppercase();
    let body = sha256_hex(request.body);
    [timestamp, nonce, &method, request.path, &body].join("\n")
}

#[cfg(test)]
#[path = "request_signature/tests.rs"]
mod tests;
