//! Listing authority records.

use std::sync::Arc;

use caracal_core::id::{AuthorityRecordId, ZoneId};
use caracal_core::{SubjectType, Timestamp};
use caracal_store::AuthorityRecordFilter;
use caracal_store::entity::{AuthorityRecord, RecordStatus};
use serde::Serialize;
use serde_json::Value;

use super::{Format, csv, format};
use crate::api::Api;
use crate::error::ApiError;
use crate::page::{self, Listed, RECORDS};
use crate::reply::Reply;
use crate::request::Call;

const COLUMNS: [&str; 11] = [
    "authority_record_id",
    "authority_record_type",
    "subject_id",
    "federated_user_issuer",
    "parent_authority_record_id",
    "status",
    "authenticated_at",
    "created_at",
    "expires_at",
    "revoked_at",
    "revoked_reason",
];

#[derive(Debug, Serialize)]
struct RecordView {
    authority_record_id: AuthorityRecordId,
    zone_id: ZoneId,
    authority_record_type: SubjectType,
    subject_id: String,
    federated_user_issuer: Option<String>,
    parent_authority_record_id: Option<AuthorityRecordId>,
    status: RecordStatus,
    expires_at: Timestamp,
    authenticated_at: Timestamp,
    created_at: Timestamp,
    revoked_at: Option<Timestamp>,
    revoked_reason: Option<String>,
}

impl From<AuthorityRecord> for RecordView {
    fn from(record: AuthorityRecord) -> Self {
        Self {
            authority_record_id: record.id,
            zone_id: record.zone_id,
            authority_record_type: record.kind,
            subject_id: record.subject_id,
            federated_user_issuer: record.issuer.filter(|_| record.kind == SubjectType::User),
            parent_authority_record_id: record.parent_id,
            status: record.status,
            expires_at: record.expires_at,
            authenticated_at: record.authenticated_at,
            created_at: record.created_at,
            revoked_at: record.revoked_at,
            revoked_reason: record.revoked_reason,
        }
    }
}

impl RecordView {
    fn cells(&self) -> Vec<Value> {
        let time = |at: Timestamp| Value::from(at.to_rfc3339_millis());
        vec![
            self.authority_record_id.as_str().into(),
            self.authority_record_type.as_str().into(),
            self.subject_id.as_str().into(),
            self.federated_user_issuer.clone().into(),
            self.parent_authority_record_id
                .as_ref()
                .map(|id| id.as_str().to_owned())
                .into(),
            self.status.as_str().into(),
            time(self.authenticated_at),
            time(self.created_at),
            time(self.expires_at),
            self.revoked_at.map_or(Value::Null, time),
            self.revoked_reason.clone().into(),
        ]
    }
}

/// `GET /v1/zones/{z}/authority-records`.
pub(crate) async fn list_authority_records(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let query = &call.query;
    let filter = AuthorityRecordFilter {
        id: query.parsed("authority_record_id")?,
        status: query.named("status", RecordStatus::from_name)?,
        subject_id: query.text("subject_id", 512)?,
        kind: query.named("kind", |name| match name {
            "user" => Some(SubjectType::User),
            "application" => Some(SubjectType::Application),
            _ => None,
        })?,
        application_id: None,
    };
    let format = format(query)?;
    let page = page::requested(query, RECORDS)?;
    let zone = call.zone()?;
    let found = api
        .store
        .read(&zone)
        .list_authority_records(&filter, &page)
        .await?;
    let found = found.map(RecordView::from);
    if format == Format::Json {
        return Reply::ok(&Listed::from(found));
    }
    let text = csv::table(&COLUMNS, found.items.iter().map(RecordView::cells));
    Ok(Reply::csv(format!("authority-records-{zone}.csv"), text))
}
