//! The edges of a line, from the leaf up to the root.

use std::sync::Arc;

use caracal_core::id::DelegationId;
use caracal_core::{ScopeSet, Timestamp};
use caracal_store::ZoneView;
use caracal_store::entity::Delegation;

use super::{DelegationInvalid, MAX_EDGES, MAX_HOPS};
use crate::error::Refusal;
use crate::lifetime::Bound;

/// Reads the presented edge and all above it, root first. Every one is live.
pub(super) async fn read_chain(
    view: &ZoneView,
    now: Timestamp,
    leaf: &DelegationId,
) -> Result<Vec<Arc<Delegation>>, Refusal> {
    let mut edges: Vec<Arc<Delegation>> = Vec::with_capacity(2);
    let mut next = Some(leaf.clone());
    while let Some(id) = next {
        if edges.len() == MAX_EDGES || edges.iter().any(|edge| edge.id == id) {
            return Err(DelegationInvalid::TooLong.into());
        }
        let edge = view.delegation(&id).await?;
        let edge = edge.ok_or(DelegationInvalid::Unknown)?;
        if !edge.is_live(now) {
            return Err(DelegationInvalid::NotLive.into());
        }
        next = edge.parent_edge_id.clone();
        edges.push(edge);
    }
    edges.reverse();
    Ok(edges)
}

/// Counts the hops of the line and holds them against every edge's allowance: from an edge
/// (inclusive) down to the leaf there may be at most `max_hops` edges that are not mirrored.
pub(super) fn judge_hops(edges: &[Arc<Delegation>]) -> Result<u32, DelegationInvalid> {
    let mut hops = 0_usize;
    for edge in edges.iter().rev() {
        hops += usize::from(!edge.mirrored);
        if hops > usize::from(edge.constraints.hops()) {
            return Err(DelegationInvalid::TooManyHops);
        }
    }
    if hops > MAX_HOPS {
        return Err(DelegationInvalid::TooManyHops);
    }
    u32::try_from(hops).map_err(|_| DelegationInvalid::TooManyHops)
}

/// Holds the request against every edge: an ancestor that is narrower than the leaf narrows it.
pub(super) fn judge_request(
    edges: &[Arc<Delegation>],
    scopes: &ScopeSet,
    ttl_seconds: Option<i64>,
) -> Result<(), DelegationInvalid> {
    for edge in edges {
        if !scopes.is_subset_of(&edge.scopes) {
            return Err(DelegationInvalid::ScopeExceeded);
        }
        if let (Some(asked), Some(allowed)) = (ttl_seconds, edge.constraints.ttl_seconds)
            && asked > allowed
        {
            return Err(DelegationInvalid::TtlExceeded);
        }
    }
    Ok(())
}

/// The expiry and the constraints of every edge.
pub(super) fn bound_of(edges: &[Arc<Delegation>]) -> Bound {
    edges.iter().fold(Bound::NONE, |bound, edge| {
        bound
            .until(edge.expires_at)
            .until_some(edge.constraints.expires_at)
            .at_most_some(edge.constraints.ttl_seconds)
    })
}
