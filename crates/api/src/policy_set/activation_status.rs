//! How far an activation has come.
//!
//! A version governs from the answer of its activation on, because every decision asks the freshness
//! barrier first. The message in the outbox only warms caches elsewhere, so its state is shown and
//! decides nothing.

use std::sync::Arc;

use caracal_core::id::{OutboxId, PolicySetId, PolicySetVersionId, ZoneId};
use caracal_events::Topic;
use caracal_store::entity::PolicySet;
use caracal_store::{OutboxMessage, OutboxStatus, ZoneReader};
use serde_json::{Value, json};

use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;

/// `GET /v1/zones/{z}/policy-sets/{id}/activation-status`.
pub(crate) async fn activation_status(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let (zone, id): (ZoneId, PolicySetId) = (call.zone()?, call.id("id")?);
    let asked: Option<PolicySetVersionId> = call.query.parsed("version_id")?;
    let outbox_id: Option<OutboxId> = call.query.parsed("outbox_id")?;
    let reader = api.store.read(&zone);
    let set = reader
        .get_policy_set(&id)
        .await?
        .ok_or(Code::BindingNotFound)?;
    let version = asked.or_else(|| set.active_version_id.clone());
    let version = version.ok_or(Code::ActiveVersionNotFound)?;
    let is_active = set.active_version_id.as_ref() == Some(&version);
    let manifest_sha256 = match &set.active_version_id {
        Some(active) => reader
            .get_policy_set_version(&id, active)
            .await?
            .map(|v| v.manifest_sha256),
        None => None,
    };
    Reply::ok(&json!({
        "zone_id": zone,
        "policy_set_id": id,
        "version_id": version,
        "active": is_active,
        "active_version_id": set.active_version_id,
        "manifest_sha256": manifest_sha256,
        "propagation_status": if is_active { "loaded" } else { "waiting_for_activation" },
        "outbox": outbox(&reader, &set, &version, outbox_id.as_ref()).await?,
        "sts": sts(&api, &set, manifest_sha256.as_deref()),
    }))
}

/// What decides with the set: the answering process, as soon as the set governs.
fn sts(api: &Api, set: &PolicySet, manifest_sha256: Option<&str>) -> Value {
    let Some(active) = &set.active_version_id else {
        return json!({ "state": "not_loaded", "loaded": false, "zone_id": set.zone_id });
    };
    json!({
        "state": "loaded",
        "loaded": true,
        "zone_id": set.zone_id,
        "policy_set_version_id": active,
        "manifest_sha256": manifest_sha256,
        "loaded_at": set.updated_at,
        "age_seconds": api.clock.now().since(set.updated_at).as_secs(),
    })
}

async fn outbox(
    reader: &ZoneReader,
    set: &PolicySet,
    version: &PolicySetVersionId,
    asked: Option<&OutboxId>,
) -> Result<Value, ApiError> {
    let topic = Topic::PolicyInvalidate.as_str();
    let found = match asked {
        Some(id) => reader.get_outbox_message(id).await?,
        None => {
            let prefix = format!("policy:{}:{}:", set.zone_id, set.id);
            let newest = reader.find_newest_outbox_message(topic, &prefix).await?;
            newest.filter(|message| tells_of(message, set, version))
        }
    };
    let Some(message) = found else {
        return Ok(json!({
            "id": asked, "state": "missing", "attempts": 0,
            "last_error": null, "dispatched_at": null,
        }));
    };
    let state = match message.status {
        _ if message.topic != topic || !tells_of(&message, set, version) => "mismatch",
        OutboxStatus::Published => "dispatched",
        OutboxStatus::Dead => "dead",
        OutboxStatus::Pending => "pending",
    };
    Ok(json!({
        "id": message.id,
        "state": state,
        "attempts": message.attempts,
        "last_error": message.last_error,
        "dispatched_at": message.published_at,
    }))
}

fn tells_of(message: &OutboxMessage, set: &PolicySet, version: &PolicySetVersionId) -> bool {
    let says = |name: &str, value: &str| {
        message
            .payload
            .iter()
            .any(|(held, text)| held == name && text == value)
    };
    says("zone_id", set.zone_id.as_str())
        && says("policy_set_id", set.id.as_str())
        && says("policy_set_version_id", version.as_str())
}
