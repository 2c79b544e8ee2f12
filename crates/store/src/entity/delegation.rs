use caracal_core::id::{ApplicationId, DelegationId, ResourceId, SessionId, ZoneId};
use caracal_core::{ResourceIdentifier, ScopeSet, Timestamp};
use serde::{Deserialize, Serialize};

use super::wire_names;

/// State of a delegation edge. A row past `expires_at` may still say active: test both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DelegationStatus {
    /// Usable until `expires_at`.
    Active,
    /// Withdrawn.
    Revoked,
    /// Swept after its end.
    Expired,
}

wire_names!(DelegationStatus { Active => "active", Revoked => "revoked", Expired => "expired" });

/// The normalised constraints of an edge (`constraints_json` on the wire).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraints {
    /// Resource identifiers that the edge is limited to; at most 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<ResourceIdentifier>>,
    /// Alias of `max_hops`, kept when the caller sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<u8>,
    /// Non-mirrored edges from this one (inclusive) to the leaf: 1 to 10, default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_hops: Option<u8>,
    /// Mandates that may be minted through the edge and everything below it: 1 to 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<u8>,
    /// Caps the life of each mandate, seconds: 1 to 86,400.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<i64>,
    /// Annotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_approved: Option<bool>,
    /// Caps the life of each mandate; text as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Annotation of a delegation without resources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broad_reason: Option<String>,
}

impl Constraints {
    /// The hop allowance, 1 when absent.
    #[must_use]
    pub fn hops(&self) -> u8 {
        self.max_hops.unwrap_or(1)
    }
}

/// A delegation edge: narrowed authority from one Session to another.
#[derive(Debug, Clone)]
pub struct Delegation {
    /// Row id, `delegation_edge_id` on the wire.
    pub id: DelegationId,
    /// Owning zone.
    pub zone_id: ZoneId,
    /// The Session that delegates.
    pub source_session_id: SessionId,
    /// The Session that receives.
    pub target_session_id: SessionId,
    /// Application of the source.
    pub issuer_application_id: ApplicationId,
    /// Application of the target.
    pub receiver_application_id: ApplicationId,
    /// The edge that this one narrows.
    pub parent_edge_id: Option<DelegationId>,
    /// Row id of the one resource that the edge is limited to.
    pub resource_id: Option<ResourceId>,
    /// Delegated scopes.
    pub scopes: ScopeSet,
    /// Typed constraints.
    pub constraints: Constraints,
    /// A same-application inheritance edge: copies its parent and does not count as a hop.
    pub mirrored: bool,
    /// Whether the receiver has used a cross-application edge; same-application edges always count.
    pub accepted: bool,
    /// Mandates minted against this edge's own `budget`.
    pub budget_used: i64,
    /// State.
    pub status: DelegationStatus,
    /// End.
    pub expires_at: Timestamp,
    /// Starts at 0, rises with every revoke.
    pub edge_version: i64,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the row last changed.
    pub updated_at: Timestamp,
}

impl Delegation {
    /// Whether the edge itself (not its ancestors) carries authority at `now`.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.status == DelegationStatus::Active
            && self.revoked_at.is_none()
            && self.expires_at > now
    }

    /// Whether the edge may act as a parent or be inherited: the receiver is the same application,
    /// or has used it.
    #[must_use]
    pub fn counts_as_parent(&self) -> bool {
        self.accepted || self.issuer_application_id == self.receiver_application_id
    }
}
