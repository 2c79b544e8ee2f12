//! Adding versions to a policy, and archiving it.

use std::sync::Arc;

use caracal_core::id::PolicyId;
use http::StatusCode;
use serde_json::json;

use super::{refused, version};
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::request::fields::{Fields, Text};
use crate::{admin_audit, attribution};

/// `POST /v1/zones/{z}/policies/{id}/versions`. The same text twice makes two versions.
pub(crate) async fn add_version(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let id: PolicyId = call.id("id")?;
    let mut fields = Fields::of(call.body.clone(), Code::InvalidBody)?;
    let Text(content) = fields.required::<Text<1, { usize::MAX }>>("content")?;
    api.compiler
        .parse(content.clone())
        .await?
        .map_err(|error| refused(&error))?;
    let mut unit = api.store.begin(&call.zone()?).await?;
    let new = version(&api, &call, &id, &content);
    let version = unit
        .insert_policy_version(&new)
        .await?
        .ok_or(Code::PolicyNotFound)?;
    unit.record_admin_audit(&admin_audit::changed(&call, StatusCode::CREATED))
        .await?;
    unit.commit().await?;
    Reply::created(&json!({
        "version_id": version.id,
        "id": version.id,
        "policy_id": version.policy_id,
        "version": version.version,
        "content_sha256": version.content_sha256,
        "schema_version": version.schema_version,
        "created_at": version.created_at,
    }))
}

/// `DELETE /v1/zones/{z}/policies/{id}`: hides it; what is active goes on governing.
pub(crate) async fn delete(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let id: PolicyId = call.id("id")?;
    let mut unit = api.store.begin(&call.zone()?).await?;
    if !unit
        .archive_policy(&id, &attribution::author(&call.actor))
        .await?
    {
        return Err(Code::PolicyNotFound.into());
    }
    unit.record_admin_audit(&admin_audit::changed(&call, StatusCode::NO_CONTENT))
        .await?;
    unit.commit().await?;
    Ok(Reply::no_content())
}
