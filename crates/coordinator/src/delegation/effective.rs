//! What the live edges to a Session add up to. It informs; each mint uses one edge.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use caracal_core::id::{DelegationId, ResourceId, SessionId};
use caracal_core::{ResourceIdentifier, Scope, Timestamp};
use caracal_http::Failure;
use caracal_store::entity::Delegation;
use caracal_store::{StoreError, ZoneReader};
use http::StatusCode;
use serde::Serialize;

use crate::Coordinator;
use crate::answer;
use crate::call::Call;
use crate::error::ReadError;
use crate::session::find_visible;

#[derive(Debug, Serialize)]
struct EffectiveAuthority<'a> {
    agent_session_id: &'a SessionId,
    inbound_edges: Vec<&'a DelegationId>,
    effective_scopes: BTreeSet<&'a Scope>,
    effective_resource_ids: BTreeSet<&'a str>,
    effective_resources: BTreeSet<ResourceIdentifier>,
    effective_resource_constrained: bool,
    effective_max_hops: u8,
    effective_ttl_seconds: Option<i64>,
    earliest_expires_at: Option<Timestamp>,
}

/// `GET /zones/{zone_id}/agents/{id}/effective-authority`
pub(crate) async fn effective_authority(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    let id: SessionId = call.param("id")?;
    Ok(coordinator.effective_authority(&call, &id).await?)
}

impl Coordinator {
    async fn effective_authority(
        &self,
        call: &Call,
        id: &SessionId,
    ) -> Result<Response, ReadError> {
        let zone = self.store.read(call.caller.zone());
        if call.caller.reader().is_some() {
            find_visible(&zone, &call.caller, id).await?;
        }
        let now = self.clock.now();
        let edges = zone.live_parent_candidates(id, None, now).await?;
        let resources = identifiers(&zone, &edges).await?;
        let body = answer::json_text(&add_up(id, &edges, resources))?;
        Ok(answer::json(StatusCode::OK, body))
    }
}

fn add_up<'a>(
    id: &'a SessionId,
    edges: &'a [Delegation],
    resources: BTreeSet<ResourceIdentifier>,
) -> EffectiveAuthority<'a> {
    let common = |scope: &&Scope| {
        edges
            .iter()
            .all(|edge| edge.scopes.contains(scope.as_str()))
    };
    let limits =
        |edge: &Delegation| edge.resource_id.is_some() || edge.constraints.resources.is_some();
    EffectiveAuthority {
        agent_session_id: id,
        inbound_edges: edges.iter().map(|edge| &edge.id).collect(),
        effective_scopes: edges
            .first()
            .map(|edge| edge.scopes.iter().filter(common).collect())
            .unwrap_or_default(),
        effective_resource_ids: edges
            .iter()
            .filter_map(|edge| edge.resource_id.as_ref().map(ResourceId::as_str))
            .collect(),
        effective_resources: resources,
        effective_resource_constrained: edges.iter().any(limits),
        effective_max_hops: edges
            .iter()
            .map(|edge| edge.constraints.hops())
            .min()
            .unwrap_or(0),
        effective_ttl_seconds: edges
            .iter()
            .filter_map(|edge| edge.constraints.ttl_seconds)
            .min(),
        earliest_expires_at: edges.iter().map(|edge| edge.expires_at).min(),
    }
}

async fn identifiers(
    zone: &ZoneReader,
    edges: &[Delegation],
) -> Result<BTreeSet<ResourceIdentifier>, StoreError> {
    let listed = edges
        .iter()
        .filter_map(|edge| edge.constraints.resources.as_ref());
    let mut all: BTreeSet<ResourceIdentifier> = listed.flatten().cloned().collect();
    let rows: BTreeSet<&ResourceId> = edges
        .iter()
        .filter_map(|edge| edge.resource_id.as_ref())
        .collect();
    for row in rows {
        all.extend(
            zone.get_resource(row)
                .await?
                .map(|resource| resource.identifier),
        );
    }
    Ok(all)
}
