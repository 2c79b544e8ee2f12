//! Creating a policy set; it governs nothing yet.

use std::sync::Arc;

use caracal_core::id::PolicySetId;
use caracal_store::entity::PolicySet;
use caracal_store::{StoreError, UniqueConstraint};

use super::view::SetView;
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::policy::{MAX_DESCRIPTION, MAX_NAME};
use crate::reply::Reply;
use crate::request::Call;
use crate::request::fields::{Fields, Text};
use crate::{admin_audit, attribution, zone};

/// `POST /v1/zones/{z}/policy-sets`. Unknown members are ignored.
pub(crate) async fn create(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let zone_id = call.zone()?;
    zone::live(&api.store.read(&zone_id)).await?;
    let mut fields = Fields::of(call.body.clone(), Code::InvalidBody)?;
    let Text(name) = fields.required::<Text<1, MAX_NAME>>("name")?;
    let description = fields
        .nullable::<Text<0, MAX_DESCRIPTION>>("description")?
        .flatten();
    let now = api.clock.now();
    let set = PolicySet {
        id: PolicySetId::generate(&*api.clock, &*api.random),
        zone_id: zone_id.clone(),
        name,
        description: description.map(|text| text.0),
        active_version_id: None,
        attribution: attribution::author(&call.actor).creates(),
        created_at: now,
        updated_at: now,
        archived_at: None,
    };
    let mut unit = api.store.begin(&zone_id).await?;
    zone::live_in(&unit).await?;
    match unit.insert_policy_set(&set).await {
        Err(StoreError::Conflict(UniqueConstraint::PolicySetName)) => {
            return Err(Code::PolicySetNameConflict.into());
        }
        other => other?,
    }
    unit.record_admin_audit(&admin_audit::created(&call, set.id.as_str()))
        .await?;
    unit.commit().await?;
    Reply::created(&SetView::from(set))
}
