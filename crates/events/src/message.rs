//! What happened, as a message: one constructor per event.
//!
//! Every anchor in a revocation message kills everything bound to it for a day, at every consumer. So
//! each message names exactly one anchor: the thing that died. The dedupe key names the occurrence;
//! the outbox keeps the first message of a key and drops the others.

use caracal_core::Timestamp;
use caracal_core::id::{
    ApplicationId, AuthorityRecordId, DelegationId, KeyId, OutboxId, PolicySetId,
    PolicySetVersionId, SessionId, ZoneId,
};
use caracal_crypto::HmacKey;
use thiserror::Error;

use crate::fields::{DEDUPE_KEY_FIELD, Fields, FieldsError, OUTBOX_ID_FIELD, SIGNATURE_FIELD};
use crate::reason::Reason;
use crate::signature::signature;
use crate::topic::{Topic, UnknownTopic};

/// The largest epoch: what consumers hold in a double.
const MAX_EPOCH: u64 = (1 << 53) - 1;

/// A message, before it has a row in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    topic: Topic,
    dedupe_key: String,
    payload: Fields,
}

/// An outbox row is no message.
#[derive(Debug, Error)]
pub enum MessageError {
    /// The topic is unknown.
    #[error(transparent)]
    Topic(#[from] UnknownTopic),
    /// The payload is no field map.
    #[error(transparent)]
    Payload(#[from] FieldsError),
}

impl Message {
    /// A Session ended: `zone_id`, `agent_session_id`, `reason`.
    #[must_use]
    pub fn session_revoked(zone: &ZoneId, session: &SessionId, reason: &Reason) -> Self {
        let payload = in_zone(zone)
            .with("agent_session_id", session)
            .with("reason", reason);
        Self::new(
            Topic::SessionsRevoke,
            format!("agent_terminate:{session}"),
            payload,
        )
    }

    /// A delegation edge was revoked: `zone_id`, `delegation_edge_id`, `reason`. One per edge,
    /// descendants included.
    #[must_use]
    pub fn delegation_revoked(zone: &ZoneId, edge: &DelegationId, reason: &Reason) -> Self {
        let payload = in_zone(zone)
            .with("delegation_edge_id", edge)
            .with("reason", reason);
        Self::new(Topic::SessionsRevoke, format!("delegation:{edge}"), payload)
    }

    /// An authority record died: `zone_id`, `session_id`, `reason`. Consumers end everything of its
    /// lineage, so never send it for a record that lives on.
    #[must_use]
    pub fn authority_record_revoked(
        zone: &ZoneId,
        record: &AuthorityRecordId,
        reason: &Reason,
    ) -> Self {
        let payload = in_zone(zone)
            .with("session_id", record)
            .with("reason", reason);
        Self::new(
            Topic::SessionsRevoke,
            format!("authority_record:{record}"),
            payload,
        )
    }

    /// A grant was revoked, and with it an authority record: `zone_id`, `session_id`, `reason`,
    /// `grant_id`.
    #[must_use]
    pub fn grant_revoked(zone: &ZoneId, record: &AuthorityRecordId, grant: &str) -> Self {
        let payload = in_zone(zone)
            .with("session_id", record)
            .with("reason", Reason::GRANT_REVOKED)
            .with("grant_id", grant);
        Self::new(
            Topic::SessionsRevoke,
            format!("grant:{grant}:{record}"),
            payload,
        )
    }

    /// The zone's delegation epoch rose because a delegation was revoked explicitly: `event`,
    /// `zone_id`, `edge_id`, `affected_edges`, `epoch`.
    #[must_use]
    pub fn epoch_raised(
        zone: &ZoneId,
        edge: &DelegationId,
        affected_edges: usize,
        epoch: u64,
    ) -> Self {
        let payload = Fields::new()
            .with("event", "edge_revoke")
            .with("zone_id", zone)
            .with("edge_id", edge)
            .with("affected_edges", affected_edges)
            .with("epoch", epoch.min(MAX_EPOCH));
        Self::new(
            Topic::DelegationsInvalidate,
            format!("edge_revoke:{edge}"),
            payload,
        )
    }

    /// The zone's delegation epoch rose because of a kill switch: `event`, `zone_id`, `reason`,
    /// `affected_edges`, `epoch`.
    #[must_use]
    pub fn epoch_raised_by_kill_switch(
        zone: &ZoneId,
        reason: &Reason,
        affected_edges: usize,
        epoch: u64,
    ) -> Self {
        let epoch = epoch.min(MAX_EPOCH);
        let payload = Fields::new()
            .with("event", "kill_switch")
            .with("zone_id", zone)
            .with("reason", reason)
            .with("affected_edges", affected_edges)
            .with("epoch", epoch);
        Self::new(
            Topic::DelegationsInvalidate,
            format!("kill_switch:{zone}:{epoch}"),
            payload,
        )
    }

    /// A zone's active policies changed at `at`: `zone_id`, `policy_set_id`, and on activation
    /// `policy_set_version_id`.
    #[must_use]
    pub fn policy_invalidated(
        zone: &ZoneId,
        set: &PolicySetId,
        version: Option<&PolicySetVersionId>,
        at: Timestamp,
    ) -> Self {
        let payload = in_zone(zone)
            .with("policy_set_id", set)
            .with_some("policy_set_version_id", version);
        let occurrence = at.micros();
        Self::new(
            Topic::PolicyInvalidate,
            format!("policy:{zone}:{set}:{occurrence}"),
            payload,
        )
    }

    /// A zone has a new signing key: `zone_id`, `kid`.
    #[must_use]
    pub fn keys_invalidated(zone: &ZoneId, kid: &KeyId) -> Self {
        let payload = in_zone(zone).with("kid", kid);
        Self::new(Topic::KeysInvalidate, format!("keys:{zone}:{kid}"), payload)
    }

    /// A Session started.
    #[must_use]
    pub fn session_started(
        zone: &ZoneId,
        session: &SessionId,
        parent: Option<&SessionId>,
        application: &ApplicationId,
    ) -> Self {
        let payload = lifecycle("spawn", zone, session, parent).with("application_id", application);
        Self::new(Topic::AgentsLifecycle, format!("spawn:{session}"), payload)
    }

    /// A Session was suspended at `at`, its `updated_at`.
    #[must_use]
    pub fn session_suspended(
        zone: &ZoneId,
        session: &SessionId,
        parent: Option<&SessionId>,
        reason: &Reason,
        at: Timestamp,
    ) -> Self {
        let payload = lifecycle("suspend", zone, session, parent).with("reason", reason);
        Self::new(
            Topic::AgentsLifecycle,
            format!("suspend:{session}:{at}"),
            payload,
        )
    }

    /// A Session was resumed at `at`, its `updated_at`.
    #[must_use]
    pub fn session_resumed(
        zone: &ZoneId,
        session: &SessionId,
        parent: Option<&SessionId>,
        at: Timestamp,
    ) -> Self {
        let payload = lifecycle("resume", zone, session, parent);
        Self::new(
            Topic::AgentsLifecycle,
            format!("resume:{session}:{at}"),
            payload,
        )
    }

    /// A Session ended, for whatever reason.
    #[must_use]
    pub fn session_terminated(
        zone: &ZoneId,
        session: &SessionId,
        parent: Option<&SessionId>,
        reason: &Reason,
    ) -> Self {
        let payload = lifecycle("terminate", zone, session, parent).with("reason", reason);
        Self::new(
            Topic::AgentsLifecycle,
            format!("terminate:{session}"),
            payload,
        )
    }

    /// The message of an outbox row.
    ///
    /// # Errors
    /// [`MessageError`] when the row's topic or payload is not one that a message has.
    pub fn from_row(topic: &str, dedupe_key: &str, payload: &str) -> Result<Self, MessageError> {
        Ok(Self::new(
            topic.parse()?,
            dedupe_key.to_owned(),
            Fields::from_json(payload)?,
        ))
    }

    /// The stream.
    #[must_use]
    pub fn topic(&self) -> Topic {
        self.topic
    }

    /// What makes the occurrence unique within its topic.
    #[must_use]
    pub fn dedupe_key(&self) -> &str {
        &self.dedupe_key
    }

    /// The fields, without those that publishing adds.
    #[must_use]
    pub fn payload(&self) -> &Fields {
        &self.payload
    }

    /// The entry as published: `outbox_id`, `dedupe_key`, the payload, and with a key
    /// (`STREAMS_HMAC_KEY`) the signature. Payload fields of these names give way.
    #[must_use]
    pub fn entry(&self, row: &OutboxId, key: Option<&HmacKey>) -> Fields {
        let head = [
            (OUTBOX_ID_FIELD, row.as_str()),
            (DEDUPE_KEY_FIELD, &self.dedupe_key),
        ];
        let payload = self.payload.iter().filter(|(name, _)| {
            ![OUTBOX_ID_FIELD, DEDUPE_KEY_FIELD, SIGNATURE_FIELD].contains(name)
        });
        let fields = Fields::from_entry(
            head.into_iter()
                .chain(payload)
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let signed = key.map(|key| signature(self.topic.as_str(), &fields, key));
        fields.with_some(SIGNATURE_FIELD, signed)
    }

    fn new(topic: Topic, dedupe_key: String, payload: Fields) -> Self {
        Self {
            topic,
            dedupe_key,
            payload,
        }
    }
}

fn in_zone(zone: &ZoneId) -> Fields {
    Fields::new().with("zone_id", zone)
}

/// A Session without a parent says so with the text `null`.
fn lifecycle(
    event: &'static str,
    zone: &ZoneId,
    session: &SessionId,
    parent: Option<&SessionId>,
) -> Fields {
    Fields::new()
        .with("event", event)
        .with("zone_id", zone)
        .with("agent_session_id", session)
        .with("parent_id", parent.map_or("null", SessionId::as_str))
}

#[cfg(test)]
#[path = "message/tests.rs"]
mod tests;
