//! Reading policies.

use std::sync::Arc;

use caracal_core::Timestamp;
use caracal_core::id::{PolicyId, PolicyVersionId, ZoneId};
use caracal_store::entity::{Policy, PolicyVersion};
use serde::Serialize;

use crate::api::Api;
use crate::attribution::AttributionView;
use crate::error::{ApiError, Code};
use crate::page::{self, Listed, OBJECTS};
use crate::reply::Reply;
use crate::request::Call;

#[derive(Debug, Serialize)]
struct PolicyView {
    id: PolicyId,
    zone_id: ZoneId,
    name: String,
    description: Option<String>,
    #[serde(flatten)]
    attribution: AttributionView,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Policy> for PolicyView {
    fn from(policy: Policy) -> Self {
        Self {
            id: policy.id,
            zone_id: policy.zone_id,
            name: policy.name,
            description: policy.description,
            attribution: policy.attribution.into(),
            created_at: policy.created_at,
            updated_at: policy.updated_at,
        }
    }
}

#[derive(Debug, Serialize)]
struct VersionView {
    id: PolicyVersionId,
    policy_id: PolicyId,
    version: i64,
    content: Arc<str>,
    content_sha256: String,
    schema_version: String,
    created_by: Option<String>,
    created_via_operator: bool,
    created_at: Timestamp,
    archived_at: Option<Timestamp>,
}

impl From<PolicyVersion> for VersionView {
    fn from(version: PolicyVersion) -> Self {
        Self {
            id: version.id,
            policy_id: version.policy_id,
            version: version.version,
            content: version.content,
            content_sha256: version.content_sha256,
            schema_version: version.schema_version,
            created_by: version.created_by,
            created_via_operator: version.created_via_operator,
            created_at: version.created_at,
            archived_at: None,
        }
    }
}

#[derive(Debug, Serialize)]
struct PolicyDetail {
    #[serde(flatten)]
    policy: PolicyView,
    versions: Vec<VersionView>,
}

/// `GET /v1/zones/{z}/policies`: without their texts.
pub(crate) async fn list(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let page = page::requested(&call.query, OBJECTS)?;
    let policies = api.store.read(&call.zone()?).list_policies(&page).await?;
    Reply::ok(&Listed::from(policies.map(PolicyView::from)))
}

/// `GET /v1/zones/{z}/policies/{id}`: with every version, newest first.
pub(crate) async fn read(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let id: PolicyId = call.id("id")?;
    let reader = api.store.read(&call.zone()?);
    let found = reader.get_policy(&id).await?;
    let live = found.filter(|policy| policy.archived_at.is_none());
    let policy = live.ok_or(Code::PolicyNotFound)?;
    let versions = reader.list_policy_versions(&id).await?;
    Reply::ok(&PolicyDetail {
        policy: policy.into(),
        versions: versions.into_iter().map(VersionView::from).collect(),
    })
}
