//! One zone at a glance.

use std::sync::Arc;

use caracal_core::Timestamp;
use caracal_core::id::EventId;
use caracal_store::{AuditSearch, Page, ZoneReader};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::Api;
use crate::audit_read::EventItem;
use crate::error::ApiError;
use crate::reply::Reply;
use crate::request::Call;

const DAY_SECONDS: i64 = 24 * 60 * 60;
const RECENT_EVENTS: usize = 10;

#[derive(Debug, Serialize)]
struct RecentEvent {
    id: EventId,
    event_type: String,
    request_id: String,
    decision: String,
    metadata_json: Option<Value>,
    occurred_at: Timestamp,
}

impl From<EventItem> for RecentEvent {
    fn from(item: EventItem) -> Self {
        Self {
            id: item.id,
            event_type: item.event_type,
            request_id: item.request_id,
            decision: item.decision,
            metadata_json: item.metadata_json,
            occurred_at: item.occurred_at,
        }
    }
}

/// `GET /v1/zones/{z}/overview`; of an unknown zone everything is zero.
pub(crate) async fn overview(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let zone = call.zone()?;
    let reader = api.store.read(&zone);
    let now = api.clock.now();
    let applications = reader
        .count_applications(now, now.plus_seconds(7 * DAY_SECONDS))
        .await?;
    let resources = reader.count_resources().await?;
    let providers = reader.count_live_providers().await?;
    let sets = reader.count_policy_sets().await?;
    let records = reader.count_live_authority_records(now).await?;
    let decisions = reader
        .count_decisions(now.plus_seconds(-DAY_SECONDS))
        .await?;
    Reply::ok(&json!({
        "zone_id": zone,
        "generated_at": now,
        "applications": {
            "total": applications.total,
            "expired": applications.expired,
            "expiring_soon": applications.expiring_soon,
        },
        "resources": { "total": resources.total, "unenforced": resources.unenforced },
        "providers": { "total": providers },
        "policy_sets": {
            "total": sets.total,
            "enforcing": i32::from(sets.active_name.is_some()),
            "active_name": sets.active_name,
        },
        "sessions": { "active": records },
        "decisions_24h": { "allowed": decisions.allowed, "denied": decisions.denied },
        "recent_events": recent(&reader).await?,
    }))
}

async fn recent(reader: &ZoneReader) -> Result<Vec<RecentEvent>, ApiError> {
    let page = Page::first(RECENT_EVENTS);
    let found = reader
        .search_audit_events(&AuditSearch::default(), &page)
        .await?;
    Ok(found
        .items
        .iter()
        .filter_map(EventItem::of)
        .map(RecentEvent::from)
        .collect())
}
