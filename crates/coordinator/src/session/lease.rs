//! Taking over a service: the new holder gets the next generation, the old one is fenced.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use caracal_core::id::SessionId;
use caracal_core::{SubjectType, Timestamp};
use caracal_events::Reason;
use caracal_http::Failure;
use caracal_store::entity::{Lease, Lifecycle, Session, SessionStatus};
use caracal_store::{StoreError, ZoneUnit};
use http::StatusCode;
use serde_json::json;
use thiserror::Error;

use super::SessionAccessError;
use super::subtree::{Ending, end_subtrees, suspend_subtrees};
use crate::Coordinator;
use crate::answer;
use crate::audit::{self, Entity};
use crate::call::Call;
use crate::caller::Bearer;
use crate::liveness::subject_is_live;

/// Why a lease is neither taken nor renewed.
#[derive(Debug, Error)]
pub(crate) enum LeaseError {
    /// Unknown, or another application's.
    #[error(transparent)]
    Access(#[from] SessionAccessError),
    /// Tasks have no lease.
    #[error("the Session is not a service")]
    NotService,
    /// A suspended service must be resumed first.
    #[error("the Session is suspended")]
    Suspended,
    /// The Session has ended.
    #[error("the Session has ended")]
    NotLive,
    /// The federated user behind the Session is gone; the Session has been ended.
    #[error("the authority behind the Session has ended, and the Session with it")]
    SubjectInactive,
    /// The lease lapsed; the Session has been suspended.
    #[error("the lease has lapsed and the Session is suspended; resume it, then take the lease")]
    Expired,
    /// Another holder has the service.
    #[error("the service has another holder")]
    Fenced,
    /// The mandate's record is not one of the Session's application.
    #[error("the mandate is not a live one of the Session's application")]
    IdentityRevoked,
    /// The service of the heartbeat is not registered.
    #[error("there is no such service")]
    ServiceNotFound,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `POST /zones/{zone_id}/agents/{id}/lease`
pub(crate) async fn lease(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    let id: SessionId = call.param("id")?;
    coordinator.take_lease(&call, call.bearer()?, &id).await
}

impl Coordinator {
    async fn take_lease(
        &self,
        call: &Call,
        bearer: &Bearer,
        id: &SessionId,
    ) -> Result<Response, Failure> {
        let mut unit = self
            .store
            .begin(&bearer.zone)
            .await
            .map_err(LeaseError::from)?;
        let now = self.clock.now();
        let judged = judge_takeover(&mut unit, call, bearer, id, now).await;
        if let Err(error) = judged {
            return settle(unit, call, id, error).await;
        }
        Ok(self.hand_over(unit, call, id, now).await?)
    }

    async fn hand_over(
        &self,
        mut unit: ZoneUnit,
        call: &Call,
        id: &SessionId,
        now: Timestamp,
    ) -> Result<Response, LeaseError> {
        let deadline = now.plus(self.options.lease);
        let generation = unit
            .take_lease(id, deadline)
            .await?
            .ok_or(LeaseError::NotLive)?;
        audit::record(
            &mut unit,
            call,
            &Entity::Session(id.clone()),
            StatusCode::OK,
        )
        .await?;
        unit.commit().await?;
        let body = json!({
            "status": "active", "heartbeat_deadline_at": deadline, "lease_generation": generation,
        });
        Ok(answer::json(StatusCode::OK, body.to_string()))
    }
}

async fn judge_takeover(
    unit: &mut ZoneUnit,
    call: &Call,
    bearer: &Bearer,
    id: &SessionId,
    now: Timestamp,
) -> Result<(), LeaseError> {
    let session = find_own(unit, call, id).await?;
    let Lifecycle::Service(held) = session.lifecycle else {
        return Err(LeaseError::NotService);
    };
    match session.status {
        SessionStatus::Active => {}
        SessionStatus::Suspended => return Err(LeaseError::Suspended),
        SessionStatus::Terminated | SessionStatus::Expired => return Err(LeaseError::NotLive),
    }
    require_subject(unit, &session, now).await?;
    require_unlapsed(unit, &session, held, now).await?;
    require_own_record(unit, bearer, &session, now).await
}

/// The Session, when it is the caller's.
pub(super) async fn find_own(
    unit: &ZoneUnit,
    call: &Call,
    id: &SessionId,
) -> Result<Session, LeaseError> {
    let session = unit
        .get_session(id)
        .await?
        .ok_or(SessionAccessError::NotFound)?;
    if call.caller.controls(&session.application_id) {
        Ok(session)
    } else {
        Err(SessionAccessError::NotOwner.into())
    }
}

/// A service whose federated user is gone ends here and now.
pub(super) async fn require_subject(
    unit: &mut ZoneUnit,
    session: &Session,
    now: Timestamp,
) -> Result<(), LeaseError> {
    if subject_is_live(unit, session, now).await? {
        return Ok(());
    }
    let ending = Ending::terminated(&Reason::SUBJECT_AUTHORITY_INACTIVE);
    end_subtrees(unit, std::slice::from_ref(&session.id), ending).await?;
    Err(LeaseError::SubjectInactive)
}

/// A service whose lease has lapsed is suspended here and now.
pub(super) async fn require_unlapsed(
    unit: &mut ZoneUnit,
    session: &Session,
    held: Lease,
    now: Timestamp,
) -> Result<(), LeaseError> {
    if held.heartbeat_deadline_at > now {
        return Ok(());
    }
    let roots = std::slice::from_ref(&session.id);
    suspend_subtrees(unit, roots, &Reason::SERVICE_HEARTBEAT_LOST, now).await?;
    Err(LeaseError::Expired)
}

/// A service is held by its application for itself, not by one that acts for a user.
pub(super) async fn require_own_record(
    unit: &ZoneUnit,
    bearer: &Bearer,
    session: &Session,
    now: Timestamp,
) -> Result<(), LeaseError> {
    let record = unit.get_authority_record(&bearer.sid).await?;
    let fits = record.is_some_and(|record| {
        record.kind == SubjectType::Application
            && record.subject_id == session.application_id.as_str()
            && record.is_live(now)
    });
    if fits {
        Ok(())
    } else {
        Err(LeaseError::IdentityRevoked)
    }
}

/// Ends a refused call: a suspension or an end that came with the refusal stays.
pub(super) async fn settle(
    mut unit: ZoneUnit,
    call: &Call,
    id: &SessionId,
    error: LeaseError,
) -> Result<Response, Failure> {
    if !matches!(error, LeaseError::SubjectInactive | LeaseError::Expired) {
        return Err(error.into());
    }
    let failure = Failure::from(error);
    let entity = Entity::Session(id.clone());
    let recorded = audit::record(&mut unit, call, &entity, failure.status()).await;
    recorded.map_err(LeaseError::from)?;
    unit.commit().await.map_err(LeaseError::from)?;
    Ok(audit::recorded(failure.into_response()))
}
