//! Ending a Session and everything below it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use caracal_core::id::SessionId;
use caracal_http::Failure;
use caracal_store::StoreError;
use caracal_store::entity::{Lifecycle, Session};
use http::StatusCode;
use thiserror::Error;

use super::SessionAccessError;
use super::request::EndRequest;
use super::subtree::{Ending, end_subtrees};
use crate::Coordinator;
use crate::answer;
use crate::audit::{self, Entity};
use crate::body::read_json;
use crate::call::Call;

/// Why a Session is not ended.
#[derive(Debug, Error)]
pub(crate) enum EndError {
    /// Unknown, ended already, or another application's.
    #[error(transparent)]
    Access(#[from] SessionAccessError),
    /// A service is ended by its holder, which says which one it is.
    #[error("send the lease_generation of the service")]
    GenerationRequired,
    /// Another holder has the service.
    #[error("the service has another holder")]
    Fenced,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `DELETE /zones/{zone_id}/agents/{id}`
pub(crate) async fn end(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
    body: Body,
) -> Result<Response, Failure> {
    let id: SessionId = call.param("id")?;
    let reason = EndRequest::reason(&call.query())?;
    let body = read_json(&call.headers, body, coordinator.options.body_limit).await?;
    let generation = EndRequest::generation(body)?;
    let request = EndRequest { reason, generation };
    Ok(coordinator.end_session(&call, &id, &request).await?)
}

impl Coordinator {
    async fn end_session(
        &self,
        call: &Call,
        id: &SessionId,
        request: &EndRequest,
    ) -> Result<Response, EndError> {
        let mut unit = self.store.begin(call.caller.zone()).await?;
        let session = unit
            .get_session(id)
            .await?
            .ok_or(SessionAccessError::NotFound)?;
        if !call.caller.controls(&session.application_id) {
            return Err(SessionAccessError::NotOwner.into());
        }
        if !call.caller.is_admin() {
            require_holder(&session, request)?;
        }
        let ending = Ending::terminated(&request.reason);
        let ended = end_subtrees(&mut unit, std::slice::from_ref(id), ending).await?;
        if ended.sessions.is_empty() {
            return Err(SessionAccessError::NotFound.into());
        }
        audit::record(
            &mut unit,
            call,
            &Entity::Session(id.clone()),
            StatusCode::NO_CONTENT,
        )
        .await?;
        unit.commit().await?;
        Ok(answer::empty(StatusCode::NO_CONTENT))
    }
}

fn require_holder(session: &Session, request: &EndRequest) -> Result<(), EndError> {
    if matches!(session.lifecycle, Lifecycle::Task { .. }) {
        return Ok(());
    }
    let generation = request.generation.ok_or(EndError::GenerationRequired)?;
    if i64::from(generation.get()) == session.lease_generation {
        Ok(())
    } else {
        Err(EndError::Fenced)
    }
}
