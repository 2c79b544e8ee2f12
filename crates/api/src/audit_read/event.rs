//! An audit event as it is shown: what the producer wrote, without what could be secret.

use caracal_core::Timestamp;
use caracal_core::id::{EventId, ZoneId};
use caracal_evidence::event::ReceivedEvent;
use caracal_store::AuditRecord;
use serde::Serialize;
use serde_json::Value;

use super::redact::redacted;

/// An event in a list.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct EventItem {
    pub(crate) id: EventId,
    pub(crate) zone_id: ZoneId,
    pub(crate) event_type: String,
    pub(crate) request_id: String,
    pub(crate) decision: String,
    pub(crate) policy_set_id: Option<String>,
    pub(crate) policy_set_version_id: Option<String>,
    pub(crate) manifest_sha: Option<String>,
    pub(crate) evaluation_status: String,
    pub(crate) determining_policies_json: Option<Value>,
    pub(crate) diagnostics_json: Option<Value>,
    pub(crate) metadata_json: Option<Value>,
    pub(crate) occurred_at: Timestamp,
    pub(crate) ingested_at: Timestamp,
}

impl EventItem {
    /// The event of a stored record; `None` when retention removed its text.
    pub(crate) fn of(record: &AuditRecord) -> Option<Self> {
        let (mut item, metadata) = Self::with_metadata(record)?;
        item.metadata_json = metadata.as_ref().map(redacted);
        Some(item)
    }

    /// The event without metadata, and its metadata as the producer wrote them.
    pub(super) fn with_metadata(record: &AuditRecord) -> Option<(Self, Option<Value>)> {
        let event = ReceivedEvent::from_json(record.data.as_ref()?.as_bytes()).ok()?;
        let json = |text: Option<&str>| text.and_then(|text| serde_json::from_str(text).ok());
        let metadata = json(event.metadata);
        let item = Self {
            id: event.id,
            zone_id: event.zone_id,
            event_type: event.event_type.into_owned(),
            request_id: event.request_id.into_owned(),
            decision: event.decision.into_owned(),
            policy_set_id: event.policy_set_id.map(std::borrow::Cow::into_owned),
            policy_set_version_id: event
                .policy_set_version_id
                .map(std::borrow::Cow::into_owned),
            manifest_sha: event.manifest_sha.map(std::borrow::Cow::into_owned),
            evaluation_status: event.evaluation_status.into_owned(),
            determining_policies_json: json(event.determining_policies),
            diagnostics_json: json(event.diagnostics),
            metadata_json: None,
            occurred_at: event.occurred_at,
            ingested_at: record.ingested_at,
        };
        Some((item, metadata))
    }
}
