use caracal_core::id::{ProviderId, ResourceId, ZoneId};
use caracal_core::{ResourceIdentifier, Scope, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Attribution, wire_names};

/// Whether calls must match a declared operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// Only declared operations pass; an empty list denies everything.
    Enforced,
    /// Any method and path; scopes are judged by policy alone.
    TransportUniform,
}

wire_names!(Enforcement { Enforced => "enforced", TransportUniform => "transport_uniform" });

/// One declared operation: method, exact or templated path, and the scope it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Upper-case HTTP method.
    pub method: String,
    /// Absolute path; a segment may be a template `{name}`.
    pub path: String,
    /// The scope the presented mandate must carry.
    pub scope: Scope,
}

/// A protected resource.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Row id.
    pub id: ResourceId,
    /// Owning zone.
    pub zone_id: ZoneId,
    /// Display name.
    pub name: String,
    /// Public name, unique among live resources of the zone.
    pub identifier: ResourceIdentifier,
    /// Where the Gateway sends calls; only the control resource has none. Kept verbatim.
    pub upstream_url: Option<String>,
    /// Declared scopes, in the order given.
    pub scopes: Vec<Scope>,
    /// The credential to inject.
    pub credential_provider_id: Option<ProviderId>,
    /// Declared operations, in the order given.
    pub operations: Vec<Operation>,
    /// Whether operations are enforced.
    pub operation_enforcement: Enforcement,
    /// Who made and changed it.
    pub attribution: Attribution,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Set: the route is gone.
    pub archived_at: Option<Timestamp>,
}
