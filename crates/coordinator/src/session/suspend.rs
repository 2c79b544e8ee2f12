//! Suspending a Session and everything below it, until somebody resumes it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use caracal_core::id::SessionId;
use caracal_events::Reason;
use caracal_http::Failure;
use caracal_store::{StoreError, ZoneUnit};
use http::StatusCode;
use serde_json::json;
use thiserror::Error;

use super::SessionAccessError;
use super::subtree::suspend_subtrees;
use crate::Coordinator;
use crate::answer;
use crate::audit::{self, Entity};
use crate::call::Call;

/// Why a Session is neither suspended nor resumed.
#[derive(Debug, Error)]
pub(crate) enum ToggleError {
    /// Unknown, or another application's.
    #[error(transparent)]
    Access(#[from] SessionAccessError),
    /// Only an active Session is suspended.
    #[error("the Session is not active")]
    NotActive,
    /// Only a suspended Session is resumed.
    #[error("the Session is not suspended")]
    NotSuspended,
    /// What is suspended above holds what is below.
    #[error("a Session above is suspended; resume that one")]
    SuspendedAbove,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `PATCH /zones/{zone_id}/agents/{id}/suspend`
pub(crate) async fn suspend(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    let id: SessionId = call.param("id")?;
    Ok(coordinator.suspend_session(&call, &id).await?)
}

impl Coordinator {
    async fn suspend_session(&self, call: &Call, id: &SessionId) -> Result<Response, ToggleError> {
        let mut unit = self.store.begin(call.caller.zone()).await?;
        require_control(&unit, call, id).await?;
        let roots = std::slice::from_ref(id);
        let now = self.clock.now();
        let count = suspend_subtrees(&mut unit, roots, &Reason::REQUESTED, now).await?;
        if count == 0 {
            return Err(ToggleError::NotActive);
        }
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
            json!({ "suspended": count }).to_string(),
        ))
    }
}

/// The Session exists and is the caller's to change.
pub(super) async fn require_control(
    unit: &ZoneUnit,
    call: &Call,
    id: &SessionId,
) -> Result<(), ToggleError> {
    let session = unit
        .get_session(id)
        .await?
        .ok_or(SessionAccessError::NotFound)?;
    if call.caller.controls(&session.application_id) {
        Ok(())
    } else {
        Err(SessionAccessError::NotOwner.into())
    }
}
