//! A request that is sent again gets the answer of the first time.
//!
//! A receipt is found under a keyed digest of the caller's key, so the store never holds the key, and
//! carries the fingerprint of the request, so the same key with another request is noticed. Looking
//! up and writing happen in the transaction of the change itself: a failed request leaves no receipt,
//! and of two equal requests at once the second sees the first one's.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use caracal_core::Timestamp;
use caracal_core::id::ApplicationId;
use caracal_crypto::{HmacKey, sha256_hex};
use caracal_store::{Receipt, StoreError, ZoneUnit};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use thiserror::Error;

use crate::Coordinator;
use crate::answer;
use crate::audit::{self, Entity};
use crate::call::Call;
use crate::caller::Bearer;
use crate::canonical::canonical_json;
use crate::stats::{Outcome, Tally};

/// The longest key, bytes.
const MAX_KEY: usize = 255;

/// The largest stored answer, bytes.
const MAX_ANSWER: usize = 65_536;

const DIGEST_CONTEXT: &[u8] = b"caracal:coordinator:idempotency:v1\0";

/// An `Idempotency-Key` header that can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum KeyError {
    /// Not a key.
    #[error(
        "the idempotency key has 1 to {MAX_KEY} bytes, no control characters and no white space around it"
    )]
    Invalid,
    /// More than one.
    #[error("send one idempotency key")]
    Multiple,
}

/// Why a key is refused.
#[derive(Debug, Error)]
pub(crate) enum IdempotencyError {
    /// The key was used for another request.
    #[error("the idempotency key was used for a different request")]
    Conflict,
    /// What the first request made is no longer usable.
    #[error("what the first request with this idempotency key made is no longer active")]
    ResultInactive,
    /// Too many live receipts.
    #[error("too many idempotency keys are in use; retry later or without a key")]
    TooManyReceipts,
    /// The answer can't be kept for a replay.
    #[error("the answer is too large to be kept for a replay: ask for fewer scopes")]
    AnswerTooLarge,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// The start of a Session.
    StartSession,
    /// The creation of a delegation.
    CreateDelegation,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::StartSession => "session.start.v2",
            Self::CreateDelegation => "delegation.create.v2",
        }
    }

    fn resource_type(self) -> &'static str {
        match self {
            Self::StartSession => "session",
            Self::CreateDelegation => "delegation_edge",
        }
    }
}

/// A caller's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    text: String,
    generated: bool,
}

impl Key {
    /// Reads `Idempotency-Key` and `Idempotency-Key-Kind`.
    fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, KeyError> {
        let mut values = headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(KeyError::Multiple);
        }
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| KeyError::Invalid)?;
        let usable = (1..=MAX_KEY).contains(&text.len())
            && text.trim() == text
            && !text.bytes().any(|b| b.is_ascii_control());
        let generated = headers
            .get("idempotency-key-kind")
            .is_some_and(|kind| kind == "generated");
        if usable {
            Ok(Some(Self {
                text: text.to_owned(),
                generated,
            }))
        } else {
            Err(KeyError::Invalid)
        }
    }

    fn digest(&self, key: &HmacKey) -> String {
        hex::encode(key.sign_parts(&[DIGEST_CONTEXT, self.text.as_bytes()]))
    }
}

/// The fingerprint of a request: its fields and who sent it.
fn fingerprint(bearer: &Bearer, mut fields: Value) -> String {
    fields["principal"] = json!({ "client_id": bearer.client_id, "subject": &*bearer.subject });
    sha256_hex(canonical_json(&fields).as_bytes())
}

/// The right to leave a receipt: the key was looked up in this transaction and is new.
#[derive(Debug)]
pub(crate) struct Ticket {
    operation: Operation,
    scope: ApplicationId,
    key_digest: String,
    fingerprint: String,
    retention: Duration,
    tally: Arc<Tally>,
}

/// What was found under a key.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing: carry out the request, and leave a receipt if there is a ticket.
    Nothing(Option<Ticket>),
    /// The receipt of the same request.
    Receipt(Receipt),
}

impl Coordinator {
    /// The key of a request.
    pub(crate) fn idempotency_key(&self, headers: &HeaderMap) -> Result<Option<Key>, KeyError> {
        let key = Key::from_headers(headers);
        if key.is_err() {
            self.tally.outcome(Outcome::Invalid, 1);
        }
        key
    }

    /// Looks a request's key up.
    pub(crate) async fn find_receipt(
        &self,
        unit: &ZoneUnit,
        (bearer, key): (&Bearer, Option<&Key>),
        (operation, scope): (Operation, &ApplicationId),
        fields: Value,
        now: Timestamp,
    ) -> Result<Found, IdempotencyError> {
        let Some(key) = key else {
            return Ok(Found::Nothing(None));
        };
        let fingerprint = fingerprint(bearer, fields);
        let current = key.digest(&self.options.idempotency_key);
        let previous = self.options.previous_idempotency_key.as_ref();
        let digests: Vec<String> = std::iter::once(current.clone())
            .chain(previous.map(|old| key.digest(old)))
            .collect();
        let (name, scope_id) = (operation.as_str(), scope.as_str());
        if let Some(receipt) = unit.find_receipt(name, scope_id, &digests, now).await? {
            if receipt.fingerprint != fingerprint {
                self.tally.outcome(Outcome::Conflict, 1);
                return Err(IdempotencyError::Conflict);
            }
            return Ok(Found::Receipt(receipt));
        }
        let limit = self.options.max_receipts_per_scope;
        if unit.held_receipts(name, scope_id, limit, now).await? >= limit {
            return Err(IdempotencyError::TooManyReceipts);
        }
        let retention = if key.generated {
            self.options.generated_receipt_retention
        } else {
            self.options.receipt_retention
        };
        Ok(Found::Nothing(Some(Ticket {
            operation,
            scope: scope.clone(),
            key_digest: current,
            fingerprint,
            retention,
            tally: Arc::clone(&self.tally),
        })))
    }
}

