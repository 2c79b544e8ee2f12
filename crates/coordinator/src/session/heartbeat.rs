//! A service's holder says that it lives.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use caracal_core::Timestamp;
use caracal_core::id::SessionId;
use caracal_http::Failure;
use caracal_store::ZoneUnit;
use caracal_store::entity::{Lifecycle, Session, SessionStatus};
use http::StatusCode;
use serde_json::{Value, json};

use super::SessionFields;
use super::lease::{
    LeaseError, find_own, require_own_record, require_subject, require_unlapsed, settle,
};
use super::request::HeartbeatRequest;
use crate::Coordinator;
use crate::answer;
use crate::body::read_json;
use crate::call::Call;
use crate::caller::Bearer;

/// `POST /zones/{zone_id}/agents/{id}/heartbeat`
pub(crate) async fn heartbeat(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
    body: Body,
) -> Result<Response, Failure> {
    let body = read_json(&call.headers, body, coordinator.options.body_limit).await?;
    let request = HeartbeatRequest::parse(body)?;
    let id: SessionId = call.param("id")?;
    coordinator.beat(&call, call.bearer()?, &id, &request).await
}

impl Coordinator {
    async fn beat(
        &self,
        call: &Call,
        bearer: &Bearer,
        id: &SessionId,
        request: &HeartbeatRequest,
    ) -> Result<Response, Failure> {
        let mut unit = self
            .store
            .begin(&bearer.zone)
            .await
            .map_err(LeaseError::from)?;
        let now = self.clock.now();
        let judged = judge_beat(&mut unit, (call, bearer), id, request, now).await;
        let session = match judged {
            Ok(session) => session,
            Err(error) => return settle(unit, call, id, error).await,
        };
        let session = self.renew(unit, session, now).await?;
        let body = json!({
            "agent": agent(&session), "service": null,
            "active_invocations": request.active_invocations,
        });
        Ok(answer::json(StatusCode::OK, body.to_string()))
    }

    /// Moves the deadline. A suspended service keeps its own: its holder is told to stop, and only a
    /// resume sets it going again. A renewal changes no authority and leaves no audit row.
    async fn renew(
        &self,
        mut unit: ZoneUnit,
        session: Session,
        now: Timestamp,
    ) -> Result<Session, LeaseError> {
        if session.status == SessionStatus::Suspended {
            return Ok(session);
        }
        let deadline = now.plus(self.options.lease);
        if !unit
            .renew_lease(&session.id, session.lease_generation, deadline)
            .await?
        {
            return Err(LeaseError::Fenced);
        }
        let renewed = unit
            .get_session(&session.id)
            .await?
            .ok_or(LeaseError::Fenced)?;
        unit.commit().await?;
        Ok(renewed)
    }
}

async fn judge_beat(
    unit: &mut ZoneUnit,
    (call, bearer): (&Call, &Bearer),
    id: &SessionId,
    request: &HeartbeatRequest,
    now: Timestamp,
) -> Result<Session, LeaseError> {
    let session = find_own(unit, call, id).await?;
    if !matches!(
        session.status,
        SessionStatus::Active | SessionStatus::Suspended
    ) {
        return Err(LeaseError::NotLive);
    }
    let Lifecycle::Service(held) = session.lifecycle else {
        return Err(LeaseError::NotService);
    };
    require_subject(unit, &session, now).await?;
    if i64::from(request.generation.get()) != session.lease_generation {
        return Err(LeaseError::Fenced);
    }
    if session.status == SessionStatus::Active {
        require_unlapsed(unit, &session, held, now).await?;
    }
    require_own_record(unit, bearer, &session, now).await?;
    if request.service_id.is_some() {
        return Err(LeaseError::ServiceNotFound);
    }
    Ok(session)
}

fn agent(session: &Session) -> Value {
    let fields = SessionFields::from(session);
    json!({
        "id": session.id,
        "zone_id": session.zone_id,
        "application_id": session.application_id,
        "status": session.status,
        "last_active_at": session.last_active_at,
        "last_heartbeat_at": fields.last_heartbeat_at,
        "heartbeat_deadline_at": fields.heartbeat_deadline_at,
        "lease_generation": session.lease_generation,
    })
}
