//! Making a dead message pending again.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use caracal_core::id::OutboxId;
use caracal_http::Failure;
use caracal_store::StoreError;
use http::StatusCode;
use serde_json::json;
use thiserror::Error;

use crate::Coordinator;
use crate::answer;
use crate::audit::{self, Entity};
use crate::body::BodyError;
use crate::call::Call;

/// Why no message is published again.
#[derive(Debug, Error)]
pub(crate) enum RequeueError {
    /// Only an admin does this.
    #[error("this needs the operator token or the scope coordinator.admin")]
    AdminRequired,
    /// The path names no message.
    #[error(transparent)]
    Request(#[from] BodyError),
    /// No such message in the zone, or it is not dead.
    #[error("there is no such dead message in the zone")]
    NotFound,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `POST /zones/{zone_id}/outbox/{id}/requeue`
pub(crate) async fn requeue(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    Ok(coordinator.requeue_message(&call).await?)
}

impl Coordinator {
    async fn requeue_message(&self, call: &Call) -> Result<Response, RequeueError> {
        if !call.caller.is_admin() {
            return Err(RequeueError::AdminRequired);
        }
        let id: OutboxId = call
            .param("id")
            .map_err(|_| BodyError::field("id", "not the id of a message"))?;
        let mut unit = self.store.begin(call.caller.zone()).await?;
        if !unit.requeue_outbox_message(&id).await? {
            return Err(RequeueError::NotFound);
        }
        let entity = Entity::Message(id.clone());
        audit::record(&mut unit, call, &entity, StatusCode::OK).await?;
        unit.commit().await?;
        let body = json!({ "id": id, "status": "pending" });
        Ok(answer::json(StatusCode::OK, body.to_string()))
    }
}
