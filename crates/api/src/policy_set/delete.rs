//! Archiving a policy set; when it governed the zone, everything is denied from the answer on.

use std::sync::Arc;

use caracal_core::id::PolicySetId;
use caracal_events::Message;
use http::StatusCode;

use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::{admin_audit, attribution, outbox};

/// `DELETE /v1/zones/{z}/policy-sets/{id}`.
pub(crate) async fn delete(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let id: PolicySetId = call.id("id")?;
    let zone = call.zone()?;
    let mut unit = api.store.begin(&zone).await?;
    let archived = unit
        .archive_policy_set(&id, &attribution::author(&call.actor))
        .await?;
    let governed = archived.ok_or(Code::PolicySetNotFound)?;
    if governed {
        let message = Message::policy_invalidated(&zone, &id, None, api.clock.now());
        outbox::enqueue(&mut unit, &message).await?;
    }
    unit.record_admin_audit(&admin_audit::changed(&call, StatusCode::NO_CONTENT))
        .await?;
    unit.commit().await?;
    Ok(Reply::no_content())
}
