use std::sync::Arc;

use caracal_core::Timestamp;
use caracal_core::id::{PolicyId, PolicySetId, PolicySetVersionId, PolicyVersionId, ZoneId};

use super::Attribution;

/// A named policy; its text lives in versions.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Row id.
    pub id: PolicyId,
    /// Owning zone.
    pub zone_id: ZoneId,
    /// Unique among live policies of the zone.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Who made and changed it.
    pub attribution: Attribution,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Set: hidden; versions in an active set keep governing.
    pub archived_at: Option<Timestamp>,
}

/// One immutable text of a policy.
#[derive(Debug, Clone)]
pub struct PolicyVersion {
    /// Row id.
    pub id: PolicyVersionId,
    /// Owning zone.
    pub zone_id: ZoneId,
    /// The policy.
    pub policy_id: PolicyId,
    /// 1, 2, …
    pub version: i64,
    /// The source text, exactly as received.
    pub content: Arc<str>,
    /// Lower-case hex SHA-256 of the UTF-8 content.
    pub content_sha256: String,
    /// Always `2026-05-20`.
    pub schema_version: String,
    /// Who made it.
    pub created_by: Option<String>,
    /// Whether the operator co-authored it.
    pub created_via_operator: bool,
    /// When it was created.
    pub created_at: Timestamp,
}

/// A named set of policy versions.
#[derive(Debug, Clone)]
pub struct PolicySet {
    /// Row id.
    pub id: PolicySetId,
    /// Owning zone.
    pub zone_id: ZoneId,
    /// Unique among live sets of the zone.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// The governing version; `None` when the set does not govern.
    pub active_version_id: Option<PolicySetVersionId>,
    /// Who made and changed it.
    pub attribution: Attribution,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Set: hidden and not governing.
    pub archived_at: Option<Timestamp>,
}

/// One immutable manifest of a policy set.
#[derive(Debug, Clone)]
pub struct PolicySetVersion {
    /// Row id.
    pub id: PolicySetVersionId,
    /// Owning zone.
    pub zone_id: ZoneId,
    /// The set.
    pub policy_set_id: PolicySetId,
    /// 1, 2, …
    pub version: i64,
    /// The policy versions, in the order given.
    pub manifest: Vec<PolicyVersionId>,
    /// Hex SHA-256 of the manifest's canonical form.
    pub manifest_sha256: String,
    /// Always `2026-05-20`.
    pub schema_version: String,
    /// Who made it.
    pub created_by: Option<String>,
    /// Whether the operator co-authored it.
    pub created_via_operator: bool,
    /// When it was created.
    pub created_at: Timestamp,
}

/// The policy that governs a zone, with its texts: what the STS compiles.
#[derive(Debug, Clone)]
pub struct ActivePolicySet {
    /// The set.
    pub policy_set_id: PolicySetId,
    /// The governing version: immutable, so a compiled form may be kept under this id.
    pub version_id: PolicySetVersionId,
    /// Hex SHA-256 of the manifest.
    pub manifest_sha256: String,
    /// Version id and source text, in manifest order.
    pub documents: Vec<(PolicyVersionId, Arc<str>)>,
}
