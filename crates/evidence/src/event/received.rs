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
    /// The JSON text itself.
    pub data: &'a str,
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
    /// Not UTF-8.
    #[error("an audit event is UTF-8 text")]
    NotText,
    /// `occurred_at` is not an RFC 3339 instant after 1970.
    #[error("occurred_at is not an RFC 3339 time after 1970")]
    OccurredAt,
}

/// The metadata members that searches filter by.
///
/// A member of another shape, or longer than [`MAX_INDEXED_CHARS`], is left out: it stays in the
/// event, but no search finds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexed<'a> {
    /// `application_id`.
    pub application_id: Option<Cow<'a, str>>,
    /// `agent_session_id`: the governed Session.
    pub agent_session_id: Option<Cow<'a, str>>,
    /// `session_id`: the authority record.
    pub authority_record_id: Option<Cow<'a, str>>,
    /// `agent_labels`: at most [`MAX_INDEXED_LABELS`], without repetition.
    pub labels: Vec<String>,
}

/// The longest value that searches filter by.
pub const MAX_INDEXED_CHARS: usize = 128;
/// The most labels of one event that searches filter by.
pub const MAX_INDEXED_LABELS: usize = 32;

#[derive(Deserialize)]
struct IndexedWire<'a> {
    #[serde(borrow, default)]
    application_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    agent_session_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    agent_labels: Option<&'a RawValue>,
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
        let data = std::str::from_utf8(data).map_err(|_| MalformedEvent::NotText)?;
        let wire: Wire<'a> = serde_json::from_str(data)?;
        let occurred_at = Timestamp::parse_rfc3339(&wire.occurred_at)
            .filter(|at| at.micros() > 0)
            .ok_or(MalformedEvent::OccurredAt)?;
        Ok(Self {
            data,
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

impl<'a> ReceivedEvent<'a> {
    /// The metadata members that searches filter by.
    #[must_use]
    pub fn indexed(&self) -> Indexed<'a> {
        let Some(metadata) = self.metadata else {
            return Indexed::default();
        };
        let Ok(wire) = serde_json::from_str::<IndexedWire<'a>>(metadata) else {
            return Indexed::default();
        };
        Indexed {
            application_id: wire.application_id.and_then(short_text),
            agent_session_id: wire.agent_session_id.and_then(short_text),
            authority_record_id: wire.session_id.and_then(short_text),
            labels: wire.agent_labels.map(labels).unwrap_or_default(),
        }
    }
}

/// A string that borrows from the JSON text when it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn short_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = serde_json::from_str::<Text<'_>>(raw.get()).ok()?.0;
    present(Some(text)).filter(|text| text.chars().count() <= MAX_INDEXED_CHARS)
}

fn labels(raw: &RawValue) -> Vec<String> {
    let all: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
    let mut labels: Vec<String> = all
        .into_iter()
        .filter_map(short_text)
        .map(Cow::into_owned)
        .collect();
    labels.sort_unstable();
    labels.dedup();
    labels.truncate(MAX_INDEXED_LABELS);
    labels
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
