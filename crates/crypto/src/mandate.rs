//! Verifying mandates: JWS compact serialisation (RFC 7515 §3.1) with ES256 and nothing else.
//!
//! The signature comes first and the claims after it, because the claims of an unverified token mean
//! nothing. Claims are then judged from the general to the particular: well formed, alive, from this
//! issuer, for this audience, in this zone, of this use. [`VerifiedMandate`] is the proof that all of
//! it held: only [`verify`] makes one.

use std::fmt;
use std::sync::Arc;

use caracal_core::Timestamp;
use caracal_core::id::ZoneId;
use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;

use crate::base64url;
use crate::claims::{self, Claims, MandateUse, ReadClaims};
use crate::digest::sha256;
use crate::key_set::KeySet;

/// The longest mandate that is signed, read or accepted, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8_192;

/// Why a mandate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MandateError {
    /// Not a compact JWS with JSON objects in it, or longer than [`MAX_TOKEN_BYTES`].
    #[error("the token is malformed")]
    Malformed,
    /// The header's `alg` is not `ES256`.
    #[error("the token is not signed with ES256")]
    AlgorithmNotAllowed,
    /// The header's `kid` names no key of the set. The set may be old: fetch it again.
    #[error("the token is signed by an unknown key")]
    UnknownKey,
    /// The signature does not fit.
    #[error("the token's signature does not verify")]
    SignatureInvalid,
    /// `exp` has come.
    #[error("the token has expired")]
    Expired,
    /// `iat` or `nbf` lies further ahead than the leeway.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `iss` is another issuer.
    #[error("the token is from another issuer")]
    IssuerMismatch,
    /// `aud` does not hold the expected audience.
    #[error("the token is for another audience")]
    AudienceMismatch,
    /// `zone_id` is another zone.
    #[error("the token is of another zone")]
    ZoneMismatch,
    /// `use` is none of the allowed ones.
    #[error("the token is of a class that is not accepted here")]
    UseNotAllowed,
    /// The named claim is missing or has the wrong form.
    #[error("the token's claim {0} is missing or invalid")]
    ClaimInvalid(&'static str),
}

/// What a mandate must say to be accepted.
#[derive(Debug, Clone, Copy)]
pub struct Expectation<'a> {
    /// The exact `iss`.
    pub issuer: &'a str,
    /// A value that `aud` must hold.
    pub audience: &'a str,
    /// The exact `zone_id`.
    pub zone: &'a ZoneId,
    /// The allowed values of `use`.
    pub uses: &'a [MandateUse],
    /// The current instant.
    pub now: Timestamp,
    /// How far `iat` and `nbf` may lie ahead of `now`. `exp` has no leeway.
    pub leeway_seconds: i64,
}

/// A mandate that passed [`verify`]. Cheap to clone.
#[derive(Clone)]
pub struct VerifiedMandate {
    token: Arc<str>,
    claims: Arc<Claims>,
}

impl VerifiedMandate {
    /// The mandate's compact form. It is a credential: never log it.
    #[must_use]
    pub fn token(&self) -> &Arc<str> {
        &self.token
    }

    /// The verified claims.
    #[must_use]
    pub fn claims(&self) -> &Arc<Claims> {
        &self.claims
    }

    /// What stands for the mandate in logs and audit events: see [`fingerprint`].
    #[must_use]
    pub fn subject_fingerprint(&self) -> String {
        fingerprint(&self.token)
    }
}

/// Shows the fingerprint and the claims, never the token.
impl fmt::Debug for VerifiedMandate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedMandate")
            .field("fingerprint", &self.subject_fingerprint())
            .field("claims", &self.claims)
            .finish()
    }
}

/// The first 8 bytes of SHA-256 over the whole token, as 16 lower-case hex digits.
#[must_use]
pub fn fingerprint(token: &str) -> String {
    hex::encode(&sha256(token.as_bytes())[..8])
}

/// Verifies `token` against the zone's keys and the expectation.
///
/// # Errors
/// A [`MandateError`] that names the first rule that does not hold.
pub fn verify(
    token: &str,
    keys: &KeySet,
    expect: &Expectation<'_>,
) -> Result<VerifiedMandate, MandateError> {
    let parts = split(token)?;
    verify_signature(&parts, keys)?;
    let payload = base64url::decode(parts.payload).ok_or(MandateError::Malformed)?;
    let read = claims::read(&payload)?;
    judge(&read, expect)?;
    Ok(VerifiedMandate {
        token: token.into(),
        claims: Arc::new(read.claims),
    })
}

/// The parts of a compact JWS, still encoded.
pub(crate) struct Parts<'a> {
    signed: &'a str,
    header: &'a str,
    pub(crate) payload: &'a str,
    signature: &'a str,
}

/// Takes a compact JWS apart; the only place that does.
pub(crate) fn split(token: &str) -> Result<Parts<'_>, MandateError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(MandateError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(MandateError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(MandateError::Malformed)?;
    if payload.contains('.') {
        return Err(MandateError::Malformed);
    }
    Ok(Parts {
        signed,
        header,
        payload,
        signature,
    })
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    /// Extensions that must be understood (RFC 7515 §4.1.11); we understand none.
    crit: Option<IgnoredAny>,
}

fn verify_signature(parts: &Parts<'_>, keys: &KeySet) -> Result<(), MandateError> {
    let header = base64url::decode(parts.header).ok_or(MandateError::Malformed)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| MandateError::Malformed)?;
    if header.alg != "ES256" {
        return Err(MandateError::AlgorithmNotAllowed);
    }
    if header.crit.is_some() {
        return Err(MandateError::Malformed);
    }
    let key = keys.get(&header.kid).ok_or(MandateError::UnknownKey)?;
    let signature: [u8; 64] =
        base64url::decode_array(parts.signature).ok_or(MandateError::SignatureInvalid)?;
    if key.accepts(parts.signed.as_bytes(), &signature) {
        Ok(())
    } else {
        Err(MandateError::SignatureInvalid)
    }
}

fn judge(read: &ReadClaims, expect: &Expectation<'_>) -> Result<(), MandateError> {
    let claims = &read.claims;
    let horizon = expect.now.plus_seconds(expect.leeway_seconds);
    if claims.exp <= expect.now {
        return Err(MandateError::Expired);
    }
    if claims.iat > horizon || read.not_before.is_some_and(|at| at > horizon) {
        return Err(MandateError::NotYetValid);
    }
    if *claims.iss != *expect.issuer {
        return Err(MandateError::IssuerMismatch);
    }
    if !claims.has_audience(expect.audience) {
        return Err(MandateError::AudienceMismatch);
    }
    if claims.zone_id != *expect.zone {
        return Err(MandateError::ZoneMismatch);
    }
    if !expect.uses.contains(&claims.mandate_use) {
        return Err(MandateError::UseNotAllowed);
    }
    Ok(())
}

#[cfg(test)]
#[path = "mandate/tests.rs"]
mod tests;
