//! Changing a zone, and what must be settled before self-registration is switched off.

use std::sync::Arc;

use caracal_store::entity::Zone;
use caracal_store::{StoreError, UniqueConstraint, ZoneUnit};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::create::{SlugText, ZoneName};
use super::live_in;
use super::view::ZoneView;
use crate::admin_audit;
use crate::api::Api;
use crate::attribution;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::request::fields::{Field, Fields, Misfit};
use crate::reserved::Reserved;

/// What happens to live self-registered applications when registration ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DcrShutdown {
    KeepLive,
    RevokeLive,
}

impl DcrShutdown {
    fn as_str(self) -> &'static str {
        match self {
            Self::KeepLive => "keep_live",
            Self::RevokeLive => "revoke_live",
        }
    }
}

impl Field for DcrShutdown {
    fn read(value: Value) -> Result<Self, Misfit> {
        match value.as_str() {
            Some("keep_live") => Ok(Self::KeepLive),
            Some("revoke_live") => Ok(Self::RevokeLive),
            _ => Err(Misfit::new("is 'keep_live' or 'revoke_live'")),
        }
    }
}

struct ZonePatch {
    name: Option<String>,
    slug: Option<String>,
    dcr_enabled: Option<bool>,
    dcr_shutdown: Option<DcrShutdown>,
    operator_coauthor_badge: Option<bool>,
    operator_governed: Option<bool>,
}

impl ZonePatch {
    fn read(body: Option<Value>) -> Result<Self, ApiError> {
        let mut fields = Fields::of(body, Code::InvalidZone)?;
        let patch = Self {
            name: fields.optional::<ZoneName>("name")?.map(|name| name.0),
            slug: fields.optional::<SlugText>("slug")?.map(|slug| slug.0),
            dcr_enabled: fields.optional("dcr_enabled")?,
            dcr_shutdown: fields.optional("dcr_shutdown")?,
            operator_coauthor_badge: fields.optional("operator_coauthor_badge")?,
            operator_governed: fields.optional("operator_governed")?,
        };
        fields.refuse_others()?;
        if patch.dcr_shutdown.is_some() && patch.dcr_enabled != Some(false) {
            return Err(Code::DcrShutdownNotApplicable.into());
        }
        if patch.is_empty() {
            return Err(Code::NoFields.into());
        }
        Ok(patch)
    }

    fn is_empty(&self) -> bool {
        self.name.is_none()
            && self.slug.is_none()
            && self.dcr_enabled.is_none()
            && self.operator_coauthor_badge.is_none()
            && self.operator_governed.is_none()
    }

    fn apply(&self, zone: &mut Zone) {
        if let Some(name) = &self.name {
            zone.name.clone_from(name);
        }
        if let Some(slug) = &self.slug {
            zone.slug.clone_from(slug);
        }
        zone.dcr_enabled = self.dcr_enabled.unwrap_or(zone.dcr_enabled);
        zone.operator_coauthor_badge = self
            .operator_coauthor_badge
            .unwrap_or(zone.operator_coauthor_badge);
        zone.operator_governed = self.operator_governed.unwrap_or(zone.operator_governed);
    }
}

/// `PATCH /v1/zones/{id}`.
pub(crate) async fn patch(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let patch = ZonePatch::read(call.body.clone())?;
    if let Some(name) = &patch.name {
        Reserved::Name.check(name, &call.actor)?;
    }
    if let Some(slug) = &patch.slug {
        Reserved::ZoneSlug.check(slug, &call.actor)?;
    }
    let mut unit = api.store.begin(&call.zone()?).await?;
    let mut zone = live_in(&unit).await?;
    if patch.dcr_enabled == Some(false) {
        shut_down_dcr(&api, &call, &mut unit, &zone, patch.dcr_shutdown).await?;
    }
    patch.apply(&mut zone);
    zone.attribution = attribution::author(&call.actor).edits(&zone.attribution);
    zone.updated_at = api.clock.now();
    match unit.update_zone(&zone).await {
        Err(StoreError::Conflict(UniqueConstraint::ZoneSlug)) => {
            return Err(Code::ZoneSlugConflict.into());
        }
        other => other?,
    };
    unit.record_admin_audit(&admin_audit::changed(&call, StatusCode::OK))
        .await?;
    unit.commit().await?;
    Reply::ok(&ZoneView::from(zone))
}

/// Decides, before anything is written, whether registration may end now.
async fn shut_down_dcr(
    api: &Api,
    call: &Call,
    unit: &mut ZoneUnit,
    zone: &Zone,
    mode: Option<DcrShutdown>,
) -> Result<(), ApiError> {
    if !zone.dcr_enabled && mode.is_none() {
        return Ok(());
    }
    let live = unit.count_live_dcr_applications(api.clock.now()).await?;
    match mode {
        None if live > 0 => {
            let details = json!({ "live_dcr_applications": live });
            return Err(ApiError::from(Code::DcrShutdownRequired).with_details(details));
        }
        Some(DcrShutdown::RevokeLive) if live > 0 => {
            let text = "live self-registered applications cannot be revoked here";
            return Err(ApiError::from(Code::DcrShutdownUnavailable).with_member("message", text));
        }
        _ => {}
    }
    let mode = mode.map_or("no_live", DcrShutdown::as_str);
    let facts = Map::from_iter([
        ("dcr_registration_disabled".to_owned(), json!(true)),
        ("dcr_shutdown_mode".to_owned(), json!(mode)),
        ("live_dcr_applications".to_owned(), json!(live)),
        ("revoked_applications".to_owned(), json!(0)),
        ("revoked_authority_records".to_owned(), json!(0)),
        ("terminated_sessions".to_owned(), json!(0)),
        ("revoked_delegations".to_owned(), json!(0)),
    ]);
    let row = admin_audit::remark(call, format!("DCR shutdown {mode}"), facts);
    unit.record_admin_audit(&row).await?;
    Ok(())
}
