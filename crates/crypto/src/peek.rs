//! A look into a mandate before its signature is verified.
//!
//! The Gateway must reject a dead or unroutable mandate before it may fetch keys. What [`peek`]
//! returns is what the caller *wrote*, not what anybody signed: use it to reject, and to pick the
//! key set to verify with. Nothing may be allowed on it.

use caracal_core::Timestamp;
use caracal_core::id::{ApplicationId, ZoneId};
use serde::Deserialize;
use serde_json::Value;

use crate::base64url;
use crate::mandate::{MandateError, split};

/// Unverified claims of a mandate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peek {
    /// `exp`; an integer other than 0.
    pub exp: Timestamp,
    /// `zone_id`, when it is a text of the id alphabet.
    pub zone_id: Option<ZoneId>,
    /// `client_id`, when it is a text of the id alphabet.
    pub client_id: Option<ApplicationId>,
}

#[derive(Deserialize)]
struct Payload {
    exp: Value,
    #[serde(default)]
    zone_id: Value,
    #[serde(default)]
    client_id: Value,
}

/// Reads the payload of `token` without verifying anything.
///
/// # Errors
/// [`MandateError::Malformed`] unless `token` has three parts within the size limit, and the second
/// is unpadded base64url of a JSON object whose `exp` is an integer other than 0.
pub fn peek(token: &str) -> Result<Peek, MandateError> {
    let payload = base64url::decode(split(token)?.payload).ok_or(MandateError::Malformed)?;
    let payload: Payload = serde_json::from_slice(&payload).map_err(|_| MandateError::Malformed)?;
    let exp = payload
        .exp
        .as_i64()
        .filter(|exp| *exp != 0)
        .ok_or(MandateError::Malformed)?;
    Ok(Peek {
        exp: Timestamp::from_seconds(exp),
        zone_id: payload.zone_id.as_str().and_then(|id| id.parse().ok()),
        client_id: payload.client_id.as_str().and_then(|id| id.parse().ok()),
    })
}
