//! Creating a zone, with its first signing key and its first audit row in one transaction.

use std::sync::Arc;

use caracal_core::id::ZoneId;
use caracal_store::entity::Zone;
use caracal_store::{StoreError, UniqueConstraint};
use serde_json::Value;

use super::view::ZoneView;
use crate::admin_audit;
use crate::api::Api;
use crate::attribution;
use crate::capability::Actor;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::request::fields::{Field, Fields, Misfit, Text, Trimmed};
use crate::reserved::Reserved;
use crate::slug;

/// An id that would read like the platform's own organisation.
const FORBIDDEN_ID: &str = "ORG-0000-0000-0000";

/// A zone's slug as a caller may choose it.
#[derive(Debug)]
pub(super) struct SlugText(pub(super) String);

impl Field for SlugText {
    fn read(value: Value) -> Result<Self, Misfit> {
        let Text::<1, 255>(text) = Text::read(value)?;
        let is_slug = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.bytes().all(is_slug) {
            Ok(Self(text))
        } else {
            Err(Misfit::new("has lower-case letters, digits and '-'"))
        }
    }
}

/// The name of a zone.
pub(super) type ZoneName = Trimmed<1, 120>;

struct NewZone {
    name: String,
    slug: Option<String>,
    dcr_enabled: bool,
}

impl NewZone {
    fn read(body: Option<Value>) -> Result<Self, ApiError> {
        let mut fields = Fields::of(body, Code::InvalidZone)?;
        let Trimmed(name) = fields.required::<ZoneName>("name")?;
        let slug = fields.optional::<SlugText>("slug")?.map(|slug| slug.0);
        let dcr_enabled = fields.optional("dcr_enabled")?.unwrap_or(false);
        fields.refuse_others()?;
        Ok(Self {
            name,
            slug,
            dcr_enabled,
        })
    }
}

/// `POST /v1/zones`.
pub(crate) async fn create(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let new = NewZone::read(call.body.clone())?;
    Reserved::Name.check(&new.name, &call.actor)?;
    let zone = match &new.slug {
        Some(slug) => {
            Reserved::ZoneSlug.check(slug, &call.actor)?;
            insert(&api, &call, draft(&api, &call.actor, &new, slug.clone())).await?
        }
        None => insert_generated(&api, &call, &new).await?,
    };
    Reply::created(&ZoneView::from(zone))
}

/// Another request may take the generated slug in between; one more try finds the next free one.
async fn insert_generated(api: &Api, call: &Call, new: &NewZone) -> Result<Zone, ApiError> {
    let slug = free_slug(api, &new.name, &call.actor).await?;
    match insert(api, call, draft(api, &call.actor, new, slug)).await {
        Err(error) if error.code() == Code::ZoneSlugConflict => {
            let slug = free_slug(api, &new.name, &call.actor).await?;
            insert(api, call, draft(api, &call.actor, new, slug)).await
        }
        outcome => outcome,
    }
}

async fn free_slug(api: &Api, name: &str, actor: &Actor) -> Result<String, ApiError> {
    let base = slug::slug(name, "zone");
    Reserved::ZoneSlug.check(&base, actor)?;
    let platform = api.store.platform();
    let mut last = base.clone();
    for candidate in slug::candidates(&base, &*api.random) {
        if platform.find_zone_by_slug(&candidate).await?.is_none() {
            return Ok(candidate);
        }
        last = candidate;
    }
    Ok(last)
}

fn draft(api: &Api, actor: &Actor, new: &NewZone, slug: String) -> Zone {
    let now = api.clock.now();
    Zone {
        id: fresh_id(api),
        name: new.name.clone(),
        slug,
        dcr_enabled: new.dcr_enabled,
        operator_coauthor_badge: true,
        operator_governed: false,
        owner_account_id: actor.account().map(str::to_owned),
        attribution: attribution::author(actor).creates(),
        created_at: now,
        updated_at: now,
        archived_at: None,
    }
}

fn fresh_id(api: &Api) -> ZoneId {
    loop {
        let id = ZoneId::generate(&*api.clock, &*api.random);
        if id.as_str() != FORBIDDEN_ID {
            return id;
        }
    }
}

async fn insert(api: &Api, call: &Call, zone: Zone) -> Result<Zone, ApiError> {
    let mut unit = api.store.begin(&zone.id).await?;
    match unit.insert_zone(&zone).await {
        Err(StoreError::Conflict(UniqueConstraint::ZoneSlug)) => {
            return Err(Code::ZoneSlugConflict.into());
        }
        other => other?,
    };
    api.zone_keys.create_first_key(&mut unit).await?;
    unit.record_admin_audit(&admin_audit::created(call, zone.id.as_str()))
        .await?;
    unit.commit().await?;
    Ok(zone)
}
