//! What the Coordinator announces, put into the outbox with the change itself.
//!
//! A message names one anchor, the thing that died; see [`caracal_events::Message`].

use caracal_core::Timestamp;
use caracal_events::{Message, Reason};
use caracal_store::entity::{Delegation, Session};
use caracal_store::{StoreError, ZoneUnit};

/// A Session started.
pub(crate) async fn session_started(
    unit: &mut ZoneUnit,
    session: &Session,
) -> Result<(), StoreError> {
    let parent = session.parent_id.as_ref();
    let message = Message::session_started(
        &session.zone_id,
        &session.id,
        parent,
        &session.application_id,
    );
    send(unit, &message).await
}

/// A Session was suspended.
pub(crate) async fn session_suspended(
    unit: &mut ZoneUnit,
    session: &Session,
    reason: &Reason,
    at: Timestamp,
) -> Result<(), StoreError> {
    let parent = session.parent_id.as_ref();
    let message = Message::session_suspended(&session.zone_id, &session.id, parent, reason, at);
    send(unit, &message).await
}

/// A Session was resumed.
pub(crate) async fn session_resumed(
    unit: &mut ZoneUnit,
    session: &Session,
    at: Timestamp,
) -> Result<(), StoreError> {
    let parent = session.parent_id.as_ref();
    send(
        unit,
        &Message::session_resumed(&session.zone_id, &session.id, parent, at),
    )
    .await
}

/// A Session ended: the lifecycle stream hears of it, and verifiers are told to refuse it.
pub(crate) async fn session_ended(
    unit: &mut ZoneUnit,
    session: &Session,
    reason: &Reason,
) -> Result<(), StoreError> {
    let parent = session.parent_id.as_ref();
    send(
        unit,
        &Message::session_revoked(&session.zone_id, &session.id, reason),
    )
    .await?;
    let ended = Message::session_terminated(&session.zone_id, &session.id, parent, reason);
    send(unit, &ended).await
}

/// An edge was cut: verifiers are told to refuse it.
pub(crate) async fn edge_cut(
    unit: &mut ZoneUnit,
    edge: &Delegation,
    reason: &Reason,
) -> Result<(), StoreError> {
    send(
        unit,
        &Message::delegation_revoked(&edge.zone_id, &edge.id, reason),
    )
    .await
}

/// The zone's epoch rose, because `edge` was revoked explicitly.
pub(crate) async fn epoch_raised(
    unit: &mut ZoneUnit,
    edge: &Delegation,
    affected_edges: usize,
    epoch: u64,
) -> Result<(), StoreError> {
    let message = Message::epoch_raised(&edge.zone_id, &edge.id, affected_edges, epoch);
    send(unit, &message).await
}

async fn send(unit: &mut ZoneUnit, message: &Message) -> Result<(), StoreError> {
    let payload = message.payload().iter();
    let payload = payload.map(|(name, value)| (name.to_owned(), value.to_owned()));
    unit.enqueue(
        message.topic().as_str(),
        message.dedupe_key(),
        payload.collect(),
    )
    .await
    .map(|_| ())
}
