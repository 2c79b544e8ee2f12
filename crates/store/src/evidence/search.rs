//! Finding events.

use caracal_core::Timestamp;

use super::months::InMonth;
use super::{AuditRecord, signed};
use crate::dialect::Dialect;
use crate::error::StoreError;
use crate::handle::{Access, InZone};
use crate::page::{Cursor, Page, Slice};
use crate::sql::{Entity, Where, params};

/// Which events to search for. Removed ones are never found.
#[derive(Debug, Clone, Default)]
pub struct AuditSearch {
    /// At this instant or later.
    pub since: Option<Timestamp>,
    /// Before this instant.
    pub until: Option<Timestamp>,
    /// Of this request.
    pub request_id: Option<String>,
    /// Decided like this.
    pub decision: Option<String>,
    /// Of any of these types; empty for all.
    pub event_types: Vec<String>,
    /// Of this application.
    pub application_id: Option<String>,
    /// Of this governed Session.
    pub agent_session_id: Option<String>,
    /// Of this authority record.
    pub authority_record_id: Option<String>,
    /// That carry this label.
    pub label: Option<String>,
}

/// A part of a zone's chain, in order.
#[derive(Debug, Clone, Default)]
pub struct AuditWalk {
    /// Only events behind this number.
    pub after: u64,
    /// Only events that happened at this instant or later.
    pub since: Option<Timestamp>,
    /// Only events that happened before this instant.
    pub until: Option<Timestamp>,
    /// Only events decided like this.
    pub decision: Option<String>,
    /// Only events of this request.
    pub request_id: Option<String>,
    /// At most this many.
    pub limit: usize,
}

/// The types of nearly all events, for which no index is kept.
const COMMON_TYPES: [&str; 3] = [
    "token_exchange",
    "gateway_request_started",
    "gateway_resource_request",
];

impl AuditSearch {
    /// Every condition but the label's. Those of the partial indexes are repeated word for word, or
    /// the database would not see that it may use them.
    fn conditions(&self, rows: Where, at: &str) -> Where {
        let mut rows = rows
            .and("data IS NOT NULL", vec![])
            .and_some("request_id", self.request_id.as_ref())
            .and_some("decision", self.decision.as_ref())
            .and_some("application_id", self.application_id.as_ref())
            .and_some("agent_session_id", self.agent_session_id.as_ref())
            .and_some("authority_record_id", self.authority_record_id.as_ref());
        if self
            .decision
            .as_deref()
            .is_some_and(|decision| decision != "allow")
        {
            rows = rows.and("decision <> 'allow'", vec![]);
        }
        if !self.event_types.is_empty() {
            rows = rows.and_in("event_type", &self.event_types);
            if !self
                .event_types
                .iter()
                .any(|name| COMMON_TYPES.contains(&name.as_str()))
            {
                let common = COMMON_TYPES.map(|name| format!("'{name}'")).join(", ");
                rows = rows.and(&format!("event_type NOT IN ({common})"), vec![]);
            }
        }
        within(rows, at, self.since, self.until)
    }
}

impl AuditWalk {
    pub(super) fn is_unfiltered(&self) -> bool {
        self.since.is_none()
            && self.until.is_none()
            && self.decision.is_none()
            && self.request_id.is_none()
    }
}

