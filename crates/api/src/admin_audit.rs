//! The admin audit: who changed what.
//!
//! A successful change writes its row in its own transaction, so there is no change without a row and
//! no row without a change. A refused request of a known caller leaves a row afterwards, best effort.
//! Unknown callers leave nothing here: they would choose whose chain to fill.

mod summary;

use caracal_core::id::ZoneId;
use caracal_http::RequestContext;
use caracal_store::AdminAudit;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::api::Api;
use crate::capability::Actor;
use crate::request::{Call, Params, Target};
use summary::{ChangeKind, NamedFields};

/// The collections whose rows an audit row can be about.
const COLLECTIONS: [&str; 7] = [
    "zones",
    "applications",
    "resources",
    "providers",
    "policies",
    "policy-sets",
    "admin-tokens",
];

/// The row of a change that made a new object.
pub(crate) fn created(call: &Call, id: &str) -> AdminAudit {
    let mut row = row(call, StatusCode::CREATED, change_facts(call, true));
    row.entity_type = call
        .target
        .template
        .and_then(last_collection)
        .map(str::to_owned);
    row.entity_id = Some(id.to_owned());
    row
}

/// The row of any other change.
pub(crate) fn changed(call: &Call, status: StatusCode) -> AdminAudit {
    row(call, status, change_facts(call, false))
}

/// The row of a stored secret that is about to be shown.
pub(crate) fn revealed(call: &Call) -> AdminAudit {
    let facts = Map::from_iter([("change_kind".to_owned(), ChangeKind::Action.as_str().into())]);
    row(call, StatusCode::OK, facts)
}

/// An additional row of the same request, about something that needs words of its own.
pub(crate) fn remark(call: &Call, action: String, facts: Map<String, Value>) -> AdminAudit {
    AdminAudit {
        action,
        ..row(call, StatusCode::OK, facts)
    }
}

fn row(call: &Call, status: StatusCode, facts: Map<String, Value>) -> AdminAudit {
    base(
        &call.actor,
        &call.context,
        &call.target,
        &call.params,
        status,
        facts,
    )
}

/// What is told of a change, without values.
fn change_facts(call: &Call, makes_object: bool) -> Map<String, Value> {
    let named = NamedFields::of(call.body.as_ref());
    let rotates = call
        .target
        .template
        .is_some_and(|path| path.ends_with("/rotate-secret"));
    let is_rotation = named.has_secret || rotates;
    let kind = match call.target.method {
        "DELETE" => ChangeKind::Delete,
        _ if makes_object => ChangeKind::Create,
        _ if is_rotation => ChangeKind::SecretRotation,
        "POST" => ChangeKind::Action,
        _ => ChangeKind::Update,
    };
    let mut facts = Map::new();
    facts.insert("change_kind".to_owned(), kind.as_str().into());
    if !named.changed.is_empty() {
        facts.insert("changed_fields".to_owned(), json!(named.changed));
    }
    if is_rotation {
        facts.insert("secret_rotated".to_owned(), Value::Bool(true));
    }
    facts
}

fn base(
    actor: &Actor,
    context: &RequestContext,
    target: &Target,
    params: &Params,
    status: StatusCode,
    facts: Map<String, Value>,
) -> AdminAudit {
    let (entity_type, entity_id) = target.template.map_or((None, None), |t| entity(t, params));
    let zone = params.get("zone_id");
    let mode = if zone.is_some() {
        "zone_scoped"
    } else {
        "control_plane_wildcard"
    };
    let mut payload = Map::new();
    payload.insert("rls_mode".to_owned(), mode.into());
    payload.insert("rls_zone_guc".to_owned(), zone.unwrap_or("*").into());
    if let Some(account) = actor.account() {
        payload.insert("operator".to_owned(), account.into());
    }
    payload.extend(facts);
    AdminAudit {
        request_id: context.request_id.as_str().to_owned(),
        actor_id: Some(actor.id.as_str().to_owned()),
        actor_name: Some(actor.name.clone()),
        actor_scope: Some(if actor.is_global() { "global" } else { "zone" }.to_owned()),
        action: format!("{} {}", target.method, target.path),
        method: target.method.to_owned(),
        path: target.path.clone(),
        entity_type,
        entity_id,
        status_code: status.as_u16(),
        payload: Some(Value::Object(payload).to_string()),
    }
}

/// The innermost collection and id of a path.
fn entity(template: &str, params: &Params) -> (Option<String>, Option<String>) {
    let segments: Vec<&str> = template.split('/').collect();
    let pair = segments.windows(2).rev().find_map(|pair| {
        let name = pair[1].strip_prefix('{')?.strip_suffix('}')?;
        COLLECTIONS
            .contains(&pair[0])
            .then_some((pair[0], params.get(name)?))
    });
    match pair {
        Some((collection, id)) => (Some(collection.to_owned()), Some(id.to_owned())),
        None => (None, None),
    }
}

fn last_collection(template: &'static str) -> Option<&'static str> {
    template
        .rsplit('/')
        .find(|segment| COLLECTIONS.contains(segment))
}

/// What a refused request leaves.
pub(crate) struct Refusal {
    zone: Option<ZoneId>,
    row: AdminAudit,
}

impl Refusal {
    /// Keeps what the row says while the request goes on.
    pub(crate) fn prepare(
        actor: &Actor,
        context: &RequestContext,
        target: &Target,
        params: &Params,
    ) -> Self {
        let zone = params.get("zone_id").and_then(|zone| zone.parse().ok());
        let row = base(actor, context, target, params, StatusCode::OK, Map::new());
        Self { zone, row }
    }

    /// Writes the row. Limits and outages leave none: the first would let a caller flood a chain, the
    /// second cannot be written.
    pub(crate) async fn record(mut self, api: &Api, status: StatusCode) {
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            return;
        }
        self.row.status_code = status.as_u16();
        if let Err(error) = self.write(api).await {
            metrics::counter!("caracal_api_refusal_rows_lost_total").increment(1);
            tracing::warn!(%error, "a refused request is not in the admin audit");
        }
    }

    /// Into the zone's chain when there is such a zone, else into the platform's.
    async fn write(self, api: &Api) -> Result<(), caracal_store::StoreError> {
        if let Some(zone) = &self.zone {
            let mut unit = api.store.begin(zone).await?;
            if unit.get_zone().await?.is_some() {
                unit.record_admin_audit(&self.row).await?;
                return unit.commit().await;
            }
        }
        let mut unit = api.store.begin_platform().await?;
        unit.record_admin_audit(&self.row).await?;
        unit.commit().await
    }
}
