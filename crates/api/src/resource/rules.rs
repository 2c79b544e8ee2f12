//! The rules that creating and changing a resource share.

use caracal_core::ResourceIdentifier;
use caracal_core::id::ProviderId;
use caracal_store::{Access, InZone};

use super::identifier::is_resource_identifier;
use super::input::ProviderRef;
use crate::api::Api;
use crate::capability::Actor;
use crate::error::{ApiError, Code};
use crate::reserved::Reserved;

/// Whether the identifier is that of the control resource.
pub(super) fn is_control(api: &Api, identifier: &str) -> bool {
    identifier == api.options.control_audience
}

/// An identifier is a URI, or exactly the control audience.
pub(super) fn check_identifier(api: &Api, actor: &Actor, identifier: &str) -> Result<(), ApiError> {
    if !is_control(api, identifier) && !is_resource_identifier(identifier) {
        return Err(Code::InvalidResourceIdentifier.into());
    }
    Reserved::ResourceIdentifier.check(identifier, actor)
}

/// The control resource belongs to global actors.
pub(super) fn protect_control(
    api: &Api,
    actor: &Actor,
    identifier: &ResourceIdentifier,
) -> Result<(), ApiError> {
    if is_control(api, identifier.as_str()) && !actor.is_global() {
        Err(Code::ProtectedResource.into())
    } else {
        Ok(())
    }
}

/// Whether the actor may know of the resource at all.
pub(super) fn may_see(api: &Api, actor: &Actor, identifier: &ResourceIdentifier) -> bool {
    actor.is_global() || !is_control(api, identifier.as_str())
}

/// The live provider that a body names; `None` when it names none.
pub(super) async fn find_provider<A: Access>(
    handle: &InZone<A>,
    named: Option<&ProviderRef>,
) -> Result<Option<ProviderId>, ApiError> {
    let id = match named {
        None | Some(ProviderRef::Empty) => return Ok(None),
        Some(ProviderRef::Unknown) => return Err(Code::ProviderNotFound.into()),
        Some(ProviderRef::Id(id)) => id,
    };
    let found = handle.get_provider(id).await?;
    match found.filter(|provider| provider.archived_at.is_none()) {
        Some(provider) => Ok(Some(provider.id)),
        None => Err(Code::ProviderNotFound.into()),
    }
}

/// Every resource but the control resource has one provider and an upstream.
pub(super) fn check_routing(
    api: &Api,
    identifier: &str,
    provider: Option<&ProviderId>,
    upstream_url: Option<&str>,
) -> Result<(), ApiError> {
    if is_control(api, identifier) {
        return Ok(());
    }
    if provider.is_none() {
        return Err(Code::CredentialProviderRequired.into());
    }
    if upstream_url.is_none() {
        return Err(Code::UpstreamUrlRequired.into());
    }
    Ok(())
}
