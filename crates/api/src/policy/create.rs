//! Creating a policy with its first version.

use std::sync::Arc;

use caracal_core::id::{PolicyId, ZoneId};
use caracal_store::entity::{Policy, PolicyVersion};
use caracal_store::{StoreError, UniqueConstraint};
use serde_json::{Value, json};

use super::{MAX_DESCRIPTION, MAX_NAME, refused, version};
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::request::fields::{Fields, Text};
use crate::reserved::Reserved;
use crate::{admin_audit, attribution, zone};

struct NewPolicy {
    name: String,
    description: Option<String>,
    content: String,
}

impl NewPolicy {
    /// Unknown members are ignored.
    fn read(body: Option<Value>) -> Result<Self, ApiError> {
        let mut fields = Fields::of(body, Code::InvalidBody)?;
        Ok(Self {
            name: fields.required::<Text<1, MAX_NAME>>("name")?.0,
            description: fields
                .nullable::<Text<0, MAX_DESCRIPTION>>("description")?
                .flatten()
                .map(|text| text.0),
            content: fields.required::<Text<1, { usize::MAX }>>("content")?.0,
        })
    }
}

/// `POST /v1/zones/{z}/policies`.
pub(crate) async fn create(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let zone_id = call.zone()?;
    zone::live(&api.store.read(&zone_id)).await?;
    let new = NewPolicy::read(call.body.clone())?;
    Reserved::Name.check(&new.name, &call.actor)?;
    api.compiler
        .parse(new.content.clone())
        .await?
        .map_err(|error| refused(&error))?;
    let policy = draft(&api, &call, &zone_id, &new);
    let version = insert(&api, &call, &policy, &new.content).await?;
    Reply::created(&json!({
        "id": policy.id,
        "version_id": version.id,
        "zone_id": policy.zone_id,
        "name": policy.name,
        "description": policy.description,
        "version": {
            "id": version.id,
            "policy_id": version.policy_id,
            "version": version.version,
            "content_sha256": version.content_sha256,
            "schema_version": version.schema_version,
            "created_at": version.created_at,
        },
    }))
}

fn draft(api: &Api, call: &Call, zone: &ZoneId, new: &NewPolicy) -> Policy {
    let now = api.clock.now();
    Policy {
        id: PolicyId::generate(&*api.clock, &*api.random),
        zone_id: zone.clone(),
        name: new.name.clone(),
        description: new.description.clone(),
        attribution: attribution::author(&call.actor).creates(),
        created_at: now,
        updated_at: now,
        archived_at: None,
    }
}

async fn insert(
    api: &Api,
    call: &Call,
    policy: &Policy,
    content: &str,
) -> Result<PolicyVersion, ApiError> {
    let mut unit = api.store.begin(&policy.zone_id).await?;
    zone::live_in(&unit).await?;
    match unit.insert_policy(policy).await {
        Err(StoreError::Conflict(UniqueConstraint::PolicyName)) => {
            return Err(Code::PolicyNameConflict.into());
        }
        other => other?,
    }
    let version = version(api, call, &policy.id, content);
    let version = unit
        .insert_policy_version(&version)
        .await?
        .ok_or(Code::PolicyNotFound)?;
    unit.record_admin_audit(&admin_audit::created(call, policy.id.as_str()))
        .await?;
    unit.commit().await?;
    Ok(version)
}
