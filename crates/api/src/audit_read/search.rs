//! Searching audit events.
//!
//! A search sees what was acknowledged before it: it first waits, for a bounded time, until the log
//! of this process is stored.

use std::sync::Arc;

use caracal_store::AuditSearch;
use serde_json::Value;

use super::columns::{cells, chosen, flat};
use super::event::EventItem;
use super::{CATCH_UP, Format, csv, format};
use crate::api::Api;
use crate::error::ApiError;
use crate::page::{self, Listed, RECORDS};
use crate::reply::Reply;
use crate::request::Call;
use crate::request::query::{Query, invalid};

/// Columns that an event has itself.
const ROW: [&str; 11] = [
    "id",
    "occurred_at",
    "event_type",
    "decision",
    "evaluation_status",
    "request_id",
    "ingested_at",
    "policy_set_id",
    "policy_set_version_id",
    "manifest_sha",
    "determining_policies",
];

/// All columns: the event's own, then those of its metadata.
const COLUMNS: [&str; 50] = [
    "id",
    "occurred_at",
    "event_type",
    "decision",
    "evaluation_status",
    "request_id",
    "ingested_at",
    "policy_set_id",
    "policy_set_version_id",
    "manifest_sha",
    "determining_policies",
    "application_id",
    "application_name",
    "resource",
    "requested_scopes",
    "agent_session_id",
    "agent_lifecycle",
    "agent_labels",
    "delegation_edge_id",
    "delegation_hop_count",
    "method",
    "latency_ms",
    "upstream_status",
    "result_class",
    "reason",
    "trace_id",
    "provider_id",
    "connection_id",
    "upstream_host",
    "gateway_status",
    "error_kind",
    "response_bytes",
    "auth_mode",
    "subject_fingerprint",
    "subject",
    "authorized_by",
    "command",
    "subcommand",
    "challenge_id",
    "tier",
    "approver_class",
    "privacy_mode",
    "approver_subject_id",
    "subject_anchor",
    "subject_kind",
    "federated_user_issuer",
    "jti",
    "operation",
    "use",
    "expires_at",
];

/// `GET /v1/zones/{z}/audit`.
pub(crate) async fn search(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let search = filter(&call.query)?;
    let format = format(&call.query)?;
    let page = page::requested(&call.query, RECORDS)?;
    let columns = chosen(&call.query, &COLUMNS)?;
    let zone = call.zone()?;
    api.evidence.caught_up(CATCH_UP).await;
    let found = api
        .store
        .read(&zone)
        .search_audit_events(&search, &page)
        .await?;
    let next = found.next;
    let items: Vec<EventItem> = found.items.iter().filter_map(EventItem::of).collect();
    match (format, columns) {
        (Format::Csv, columns) => {
            let columns = columns.unwrap_or_else(|| COLUMNS.to_vec());
            let rows = items
                .iter()
                .map(|item| cells(&columns, |name| value(item, name)));
            Ok(Reply::csv(
                format!("audit-{zone}.csv"),
                csv::table(&columns, rows),
            ))
        }
        (Format::Json, None) => Reply::ok(&Listed::of(items, next.as_ref())),
        (Format::Json, Some(columns)) => {
            let row = |item: &EventItem| flat(&columns, |name| value(item, name));
            let rows: Vec<_> = items.iter().map(row).collect();
            Reply::ok(&Listed::of(rows, next.as_ref()))
        }
    }
}

fn filter(query: &Query) -> Result<AuditSearch, ApiError> {
    Ok(AuditSearch {
        since: query.instant("since")?,
        until: query.instant("until")?,
        request_id: query.text("request_id", 128)?,
        decision: query.named("decision", |name| {
            matches!(name, "allow" | "deny" | "partial").then(|| name.to_owned())
        })?,
        event_types: event_types(query)?,
        application_id: query.text("application_id", 128)?,
        agent_session_id: query.text("session_id", 128)?,
        authority_record_id: query.text("authority_record_id", 128)?,
        label: query.text("label", 64)?,
    })
}

fn event_types(query: &Query) -> Result<Vec<String>, ApiError> {
    let Some(text) = query.text("event_type", 512)? else {
        return Ok(Vec::new());
    };
    let types: Vec<String> = text.split(',').map(|one| one.trim().to_owned()).collect();
    if types.len() > 16 || types.iter().any(String::is_empty) {
        return Err(invalid(
            "event_type",
            "is one type, or up to 16 joined by commas",
        ));
    }
    Ok(types)
}

fn value(item: &EventItem, column: &str) -> Value {
    if !ROW.contains(&column) {
        let metadata = item.metadata_json.as_ref();
        return metadata
            .and_then(|held| held.get(column))
            .cloned()
            .unwrap_or(Value::Null);
    }
    match column {
        "id" => item.id.as_str().into(),
        "occurred_at" => item.occurred_at.to_rfc3339_millis().into(),
        "event_type" => item.event_type.as_str().into(),
        "decision" => item.decision.as_str().into(),
        "evaluation_status" => item.evaluation_status.as_str().into(),
        "request_id" => item.request_id.as_str().into(),
        "ingested_at" => item.ingested_at.to_rfc3339_millis().into(),
        "policy_set_id" => item.policy_set_id.clone().into(),
        "policy_set_version_id" => item.policy_set_version_id.clone().into(),
        "manifest_sha" => item.manifest_sha.clone().into(),
        _ => policy_names(item.determining_policies_json.as_ref()),
    }
}

/// The names of the determining policies.
fn policy_names(policies: Option<&Value>) -> Value {
    let name = |policy: &Value| {
        policy
            .get("policy")
            .or_else(|| policy.get("policy_id"))
            .cloned()
    };
    let names = policies
        .and_then(Value::as_array)
        .map(|all| all.iter().filter_map(name).collect());
    names.map_or(Value::Null, Value::Array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn every_own_column_can_be_chosen() {
        assert_eq!(COLUMNS[..ROW.len()], ROW);
    }

    #[test]
    fn only_known_fields_can_be_chosen() {
        let ask = |text: &str| {
            let query = Query::parse(Some(text)).unwrap();
            chosen(&query, &COLUMNS).map_err(|error| error.code())
        };
        assert_eq!(
            ask("fields=id,%20decision"),
            Ok(Some(vec!["id", "decision"]))
        );
        assert_eq!(ask(""), Ok(None));
        for bad in ["fields=", "fields=id,", "fields=session_id", "fields=ID"] {
            assert_eq!(ask(bad), Err(Code::InvalidFields), "{bad}");
        }
    }

    #[test]
    fn filters_are_checked() {
        let ask = |text: &str| filter(&Query::parse(Some(text)).unwrap()).map_err(|e| e.code());
        assert_eq!(ask("event_type=a,b").unwrap().event_types, ["a", "b"]);
        let many = format!("event_type={}", vec!["a"; 17].join(","));
        for bad in [
            "decision=pending",
            "event_type=a,,b",
            &many,
            "since=2026-01-01",
            "label=",
        ] {
            assert_eq!(ask(bad).unwrap_err(), Code::InvalidQuery, "{bad}");
        }
    }
}
