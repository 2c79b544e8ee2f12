//! Activation: from its answer on, every decision of the zone is made with this version.

use std::sync::Arc;

use caracal_core::id::OutboxId;
use caracal_core::id::{PolicySetId, PolicySetVersionId, ZoneId};
use caracal_events::Message;
use caracal_store::ZoneUnit;
use caracal_store::entity::PolicySetVersion;
use http::StatusCode;
use serde_json::json;

use super::{contract, live_version};
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::request::fields::Fields;
use crate::{admin_audit, attribution, outbox};

/// `POST /v1/zones/{z}/policy-sets/{id}/activate`. The documents are compiled before the
/// transaction; pointer, siblings, message and audit row change together in it.
pub(crate) async fn activate(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let (zone, set): (ZoneId, PolicySetId) = (call.zone()?, call.id("id")?);
    let mut fields = Fields::of(call.body.clone(), Code::InvalidBody)?;
    let named: String = fields.required("version_id")?;
    let reader = api.store.read(&zone);
    let version = live_version(&reader, &set, &named).await?;
    let documents = contract::check(&reader, &version.manifest).await?;
    contract::compile(&api, documents).await?;
    let mut unit = api.store.begin(&zone).await?;
    let outbox_id = switch(&api, &call, &mut unit, &version).await?;
    unit.record_admin_audit(&admin_audit::changed(&call, StatusCode::ACCEPTED))
        .await?;
    unit.commit().await?;
    let body = json!({
        "activated": true,
        "version_id": version.id,
        "outbox_id": outbox_id,
        "status_url": status_url(&zone, &set, &version.id, &outbox_id),
    });
    Reply::json(StatusCode::ACCEPTED, &body)
}

async fn switch(
    api: &Api,
    call: &Call,
    unit: &mut ZoneUnit,
    version: &PolicySetVersion,
) -> Result<OutboxId, ApiError> {
    let set = &version.policy_set_id;
    let held = unit.get_policy_versions(&version.manifest).await?;
    if held.len() != version.manifest.len() {
        return Err(Code::ReferencedVersionMissing.into());
    }
    if !unit
        .activate_policy_set(set, &version.id, &attribution::author(&call.actor))
        .await?
    {
        return Err(Code::VersionNotFound.into());
    }
    let zone = unit.zone_id().clone();
    let message = Message::policy_invalidated(&zone, set, Some(&version.id), api.clock.now());
    outbox::enqueue(unit, &message).await
}

/// Ids are of an alphabet that a URL takes as it is, but for the colon in a query.
fn status_url(
    zone: &ZoneId,
    set: &PolicySetId,
    version: &PolicySetVersionId,
    outbox: &OutboxId,
) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("version_id", version.as_str())
        .append_pair("outbox_id", outbox.as_str())
        .finish();
    format!("/v1/zones/{zone}/policy-sets/{set}/activation-status?{query}")
}
