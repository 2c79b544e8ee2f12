//! Listing sessions. What changes them is the Coordinator's business.

use std::collections::HashMap;
use std::sync::Arc;

use caracal_core::id::{ApplicationId, AuthorityRecordId, SessionId};
use caracal_core::{SubjectType, Timestamp};
use caracal_store::entity::{AuthorityRecord, Lifecycle, Session, SessionStatus};
use caracal_store::{LifecycleKind, SessionFilter};
use serde::Serialize;
use serde_json::Value;

use super::{Format, csv, format};
use crate::api::Api;
use crate::error::ApiError;
use crate::page::{self, Listed, RECORDS};
use crate::reply::Reply;
use crate::request::Call;

const COLUMNS: [&str; 17] = [
    "session_id",
    "application_id",
    "parent_session_id",
    "status",
    "lifecycle",
    "labels",
    "depth",
    "child_count",
    "subject_authority_record_id",
    "subject_id",
    "federated_user_id",
    "federated_user_issuer",
    "started_at",
    "last_active_at",
    "terminated_at",
    "termination_reason",
    "ttl_seconds",
];

#[derive(Debug, Serialize)]
struct SessionView {
    session_id: SessionId,
    application_id: ApplicationId,
    parent_session_id: Option<SessionId>,
    status: SessionStatus,
    lifecycle: &'static str,
    labels: Vec<String>,
    depth: i64,
    child_count: i64,
    subject_authority_record_id: AuthorityRecordId,
    subject_id: Option<String>,
    federated_user_id: Option<String>,
    federated_user_issuer: Option<String>,
    started_at: Timestamp,
    last_active_at: Timestamp,
    terminated_at: Option<Timestamp>,
    termination_reason: Option<String>,
    ttl_seconds: Option<i64>,
}

impl SessionView {
    fn of(session: Session, record: Option<&AuthorityRecord>) -> Self {
        let user = record.filter(|record| record.kind == SubjectType::User);
        Self {
            lifecycle: session.lifecycle.as_str(),
            ttl_seconds: match session.lifecycle {
                Lifecycle::Task { ttl_seconds } => Some(ttl_seconds),
                Lifecycle::Service(_) => None,
            },
            session_id: session.id,
            application_id: session.application_id,
            parent_session_id: session.parent_id,
            status: session.status,
            labels: session.labels,
            depth: session.depth,
            child_count: session.child_count,
            subject_authority_record_id: session.subject_authority_record_id,
            subject_id: record.map(|record| record.subject_id.clone()),
            federated_user_id: user.map(|record| record.subject_id.clone()),
            federated_user_issuer: user.and_then(|record| record.issuer.clone()),
            started_at: session.started_at,
            last_active_at: session.last_active_at,
            terminated_at: session.terminated_at,
            termination_reason: session.termination_reason,
        }
    }

    fn cells(&self) -> Vec<Value> {
        let time = |at: Timestamp| Value::from(at.to_rfc3339_millis());
        vec![
            self.session_id.as_str().into(),
            self.application_id.as_str().into(),
            self.parent_session_id
                .as_ref()
                .map(|id| id.as_str().to_owned())
                .into(),
            self.status.as_str().into(),
            self.lifecycle.into(),
            self.labels.clone().into(),
            self.depth.into(),
            self.child_count.into(),
            self.subject_authority_record_id.as_str().into(),
            self.subject_id.clone().into(),
            self.federated_user_id.clone().into(),
            self.federated_user_issuer.clone().into(),
            time(self.started_at),
            time(self.last_active_at),
            self.terminated_at.map_or(Value::Null, time),
            self.termination_reason.clone().into(),
            self.ttl_seconds.into(),
        ]
    }
}

/// `GET /v1/zones/{z}/sessions`.
pub(crate) async fn list_sessions(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let query = &call.query;
    let filter = SessionFilter {
        status: query.named("status", SessionStatus::from_name)?,
        lifecycle: query.named("lifecycle", LifecycleKind::from_name)?,
        application_id: query.parsed("application_id")?,
        parent_id: query.parsed("parent_session_id")?,
        subject_id: query.text("subject_id", 512)?,
        label: query.text("label", 64)?,
    };
    let format = format(query)?;
    let page = page::requested(query, RECORDS)?;
    let zone = call.zone()?;
    let reader = api.store.read(&zone);
    let found = reader.list_sessions(&filter, &page).await?;
    let ids: Vec<AuthorityRecordId> = found
        .items
        .iter()
        .map(|row| row.subject_authority_record_id.clone())
        .collect();
    let records: HashMap<AuthorityRecordId, AuthorityRecord> = reader
        .get_authority_records(&ids)
        .await?
        .into_iter()
        .map(|record| (record.id.clone(), record))
        .collect();
    let found = found.map(|session| {
        let record = records.get(&session.subject_authority_record_id);
        SessionView::of(session, record)
    });
    if format == Format::Json {
        return Reply::ok(&Listed::from(found));
    }
    let text = csv::table(&COLUMNS, found.items.iter().map(SessionView::cells));
    Ok(Reply::csv(format!("sessions-{zone}.csv"), text))
}
