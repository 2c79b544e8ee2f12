//! Resuming a suspended Session and everything suspended below it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use caracal_core::id::SessionId;
use caracal_http::Failure;
use caracal_store::ZoneUnit;
use caracal_store::entity::SessionStatus;
use http::StatusCode;
use serde_json::json;

use super::subtree::resume_subtree;
use super::suspend::{ToggleError, require_control};
use crate::Coordinator;
use crate::answer;
use crate::audit::{self, Entity};
use crate::call::Call;

/// `PATCH /zones/{zone_id}/agents/{id}/resume`
pub(crate) async fn resume(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    let id: SessionId = call.param("id")?;
    Ok(coordinator.resume_session(&call, &id).await?)
}

impl Coordinator {
    async fn resume_session(&self, call: &Call, id: &SessionId) -> Result<Response, ToggleError> {
        let mut unit = self.store.begin(call.caller.zone()).await?;
        require_control(&unit, call, id).await?;
        require_resumable(&unit, id).await?;
        let now = self.clock.now();
        let deadline = now.plus(self.options.lease);
        let count = resume_subtree(&mut unit, id, deadline, now).await?;
        audit::record(
            &mut unit,
            call,
            &Entity::Session(id.clone()),
            StatusCode::OK,
        )
        .await?;
        unit.commit().await?;
        Ok(answer::json(
            StatusCode::OK,
            json!({ "resumed": count }).to_string(),
        ))
    }
}

async fn require_resumable(unit: &ZoneUnit, id: &SessionId) -> Result<(), ToggleError> {
    let line = unit.session_ancestry(id).await?;
    let mut line = line.iter();
    let session = line.next();
    if session.is_none_or(|session| session.status != SessionStatus::Suspended) {
        return Err(ToggleError::NotSuspended);
    }
    if line.any(|above| above.status == SessionStatus::Suspended) {
        return Err(ToggleError::SuspendedAbove);
    }
    Ok(())
}
