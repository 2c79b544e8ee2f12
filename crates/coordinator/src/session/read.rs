//! Reading Sessions. An application sees its own; an admin sees the zone's.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use caracal_core::Timestamp;
use caracal_core::id::{ApplicationId, SessionId};
use caracal_http::Failure;
use caracal_store::entity::{Session, SessionStatus};
use caracal_store::{Cursor, LifecycleKind, Page, SessionFilter, ZoneReader};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{SessionAccessError, SessionFields};
use crate::Coordinator;
use crate::answer;
use crate::call::Call;
use crate::caller::Caller;
use crate::error::ReadError;
use crate::page::{Listing, to_page};
use crate::query::{PageQuery, Query, QueryError};

#[derive(Serialize)]
struct SessionItem<'a> {
    #[serde(flatten)]
    session: SessionFields<'a>,
    metadata: &'a Map<String, Value>,
    terminated_at: Option<Timestamp>,
    termination_reason: Option<&'a str>,
}

impl<'a> From<&'a Session> for SessionItem<'a> {
    fn from(session: &'a Session) -> Self {
        Self {
            session: session.into(),
            metadata: &session.metadata,
            terminated_at: session.terminated_at,
            termination_reason: session.termination_reason.as_deref(),
        }
    }
}

/// `GET /zones/{zone_id}/agents`
pub(crate) async fn list(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    let query = call.query();
    let page = query.page()?;
    let filter = SessionFilter {
        status: query.read("status", SessionStatus::from_name)?,
        ..filter(&query)?
    };
    Ok(coordinator
        .list_sessions(&call.caller, filter, &page)
        .await?)
}

/// `GET /zones/{zone_id}/agents/{id}/children`
pub(crate) async fn children(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    let id: SessionId = call.param("id")?;
    let query = call.query();
    let page = query.page()?;
    query.read("status", SessionStatus::from_name)?;
    filter(&query)?;
    let filter = SessionFilter {
        parent_id: Some(id),
        ..SessionFilter::default()
    };
    Ok(coordinator
        .list_sessions(&call.caller, filter, &page)
        .await?)
}

/// `GET /zones/{zone_id}/agents/{id}`
pub(crate) async fn get(
    State(coordinator): State<Arc<Coordinator>>,
    call: Call,
) -> Result<Response, Failure> {
    let id: SessionId = call.param("id")?;
    let zone = coordinator.store.read(call.caller.zone());
    let session = find_visible(&zone, &call.caller, &id).await?;
    let body = answer::json_text(&SessionItem::from(&session)).map_err(ReadError::from)?;
    Ok(answer::json(StatusCode::OK, body))
}

fn filter(query: &Query) -> Result<SessionFilter, QueryError> {
    Ok(SessionFilter {
        lifecycle: query.read("lifecycle", LifecycleKind::from_name)?,
        application_id: query.read("application_id", |text| ApplicationId::parse(text).ok())?,
        label: query.get("label")?.map(ToOwned::to_owned),
        ..SessionFilter::default()
    })
}

/// The Session, when the caller may see it. To others it is not there.
pub(crate) async fn find_visible(
    zone: &ZoneReader,
    caller: &Caller,
    id: &SessionId,
) -> Result<Session, ReadError> {
    let session = zone.get_session(id).await?;
    session
        .filter(|session| {
            caller
                .reader()
                .is_none_or(|reader| *reader == session.application_id)
        })
        .ok_or(SessionAccessError::NotFound.into())
}

impl Coordinator {
    async fn list_sessions(
        &self,
        caller: &Caller,
        mut filter: SessionFilter,
        page: &PageQuery,
    ) -> Result<Response, ReadError> {
        let zone = self.store.read(caller.zone());
        let wanted = filter.application_id.as_ref();
        match caller.reader() {
            Some(reader) if wanted.is_some_and(|wanted| wanted != reader) => {
                return Listing::<SessionItem<'_>>::nothing().answer();
            }
            Some(reader) => filter.application_id = Some(reader.clone()),
            None => {}
        }
        let page = position(&zone, &filter, page).await?;
        let sessions = zone.list_sessions(&filter, &page).await?;
        let items: Vec<SessionItem<'_>> = sessions.items.iter().map(SessionItem::from).collect();
        let next = sessions.items.last().map(|last| last.id.to_string());
        Listing::new(items, next, &page).answer()
    }
}

/// The page that a cursor names. A cursor is the id of a row of the list; a row that has left the
/// list since, because its status changed, still marks the place.
async fn position(
    zone: &ZoneReader,
    filter: &SessionFilter,
    page: &PageQuery,
) -> Result<Page, ReadError> {
    let Some(cursor) = &page.cursor else {
        return Ok(to_page(page, None));
    };
    let row = match SessionId::parse(cursor) {
        Ok(id) => zone.get_session(&id).await?,
        Err(_) => None,
    };
    let row = row
        .filter(|row| shows(filter, row))
        .ok_or(ReadError::InvalidCursor)?;
    let at = Cursor {
        at: row.started_at,
        id: row.id.to_string(),
    };
    Ok(to_page(page, Some(at)))
}

fn shows(filter: &SessionFilter, row: &Session) -> bool {
    let is = |wanted: Option<LifecycleKind>| {
        wanted.is_none_or(|wanted| wanted.as_str() == row.lifecycle.as_str())
    };
    is(filter.lifecycle)
        && filter
            .application_id
            .as_ref()
            .is_none_or(|id| *id == row.application_id)
        && filter
            .parent_id
            .as_ref()
            .is_none_or(|id| Some(id) == row.parent_id.as_ref())
        && filter
            .label
            .as_ref()
            .is_none_or(|label| row.labels.contains(label))
}