impl<A: Access> InZone<A> {
    /// Events, newest first, ordered by when they happened and their id.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn search_audit_events(
        &self,
        search: &AuditSearch,
        page: &Page,
    ) -> Result<Slice<AuditRecord>, StoreError> {
        match self.inner.dialect() {
            Dialect::Sqlite => self.search_as(search, page, |row: &AuditRecord| row).await,
            Dialect::Postgres => {
                let found = self.search_as(search, page, |row: &InMonth| &row.0).await?;
                Ok(found.map(|row| row.0))
            }
        }
    }

    async fn search_as<T: Entity>(
        &self,
        search: &AuditSearch,
        page: &Page,
        record: fn(&T) -> &AuditRecord,
    ) -> Result<Slice<T>, StoreError> {
        let position = |row: &T| Cursor {
            at: record(row).occurred_at,
            id: record(row).event_id.to_string(),
        };
        match &search.label {
            None => {
                let rows = search.conditions(Where::zone(), "occurred_at");
                self.fetch_page(rows, ("occurred_at", "event_id"), page, position)
                    .await
            }
            Some(label) => {
                let rows = Where::zone_of("audit_event_labels")
                    .and("audit_event_labels.label = ?", params![label])
                    .and("audit_events.zone_id = $1", vec![])
                    .and(
                        "audit_events.event_id = audit_event_labels.event_id",
                        vec![],
                    );
                // The event is in the month of its label.
                let rows = match self.inner.dialect() {
                    Dialect::Sqlite => rows,
                    Dialect::Postgres => rows.and(
                        "audit_events.occurred_at = audit_event_labels.occurred_at",
                        vec![],
                    ),
                };
                let order = (
                    "audit_event_labels.occurred_at",
                    "audit_event_labels.event_id",
                );
                let rows = search.conditions(rows, order.0);
                self.fetch_page_through("audit_event_labels", rows, order, page, position)
                    .await
            }
        }
    }

    /// Events of one request, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn audit_events_of_request(
        &self,
        request_id: &str,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        const TAIL: &str = "WHERE zone_id = $1 AND request_id = $2 AND data IS NOT NULL
             ORDER BY occurred_at, event_id LIMIT 1000";
        match self.inner.dialect() {
            Dialect::Sqlite => self.fetch(TAIL, params![request_id]).await,
            Dialect::Postgres => {
                let rows: Vec<InMonth> = self.fetch(TAIL, params![request_id]).await?;
                Ok(rows.into_iter().map(|row| row.0).collect())
            }
        }
    }

    /// A part of the chain, in order of `seq`. Removed events are included when there is no filter.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn walk_audit_events(
        &self,
        walk: &AuditWalk,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        if self.inner.dialect() == Dialect::Postgres {
            return self.walk_months(walk).await;
        }
        let rows = Where::zone()
            .and("seq > ?", params![signed(walk.after)?])
            .and_some("decision", walk.decision.as_ref())
            .and_some("request_id", walk.request_id.as_ref());
        let rows = within(rows, "occurred_at", walk.since, walk.until);
        let (tail, values) = rows.tail(&format!("ORDER BY seq LIMIT {}", walk.limit));
        self.fetch(&tail, values).await
    }
}

pub(super) fn within(
    rows: Where,
    column: &str,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Where {
    let rows = match since {
        Some(since) => rows.and(&format!("{column} >= ?"), params![since]),
        None => rows,
    };
    match until {
        Some(until) => rows.and(&format!("{column} < ?"), params![until]),
        None => rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Row;
    use crate::testing;

    /// The index that drives a search, as the database tells it.
    async fn index_of(search: &AuditSearch) -> String {
        let (_dir, store) = testing::store().await;
        let reader = store.read(&testing::zone());
        let rows = search.conditions(Where::zone(), "occurred_at");
        let (tail, values) = rows.page("occurred_at", "event_id", &Page::first(10));
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT {} FROM {} {tail}",
            AuditRecord::COLUMNS,
            AuditRecord::TABLE
        );
        let plan = reader.query("plan", sql, values).await.unwrap();
        let steps: Vec<String> = plan
            .iter()
            .map(|row| Row::new(row, "plan").get("detail").unwrap())
            .collect();
        assert!(
            !steps.iter().any(|step| step.contains("TEMP B-TREE")),
            "it sorts: {steps:?}"
        );
        steps[0].clone()
    }

    #[tokio::test]
    async fn every_search_is_driven_by_the_index_of_its_rarest_value() {
        let none = AuditSearch::default;
        let text = || Some("x".to_owned());
        for (search, index) in [
            (none(), "audit_events_page"),
            (
                AuditSearch {
                    request_id: text(),
                    ..none()
                },
                "audit_events_request",
            ),
            (
                AuditSearch {
                    application_id: text(),
                    ..none()
                },
                "audit_events_application",
            ),
            (
                AuditSearch {
                    agent_session_id: text(),
                    ..none()
                },
                "audit_events_session",
            ),
            (
                AuditSearch {
                    authority_record_id: text(),
                    ..none()
                },
                "audit_events_record",
            ),
            (
                AuditSearch {
                    decision: Some("deny".to_owned()),
                    ..none()
                },
                "audit_events_refused",
            ),
            (
                AuditSearch {
                    decision: Some("allow".to_owned()),
                    ..none()
                },
                "audit_events_page",
            ),
            (
                AuditSearch {
                    event_types: vec!["replay_detected".to_owned()],
                    ..none()
                },
                "audit_events_rare",
            ),
            (
                AuditSearch {
                    event_types: vec!["token_exchange".to_owned()],
                    ..none()
                },
                "audit_events_page",
            ),
        ] {
            let step = index_of(&search).await;
            assert!(
                step.contains(&format!("INDEX {index} ")),
                "{search:?}: {step}"
            );
        }
    }
}
