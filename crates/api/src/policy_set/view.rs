//! Policy sets and their versions on the wire.

use caracal_core::Timestamp;
use caracal_core::id::{PolicySetId, PolicySetVersionId, PolicyVersionId, ZoneId};
use caracal_store::entity::{PolicySet, PolicySetVersion};
use serde::Serialize;

use crate::attribution::AttributionView;

/// A set as a creation answers it.
#[derive(Debug, Serialize)]
pub(super) struct SetView {
    id: PolicySetId,
    zone_id: ZoneId,
    name: String,
    description: Option<String>,
    #[serde(flatten)]
    attribution: AttributionView,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<PolicySet> for SetView {
    fn from(set: PolicySet) -> Self {
        Self {
            id: set.id,
            zone_id: set.zone_id,
            name: set.name,
            description: set.description,
            attribution: set.attribution.into(),
            created_at: set.created_at,
            updated_at: set.updated_at,
        }
    }
}

/// A set in lists and reads: also which version governs.
#[derive(Debug, Serialize)]
pub(super) struct GoverningSetView {
    #[serde(flatten)]
    set: SetView,
    active_version_id: Option<PolicySetVersionId>,
}

impl From<PolicySet> for GoverningSetView {
    fn from(set: PolicySet) -> Self {
        Self {
            active_version_id: set.active_version_id.clone(),
            set: set.into(),
        }
    }
}

/// A version in lists.
#[derive(Debug, Serialize)]
pub(super) struct SetVersionView {
    id: PolicySetVersionId,
    policy_set_id: PolicySetId,
    version: i64,
    manifest_sha256: String,
    schema_version: String,
    created_by: Option<String>,
    created_via_operator: bool,
    created_at: Timestamp,
}

impl From<PolicySetVersion> for SetVersionView {
    fn from(version: PolicySetVersion) -> Self {
        Self {
            id: version.id,
            policy_set_id: version.policy_set_id,
            version: version.version,
            manifest_sha256: version.manifest_sha256,
            schema_version: version.schema_version,
            created_by: version.created_by,
            created_via_operator: version.created_via_operator,
            created_at: version.created_at,
        }
    }
}

/// One entry of a manifest.
#[derive(Debug, Serialize)]
struct ManifestEntry {
    policy_version_id: PolicyVersionId,
}

/// A version with what it is made of.
#[derive(Debug, Serialize)]
pub(super) struct SetVersionDetail {
    #[serde(flatten)]
    version: SetVersionView,
    manifest_json: Vec<ManifestEntry>,
    policies: Vec<PolicyVersionId>,
}

impl From<PolicySetVersion> for SetVersionDetail {
    fn from(version: PolicySetVersion) -> Self {
        let policies = version.manifest.clone();
        let entry = |id: &PolicyVersionId| ManifestEntry {
            policy_version_id: id.clone(),
        };
        Self {
            manifest_json: policies.iter().map(entry).collect(),
            policies,
            version: version.into(),
        }
    }
}
