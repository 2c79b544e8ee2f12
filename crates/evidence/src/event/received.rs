//! An event read back from its JSON text.

use std::borrow::Cow;

use caracal_core::Timestamp;
use caracal_core::id::{EventId, ZoneId};
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use super::MAX_EVENT_BYTES;

/// What a consumer can rely on in an event's JSON text.
///
/// The id, the zone and the instant are checked; everything else is text as the producer wrote it,
/// without NUL characters (some databases refuse them). Unknown members are tolerated.
#[derive(Debug)]
pub struct ReceivedEvent<'a> {
    /// The event's id.
    pub id: EventId,
    /// The zone it belongs to.
    pub zone_id: ZoneId,
    /// When it happened, cut to microseconds.
    pub occurred_at: Timestamp,
    /// See [`super::EventType`]; may be a name that this build doesn't know.
    pub event_type: Cow<'a, str>,
    /// The correlation id.
    pub request_id: Cow<'a, str>,
    /// See [`super::Decision`].
    pub decision: Cow<'a, str>,
    /// `complete`, or why it was refused.
    pub evaluation_status: Cow<'a, str>,
    /// The policy set.
    pub policy_set_id: Option<Cow<'a, str>>,
    /// The policy set version.
    pub policy_set_version_id: Option<Cow<'a, str>>,
    /// The manifest's hash.
    pub manifest_sha: Option<Cow<'a, str>>,
    /// The determining policies as JSON text.
    pub determining_policies: Option<&'a str>,
    /// The diagnostics as JSON text.
    pub diagnostics: Option<&'a str>,
    /// The metadata object as JSON text.
    pub metadata: Option<&'a str>,
}

/// Why a JSON text is not an audit event.
#[derive(Debug, Error)]
pub enum MalformedEvent {
    /// Longer than [`MAX_EVENT_BYTES`].
    #[error("an audit event is at most {MAX_EVENT_BYTES} bytes of JSON")]
    TooLarge,
    /// Not a JSON object with the members of an event.
    #[error("not an audit event: {0}")]
    Json(#[from] serde_json::Error),
    /// Not an object on one line without white space around it: exports have one line per event.
    #[error("an audit event is a JSON object on one line")]
    NotOneLine,
    /// `occurred_at` is not an RFC 3339 instant after 1970.
    #[error("occurred_at is not an RFC 3339 time after 1970")]
    OccurredAt,
}

#[derive(Deserialize)]
struct Wire<'a> {
    id: EventId,
    zone_id: ZoneId,
    #[serde(borrow)]
    occurred_at: Cow<'a, str>,
    #[serde(borrow, default)]
    event_type: Cow<'a, str>,
    #[serde(borrow, default)]
    request_id: Cow<'a, str>,
    #[serde(borrow, default)]
    decision: Cow<'a, str>,
    #[serde(borrow, default)]
    evaluation_status: Cow<'a, str>,
    #[serde(borrow, default)]
    policy_set_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    policy_set_version_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    manifest_sha: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    determining_policies_json: Option<&'a RawValue>,
    #[serde(borrow, default)]
    diagnostics_json: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata_json: Option<&'a RawValue>,
}

impl<'a> ReceivedEvent<'a> {
    /// Parses the JSON text of an event. Verify its signature first.
    ///
    /// # Errors
    /// [`MalformedEvent`] when it is too long, is not an event's JSON, or lacks a well-formed id,
    /// zone or instant.
    pub fn from_json(data: &'a [u8]) -> Result<Self, MalformedEvent> {
        if data.len() > MAX_EVENT_BYTES {
            return Err(MalformedEvent::TooLarge);
        }
        if !is_one_object(data) {
            return Err(MalformedEvent::NotOneLine);
        }
        let wire: Wire<'a> = serde_json::from_slice(data)?;
        let occurred_at = Timestamp::parse_rfc3339(&wire.occurred_at)
            .filter(|at| at.micros() > 0)
            .ok_or(MalformedEvent::OccurredAt)?;
        Ok(Self {
            id: wire.id,
            zone_id: wire.zone_id,
            occurred_at,
            event_type: without_nul(wire.event_type),
            request_id: without_nul(wire.request_id),
            decision: without_nul(wire.decision),
            evaluation_status: without_nul(wire.evaluation_status),
            policy_set_id: present(wire.policy_set_id),
            policy_set_version_id: present(wire.policy_set_version_id),
            manifest_sha: present(wire.manifest_sha),
            determining_policies: wire.determining_policies_json.map(RawValue::get),
            diagnostics: wire.diagnostics_json.map(RawValue::get),
            metadata: wire.metadata_json.map(RawValue::get),
        })
    }
}

fn is_one_object(data: &[u8]) -> bool {
    data.first() == Some(&b'{')
        && data.last() == Some(&b'}')
        && !data.iter().any(|byte| matches!(byte, b'\n' | b'\r'))
}

fn present(text: Option<Cow<'_, str>>) -> Option<Cow<'_, str>> {
    text.map(without_nul).filter(|text| !text.is_empty())
}

fn without_nul(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', ""))
    } else {
        text
    }
}
