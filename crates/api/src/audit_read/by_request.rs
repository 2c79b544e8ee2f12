//! Everything that happened under one request id, and why it was refused.

use std::sync::Arc;

use caracal_policy::SCHEMA_VERSION;
use caracal_store::AuditRecord;
use serde_json::{Map, Value, json};

use super::CATCH_UP;
use super::event::EventItem;
use super::redact::redacted;
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;

/// `GET /v1/zones/{z}/audit/by-request/{id}`: a bare array, oldest first.
pub(crate) async fn by_request(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let found = events(&api, &call).await?;
    let items: Vec<EventItem> = found.iter().filter_map(EventItem::of).collect();
    Reply::ok(&items)
}

/// `GET /v1/zones/{z}/audit/by-request/{id}/explain`.
pub(crate) async fn explain(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let found = events(&api, &call).await?;
    let items: Vec<EventItem> = found.iter().filter_map(EventItem::of).collect();
    let denied: Vec<Value> = found.iter().filter_map(denial).collect();
    let last = items
        .last()
        .map_or("unknown", |item| item.decision.as_str());
    Reply::ok(&json!({
        "request_id": call.params.get("request_id"),
        "zone_id": call.params.get("zone_id"),
        "final_decision": if denied.is_empty() { last } else { "deny" },
        "denied": denied,
        "events": items,
    }))
}

async fn events(api: &Api, call: &Call) -> Result<Vec<AuditRecord>, ApiError> {
    let request_id = call.params.get("request_id").unwrap_or_default();
    api.evidence.caught_up(CATCH_UP).await;
    let found = api
        .store
        .read(&call.zone()?)
        .audit_events_of_request(request_id)
        .await?;
    if found.is_empty() {
        Err(Code::RequestNotFound.into())
    } else {
        Ok(found)
    }
}

fn denial(record: &AuditRecord) -> Option<Value> {
    let (item, metadata) = EventItem::with_metadata(record)?;
    (item.decision == "deny").then(|| {
        json!({
            "event_id": item.id,
            "event_type": item.event_type,
            "evaluation_status": item.evaluation_status,
            "determining_policies": item.determining_policies_json,
            "diagnostics": item.diagnostics_json,
            "metadata": metadata.as_ref().map(redacted),
            "policy_input": policy_input(&item, metadata.as_ref()),
        })
    })
}

/// The question that was decided, as far as the event tells: something to simulate with.
fn policy_input(item: &EventItem, metadata: Option<&Value>) -> Value {
    let told = |name: &str| {
        metadata
            .and_then(|held| held.get(name))
            .filter(|v| !v.is_null())
    };
    let scopes = told("requested_scopes")
        .cloned()
        .unwrap_or_else(|| json!([]));
    let principal = object(&[
        ("type", Some(json!("Application"))),
        ("id", told("application_id").cloned()),
        ("zone_id", Some(json!(item.zone_id))),
        (
            "registration_method",
            told("application_registration_method").cloned(),
        ),
        ("agent_session_id", told("agent_session_id").cloned()),
        ("lifecycle", told("agent_lifecycle").cloned()),
        ("labels", told("agent_labels").cloned()),
    ]);
    let context = object(&[
        ("actor_claims", Some(json!({}))),
        ("requested_scopes", Some(scopes.clone())),
        ("challenge_resolved", Some(json!(false))),
        ("session_id", told("session_id").cloned()),
        ("agent_session_id", told("agent_session_id").cloned()),
        ("delegation_edge_id", told("delegation_edge_id").cloned()),
    ]);
    let named = |name: &str| told(name).map(|id| json!({ "id": id }));
    object(&[
        ("schema_version", Some(json!(SCHEMA_VERSION))),
        ("principal", Some(principal)),
        (
            "resource",
            Some(object(&[
                ("type", Some(json!("Resource"))),
                ("identifier", told("resource").cloned()),
                ("scopes", Some(scopes)),
            ])),
        ),
        ("action", Some(json!({ "id": "TokenExchange" }))),
        ("session", named("session_id")),
        ("delegation_edge", named("delegation_edge_id")),
        ("context", Some(context)),
    ])
}

/// An object of the members that have a value.
fn object(members: &[(&str, Option<Value>)]) -> Value {
    let held = members.iter().filter_map(|(name, value)| {
        value
            .as_ref()
            .map(|value| ((*name).to_owned(), value.clone()))
    });
    Value::Object(held.collect::<Map<_, _>>())
}
