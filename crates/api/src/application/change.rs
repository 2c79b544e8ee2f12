//! Changing, rotating and archiving applications.

use std::sync::Arc;

use caracal_core::Secret;
use caracal_core::id::ApplicationId;
use caracal_store::entity::Application;
use caracal_store::{StoreError, UniqueConstraint, ZoneUnit};
use http::StatusCode;
use serde_json::Value;

use super::custody::Custody;
use super::traits::check_traits;
use super::view::{ApplicationView, IssuedView};
use super::{ApplicationName, refuse_takeover, trait_authority};
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::request::fields::{Fields, List, Text};
use crate::reserved::Reserved;
use crate::{admin_audit, attribution};

struct ApplicationPatch {
    name: Option<String>,
    client_secret: Option<Secret<String>>,
    traits: Option<Vec<String>>,
}

impl ApplicationPatch {
    fn read(body: Option<Value>) -> Result<Self, ApiError> {
        let mut fields = Fields::of(body, Code::InvalidApplication)?;
        let patch = Self {
            name: fields
                .optional::<ApplicationName>("name")?
                .map(|name| name.0),
            client_secret: fields
                .optional::<Text<32, 1024>>("client_secret")?
                .map(|secret| Secret::new(secret.0)),
            traits: fields
                .optional::<List<String, 0, { usize::MAX }>>("traits")?
                .map(|t| t.0),
        };
        fields.refuse_others()?;
        Ok(patch)
    }

    fn is_empty(&self) -> bool {
        self.name.is_none() && self.client_secret.is_none() && self.traits.is_none()
    }
}

/// `PATCH /v1/zones/{z}/applications/{id}`. A taken name is told before a missing row is.
pub(crate) async fn patch(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let (zone, id) = (call.zone()?, call.id::<ApplicationId>("id")?);
    let patch = ApplicationPatch::read(call.body.clone())?;
    if let Some(name) = &patch.name {
        Reserved::Name.check(name, &call.actor)?;
    }
    if let Some(traits) = &patch.traits {
        check_traits(traits, trait_authority(&call.actor))?;
    }
    if let Some(name) = &patch.name {
        let holder = api.store.read(&zone).find_managed_application(name).await?;
        if holder.is_some_and(|holder| holder.id != id) {
            return Err(Code::ApplicationNameTaken.into());
        }
    }
    if patch.is_empty() {
        return Err(Code::NoFields.into());
    }
    let custody = match patch.client_secret {
        None => None,
        Some(secret) => {
            let known = api.store.read(&zone).get_application(&id).await?;
            check_has_secret(known.as_ref())?;
            Some(Custody::of_chosen(&api, &zone, &id, secret).await?)
        }
    };
    let unit = api.store.begin(&zone).await?;
    let mut application = live_in(&unit, &id).await?;
    refuse_takeover(&application, &call.actor)?;
    if let Some(custody) = custody {
        check_has_secret(Some(&application))?;
        custody.replace(&mut application);
    }
    if let Some(name) = patch.name {
        application.name = name;
    }
    if let Some(traits) = patch.traits {
        application.traits = traits;
    }
    let application = store(&api, &call, unit, application).await?;
    Reply::ok(&ApplicationView::of(application, &call.actor))
}

/// `POST /v1/zones/{z}/applications/{id}/rotate-secret`.
pub(crate) async fn rotate_secret(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let (zone, id) = (call.zone()?, call.id::<ApplicationId>("id")?);
    let (secret, custody) = Custody::generate(&api, &zone, &id)?;
    let unit = api.store.begin(&zone).await?;
    let mut application = live_in(&unit, &id).await?;
    refuse_takeover(&application, &call.actor)?;
    custody.replace(&mut application);
    let application = store(&api, &call, unit, application).await?;
    Reply::ok(&IssuedView::of(application, &secret))
}

/// `DELETE /v1/zones/{z}/applications/{id}`: archives it and forgets its secret.
pub(crate) async fn delete(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let id: ApplicationId = call.id("id")?;
    let mut unit = api.store.begin(&call.zone()?).await?;
    let application = live_in(&unit, &id).await?;
    refuse_takeover(&application, &call.actor)?;
    unit.archive_application(&id, &attribution::author(&call.actor))
        .await?;
    unit.record_admin_audit(&admin_audit::changed(&call, StatusCode::NO_CONTENT))
        .await?;
    unit.commit().await?;
    Ok(Reply::no_content())
}

async fn live_in(unit: &ZoneUnit, id: &ApplicationId) -> Result<Application, ApiError> {
    let found = unit.get_application(id).await?;
    let live = found.filter(|application| application.archived_at.is_none());
    live.ok_or_else(|| Code::ApplicationNotFound.into())
}

fn check_has_secret(application: Option<&Application>) -> Result<(), ApiError> {
    let live = application.filter(|application| application.archived_at.is_none());
    let application = live.ok_or(Code::ApplicationNotFound)?;
    if application.secret_hash.is_some() {
        Ok(())
    } else {
        Err(Code::ClientSecretNotConfigured.into())
    }
}

async fn store(
    api: &Api,
    call: &Call,
    mut unit: ZoneUnit,
    mut application: Application,
) -> Result<Application, ApiError> {
    application.attribution = attribution::author(&call.actor).edits(&application.attribution);
    application.updated_at = Some(api.clock.now());
    match unit.update_application(&application).await {
        Err(StoreError::Conflict(UniqueConstraint::ApplicationName)) => {
            return Err(Code::ApplicationNameTaken.into());
        }
        other => other?,
    };
    unit.record_admin_audit(&admin_audit::changed(call, StatusCode::OK))
        .await?;
    unit.commit().await?;
    Ok(application)
}
