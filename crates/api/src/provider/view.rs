//! A provider on the wire: never its secrets, only their names.

use caracal_core::Timestamp;
use caracal_core::id::{ProviderId, ZoneId};
use caracal_store::entity::{Provider, ProviderKind};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::attribution::AttributionView;

/// A provider on the wire.
#[derive(Debug, Serialize)]
pub(super) struct ProviderView {
    id: ProviderId,
    zone_id: ZoneId,
    name: String,
    identifier: String,
    kind: ProviderKind,
    config_json: Map<String, Value>,
    secret_config_keys: Vec<String>,
    connectivity_failed_at: Option<Timestamp>,
    #[serde(flatten)]
    attribution: AttributionView,
    created_at: Timestamp,
    updated_at: Timestamp,
    archived_at: Option<Timestamp>,
}

impl From<Provider> for ProviderView {
    fn from(provider: Provider) -> Self {
        Self {
            id: provider.id,
            zone_id: provider.zone_id,
            name: provider.name,
            identifier: provider.identifier,
            kind: provider.kind,
            config_json: provider.config,
            secret_config_keys: provider.secret_config_keys,
            connectivity_failed_at: provider.connectivity_failed_at,
            attribution: provider.attribution.into(),
            created_at: provider.created_at,
            updated_at: provider.updated_at,
            archived_at: provider.archived_at,
        }
    }
}
