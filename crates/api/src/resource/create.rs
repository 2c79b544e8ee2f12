//! Creating a resource.

use std::sync::Arc;

use caracal_core::ResourceIdentifier;
use caracal_core::id::ResourceId;
use caracal_store::entity::{Enforcement, Resource};
use caracal_store::{StoreError, UniqueConstraint, ZoneReader};

use super::input::ResourceInput;
use super::operations::declare;
use super::rules::{check_identifier, check_routing, find_provider, is_control, protect_control};
use super::view::ResourceView;
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::reserved::Reserved;
use crate::{admin_audit, attribution, provider, slug, zone};

/// `POST /v1/zones/{z}/resources`. A probe of the upstream (`check`) is not offered and skipped.
pub(crate) async fn create(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let zone_id = call.zone()?;
    let reader = api.store.read(&zone_id);
    zone::live(&reader).await?;
    let resource = draft(&api, &call, &reader).await?;
    let resource = insert(&api, &call, resource).await?;
    Reply::created(&ResourceView::from(resource))
}

/// The row that the body describes, after every check that needs no transaction.
async fn draft(api: &Api, call: &Call, reader: &ZoneReader) -> Result<Resource, ApiError> {
    let input = ResourceInput::read(call.body.clone())?;
    let Some(scopes) = input.scopes else {
        return Err(ApiError::at(
            Code::InvalidResource,
            &["scopes".to_owned()],
            "is required",
        ));
    };
    let identifier = match &input.identifier {
        Some(given) => given.clone(),
        None => generate(api, call, reader, input.name.as_deref()).await?,
    };
    check_identifier(api, &call.actor, &identifier)?;
    let identifier = ResourceIdentifier::new(&identifier);
    protect_control(api, &call.actor, &identifier)?;
    let named = input.credential_provider_id.flatten();
    let provider = find_provider(reader, named.as_ref()).await?;
    let upstream_url = input.upstream_url.flatten();
    check_routing(
        api,
        identifier.as_str(),
        provider.as_ref(),
        upstream_url.as_deref(),
    )?;
    let operations = declare(&input.operations.unwrap_or_default(), &scopes)?;
    check_quota(api, reader).await?;
    let now = api.clock.now();
    Ok(Resource {
        id: ResourceId::generate(&*api.clock, &*api.random),
        zone_id: reader.zone_id().clone(),
        name: input.name.unwrap_or_else(|| identifier.as_str().to_owned()),
        identifier,
        upstream_url,
        scopes,
        credential_provider_id: provider,
        operations,
        operation_enforcement: input.operation_enforcement.unwrap_or(Enforcement::Enforced),
        attribution: attribution::author(&call.actor).creates(),
        created_at: now,
        updated_at: now,
        archived_at: None,
    })
}

async fn generate(
    api: &Api,
    call: &Call,
    reader: &ZoneReader,
    name: Option<&str>,
) -> Result<String, ApiError> {
    let Some(name) = name else {
        let path = ["name".to_owned()];
        return Err(ApiError::at(
            Code::InvalidResource,
            &path,
            "is required when there is no identifier",
        ));
    };
    let base = format!("resource://{}", slug::slug(name, "resource"));
    Reserved::ResourceIdentifier.check(&base, &call.actor)?;
    let mut last = base.clone();
    for candidate in slug::candidates(&base, &*api.random) {
        let identifier = ResourceIdentifier::new(&candidate);
        if reader.resource_identifier_is_free(&identifier).await? {
            return Ok(candidate);
        }
        last = candidate;
    }
    Ok(last)
}

async fn check_quota(api: &Api, reader: &ZoneReader) -> Result<(), ApiError> {
    let limit = api.options.max_resources_per_zone;
    if limit == 0 {
        return Ok(());
    }
    let total = reader.count_resources().await?.total;
    if u64::try_from(total).unwrap_or(0) >= limit {
        return Err(Code::ResourceQuota.into());
    }
    Ok(())
}

async fn insert(api: &Api, call: &Call, mut resource: Resource) -> Result<Resource, ApiError> {
    let mut unit = api.store.begin(&resource.zone_id).await?;
    zone::live_in(&unit).await?;
    if resource.credential_provider_id.is_none() && is_control(api, resource.identifier.as_str()) {
        let none = provider::none_provider(api, &call.actor, &mut unit).await?;
        resource.credential_provider_id = Some(none);
    }
    match unit.insert_resource(&resource).await {
        Err(StoreError::Conflict(UniqueConstraint::ResourceIdentifier)) => {
            return Err(Code::ResourceIdentifierConflict.into());
        }
        other => other?,
    }
    unit.record_admin_audit(&admin_audit::created(call, resource.id.as_str()))
        .await?;
    unit.commit().await?;
    Ok(resource)
}
