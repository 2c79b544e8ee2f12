//! Zones: the tenants. Everything else of the API but admin tokens lives inside one.

mod change;
mod create;
mod overview;
mod remove;
mod view;

use std::sync::Arc;

use caracal_store::entity::Zone;
use caracal_store::{ZoneFilter, ZoneReader, ZoneUnit};
use serde_json::json;

pub(crate) use change::patch;
pub(crate) use create::create;
pub(crate) use overview::overview;
pub(crate) use remove::delete;
use view::ZoneView;

use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::page::{self, Listed, OBJECTS};
use crate::reply::Reply;
use crate::request::Call;

/// `GET /v1/zones`: live zones, without the system's; a console account sees its own.
pub(crate) async fn list(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let page = page::requested(&call.query, OBJECTS)?;
    let filter = ZoneFilter {
        owner_account_id: call.actor.account().map(str::to_owned),
    };
    let zones = api.store.platform().list_zones(&filter, &page).await?;
    Reply::ok(&Listed::from(zones.map(ZoneView::from)))
}

/// `GET /v1/zones/{id}`.
pub(crate) async fn read(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let zone = live(&api.store.read(&call.zone()?)).await?;
    Reply::ok(&ZoneView::from(zone))
}

/// `GET /v1/zones/{id}/dcr-status`.
pub(crate) async fn dcr_status(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let reader = api.store.read(&call.zone()?);
    let zone = live(&reader).await?;
    let live_applications = reader.count_live_dcr_applications(api.clock.now()).await?;
    Reply::ok(&json!({
        "id": zone.id,
        "dcr_enabled": zone.dcr_enabled,
        "live_dcr_applications": live_applications,
    }))
}

/// The zone behind a reader, when it exists and is not archived.
pub(crate) async fn live(reader: &ZoneReader) -> Result<Zone, ApiError> {
    let zone = reader.get_zone().await?.filter(Zone::is_live);
    zone.ok_or_else(|| Code::ZoneNotFound.into())
}

/// The zone that a unit changes, when it exists and is not archived. Holds until the unit ends.
pub(crate) async fn live_in(unit: &ZoneUnit) -> Result<Zone, ApiError> {
    let zone = unit.get_zone().await?.filter(Zone::is_live);
    zone.ok_or_else(|| Code::ZoneNotFound.into())
}
