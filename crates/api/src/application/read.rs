//! Reading applications, and showing a stored secret.

use std::sync::Arc;

use caracal_core::id::ApplicationId;
use caracal_evidence::event::{Decision, Event, EventType, Stamp};
use caracal_store::entity::{Application, RegistrationMethod};
use serde_json::json;

use super::custody;
use super::refuse_takeover;
use super::view::ApplicationView;
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::page::{self, Listed, OBJECTS};
use crate::reply::Reply;
use crate::request::Call;
use crate::{admin_audit, attribution};

/// `GET /v1/zones/{z}/applications`.
pub(crate) async fn list(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let page = page::requested(&call.query, OBJECTS)?;
    let status = page::status(&call.query)?;
    let applications = api
        .store
        .read(&call.zone()?)
        .list_applications(status, &page)
        .await?;
    let view = |application| ApplicationView::of(application, &call.actor);
    Reply::ok(&Listed::from(applications.map(view)))
}

/// `GET /v1/zones/{z}/applications/{id}`.
pub(crate) async fn read(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let application = find(&api, &call).await?.ok_or(Code::ApplicationNotFound)?;
    Reply::ok(&ApplicationView::of(application, &call.actor))
}

/// `GET /v1/zones/{z}/applications/{id}/client-secret`: recorded before it is shown.
pub(crate) async fn reveal(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let application = find(&api, &call)
        .await?
        .filter(|found| found.registration_method == RegistrationMethod::Managed)
        .ok_or(Code::ApplicationNotFound)?;
    refuse_takeover(&application, &call.actor)?;
    let secret = custody::open(&api, &application)?;
    record(&api, &call, &application).await?;
    let mut unit = api.store.begin(&application.zone_id).await?;
    unit.record_admin_audit(&admin_audit::revealed(&call))
        .await?;
    unit.commit().await?;
    Reply::ok(&json!({ "client_secret": secret.expose() }))
}

async fn find(api: &Api, call: &Call) -> Result<Option<Application>, ApiError> {
    let id: ApplicationId = call.id("id")?;
    let found = api.store.read(&call.zone()?).get_application(&id).await?;
    Ok(found.filter(|application| application.archived_at.is_none()))
}

async fn record(api: &Api, call: &Call, application: &Application) -> Result<(), ApiError> {
    let event = Event::new(
        Stamp::now(&*api.clock, &*api.random),
        &application.zone_id,
        &call.context.request_id,
        EventType::CredentialRevealed,
        Decision::Allow,
        "complete",
    )
    .with("credential", "application_client_secret")
    .with("application_id", &application.id)
    .with("application_name", &application.name)
    .with("actor", attribution::name(&call.actor));
    let logged = api.journal.append(&[event]).await;
    logged.map(|_| ()).map_err(|error| {
        tracing::error!(%error, "a reveal could not be recorded");
        Code::AuditUnavailable.into()
    })
}
