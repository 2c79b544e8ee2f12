//! Revoking a delegation, and everything that derives from it.
//!
//! Edges fall along their lineage, however long it is. Sessions fall only where the issuer has a say:
//! those of its own application, and those that descend from the Session that delegated. Elsewhere
//! only the edge is cut: nobody can end a Session that it does not own by having delegated to it.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use caracal_core::id::{AuthorityRecordId, DelegationId, SessionId};
use caracal_events::Reason;
use caracal_http::Failure;
use caracal_store::entity::{Delegation, Session};
use caracal_store::{StoreError, Through, ZoneUnit};
use http::StatusCode;
use serde_json::json;
use thiserror::Error;

use crate::Coordinator;
use crate::answer;
use crate::audit::{self, Entity};
use crate::call::Call;
use crate::events;
use crate::session::{Ending, end_subtrees};

/// Why a delegation is not revoked.
#[derive(Debug, Error)]
pub(crate) enum RevokeError {
    /// Unknown, or over already.
    #[error("there is no such active delegation")]
    NotFound,
    /// The issuer is somebody else.
    #[error("the delegation was issued by another application")]
    NotIssuer,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `PATCH /zones/{zone_id}/delegations/{id}/revoke`
pub(crate) async fn revoke(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    let id: DelegationId = call.param("id")?;
    Ok(coordinator.revoke_delegation(&call, id).await?)
}

impl Coordinator {
    async fn revoke_delegation(
        &self,
        call: &Call,
        id: DelegationId,
    ) -> Result<Response, RevokeError> {
        let mut unit = self.store.begin(call.caller.zone()).await?;
        let edge = unit
            .get_delegation(&id)
            .await?
            .ok_or(RevokeError::NotFound)?;
        if !call.caller.may_revoke_from(&edge.issuer_application_id) {
            return Err(RevokeError::NotIssuer);
        }
        if edge.status != caracal_store::entity::DelegationStatus::Active {
            return Err(RevokeError::NotFound);
        }
        let reason = &Reason::DELEGATION_REVOKED;
        let cut = cut_edges(&mut unit, vec![edge.clone()], reason).await?;
        let targets = live_targets(&unit, &cut).await?;
        let records: HashSet<&AuthorityRecordId> = targets
            .iter()
            .map(|session| &session.subject_authority_record_id)
            .collect();
        let roots = sessions_to_end(&unit, &edge, &targets).await?;
        let ended = end_subtrees(&mut unit, &roots, Ending::terminated(reason)).await?;
        let revoked = cut.len() + ended.edges.len();
        let epoch = unit.bump_delegation_epoch().await?;
        let epoch = u64::try_from(epoch).unwrap_or(0);
        events::epoch_raised(&mut unit, &edge, revoked, epoch).await?;
        audit::record(&mut unit, call, &Entity::Delegation(id), StatusCode::OK).await?;
        let body = json!({
            "revoked_edges": revoked,
            "affected_sessions": records.len(),
            "terminated_sessions": ended.sessions.len(),
        });
        unit.commit().await?;
        Ok(answer::json(StatusCode::OK, body.to_string()))
    }
}

/// Cuts these edges and all active ones that derive from them, and announces each. Returns the edges
/// that it cut.
pub(crate) async fn cut_edges(
    unit: &mut ZoneUnit,
    roots: Vec<Delegation>,
    reason: &Reason,
) -> Result<Vec<Delegation>, StoreError> {
    let roots: Vec<DelegationId> = roots.into_iter().map(|edge| edge.id).collect();
    let edges = unit.active_delegation_descendants(&roots).await?;
    let ids: Vec<DelegationId> = edges.iter().map(|edge| edge.id.clone()).collect();
    unit.revoke_delegations(&ids).await?;
    for edge in &edges {
        events::edge_cut(unit, edge, reason).await?;
    }
    Ok(edges)
}

/// The targets of edges that still run.
async fn live_targets(unit: &ZoneUnit, edges: &[Delegation]) -> Result<Vec<Session>, StoreError> {
    let ids: HashSet<&SessionId> = edges.iter().map(|edge| &edge.target_session_id).collect();
    let ids: Vec<SessionId> = ids.into_iter().cloned().collect();
    let mut sessions = unit.get_sessions(&ids).await?;
    sessions.retain(|session| {
        use caracal_store::entity::SessionStatus::{Active, Suspended};
        matches!(session.status, Active | Suspended)
    });
    Ok(sessions)
}

/// Those of the targets that the issuer of `edge` may end.
async fn sessions_to_end(
    unit: &ZoneUnit,
    edge: &Delegation,
    targets: &[Session],
) -> Result<Vec<SessionId>, StoreError> {
    let source = std::slice::from_ref(&edge.source_session_id);
    let below: HashSet<SessionId> = unit
        .session_tree(source, Through::Live)
        .await?
        .into_iter()
        .map(|session| session.id)
        .filter(|id| *id != edge.source_session_id)
        .collect();
    Ok(targets
        .iter()
        .filter(|target| {
            target.application_id == edge.issuer_application_id || below.contains(&target.id)
        })
        .map(|target| target.id.clone())
        .collect())
}
