//! Deleting a zone: it is archived, and nothing of it mints or proxies from the answer on.

use std::sync::Arc;

use caracal_core::id::ZoneId;
use caracal_events::{Message, Reason};
use caracal_store::{EndedAuthority, ZoneUnit};
use http::StatusCode;
use serde_json::json;

use super::live_in;
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::{admin_audit, attribution, outbox};

/// `DELETE /v1/zones/{id}`. Live sessions and delegations hold it back, unless `?force=true` ends
/// them first.
pub(crate) async fn delete(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let force = call.query.flag("force")?;
    let zone_id = call.zone()?;
    let mut unit = api.store.begin(&zone_id).await?;
    live_in(&unit).await?;
    let live = unit.live_authority().await?;
    if !force && (live.sessions > 0 || live.delegations > 0) {
        let details = json!({ "sessions": live.sessions, "delegations": live.delegations });
        return Err(ApiError::from(Code::ZoneHasLiveAuthority).with_details(details));
    }
    let ended = unit
        .end_all_authority(Reason::ZONE_DELETED.as_str())
        .await?;
    announce(&mut unit, &zone_id, &ended).await?;
    unit.archive_zone(&attribution::author(&call.actor)).await?;
    unit.record_admin_audit(&admin_audit::changed(&call, StatusCode::NO_CONTENT))
        .await?;
    unit.commit().await?;
    Ok(Reply::no_content())
}

/// Tells resource servers, which see no change log, what has ended.
async fn announce(
    unit: &mut ZoneUnit,
    zone: &ZoneId,
    ended: &EndedAuthority,
) -> Result<(), ApiError> {
    let reason = Reason::ZONE_DELETED;
    for record in &ended.records {
        let message = Message::authority_record_revoked(zone, record, &reason);
        outbox::enqueue(unit, &message).await?;
    }
    for session in &ended.sessions {
        let revoked = Message::session_revoked(zone, &session.id, &reason);
        outbox::enqueue(unit, &revoked).await?;
        let parent = session.parent_id.as_ref();
        let terminated = Message::session_terminated(zone, &session.id, parent, &reason);
        outbox::enqueue(unit, &terminated).await?;
    }
    for edge in &ended.delegations {
        outbox::enqueue(unit, &Message::delegation_revoked(zone, edge, &reason)).await?;
    }
    Ok(())
}
