//! Changing and archiving providers.

use std::sync::Arc;

use caracal_core::id::ProviderId;
use caracal_store::entity::{Provider, ProviderKind};
use caracal_store::{StoreError, UniqueConstraint};
use http::StatusCode;
use serde_json::{Map, Value};

use super::config::{ProviderConfig, SecretPresence};
use super::custody::SealedConfig;
use super::read::live;
use super::view::ProviderView;
use super::{OfferedKind, ProviderName, identifier};
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::request::fields::Fields;
use crate::reserved::Reserved;
use crate::{admin_audit, attribution};

struct ProviderPatch {
    name: Option<String>,
    identifier: Option<String>,
    kind: Option<ProviderKind>,
    config: Option<Map<String, Value>>,
}

impl ProviderPatch {
    /// Unknown members are ignored.
    fn read(body: Option<Value>) -> Result<Self, ApiError> {
        let mut fields = Fields::of(body, Code::InvalidProvider)?;
        Ok(Self {
            name: fields
                .optional::<ProviderName>("name")?
                .and_then(|name| name.0),
            identifier: fields.optional("identifier")?,
            kind: fields.optional::<OfferedKind>("kind")?.map(|kind| kind.0),
            config: fields.optional("config_json")?,
        })
    }

    fn check(&self) -> Result<(), ApiError> {
        if let Some(given) = &self.identifier {
            identifier::check(given)?;
        }
        if self.kind.is_some() && self.config.is_none() {
            return Err(Code::ProviderConfigRequired.into());
        }
        let is_empty = self.name.is_none() && self.identifier.is_none() && self.config.is_none();
        if is_empty {
            Err(Code::NoFields.into())
        } else {
            Ok(())
        }
    }
}

/// `PATCH /v1/zones/{z}/providers/{id}`.
pub(crate) async fn patch(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let (zone, id) = (call.zone()?, call.id::<ProviderId>("id")?);
    let patch = ProviderPatch::read(call.body.clone())?;
    patch.check()?;
    if let Some(given) = &patch.identifier {
        Reserved::ProviderIdentifier.check(given, &call.actor)?;
    }
    let mut unit = api.store.begin(&zone).await?;
    let mut provider = live(unit.get_provider(&id).await?)?;
    if let Some(config) = patch.config {
        configure(&api, &mut provider, patch.kind, config)?;
    }
    if let Some(name) = patch.name {
        provider.name = name;
    }
    if let Some(given) = patch.identifier {
        provider.identifier = given;
    }
    provider.attribution = attribution::author(&call.actor).edits(&provider.attribution);
    provider.updated_at = api.clock.now();
    match unit.update_provider(&provider).await {
        Err(StoreError::Conflict(UniqueConstraint::ProviderIdentifier)) => {
            return Err(Code::ProviderIdentifierConflict.into());
        }
        other => other?,
    };
    unit.record_admin_audit(&admin_audit::changed(&call, StatusCode::OK))
        .await?;
    unit.commit().await?;
    Reply::ok(&ProviderView::from(provider))
}

/// Replaces the configuration. A named kind starts from nothing, so its secret must come along;
/// otherwise a sealed secret stays when no new one is sent.
fn configure(
    api: &Api,
    provider: &mut Provider,
    kind: Option<ProviderKind>,
    config: Map<String, Value>,
) -> Result<(), ApiError> {
    let presence = match kind {
        None if provider.sealed_config.is_some() => SecretPresence::MayBeKept,
        _ => SecretPresence::Required,
    };
    let new_kind = kind.unwrap_or(provider.kind);
    let checked = ProviderConfig::check(new_kind, config, presence)?;
    if kind.is_some() || checked.secret.is_some() {
        let (zone, id) = (provider.zone_id.clone(), provider.id.clone());
        SealedConfig::seal(api, &zone, &id, checked.secret)?.store(provider);
    }
    if kind.is_some() {
        provider.connectivity_failed_at = None;
    }
    provider.kind = new_kind;
    provider.config = checked.public;
    Ok(())
}

/// `DELETE /v1/zones/{z}/providers/{id}`: archives it and forgets its secret.
pub(crate) async fn delete(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let id: ProviderId = call.id("id")?;
    let mut unit = api.store.begin(&call.zone()?).await?;
    if !unit
        .archive_provider(&id, &attribution::author(&call.actor))
        .await?
    {
        return Err(Code::ProviderNotFound.into());
    }
    unit.record_admin_audit(&admin_audit::changed(&call, StatusCode::NO_CONTENT))
        .await?;
    unit.commit().await?;
    Ok(Reply::no_content())
}
