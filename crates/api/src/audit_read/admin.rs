//! Listing the admin audit of a zone.

use std::sync::Arc;

use caracal_core::Timestamp;
use caracal_core::id::EventId;
use caracal_store::{AdminAuditFilter, AdminAuditRow};
use serde::Serialize;
use serde_json::Value;

use super::columns::{cells, chosen, flat};
use super::redact::redacted;
use super::{Format, csv, format};
use crate::api::Api;
use crate::error::ApiError;
use crate::page::{self, Listed, RECORDS};
use crate::reply::Reply;
use crate::request::Call;

const COLUMNS: [&str; 16] = [
    "id",
    "occurred_at",
    "action",
    "method",
    "path",
    "entity_type",
    "entity_id",
    "status_code",
    "actor_id",
    "actor_name",
    "actor_scope",
    "request_id",
    "chain_seq",
    "signed",
    "change_kind",
    "changed_fields",
];

#[derive(Debug, Serialize)]
struct AuditItem {
    id: EventId,
    request_id: String,
    actor_id: Option<String>,
    actor_name: Option<String>,
    actor_scope: Option<String>,
    action: String,
    method: String,
    path: String,
    entity_type: Option<String>,
    entity_id: Option<String>,
    status_code: u16,
    payload_json: Option<Value>,
    occurred_at: Timestamp,
    chain_seq: i64,
    signed: bool,
}

impl From<AdminAuditRow> for AuditItem {
    fn from(row: AdminAuditRow) -> Self {
        let payload = row
            .audit
            .payload
            .and_then(|text| serde_json::from_str(&text).ok());
        Self {
            id: row.id,
            request_id: row.audit.request_id,
            actor_id: row.audit.actor_id,
            actor_name: row.audit.actor_name,
            actor_scope: row.audit.actor_scope,
            action: row.audit.action,
            method: row.audit.method,
            path: row.audit.path,
            entity_type: row.audit.entity_type,
            entity_id: row.audit.entity_id,
            status_code: row.audit.status_code,
            payload_json: payload.as_ref().map(redacted),
            occurred_at: row.occurred_at,
            chain_seq: row.chain_seq,
            signed: row.signed,
        }
    }
}

/// `GET /v1/zones/{z}/admin-audit`.
pub(crate) async fn list_admin_audit(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let query = &call.query;
    let filter = AdminAuditFilter {
        since: query.instant("since")?,
        until: query.instant("until")?,
        actor_id: query.text("actor_id", 128)?,
        entity_type: query.text("entity_type", 64)?,
        entity_id: query.text("entity_id", 128)?,
        method: query.named("method", |name| {
            matches!(name, "POST" | "PUT" | "PATCH" | "DELETE").then(|| name.to_owned())
        })?,
    };
    let format = format(query)?;
    let page = page::requested(query, RECORDS)?;
    let columns = chosen(query, &COLUMNS)?;
    let zone = call.zone()?;
    let found = api
        .store
        .read(&zone)
        .list_admin_audit(&filter, &page)
        .await?;
    let found = found.map(AuditItem::from);
    match (format, columns) {
        (Format::Csv, columns) => {
            let columns = columns.unwrap_or_else(|| COLUMNS.to_vec());
            let rows = found
                .items
                .iter()
                .map(|item| cells(&columns, |name| value(item, name)));
            Ok(Reply::csv(
                format!("admin-audit-{zone}.csv"),
                csv::table(&columns, rows),
            ))
        }
        (Format::Json, None) => Reply::ok(&Listed::from(found)),
        (Format::Json, Some(columns)) => {
            let row = |item: AuditItem| flat(&columns, |name| value(&item, name));
            Reply::ok(&Listed::from(found.map(row)))
        }
    }
}

fn value(item: &AuditItem, column: &str) -> Value {
    match column {
        "id" => item.id.as_str().into(),
        "occurred_at" => item.occurred_at.to_rfc3339_millis().into(),
        "action" => item.action.as_str().into(),
        "method" => item.method.as_str().into(),
        "path" => item.path.as_str().into(),
        "entity_type" => item.entity_type.clone().into(),
        "entity_id" => item.entity_id.clone().into(),
        "status_code" => item.status_code.into(),
        "actor_id" => item.actor_id.clone().into(),
        "actor_name" => item.actor_name.clone().into(),
        "actor_scope" => item.actor_scope.clone().into(),
        "request_id" => item.request_id.as_str().into(),
        "chain_seq" => item.chain_seq.into(),
        "signed" => item.signed.into(),
        other => {
            let payload = item.payload_json.as_ref();
            payload
                .and_then(|held| held.get(other))
                .cloned()
                .unwrap_or(Value::Null)
        }
    }
}
