//! Changing and archiving resources.

use std::sync::Arc;

use caracal_core::ResourceIdentifier;
use caracal_core::id::{ProviderId, ResourceId};
use caracal_store::entity::Resource;
use caracal_store::{StoreError, UniqueConstraint, ZoneUnit};
use http::StatusCode;

use super::input::ResourceInput;
use super::operations::{cover, declare};
use super::rules::{
    check_identifier, check_routing, find_provider, is_control, may_see, protect_control,
};
use super::view::ResourceView;
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::{admin_audit, attribution, provider};

/// `PATCH /v1/zones/{z}/resources/{id}`. A missing provider is told before a missing resource.
pub(crate) async fn patch(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let (zone, id) = (call.zone()?, call.id::<ResourceId>("id")?);
    let input = ResourceInput::read(call.body.clone())?;
    let mut unit = api.store.begin(&zone).await?;
    let named = input
        .credential_provider_id
        .as_ref()
        .and_then(Option::as_ref);
    let named = find_provider(&unit, named).await?;
    let mut resource = visible(&api, &call, &unit, &id).await?;
    apply(&api, &call, &mut resource, &input, named)?;
    if is_empty(&input) {
        return Err(Code::NoFields.into());
    }
    if resource.credential_provider_id.is_none() && is_control(&api, resource.identifier.as_str()) {
        let none = provider::none_provider(&api, &call.actor, &mut unit).await?;
        resource.credential_provider_id = Some(none);
    }
    resource.attribution = attribution::author(&call.actor).edits(&resource.attribution);
    resource.updated_at = api.clock.now();
    match unit.update_resource(&resource).await {
        Err(StoreError::Conflict(UniqueConstraint::ResourceIdentifier)) => {
            return Err(Code::ResourceIdentifierConflict.into());
        }
        other => other?,
    };
    unit.record_admin_audit(&admin_audit::changed(&call, StatusCode::OK))
        .await?;
    unit.commit().await?;
    Reply::ok(&ResourceView::from(resource))
}

/// `DELETE /v1/zones/{z}/resources/{id}`.
pub(crate) async fn delete(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let id: ResourceId = call.id("id")?;
    let mut unit = api.store.begin(&call.zone()?).await?;
    let resource = visible(&api, &call, &unit, &id).await?;
    if is_control(&api, resource.identifier.as_str()) {
        return Err(Code::ProtectedResource.into());
    }
    unit.archive_resource(&id, &attribution::author(&call.actor))
        .await?;
    unit.record_admin_audit(&admin_audit::changed(&call, StatusCode::NO_CONTENT))
        .await?;
    unit.commit().await?;
    Ok(Reply::no_content())
}

async fn visible(
    api: &Api,
    call: &Call,
    unit: &ZoneUnit,
    id: &ResourceId,
) -> Result<Resource, ApiError> {
    let found = unit.get_resource(id).await?;
    found
        .filter(|resource| resource.archived_at.is_none())
        .filter(|resource| may_see(api, &call.actor, &resource.identifier))
        .ok_or_else(|| Code::ResourceNotFound.into())
}

fn is_empty(input: &ResourceInput) -> bool {
    input.name.is_none()
        && input.identifier.is_none()
        && input.upstream_url.is_none()
        && input.scopes.is_none()
        && input.credential_provider_id.is_none()
        && input.operations.is_none()
        && input.operation_enforcement.is_none()
}

/// Puts the input into the row and judges the outcome as a creation is judged.
fn apply(
    api: &Api,
    call: &Call,
    resource: &mut Resource,
    input: &ResourceInput,
    named: Option<ProviderId>,
) -> Result<(), ApiError> {
    if let Some(identifier) = &input.identifier {
        check_identifier(api, &call.actor, identifier)?;
        resource.identifier = ResourceIdentifier::new(identifier);
        protect_control(api, &call.actor, &resource.identifier)?;
    }
    if let Some(name) = &input.name {
        resource.name.clone_from(name);
    }
    if let Some(url) = &input.upstream_url {
        resource.upstream_url.clone_from(url);
    }
    if input.credential_provider_id.is_some() {
        resource.credential_provider_id = named;
    }
    let (provider, url) = (&resource.credential_provider_id, &resource.upstream_url);
    check_routing(
        api,
        resource.identifier.as_str(),
        provider.as_ref(),
        url.as_deref(),
    )?;
    if let Some(scopes) = &input.scopes {
        resource.scopes.clone_from(scopes);
    }
    match &input.operations {
        Some(operations) => resource.operations = declare(operations, &resource.scopes)?,
        None => cover(&resource.operations, &resource.scopes)?,
    }
    if let Some(enforcement) = input.operation_enforcement {
        resource.operation_enforcement = enforcement;
    }
    Ok(())
}
