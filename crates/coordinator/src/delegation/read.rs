//! Reading delegations. An application sees the edges that it issued or receives.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use caracal_core::Timestamp;
use caracal_core::id::{DelegationId, SessionId};
use caracal_http::Failure;
use caracal_store::entity::Delegation;
use caracal_store::{Cursor, DelegationFilter, Page, ZoneReader};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::EdgeFields;
use super::accept::accept;
use crate::Coordinator;
use crate::answer;
use crate::audit::{self, Entity};
use crate::call::Call;
use crate::caller::Caller;
use crate::error::ReadError;
use crate::liveness::live_lineage;
use crate::page::{Listing, to_page};
use crate::query::{MAX_LIMIT, PageQuery};
use crate::session::find_visible;

#[derive(Serialize)]
struct EdgeItem<'a> {
    id: &'a DelegationId,
    #[serde(flatten)]
    edge: EdgeFields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broad_reason: Option<Option<&'a str>>,
}

impl<'a> EdgeItem<'a> {
    fn at(edge: &'a Delegation, now: Timestamp) -> Self {
        Self {
            id: &edge.id,
            edge: EdgeFields::at(edge, now),
            broad_reason: None,
        }
    }

    fn with_broad_reason(mut self, edge: &'a Delegation) -> Self {
        self.broad_reason = Some(edge.constraints.broad_reason.as_deref());
        self
    }
}

/// `GET /zones/{zone_id}/delegations/active`
pub(crate) async fn active(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    let asked = call.query().page()?;
    Ok(coordinator.list_active(&call.caller, &asked).await?)
}

/// `GET /zones/{zone_id}/delegations/inbound/{session_id}`
pub(crate) async fn inbound(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    let target: SessionId = call.param("session_id")?;
    let filter = DelegationFilter {
        target: Some(target.clone()),
        ..DelegationFilter::default()
    };
    let asked = call.query().page()?;
    Ok(coordinator
        .list_at(&call.caller, &target, filter, &asked)
        .await?)
}

/// `GET /zones/{zone_id}/delegations/outbound/{session_id}`
pub(crate) async fn outbound(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    let source: SessionId = call.param("session_id")?;
    let filter = DelegationFilter {
        source: Some(source.clone()),
        ..DelegationFilter::default()
    };
    let asked = call.query().page()?;
    Ok(coordinator
        .list_at(&call.caller, &source, filter, &asked)
        .await?)
}

/// `GET /zones/{zone_id}/delegations/inbound/{session_id}/{id}`
pub(crate) async fn inbound_one(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    let target: SessionId = call.param("session_id")?;
    let id: DelegationId = call.param("id")?;
    Ok(coordinator.receive(&call, &target, &id).await?)
}

impl Coordinator {
    async fn list_active(&self, caller: &Caller, asked: &PageQuery) -> Result<Response, ReadError> {
        let now = self.clock.now();
        let zone = self.store.read(caller.zone());
        let filter = DelegationFilter {
            party: caller.reader().cloned(),
            live_at: Some(now),
            ..DelegationFilter::default()
        };
        let page = position(&zone, &filter, asked).await?;
        let edges = zone.list_delegations(&filter, &page).await?.items;
        let items: Vec<EdgeItem<'_>> = edges
            .iter()
            .map(|edge| EdgeItem::at(edge, now).with_broad_reason(edge))
            .collect();
        Listing::new(items, last_id(&edges), &page).answer()
    }

    /// All edges at one end of a Session, whatever became of them.
    async fn list_at(
        &self,
        caller: &Caller,
        session: &SessionId,
        mut filter: DelegationFilter,
        asked: &PageQuery,
    ) -> Result<Response, ReadError> {
        let now = self.clock.now();
        let zone = self.store.read(caller.zone());
        if let Some(reader) = caller.reader() {
            find_visible(&zone, caller, session).await?;
            filter.party = Some(reader.clone());
        }
        let bare = matches!(caller, Caller::Operator(_)) && asked.is_unpaged();
        let page = if bare {
            Page::first(usize::try_from(MAX_LIMIT).unwrap_or(usize::MAX))
        } else {
            position(&zone, &filter, asked).await?
        };
        let edges = zone.list_delegations(&filter, &page).await?.items;
        let items: Vec<EdgeItem<'_>> = edges.iter().map(|edge| EdgeItem::at(edge, now)).collect();
        if bare {
            return Ok(answer::json(StatusCode::OK, answer::json_text(&items)?));
        }
        Listing::new(items, last_id(&edges), &page).answer()
    }

    /// The receiver looks at one edge, and so takes it.
    async fn receive(
        &self,
        call: &Call,
        target: &SessionId,
        id: &DelegationId,
    ) -> Result<Response, ReadError> {
        let now = self.clock.now();
        let zone = self.store.read(call.caller.zone());
        let edge = zone
            .get_delegation(id)
            .await?
            .ok_or(ReadError::DelegationNotFound)?;
        let is_receiver = call
            .caller
            .reader()
            .is_none_or(|reader| *reader == edge.receiver_application_id);
        let is_live = live_lineage(&zone, id, now).await?.is_some();
        if edge.target_session_id != *target || !is_receiver || !is_live {
            return Err(ReadError::DelegationNotFound);
        }
        if call.caller.is_application(&edge.receiver_application_id) && !edge.counts_as_parent() {
            self.take(call, &edge).await?;
        }
        let body = json!({ "id": edge.id, "status": "active", "expires_at": edge.expires_at });
        Ok(answer::json(StatusCode::OK, body.to_string()))
    }

    async fn take(&self, call: &Call, edge: &Delegation) -> Result<(), ReadError> {
        let mut unit = self.store.begin(call.caller.zone()).await?;
        let edge = unit
            .get_delegation(&edge.id)
            .await?
            .filter(|edge| edge.is_live(self.clock.now()))
            .ok_or(ReadError::DelegationNotFound)?;
        let edge = accept(&mut unit, edge).await?;
        audit::record(
            &mut unit,
            call,
            &Entity::Delegation(edge.id),
            StatusCode::OK,
        )
        .await?;
        Ok(unit.commit().await?)
    }
}

fn last_id(edges: &[Delegation]) -> Option<String> {
    edges.last().map(|edge| edge.id.to_string())
}

/// The page that a cursor names. A cursor is the id of a row of the list; a row that has ended since
/// still marks the place.
async fn position(
    zone: &ZoneReader,
    filter: &DelegationFilter,
    asked: &PageQuery,
) -> Result<Page, ReadError> {
    let Some(cursor) = &asked.cursor else {
        return Ok(to_page(asked, None));
    };
    let row = match DelegationId::parse(cursor) {
        Ok(id) => zone.get_delegation(&id).await?,
        Err(_) => None,
    };
    let row = row
        .filter(|row| shows(filter, row))
        .ok_or(ReadError::InvalidCursor)?;
    let at = Cursor {
        at: row.created_at,
        id: row.id.to_string(),
    };
    Ok(to_page(asked, Some(at)))
}

fn shows(filter: &DelegationFilter, row: &Delegation) -> bool {
    let party = filter.party.as_ref().is_none_or(|party| {
        *party == row.issuer_application_id || *party == row.receiver_application_id
    });
    party
        && filter
            .source
            .as_ref()
            .is_none_or(|id| *id == row.source_session_id)
        && filter
            .target
            .as_ref()
            .is_none_or(|id| *id == row.target_session_id)
}
