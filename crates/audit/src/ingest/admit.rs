//! Is this an event of ours?

use caracal_crypto::HmacKey;
use caracal_evidence::event::MalformedEvent;
use caracal_evidence::{FrameSignature, ReceivedEvent, sign};
use thiserror::Error;

use crate::ledger::AlertKind;

/// Why bytes can never be stored as an event.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// The signature is missing or is not the producers' key's.
    #[error("the producer's signature is missing or wrong")]
    Signature,
    /// The signed bytes are not an event.
    #[error(transparent)]
    Malformed(#[from] MalformedEvent),
}

impl Refusal {
    pub(crate) fn kind(&self) -> AlertKind {
        match self {
            Self::Signature => AlertKind::BadSignature,
            Self::Malformed(_) => AlertKind::MalformedEvent,
        }
    }
}

/// Verifies the signature over the bytes, then reads them.
pub(crate) fn admit<'a>(
    data: &'a [u8],
    signature: Option<FrameSignature>,
    key: Option<&HmacKey>,
) -> Result<ReceivedEvent<'a>, Refusal> {
    if let Some(key) = key {
        let signed = signature.is_some_and(|s| sign::verifies(key, data, &s));
        if !signed {
            return Err(Refusal::Signature);
        }
    }
    Ok(ReceivedEvent::from_json(data)?)
}
