//! Whether a Session or an edge carries authority now, everything above it included.
//!
//! Rows say what was asked for; the effective end is the earliest of a row's own and all its
//! ancestors', and it is worked out here, at use. A sweeper that lags behind therefore grants
//! nothing.

use caracal_core::id::{DelegationId, SessionId};
use caracal_core::{SubjectType, Timestamp};
use caracal_store::entity::{Delegation, Session};
use caracal_store::{Access, InZone, StoreError};

/// Whether a Session and every Session above it carry authority.
pub(crate) async fn session_is_live<A: Access>(
    zone: &InZone<A>,
    id: &SessionId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let line = zone.session_ancestry(id).await?;
    for session in &line {
        if !session.is_effectively_live(now) || !subject_is_live(zone, session, now).await? {
            return Ok(false);
        }
    }
    Ok(line.last().is_some_and(|root| root.parent_id.is_none()))
}

/// Whether the record that a Session is anchored on still carries it. A federated user's record ends
/// what rests on it; an application's own is that of one short-lived token and ends nothing.
pub(crate) async fn subject_is_live<A: Access>(
    zone: &InZone<A>,
    session: &Session,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let record = zone
        .get_authority_record(&session.subject_authority_record_id)
        .await?;
    Ok(record.is_some_and(|record| match record.kind {
        SubjectType::User => record.is_live(now),
        SubjectType::Application => true,
    }))
}

/// An edge and the edges above it, leaf first, when every one of them and every Session that hands
/// authority on along the way is live; the Session that receives the leaf is the caller's to judge.
pub(crate) async fn live_lineage<A: Access>(
    zone: &InZone<A>,
    leaf: &DelegationId,
    now: Timestamp,
) -> Result<Option<Vec<Delegation>>, StoreError> {
    let lineage = zone.delegation_lineage(leaf).await?;
    for edge in &lineage {
        let live = edge.is_live(now) && session_is_live(zone, &edge.source_session_id, now).await?;
        if !live {
            return Ok(None);
        }
    }
    let reaches_root = lineage
        .last()
        .is_some_and(|root| root.parent_edge_id.is_none());
    Ok(reaches_root.then_some(lineage))
}
