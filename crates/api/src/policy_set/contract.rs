//! What a manifest must fulfil before it may govern anything.

use caracal_core::id::PolicyVersionId;
use caracal_policy::{SCHEMA_VERSION, ZonePolicy};
use caracal_store::entity::PolicyVersion;
use caracal_store::{Access, InZone};

use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::policy::compile::BundleError;

/// The most policy versions of one manifest.
pub(super) const MAX_MANIFEST: usize = 256;

/// The policy versions that a manifest names, all of them, in its order.
pub(super) async fn check<A: Access>(
    handle: &InZone<A>,
    manifest: &[PolicyVersionId],
) -> Result<Vec<PolicyVersion>, ApiError> {
    if manifest.is_empty() {
        return Err(refuse("the manifest names no policy version"));
    }
    if manifest.len() > MAX_MANIFEST {
        return Err(refuse("the manifest names more than 256 policy versions"));
    }
    for (index, id) in manifest.iter().enumerate() {
        if manifest[..index].contains(id) {
            return Err(refuse(format!("policy version {id} is named twice")));
        }
    }
    let versions = handle.get_policy_versions(manifest).await?;
    if let Some(id) = manifest
        .iter()
        .find(|id| !versions.iter().any(|held| held.id == **id))
    {
        return Err(refuse(format!(
            "policy version {id} does not exist in this zone"
        )));
    }
    match versions
        .iter()
        .find(|version| version.schema_version != SCHEMA_VERSION)
    {
        Some(version) => {
            let (id, schema) = (&version.id, &version.schema_version);
            Err(refuse(format!(
                "policy version {id} has the unsupported schema {schema}"
            )))
        }
        None => Ok(versions),
    }
}

/// Reads and compiles the versions of a checked manifest.
pub(super) async fn compile(
    api: &Api,
    versions: Vec<PolicyVersion>,
) -> Result<ZonePolicy, ApiError> {
    api.compiler
        .compile(versions)
        .await?
        .map_err(|error| match error {
            BundleError::Document(id, error) => {
                refuse(format!("policy version {id}: {}", error.code()))
            }
            BundleError::Conflict(conflict) => {
                ApiError::from(Code::InvalidPolicyBundle).describe(conflict.to_string())
            }
        })
}

/// The answer to a manifest that is refused.
pub(super) fn refuse(text: impl Into<String>) -> ApiError {
    ApiError::from(Code::InvalidPolicyContract).describe(text)
}
