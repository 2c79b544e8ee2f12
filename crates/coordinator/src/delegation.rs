//! Delegations: edges that hand a part of one Session's authority to another.

mod accept;
mod constraints;
mod create;
mod effective;
mod mirror;
mod narrow;
mod read;
mod request;
mod revoke;
mod traverse;

use caracal_core::id::{ApplicationId, DelegationId, ResourceId, SessionId, ZoneId};
use caracal_core::{ScopeSet, Timestamp};
use caracal_store::entity::{Constraints, Delegation, DelegationStatus};
use serde::Serialize;

pub(crate) use accept::accept;
pub(crate) use constraints::{ConstraintError, ConstraintKey};
pub(crate) use create::{DelegateError, create};
pub(crate) use effective::effective_authority;
pub(crate) use mirror::mirror;
pub(crate) use narrow::Untimely;
pub(crate) use read::{active, inbound, inbound_one, outbound};
pub(crate) use request::DelegationRequestError;
pub(crate) use revoke::{RevokeError, cut_edges, revoke};
pub(crate) use traverse::{impact, traverse};

/// What every answer tells about an edge, beside its id.
#[derive(Debug, Serialize)]
struct EdgeFields<'a> {
    zone_id: &'a ZoneId,
    source_session_id: &'a SessionId,
    target_session_id: &'a SessionId,
    issuer_application_id: &'a ApplicationId,
    receiver_application_id: &'a ApplicationId,
    parent_edge_id: Option<&'a DelegationId>,
    resource_id: Option<&'a ResourceId>,
    scopes: &'a ScopeSet,
    constraints_json: &'a Constraints,
    status: DelegationStatus,
    expires_at: Timestamp,
    edge_version: i64,
    revoked_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl<'a> EdgeFields<'a> {
    fn at(edge: &'a Delegation, now: Timestamp) -> Self {
        Self {
            zone_id: &edge.zone_id,
            source_session_id: &edge.source_session_id,
            target_session_id: &edge.target_session_id,
            issuer_application_id: &edge.issuer_application_id,
            receiver_application_id: &edge.receiver_application_id,
            parent_edge_id: edge.parent_edge_id.as_ref(),
            resource_id: edge.resource_id.as_ref(),
            scopes: &edge.scopes,
            constraints_json: &edge.constraints,
            status: edge.status_at(now),
            expires_at: edge.expires_at,
            edge_version: edge.edge_version,
            revoked_at: edge.revoked_at,
            created_at: edge.created_at,
        }
    }
}