impl Ticket {
    /// Leaves the receipt.
    pub(crate) async fn redeem(
        self,
        unit: &mut ZoneUnit,
        (resource_id, status, body): (&str, u16, &str),
        now: Timestamp,
    ) -> Result<(), IdempotencyError> {
        if body.len() > MAX_ANSWER {
            return Err(IdempotencyError::AnswerTooLarge);
        }
        unit.insert_receipt(&Receipt {
            operation: self.operation.as_str().to_owned(),
            scope_id: self.scope.to_string(),
            key_digest: self.key_digest,
            fingerprint: self.fingerprint,
            resource_type: self.operation.resource_type().to_owned(),
            resource_id: resource_id.to_owned(),
            status_code: i64::from(status),
            body: body.to_owned(),
            created_at: now,
            expires_at: now.plus(self.retention),
        })
        .await?;
        self.tally.outcome(Outcome::Created, 1);
        Ok(())
    }
}

/// Answers as the first time, and commits the row that says so.
pub(crate) async fn replay(
    tally: &Tally,
    mut unit: ZoneUnit,
    call: &Call,
    entity: &Entity,
    receipt: &Receipt,
) -> Result<Response, StoreError> {
    let response = repeat(&mut unit, call, entity, receipt).await?;
    unit.commit().await?;
    tally.outcome(Outcome::Replayed, 1);
    Ok(response)
}

/// The answer of the first time, with its row in the unit.
pub(crate) async fn repeat(
    unit: &mut ZoneUnit,
    call: &Call,
    entity: &Entity,
    receipt: &Receipt,
) -> Result<Response, StoreError> {
    let status = u16::try_from(receipt.status_code).ok();
    let status = status.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.unwrap_or(StatusCode::CREATED);
    audit::record(unit, call, entity, status).await?;
    let mut response = answer::json(status, receipt.body.clone());
    response.headers_mut().insert(
        HeaderName::from_static("idempotency-replayed"),
        HeaderValue::from_static("true"),
    );
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::StartRequest;
    use caracal_core::ScopeSet;
    use caracal_core::id::{AuthorityRecordId, ZoneId};

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let name = HeaderName::from_static("idempotency-key");
        values
            .iter()
            .map(|value| (name.clone(), HeaderValue::from_bytes(value).unwrap()))
            .collect()
    }

    fn bearer() -> Bearer {
        Bearer {
            zone: ZoneId::parse("z").unwrap(),
            client_id: ApplicationId::parse("app-1").unwrap(),
            subject: "app-1".into(),
            sid: AuthorityRecordId::parse("rec-9").unwrap(),
            scopes: ScopeSet::default(),
        }
    }

    #[test]
    fn the_digest_of_a_key_is_fixed() {
        let bytes: Vec<u8> = (0..32).collect();
        let key = Key {
            text: "ticket-queue:v1:PP-8412".to_owned(),
            generated: false,
        };
        assert_eq!(
            key.digest(&HmacKey::from_secret_bytes(&bytes)),
            "042914e4e841704771a7a967d4422338cf9cec3b65159948d3555dca548de05d"
        );
    }

    #[test]
    fn the_fingerprint_of_a_start_is_fixed() {
        let request = StartRequest::parse(Some(json!({
            "application_id": "app-1", "subject_session_id": "rec-1", "labels": ["a", "b"],
            "metadata": { "z": 1, "k": "é" }
        })))
        .unwrap();
        assert_eq!(
            fingerprint(&bearer(), request.fingerprint_fields()),
            "cf49525a72c3e12889c490e93898feca60cdaa46bfad103e471b25c06cbf040b"
        );
    }

    #[test]
    fn keys_that_could_be_read_in_two_ways_are_refused() {
        for bad in [&b""[..], b" a", b"a ", b"\xff", &[b'x'; 256]] {
            assert_eq!(Key::from_headers(&headers(&[bad])), Err(KeyError::Invalid));
        }
        assert_eq!(
            Key::from_headers(&headers(&[b"a", b"b"])),
            Err(KeyError::Multiple)
        );
        assert_eq!(Key::from_headers(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn only_the_exact_kind_marks_a_generated_key() {
        let mut headers = headers(&[b"a"]);
        for (kind, generated) in [("generated", true), ("Generated", false), ("other", false)] {
            headers.insert("idempotency-key-kind", HeaderValue::from_str(kind).unwrap());
            let key = Key::from_headers(&headers).unwrap().unwrap();
            assert_eq!(key.generated, generated, "{kind}");
        }
    }
}
