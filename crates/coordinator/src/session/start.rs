//! Starting a Session.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use caracal_core::Timestamp;
use caracal_core::id::{AuthorityRecordId, DelegationId, SessionId, ZoneId};
use caracal_http::Failure;
use caracal_store::entity::{
    Application, Lease, Lifecycle, RegistrationMethod, Session, SessionStatus,
};
use caracal_store::{Receipt, SlotsOf, StoreError, ZoneUnit};
use http::StatusCode;
use serde::Serialize;
use thiserror::Error;

use super::SessionFields;
use super::inherit::{InheritError, Inheritance, inheritance};
use super::request::{Life, StartRequest};
use super::subject::{Subject, SubjectError, anchor};
use crate::Coordinator;
use crate::answer;
use crate::audit::{self, Entity};
use crate::body::read_json;
use crate::call::Call;
use crate::caller::Bearer;
use crate::delegation::mirror;
use crate::events;
use crate::idempotency::{Found, IdempotencyError, Key, KeyError, Operation, repeat};
use crate::liveness::session_is_live;
use crate::stats;

/// Live children that a Session may have.
const MAX_CHILDREN: i64 = 10;

/// The deepest Session; a root has depth 0.
const MAX_DEPTH: i64 = 10;

/// Why a Session is not started.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// The application is not the caller's.
    #[error("the application belongs to somebody else")]
    NotOwner,
    /// The idempotency key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The idempotency key is refused.
    #[error(transparent)]
    Idempotency(#[from] IdempotencyError),
    /// The application is not live.
    #[error("there is no such application")]
    ApplicationNotFound,
    /// Self-registered applications run tasks only.
    #[error("a self-registered application cannot host a service")]
    DcrCannotHostService,
    /// Self-registered applications start at the root only.
    #[error("a self-registered application cannot be a child")]
    DcrCannotBeChild,
    /// A self-registered application has one Session.
    #[error("the self-registered application has a live Session already")]
    DcrAlreadyBound,
    /// Self-registered applications have no children.
    #[error("a Session of a self-registered application cannot start children")]
    DcrCannotStartChild,
    /// The authority record can't anchor the Session.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// The zone is full.
    #[error("the zone has as many live Sessions as it may have")]
    ZoneFull,
    /// The application is full.
    #[error("the application has as many live Sessions as it may have")]
    ApplicationFull,
    /// The parent is not live.
    #[error("the parent Session does not exist or is not live")]
    ParentNotFound,
    /// A task can't outlive itself.
    #[error("a task cannot start a service")]
    TaskCannotStartService,
    /// The parent is another application's.
    #[error("the parent Session belongs to another application")]
    ParentNotOwned,
    /// The parent is full.
    #[error("the parent Session has as many live children as it may have")]
    ParentFull,
    /// The tree is full.
    #[error("the tree of Sessions is as deep as it may be")]
    TooDeep,
    /// The parent's authority can't be inherited.
    #[error(transparent)]
    Inherit(#[from] InheritError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `POST /zones/{zone_id}/agents`
pub(crate) async fn start(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
    body: Body,
) -> Result<Response, Failure> {
    let body = read_json(&call.headers, body, coordinator.options.body_limit).await?;
    let request = StartRequest::parse(body)?;
    let bearer = call.bearer()?.clone();
    Ok(coordinator.start_session(call, bearer, request).await?)
}

/// What a start has come to, before the commit.
enum Outcome {
    /// A new Session.
    Started(Response),
    /// The answer of an earlier request.
    Repeated(Response),
}

/// A start, taken from its request.
struct Asked {
    call: Call,
    bearer: Bearer,
    request: StartRequest,
    key: Option<Key>,
    subject: Subject,
}

#[derive(Serialize)]
struct Started<'a> {
    #[serde(flatten)]
    session: SessionFields<'a>,
    delegation_edge_id: Option<&'a DelegationId>,
}

impl Coordinator {
    async fn start_session(
        self: &Arc<Self>,
        call: Call,
        bearer: Bearer,
        request: StartRequest,
    ) -> Result<Response, StartError> {
        if !bearer.may_start_for(&request.application_id) {
            return Err(StartError::NotOwner);
        }
        let key = self.idempotency_key(&call.headers)?;
        let subject = self.subject(&bearer, &request).await;
        let (coordinator, zone) = (Arc::clone(self), bearer.zone.clone());
        let asked = Asked {
            call,
            bearer,
            request,
            key,
            subject,
        };
        let outcome = self
            .store
            .in_group(&zone, move |unit| {
                Box::pin(async move { coordinator.start_in(unit, asked).await })
            })
            .await?;
        match outcome {
            Outcome::Started(response) => Ok(response),
            Outcome::Repeated(response) => {
                self.tally.outcome(stats::Outcome::Replayed, 1);
                Ok(response)
            }
        }
    }

    /// The checks and the writes of a start, in a unit that other starts may share.
    async fn start_in(&self, unit: &mut ZoneUnit, asked: Asked) -> Result<Outcome, StartError> {
        let Asked {
            call,
            bearer,
            request,
            key,
            subject,
        } = asked;
        let now = self.clock.now();
        let operation = (Operation::StartSession, &request.application_id);
        let fields = request.fingerprint_fields();
        let ticket = match self
            .find_receipt(unit, (&bearer, key.as_ref()), operation, fields, now)
            .await?
        {
            Found::Nothing(ticket) => ticket,
            Found::Receipt(receipt) => {
                let id = usable(unit, &receipt, now).await?;
                let answer = repeat(unit, &call, &Entity::Session(id), &receipt).await?;
                return Ok(Outcome::Repeated(answer));
            }
        };
        let application = admit(unit, &request, now).await?;
        let record = anchor(unit, &bearer, &application.id, subject, now).await?;
        self.require_capacity(unit, &application, now).await?;
        let parent = find_parent(unit, &bearer, &request, now).await?;
        let above = inheritance(
            unit,
            parent.as_ref(),
            &application.id,
            &request.parent_authority,
            now,
        )
        .await?;
        let session = self.new_session(request, &bearer.zone, record, parent.as_ref(), &above, now);
        unit.insert_session(&session).await?;
        let edge = match above.edge {
            Some(edge) => Some(mirror(unit, self, &edge, &session, now).await?),
            None => None,
        };
        events::session_started(unit, &session).await?;
        let body = answer::json_text(&Started {
            session: SessionFields::from(&session),
            delegation_edge_id: edge.as_ref(),
        })?;
        if let Some(ticket) = ticket {
            let made = (
                session.id.as_str(),
                StatusCode::CREATED.as_u16(),
                body.as_str(),
            );
            ticket.redeem(unit, made, now).await?;
        }
        let entity = Entity::Session(session.id);
        audit::record(unit, &call, &entity, StatusCode::CREATED).await?;
        Ok(Outcome::Started(answer::json(StatusCode::CREATED, body)))
    }

    fn new_session(
        &self,
        request: StartRequest,
        zone: &ZoneId,
        record: AuthorityRecordId,
        parent: Option<&Session>,
        above: &Inheritance,
        now: Timestamp,
    ) -> Session {
        let (lifecycle, lease_generation) = match request.life {
            Life::Task { ttl_seconds } => (Lifecycle::Task { ttl_seconds }, 0),
            Life::Service => (
                Lifecycle::Service(Lease {
                    last_heartbeat_at: now,
                    heartbeat_deadline_at: now.plus(self.options.lease),
                }),
                1,
            ),
        };
        Session {
            id: SessionId::generate(&*self.clock, &*self.random),
            zone_id: zone.clone(),
            application_id: request.application_id,
            parent_id: parent.map(|parent| parent.id.clone()),
            subject_authority_record_id: record,
            status: SessionStatus::Active,
            lifecycle,
            depth: parent.map_or(0, |parent| parent.depth + 1),
            labels: request.labels,
            max_children: MAX_CHILDREN,
            child_count: 0,
            authority_root: above.authority_root,
            metadata: request.metadata,
            lease_generation,
            started_at: now,
            last_active_at: now,
            terminated_at: None,
            termination_reason: None,
            updated_at: now,
        }
    }

    async fn require_capacity(
        &self,
        unit: &ZoneUnit,
        application: &Application,
        now: Timestamp,
    ) -> Result<(), StartError> {
        let limit = i64::from(self.options.max_sessions_per_zone);
        if unit.held_session_slots(SlotsOf::Zone, limit, now).await? >= limit {
            return Err(StartError::ZoneFull);
        }
        let of_application = SlotsOf::Application(&application.id);
        let is_dcr = application.registration_method == RegistrationMethod::Dcr;
        if is_dcr && unit.held_session_slots(of_application, 1, now).await? > 0 {
            return Err(StartError::DcrAlreadyBound);
        }
        let limit = i64::from(self.options.max_sessions_per_application);
        if unit.held_session_slots(of_application, limit, now).await? >= limit {
            return Err(StartError::ApplicationFull);
        }
        Ok(())
    }
}

/// The Session that the first request made. A replay must not hand out one that is over.
async fn usable(
    unit: &ZoneUnit,
    receipt: &Receipt,
    now: Timestamp,
) -> Result<SessionId, IdempotencyError> {
    let id = SessionId::parse(&receipt.resource_id);
    let id = id.map_err(|_| IdempotencyError::ResultInactive)?;
    let session = unit.get_session(&id).await?;
    if session.is_some_and(|session| holds_its_place(&session, now)) {
        Ok(id)
    } else {
        Err(IdempotencyError::ResultInactive)
    }
}

/// Whether a Session runs, or is suspended and may be resumed.
fn holds_its_place(session: &Session, now: Timestamp) -> bool {
    match session.status {
        SessionStatus::Active => session.is_effectively_live(now),
        SessionStatus::Suspended => session.ends_at().is_none_or(|end| end > now),
        SessionStatus::Terminated | SessionStatus::Expired => false,
    }
}

async fn admit(
    unit: &ZoneUnit,
    request: &StartRequest,
    now: Timestamp,
) -> Result<Application, StartError> {
    let application = unit
        .get_application(&request.application_id)
        .await?
        .filter(|application| application.is_live(now))
        .ok_or(StartError::ApplicationNotFound)?;
    if application.registration_method == RegistrationMethod::Dcr {
        if request.life == Life::Service {
            return Err(StartError::DcrCannotHostService);
        }
        if request.parent_id.is_some() {
            return Err(StartError::DcrCannotBeChild);
        }
    }
    Ok(application)
}

async fn find_parent(
    unit: &ZoneUnit,
    bearer: &Bearer,
    request: &StartRequest,
    now: Timestamp,
) -> Result<Option<Session>, StartError> {
    let Some(id) = &request.parent_id else {
        return Ok(None);
    };
    let parent = unit
        .get_session(id)
        .await?
        .ok_or(StartError::ParentNotFound)?;
    if !session_is_live(unit, &parent.id, now).await? {
        return Err(StartError::ParentNotFound);
    }
    let owner = unit.get_application(&parent.application_id).await?;
    let is_dcr = |owner: &Application| owner.registration_method == RegistrationMethod::Dcr;
    if owner.as_ref().is_some_and(is_dcr) {
        return Err(StartError::DcrCannotStartChild);
    }
    let is_task = matches!(parent.lifecycle, Lifecycle::Task { .. });
    if is_task && request.life == Life::Service {
        return Err(StartError::TaskCannotStartService);
    }
    if !bearer.may_start_under(&parent.application_id) {
        return Err(StartError::ParentNotOwned);
    }
    if parent.child_count >= parent.max_children {
        return Err(StartError::ParentFull);
    }
    if parent.depth + 1 > MAX_DEPTH {
        return Err(StartError::TooDeep);
    }
    Ok(Some(parent))
}
