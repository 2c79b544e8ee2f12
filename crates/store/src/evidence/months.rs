//! Reading events of a server: the text by month, the place and the hashes from the chain.
//!
//! A search walks the months' indexes from the newest on. A walk in the chain's order with a period
//! first asks between which places the period's events are; when they are few it reads them by time
//! and sorts, else it walks the places.
//!
//! A condition that computes (`seq - 1`) is not trusted with rows that the zone's rule has not passed
//! yet, and so finds no index: such a value is computed beforehand.

use caracal_core::Timestamp;
use sea_orm::Value;

use super::search::{AuditWalk, within};
use super::{AuditRecord, TABLE, hour, signed};
use crate::error::StoreError;
use crate::handle::{Access, InZone};
use crate::sql::{Entity, Row, Where, params};

/// So few events are sorted rather than walked to.
const FEW: i64 = 3_000;
/// With so many places for each event of the period, walking passes over too many others.
const THIN: i64 = 100;
/// More are not sorted, however thin.
const MANY: i64 = 50_000;

/// An event read through its month.
pub(super) struct InMonth(pub(super) AuditRecord);

impl Entity for InMonth {
    const TABLE: &'static str = TABLE;
    const COLUMNS: &'static str = "audit_events.zone_id AS zone_id, audit_events.seq AS seq, \
         audit_events.event_id AS event_id, audit_events.occurred_at AS occurred_at, \
         audit_events.ingested_at AS ingested_at, event_type, decision, request_id, data, signature, \
         (SELECT place.leaf_hash FROM audit_chain AS place WHERE place.zone_id = \
         audit_events.zone_id AND place.seq = audit_events.seq) AS leaf_hash, \
         (SELECT place.chain_hash FROM audit_chain AS place WHERE place.zone_id = \
         audit_events.zone_id AND place.seq = audit_events.seq) AS chain_hash, \
         (SELECT place.chain_hash FROM (SELECT audit_events.seq - 1 AS seq OFFSET 0) AS earlier \
         JOIN audit_chain AS place ON place.zone_id = audit_events.zone_id \
         AND place.seq = earlier.seq) AS chain_hash_before";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        AuditRecord::read(row).map(Self)
    }
}

/// Between which places the events of a period are.
struct Span {
    first: i64,
    last: i64,
    events: i64,
}

impl Span {
    fn is_walked(&self) -> bool {
        let places = self.last.saturating_sub(self.first);
        let is_thin = places > self.events.saturating_mul(THIN);
        self.events > MANY || (self.events > FEW && !is_thin)
    }
}

impl<A: Access> InZone<A> {
    pub(super) async fn walk_months(
        &self,
        walk: &AuditWalk,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        if walk.is_unfiltered() {
            return self.walk_chain(walk).await;
        }
        if walk.request_id.is_some() {
            return self.walk_sorted(walk).await;
        }
        let Some(span) = self.span(walk).await? else {
            return Ok(Vec::new());
        };
        if span.is_walked() {
            self.walk_places(walk, &span).await
        } else {
            self.walk_sorted(walk).await
        }
    }

    /// Every event, removed ones included.
    async fn walk_chain(&self, walk: &AuditWalk) -> Result<Vec<AuditRecord>, StoreError> {
        let sql = format!(
            "SELECT place.zone_id, place.seq, place.event_id, place.occurred_at, place.ingested_at,
                COALESCE(kept.event_type, '') AS event_type, COALESCE(kept.decision, '') AS decision,
                COALESCE(kept.request_id, '') AS request_id, kept.data, kept.signature,
                place.leaf_hash, place.chain_hash,
                (SELECT before.chain_hash FROM (SELECT place.seq - 1 AS seq OFFSET 0) AS earlier
                    JOIN audit_chain AS before ON before.zone_id = place.zone_id
                    AND before.seq = earlier.seq) AS chain_hash_before
             FROM (SELECT * FROM audit_chain WHERE zone_id = $1 AND seq > $2
                ORDER BY seq LIMIT {}) AS place
             LEFT JOIN LATERAL (SELECT * FROM audit_events WHERE audit_events.zone_id = place.zone_id
                AND audit_events.occurred_at = place.occurred_at
                AND audit_events.event_id = place.event_id OFFSET 0) AS kept ON TRUE
             ORDER BY place.seq",
            walk.limit
        );
        let rows = self.query(TABLE, sql, params![signed(walk.after)?]).await?;
        rows.iter()
            .map(|row| AuditRecord::read(&Row::new(row, TABLE)))
            .collect()
    }

    /// Finds the events by time or request, then sorts them.
    async fn walk_sorted(&self, walk: &AuditWalk) -> Result<Vec<AuditRecord>, StoreError> {
        let (found, values) = conditions(walk, Where::zone())?.tail("");
        let sql = format!(
            "SELECT {} FROM (SELECT * FROM (SELECT * FROM audit_events {found} OFFSET 0) AS found
                ORDER BY seq LIMIT {}) AS audit_events ORDER BY seq",
            InMonth::COLUMNS,
            walk.limit
        );
        self.records(sql, values).await
    }

    /// Walks from the first place of the period on.
    async fn walk_places(
        &self,
        walk: &AuditWalk,
        span: &Span,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let rows = Where::zone().and("seq BETWEEN ? AND ?", params![span.first, span.last]);
        let (found, values) = conditions(walk, rows)?.tail("");
        let sql = format!(
            "SELECT {} FROM (SELECT * FROM audit_events {found} ORDER BY seq LIMIT {})
                AS audit_events ORDER BY seq",
            InMonth::COLUMNS,
            walk.limit
        );
        self.records(sql, values).await
    }

    async fn records(
        &self,
        sql: String,
        values: Vec<Value>,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let rows = self.query(TABLE, sql, values).await?;
        rows.iter()
            .map(|row| InMonth::read(&Row::new(row, TABLE)).map(|found| found.0))
            .collect()
    }

    /// `None` when the period has no events.
    async fn span(&self, walk: &AuditWalk) -> Result<Option<Span>, StoreError> {
        const HOURS: &str = "audit_hours";
        let rows = Where::zone()
            .and_some("decision", walk.decision.as_ref())
            .and_some_hour("hour >= ?", walk.since)
            .and_some_hour("hour <= ?", walk.until);
        let (tail, values) = rows.tail("");
        let sql = format!(
            "SELECT MIN(first_seq) AS first, MAX(last_seq) AS last,
                CAST(COALESCE(SUM(events), 0) AS BIGINT) AS events FROM {HOURS} {tail}"
        );
        let rows = self.query(HOURS, sql, values).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let row = Row::new(row, HOURS);
        let (first, last) = (row.opt("first")?, row.opt("last")?);
        let events = row.get("events")?;
        Ok(first.zip(last).map(|(first, last)| Span {
            first,
            last,
            events,
        }))
    }
}

fn conditions(walk: &AuditWalk, rows: Where) -> Result<Where, StoreError> {
    let mut rows = rows
        .and("seq > ?", params![signed(walk.after)?])
        .and_some("decision", walk.decision.as_ref())
        .and_some("request_id", walk.request_id.as_ref());
    if walk.decision.as_deref().is_some_and(|name| name != "allow") {
        rows = rows.and("decision <> 'allow'", vec![]);
    }
    Ok(within(rows, "occurred_at", walk.since, walk.until))
}

impl Where {
    fn and_some_hour(self, condition: &str, at: Option<Timestamp>) -> Self {
        match at {
            Some(at) => self.and(condition, params![hour(at)]),
            None => self,
        }
    }
}
