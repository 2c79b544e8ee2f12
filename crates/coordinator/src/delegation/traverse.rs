//! Where authority flows on from an edge, for admins.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use caracal_core::Timestamp;
use caracal_core::id::{AuthorityRecordId, DelegationId, SessionId};
use caracal_http::Failure;
use caracal_store::entity::Delegation;
use caracal_store::{StoreError, ZoneReader};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use crate::Coordinator;
use crate::answer;
use crate::call::Call;
use crate::error::ReadError;

/// The most edges of one answer.
const MAX_EDGES: usize = 10_000;

#[derive(Debug, Serialize)]
struct Step {
    id: DelegationId,
    source_session_id: SessionId,
    target_session_id: SessionId,
    depth: usize,
}

impl Step {
    fn at(edge: &Delegation, depth: usize) -> Self {
        Self {
            id: edge.id.clone(),
            source_session_id: edge.source_session_id.clone(),
            target_session_id: edge.target_session_id.clone(),
            depth,
        }
    }
}

/// `GET /zones/{zone_id}/delegations/{id}/traverse`
pub(crate) async fn traverse(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    let id: DelegationId = call.param("id")?;
    Ok(coordinator.traverse(&call, &id).await?)
}

/// `GET /zones/{zone_id}/delegations/{id}/impact`
pub(crate) async fn impact(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    let id: DelegationId = call.param("id")?;
    Ok(coordinator.impact(&call, &id).await?)
}

impl Coordinator {
    async fn traverse(&self, call: &Call, id: &DelegationId) -> Result<Response, ReadError> {
        require_admin(call)?;
        let zone = self.store.read(call.caller.zone());
        let steps = downstream(&zone, id, self.clock.now()).await?;
        Ok(answer::json(StatusCode::OK, answer::json_text(&steps)?))
    }

    /// What a revoke of the edge would cut: its lineage.
    async fn impact(&self, call: &Call, id: &DelegationId) -> Result<Response, ReadError> {
        require_admin(call)?;
        let zone = self.store.read(call.caller.zone());
        let edges = zone
            .active_delegation_descendants(std::slice::from_ref(id))
            .await?;
        if !edges.iter().any(|edge| edge.id == *id) {
            return Err(ReadError::DelegationNotFound);
        }
        let targets: BTreeSet<&SessionId> =
            edges.iter().map(|edge| &edge.target_session_id).collect();
        let ids: Vec<SessionId> = targets.iter().map(|id| (*id).clone()).collect();
        let sessions = zone.get_sessions(&ids).await?;
        let records: BTreeSet<&AuthorityRecordId> = sessions
            .iter()
            .map(|session| &session.subject_authority_record_id)
            .collect();
        let body = json!({
            "edge_id": id,
            "affected_edges": by_depth(id, &edges),
            "affected_sessions": targets,
            "affected_agents": targets,
            "affected_authority_records": records,
        });
        Ok(answer::json(StatusCode::OK, body.to_string()))
    }
}

fn require_admin(call: &Call) -> Result<(), ReadError> {
    if call.caller.is_admin() {
        Ok(())
    } else {
        Err(ReadError::AdminRequired)
    }
}

/// The edge and every live edge that is reached from its target, each once, nearest first.
async fn downstream(
    zone: &ZoneReader,
    id: &DelegationId,
    now: Timestamp,
) -> Result<Vec<Step>, StoreError> {
    let first = zone
        .get_delegation(id)
        .await?
        .filter(|edge| edge.is_live(now));
    let mut level: Vec<Delegation> = first.into_iter().collect();
    let mut seen: HashSet<DelegationId> = HashSet::new();
    let mut visited: HashSet<SessionId> = HashSet::new();
    let mut steps = Vec::new();
    let mut depth = 1;
    while !level.is_empty() && steps.len() < MAX_EDGES {
        level.retain(|edge| seen.insert(edge.id.clone()));
        level.sort_by(|a, b| a.id.cmp(&b.id));
        steps.extend(level.iter().map(|edge| Step::at(edge, depth)));
        let targets: Vec<SessionId> = level
            .iter()
            .map(|edge| edge.target_session_id.clone())
            .filter(|target| visited.insert(target.clone()))
            .collect();
        level = zone.live_outbound_delegations(&targets, now).await?;
        depth += 1;
    }
    steps.truncate(MAX_EDGES);
    Ok(steps)
}

/// Edges with their distance from the first one along the lineage, nearest first.
fn by_depth(first: &DelegationId, edges: &[Delegation]) -> Vec<Step> {
    let parents: HashMap<&DelegationId, Option<&DelegationId>> = edges
        .iter()
        .map(|edge| (&edge.id, edge.parent_edge_id.as_ref()))
        .collect();
    let mut steps: Vec<Step> = edges
        .iter()
        .map(|edge| Step::at(edge, depth_of(first, &edge.id, &parents)))
        .collect();
    steps.sort_by(|a, b| (a.depth, &a.id).cmp(&(b.depth, &b.id)));
    steps
}

/// A lineage with a gap (an edge that ended before its child) counts up to the gap.
fn depth_of(
    first: &DelegationId,
    edge: &DelegationId,
    parents: &HashMap<&DelegationId, Option<&DelegationId>>,
) -> usize {
    let mut depth = 1;
    let mut current = edge;
    while current != first && depth <= parents.len() {
        depth += 1;
        match parents.get(current) {
            Some(Some(parent)) => current = parent,
            _ => return depth,
        }
    }
    depth
}
