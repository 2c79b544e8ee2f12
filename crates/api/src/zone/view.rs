//! A zone on the wire.

use caracal_core::Timestamp;
use caracal_core::id::ZoneId;
use caracal_store::entity::Zone;
use serde::Serialize;

use crate::attribution::AttributionView;

/// A zone on the wire. `display_name` repeats the name for clients that read that.
#[derive(Debug, Serialize)]
pub(super) struct ZoneView {
    id: ZoneId,
    name: String,
    display_name: String,
    slug: String,
    dcr_enabled: bool,
    operator_coauthor_badge: bool,
    operator_governed: bool,
    #[serde(flatten)]
    attribution: AttributionView,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Zone> for ZoneView {
    fn from(zone: Zone) -> Self {
        Self {
            id: zone.id,
            display_name: zone.name.clone(),
            name: zone.name,
            slug: zone.slug,
            dcr_enabled: zone.dcr_enabled,
            operator_coauthor_badge: zone.operator_coauthor_badge,
            operator_governed: zone.operator_governed,
            attribution: zone.attribution.into(),
            created_at: zone.created_at,
            updated_at: zone.updated_at,
        }
    }
}
