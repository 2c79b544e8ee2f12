//! A resource on the wire.

use caracal_core::id::{ProviderId, ResourceId, ZoneId};
use caracal_core::{ResourceIdentifier, Scope, Timestamp};
use caracal_store::entity::{Enforcement, Operation, Resource};
use serde::Serialize;

use crate::attribution::AttributionView;

/// A resource on the wire; URL, scopes and operations as they were declared.
#[derive(Debug, Serialize)]
pub(super) struct ResourceView {
    id: ResourceId,
    zone_id: ZoneId,
    name: String,
    identifier: ResourceIdentifier,
    upstream_url: Option<String>,
    scopes: Vec<Scope>,
    credential_provider_id: Option<ProviderId>,
    operations: Vec<Operation>,
    operation_enforcement: Enforcement,
    #[serde(flatten)]
    attribution: AttributionView,
    created_at: Timestamp,
    updated_at: Timestamp,
    archived_at: Option<Timestamp>,
}

impl From<Resource> for ResourceView {
    fn from(resource: Resource) -> Self {
        Self {
            id: resource.id,
            zone_id: resource.zone_id,
            name: resource.name,
            identifier: resource.identifier,
            upstream_url: resource.upstream_url,
            scopes: resource.scopes,
            credential_provider_id: resource.credential_provider_id,
            operations: resource.operations,
            operation_enforcement: resource.operation_enforcement,
            attribution: resource.attribution.into(),
            created_at: resource.created_at,
            updated_at: resource.updated_at,
            archived_at: resource.archived_at,
        }
    }
}
