//! Adding a version: an immutable manifest, compiled before it is stored.

use std::sync::Arc;

use caracal_core::id::{PolicySetId, PolicySetVersionId, PolicyVersionId};
use caracal_policy::{SCHEMA_VERSION, manifest_sha256};
use caracal_store::NewPolicySetVersion;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::contract::{self, MAX_MANIFEST};
use super::live;
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::request::fields::{Field, Fields, List, Misfit};
use crate::{admin_audit, attribution};

/// One entry of a manifest; other members are dropped.
struct EntryInput(String);

impl Field for EntryInput {
    fn read(value: Value) -> Result<Self, Misfit> {
        match Map::read(value)?.remove("policy_version_id") {
            Some(Value::String(id)) => Ok(Self(id)),
            _ => Err(Misfit::new("is a string").within("policy_version_id")),
        }
    }
}

/// `POST /v1/zones/{z}/policy-sets/{id}/versions`.
pub(crate) async fn add_version(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let (zone, set): (_, PolicySetId) = (call.zone()?, call.id("id")?);
    let mut fields = Fields::of(call.body.clone(), Code::InvalidBody)?;
    let List(entries) = fields.required::<List<EntryInput, 1, MAX_MANIFEST>>("manifest")?;
    let reader = api.store.read(&zone);
    live(&reader, &set).await?;
    let manifest = ids(&entries)?;
    let versions = contract::check(&reader, &manifest).await?;
    contract::compile(&api, versions).await?;
    let new = NewPolicySetVersion {
        id: PolicySetVersionId::generate(&*api.clock, &*api.random),
        policy_set_id: set,
        manifest_sha256: manifest_sha256(&manifest),
        manifest,
        schema_version: SCHEMA_VERSION.to_owned(),
        author: attribution::author(&call.actor),
    };
    let mut unit = api.store.begin(&zone).await?;
    let stored = unit
        .insert_policy_set_version(&new)
        .await?
        .ok_or(Code::PolicySetNotFound)?;
    unit.record_admin_audit(&admin_audit::changed(&call, StatusCode::CREATED))
        .await?;
    unit.commit().await?;
    Reply::created(&json!({
        "version_id": stored.id,
        "id": stored.id,
        "policy_set_id": stored.policy_set_id,
        "version": stored.version,
        "manifest_sha256": stored.manifest_sha256,
        "schema_version": stored.schema_version,
        "created_at": stored.created_at,
    }))
}

/// A text that is no id names nothing that exists.
fn ids(entries: &[EntryInput]) -> Result<Vec<PolicyVersionId>, ApiError> {
    let id = |entry: &EntryInput| {
        PolicyVersionId::parse(&entry.0)
            .map_err(|_| contract::refuse("a policy version of the manifest does not exist"))
    };
    entries.iter().map(id).collect()
}
