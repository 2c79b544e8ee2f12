//! Creating a delegation.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use caracal_core::id::{DelegationId, ResourceId, SessionId};
use caracal_core::{ResourceIdentifier, ScopeSet, Timestamp};
use caracal_http::Failure;
use caracal_store::entity::{Delegation, DelegationStatus, Resource, Session};
use caracal_store::{Receipt, StoreError, ZoneUnit};
use http::StatusCode;
use serde::Serialize;
use thiserror::Error;

use super::EdgeFields;
use super::accept::accept;
use super::narrow::{Exceeds, Grounds, Offer, OfferedResources, Permit, Untimely};
use super::request::{DelegationRequest, Expiry};
use crate::Coordinator;
use crate::answer;
use crate::audit::{self, Entity};
use crate::body::read_json;
use crate::call::Call;
use crate::caller::Bearer;
use crate::idempotency::{Found, IdempotencyError, KeyError, Operation, replay};
use crate::liveness::{live_lineage, session_is_live};

/// Marks a delegation that names no resource.
const BROAD_REASON: &str = "resource_null_delegation";

/// Why a delegation is not created.
#[derive(Debug, Error)]
pub(crate) enum DelegateError {
    /// The issuer is not the caller's.
    #[error("the issuing application belongs to somebody else")]
    NotIssuer,
    /// A Session delegates to itself.
    #[error("a Session cannot delegate to itself")]
    ToItself,
    /// No resource is named, and the caller may not do that.
    #[error("name a resource: resource_id, or resources among the constraints")]
    BroadNotAllowed,
    /// The idempotency key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The idempotency key is refused.
    #[error(transparent)]
    Idempotency(#[from] IdempotencyError),
    /// Source or target is not live.
    #[error("the source or target Session does not exist or is not live")]
    EndpointNotFound,
    /// Source or target is another application's than the request says.
    #[error("the Sessions belong to other applications than the request says")]
    ApplicationMismatch,
    /// A named resource is not there.
    #[error("there is no such resource")]
    ResourceNotFound,
    /// The one resource is not among the listed ones.
    #[error("resource_id is not among the resources of the constraints")]
    ResourceScopeMismatch,
    /// A scope that no named resource declares.
    #[error("a scope is not declared by the resources")]
    ScopesExceedResource,
    /// The named edge, or every edge that there was, is over.
    #[error("the source has no such live delegation to hand on")]
    ParentNotActive,
    /// More than one live edge, and none is named.
    #[error("the source has several live delegations; name one in parent_edge_id")]
    ParentAmbiguous,
    /// Wider than the parent.
    #[error(transparent)]
    Exceeds(#[from] Exceeds),
    /// The target already hands authority to the source.
    #[error("the target already delegates to the source")]
    Cycle,
    /// Over, or later than the parent.
    #[error(transparent)]
    Untimely(#[from] Untimely),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `POST /zones/{zone_id}/delegations`
pub(crate) async fn create(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
    body: Body,
) -> Result<Response, Failure> {
    let body = read_json(&call.headers, body, coordinator.options.body_limit).await?;
    let request = DelegationRequest::parse(body)?;
    Ok(coordinator.delegate(&call, call.bearer()?, request).await?)
}

impl Coordinator {
    async fn delegate(
        &self,
        call: &Call,
        bearer: &Bearer,
        mut request: DelegationRequest,
    ) -> Result<Response, DelegateError> {
        let issuer = request.issuer_application_id.clone();
        if !bearer.may_delegate_from(&issuer) {
            return Err(DelegateError::NotIssuer);
        }
        if request.source_session_id == request.target_session_id {
            return Err(DelegateError::ToItself);
        }
        mark_broad(bearer, &mut request)?;
        let key = self.idempotency_key(&call.headers)?;
        let mut unit = self.store.begin(&bearer.zone).await?;
        let now = self.clock.now();
        let operation = (Operation::CreateDelegation, &issuer);
        let asked = (bearer, key.as_ref());
        let fields = request.fingerprint_fields();
        let ticket = match self
            .find_receipt(&unit, asked, operation, fields, now)
            .await?
        {
            Found::Nothing(ticket) => ticket,
            Found::Receipt(receipt) => {
                let id = usable(&unit, &receipt, now).await?;
                return Ok(
                    replay(&self.tally, unit, call, &Entity::Delegation(id), &receipt).await?,
                );
            }
        };
        let source = require_endpoints(&unit, &request, now).await?;
        let resources = resolve(&unit, &request).await?;
        let offer = Offer {
            scopes: request.scopes.clone(),
            resources,
            constraints: request.constraints.clone(),
            dated_end: match request.expiry {
                Expiry::At(at) => Some(at),
                Expiry::After(_) => None,
            },
        };
        let (considered, grounds) = find_grounds(&mut unit, &source, &request, &offer, now).await?;
        let (from, to) = (&request.target_session_id, &request.source_session_id);
        if unit.delegation_reaches(from, to, now).await? {
            return Err(DelegateError::Cycle);
        }
        let permit = grounds.until(request.expiry.from(now), now)?;
        let edge = self.new_edge(bearer, request, &offer, &permit, now);
        unit.insert_delegation(&edge).await?;
        let body = created(&edge, &offer, &considered, now)?;
        if let Some(ticket) = ticket {
            let made = (
                edge.id.as_str(),
                StatusCode::CREATED.as_u16(),
                body.as_str(),
            );
            ticket.redeem(&mut unit, made, now).await?;
        }
        audit::record(
            &mut unit,
            call,
            &Entity::Delegation(edge.id),
            StatusCode::CREATED,
        )
        .await?;
        unit.commit().await?;
        Ok(answer::json(StatusCode::CREATED, body))
    }

    fn new_edge(
        &self,
        bearer: &Bearer,
        request: DelegationRequest,
        offer: &Offer,
        permit: &Permit,
        now: Timestamp,
    ) -> Delegation {
        let row = offer.resources.row.as_ref();
        Delegation {
            id: DelegationId::generate(&*self.clock, &*self.random),
            zone_id: bearer.zone.clone(),
            source_session_id: request.source_session_id,
            target_session_id: request.target_session_id,
            issuer_application_id: request.issuer_application_id,
            receiver_application_id: request.receiver_application_id,
            parent_edge_id: permit.parent_edge_id().cloned(),
            resource_id: row.map(|(id, _)| id.clone()),
            scopes: request.scopes,
            constraints: request.constraints,
            mirrored: false,
            accepted: false,
            budget_used: 0,
            status: DelegationStatus::Active,
            expires_at: permit.expires_at(),
            edge_version: 0,
            revoked_at: None,
            created_at: now,
            updated_at: now,
        }
    }
}

/// A delegation for every resource needs a right of its own and says why it is so.
fn mark_broad(bearer: &Bearer, request: &mut DelegationRequest) -> Result<(), DelegateError> {
    if !request.is_unbounded() {
        return Ok(());
    }
    if !bearer.may_delegate_broadly(&request.issuer_application_id) {
        return Err(DelegateError::BroadNotAllowed);
    }
    let reason = &mut request.constraints.broad_reason;
    reason.get_or_insert_with(|| BROAD_REASON.to_owned());
    request.constraints.policy_approved = Some(true);
    Ok(())
}

/// The edge that the first request made. A replay must not hand out one that is over.
async fn usable(
    unit: &ZoneUnit,
    receipt: &Receipt,
    now: Timestamp,
) -> Result<DelegationId, IdempotencyError> {
    let id = DelegationId::parse(&receipt.resource_id);
    let id = id.map_err(|_| IdempotencyError::ResultInactive)?;
    let edge = unit.get_delegation(&id).await?;
    if edge.is_some_and(|edge| edge.is_live(now)) {
        Ok(id)
    } else {
        Err(IdempotencyError::ResultInactive)
    }
}

/// Both ends are live and belong to whom the request says; returns the source.
async fn require_endpoints(
    unit: &ZoneUnit,
    request: &DelegationRequest,
    now: Timestamp,
) -> Result<Session, DelegateError> {
    let source = unit.get_session(&request.source_session_id).await?;
    let target = unit.get_session(&request.target_session_id).await?;
    let (Some(source), Some(target)) = (source, target) else {
        return Err(DelegateError::EndpointNotFound);
    };
    for session in [&source, &target] {
        if !session_is_live(unit, &session.id, now).await? {
            return Err(DelegateError::EndpointNotFound);
        }
    }
    let matches = source.application_id == request.issuer_application_id
        && target.application_id == request.receiver_application_id;
    if matches {
        Ok(source)
    } else {
        Err(DelegateError::ApplicationMismatch)
    }
}

/// Finds the named resources and checks that they declare the scopes.
async fn resolve(
    unit: &ZoneUnit,
    request: &DelegationRequest,
) -> Result<OfferedResources, DelegateError> {
    let row = match &request.resource {
        Some(name) => Some(
            unit.find_resource_by_name(name)
                .await?
                .ok_or(DelegateError::ResourceNotFound)?,
        ),
        None => None,
    };
    let names = request.constraints.resources.as_deref().unwrap_or(&[]);
    let listed = unit.find_resources(names).await?;
    let is_found = |name: &ResourceIdentifier| {
        listed
            .iter()
            .any(|found: &Resource| found.identifier == *name)
    };
    if !names.iter().all(is_found) {
        return Err(DelegateError::ResourceNotFound);
    }
    if let Some(row) = &row
        && !listed.is_empty()
        && !listed.iter().any(|resource| resource.id == row.id)
    {
        return Err(DelegateError::ResourceScopeMismatch);
    }
    let usable = row.as_ref().map_or(&listed[..], std::slice::from_ref);
    let declared: ScopeSet = usable
        .iter()
        .flat_map(|one| one.scopes.iter().cloned())
        .collect();
    if !usable.is_empty() && !request.scopes.is_subset_of(&declared) {
        return Err(DelegateError::ScopesExceedResource);
    }
    let name = |resource: &Resource| (resource.id.clone(), resource.identifier.clone());
    Ok(OfferedResources {
        row: row.as_ref().map(name),
        listed: listed.iter().map(name).collect(),
    })
}

/// On what the edge will stand, and which live edges of the source were considered.
async fn find_grounds(
    unit: &mut ZoneUnit,
    source: &Session,
    request: &DelegationRequest,
    offer: &Offer,
    now: Timestamp,
) -> Result<(Vec<DelegationId>, Grounds), DelegateError> {
    let named = request.parent_edge_id.as_ref();
    let mut live: Vec<(Delegation, Vec<Delegation>)> = Vec::new();
    for edge in unit.live_parent_candidates(&source.id, named, now).await? {
        if let Some(lineage) = live_lineage(unit, &edge.id, now).await? {
            live.push((edge, lineage));
        }
    }
    let considered: Vec<DelegationId> = live.iter().map(|(edge, _)| edge.id.clone()).collect();
    let (parent, lineage) = match named {
        Some(named) => live
            .into_iter()
            .find(|(edge, _)| edge.id == *named)
            .ok_or(DelegateError::ParentNotActive)?,
        None => match (live.pop(), live.is_empty()) {
            (Some(only), true) => only,
            (Some(_), false) => return Err(DelegateError::ParentAmbiguous),
            (None, _) if source.authority_root => return Ok((considered, Grounds::root())),
            (None, _) => return Err(DelegateError::ParentNotActive),
        },
    };
    let grounds = Grounds::narrowed(&lineage, offer)?;
    accept(unit, parent).await?;
    Ok((considered, grounds))
}

#[derive(Serialize)]
struct Created<'a> {
    delegation_edge_id: &'a DelegationId,
    #[serde(flatten)]
    edge: EdgeFields<'a>,
    warnings: &'a [&'static str],
    allow_reason: [&'static str; 4],
    effective_authority: Effective<'a>,
}

#[derive(Serialize)]
struct Effective<'a> {
    source_session_id: &'a SessionId,
    target_session_id: &'a SessionId,
    parent_edge_id: Option<&'a DelegationId>,
    resource_id: Option<&'a ResourceId>,
    resources: Vec<&'a ResourceIdentifier>,
    scopes: &'a ScopeSet,
    expires_at: Timestamp,
    max_hops: u8,
    ttl_seconds: Option<i64>,
    broad: bool,
    parent_edges_considered: &'a [DelegationId],
}

fn created(
    edge: &Delegation,
    offer: &Offer,
    considered: &[DelegationId],
    now: Timestamp,
) -> Result<String, StoreError> {
    let broad = offer.resources.is_unbounded();
    let usable = offer.resources.usable();
    answer::json_text(&Created {
        delegation_edge_id: &edge.id,
        edge: EdgeFields::at(edge, now),
        warnings: if broad {
            &["resource_null_delegation_broadens_resource_matching"]
        } else {
            &[]
        },
        allow_reason: [
            "same_zone_endpoints_active",
            if broad {
                "broad_delegation_elevated"
            } else {
                "resource_scope_checked"
            },
            if edge.parent_edge_id.is_some() {
                "parent_authority_narrowed"
            } else {
                "source_authority_root"
            },
            "typed_constraints_validated",
        ],
        effective_authority: Effective {
            source_session_id: &edge.source_session_id,
            target_session_id: &edge.target_session_id,
            parent_edge_id: edge.parent_edge_id.as_ref(),
            resource_id: edge.resource_id.as_ref(),
            resources: usable.iter().map(|(_, name)| name).collect(),
            scopes: &edge.scopes,
            expires_at: edge.expires_at,
            max_hops: edge.constraints.hops(),
            ttl_seconds: edge.constraints.ttl_seconds,
            broad,
            parent_edges_considered: considered,
        },
    })
}
