//! The edge by which a child inherits: a copy of its parent's, from the parent to the child.

use caracal_core::Timestamp;
use caracal_core::id::DelegationId;
use caracal_store::entity::{Delegation, DelegationStatus, Session};
use caracal_store::{StoreError, ZoneUnit};

use super::narrow::Permit;
use crate::Coordinator;

/// Writes the mirror of `edge` into `child`, a Session of the receiving application. It keeps its
/// parent's constraints, and does not count as a hop.
pub(crate) async fn mirror(
    unit: &mut ZoneUnit,
    coordinator: &Coordinator,
    edge: &Delegation,
    child: &Session,
    now: Timestamp,
) -> Result<DelegationId, StoreError> {
    let permit = Permit::mirror(edge);
    let mirrored = Delegation {
        id: DelegationId::generate(&*coordinator.clock, &*coordinator.random),
        zone_id: edge.zone_id.clone(),
        source_session_id: edge.target_session_id.clone(),
        target_session_id: child.id.clone(),
        issuer_application_id: edge.receiver_application_id.clone(),
        receiver_application_id: child.application_id.clone(),
        parent_edge_id: permit.parent_edge_id().cloned(),
        resource_id: edge.resource_id.clone(),
        scopes: edge.scopes.clone(),
        constraints: edge.constraints.clone(),
        mirrored: true,
        accepted: false,
        budget_used: 0,
        status: DelegationStatus::Active,
        expires_at: permit.expires_at(),
        edge_version: 0,
        revoked_at: None,
        created_at: now,
        updated_at: now,
    };
    unit.insert_delegation(&mirrored).await?;
    Ok(mirrored.id)
}
