//! Creating a provider.

use std::sync::Arc;

use caracal_core::id::{ProviderId, ZoneId};
use caracal_store::entity::{Provider, ProviderKind};
use caracal_store::{StoreError, UniqueConstraint, ZoneReader, ZoneUnit};
use serde_json::{Map, Value};

use super::config::{ProviderConfig, SecretPresence};
use super::custody::SealedConfig;
use super::view::ProviderView;
use super::{OfferedKind, ProviderName, identifier};
use crate::api::Api;
use crate::capability::Actor;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::request::fields::Fields;
use crate::reserved::Reserved;
use crate::{admin_audit, attribution, zone};

/// How often a generated identifier is tried when others take it in between.
const ATTEMPTS: usize = 3;

struct NewProvider {
    name: Option<String>,
    identifier: Option<String>,
    kind: ProviderKind,
    config: Map<String, Value>,
    check: bool,
}

impl NewProvider {
    /// Unknown members are ignored.
    fn read(body: Option<Value>) -> Result<Self, ApiError> {
        let mut fields = Fields::of(body, Code::InvalidProvider)?;
        let new = Self {
            name: fields
                .optional::<ProviderName>("name")?
                .and_then(|name| name.0),
            identifier: fields.optional("identifier")?,
            kind: fields.required::<OfferedKind>("kind")?.0,
            config: fields.optional("config_json")?.unwrap_or_default(),
            check: fields.optional("check")?.unwrap_or(false),
        };
        if new.name.is_none() && new.identifier.is_none() {
            return Err(fields.refuse("name", "is required when there is no identifier"));
        }
        Ok(new)
    }
}

/// `POST /v1/zones/{z}/providers`.
pub(crate) async fn create(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let zone_id = call.zone()?;
    let reader = api.store.read(&zone_id);
    zone::live(&reader).await?;
    let mut new = NewProvider::read(call.body.clone())?;
    if let Some(given) = &new.identifier {
        identifier::check(given)?;
    }
    let config = std::mem::take(&mut new.config);
    let config = ProviderConfig::check(new.kind, config, SecretPresence::Required)?;
    if new.check {
        return Err(Code::ProviderCheckUnsupported.into());
    }
    if let Some(given) = &new.identifier {
        Reserved::ProviderIdentifier.check(given, &call.actor)?;
    }
    let mut provider = draft(&api, &call.actor, &zone_id, new.kind);
    provider.config = config.public;
    SealedConfig::seal(&api, &zone_id, &provider.id, config.secret)?.store(&mut provider);
    let provider = match new.identifier {
        Some(given) => {
            provider.name = new.name.unwrap_or_else(|| given.clone());
            provider.identifier = given;
            insert(&api, &call, provider).await?
        }
        None => {
            provider.name = new.name.unwrap_or_default();
            insert_generated(&api, &call, &reader, provider).await?
        }
    };
    Reply::created(&ProviderView::from(provider))
}

async fn insert_generated(
    api: &Api,
    call: &Call,
    reader: &ZoneReader,
    mut provider: Provider,
) -> Result<Provider, ApiError> {
    let mut attempt = 1;
    loop {
        let name = &provider.name;
        provider.identifier = identifier::generate(reader, name, &call.actor, &*api.random).await?;
        match insert(api, call, provider.clone()).await {
            Err(error)
                if error.code() == Code::ProviderIdentifierConflict && attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn insert(api: &Api, call: &Call, provider: Provider) -> Result<Provider, ApiError> {
    let mut unit = api.store.begin(&provider.zone_id).await?;
    zone::live_in(&unit).await?;
    match unit.insert_provider(&provider).await {
        Err(StoreError::Conflict(UniqueConstraint::ProviderIdentifier)) => {
            return Err(Code::ProviderIdentifierConflict.into());
        }
        other => other?,
    }
    unit.record_admin_audit(&admin_audit::created(call, provider.id.as_str()))
        .await?;
    unit.commit().await?;
    Ok(provider)
}

fn draft(api: &Api, actor: &Actor, zone: &ZoneId, kind: ProviderKind) -> Provider {
    let now = api.clock.now();
    Provider {
        id: ProviderId::generate(&*api.clock, &*api.random),
        zone_id: zone.clone(),
        name: String::new(),
        identifier: String::new(),
        kind,
        config: Map::new(),
        secret_config_keys: Vec::new(),
        sealed_config: None,
        connectivity_failed_at: None,
        attribution: attribution::author(actor).creates(),
        created_at: now,
        updated_at: now,
        archived_at: None,
    }
}

/// The zone's provider of no credential, made when it is missing and revived when it is archived.
pub(crate) async fn none_provider(
    api: &Api,
    actor: &Actor,
    unit: &mut ZoneUnit,
) -> Result<ProviderId, ApiError> {
    let zone = unit.zone_id().clone();
    let text = format!("provider-none-{zone}");
    let id = ProviderId::parse(&text).map_err(|_| Code::Internal)?;
    match unit.get_provider(&id).await? {
        Some(found) if found.archived_at.is_none() => {}
        Some(_) => {
            unit.revive_provider(&id, &attribution::author(actor))
                .await?;
        }
        None => {
            let mut provider = draft(api, actor, &zone, ProviderKind::None);
            provider.id = id.clone();
            "No credential".clone_into(&mut provider.name);
            "provider://none".clone_into(&mut provider.identifier);
            unit.insert_provider(&provider).await?;
        }
    }
    Ok(id)
}
