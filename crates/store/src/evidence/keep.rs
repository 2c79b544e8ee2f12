//! What is kept how long, and what operators and the signer keep beside the events.

use caracal_core::Timestamp;
use caracal_core::id::EventId;

use super::{AuditAlert, TABLE, signed, unsigned};
use crate::dialect::Dialect;
use crate::error::StoreError;
use crate::handle::{Access, OnPlatform, PlatformUnit, ZoneUnit};
use crate::sql::{Entity, Row, params};

/// A month of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditMonth {
    /// Its first instant.
    pub begins: Timestamp,
    /// The first instant behind it.
    pub ends: Timestamp,
}

/// What checkpoints are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditKey {
    /// 1 for the first, then one more for each time that it was sealed anew.
    pub version: u64,
    /// The sealed seed.
    pub sealed: Vec<u8>,
    /// The public half.
    pub public_key: String,
    /// When it was stored.
    pub created_at: Timestamp,
}

/// Alerts about lost evidence that no operator has acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LostEvidence {
    /// How many, at most 1,000 are counted.
    pub alerts: u64,
    /// The oldest of them.
    pub oldest: Option<AuditAlert>,
}

impl Entity for AuditKey {
    const TABLE: &'static str = "audit_keys";
    const COLUMNS: &'static str = "version, sealed, public_key, created_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            version: unsigned(row, "version")?,
            sealed: row.get("sealed")?,
            public_key: row.get("public_key")?,
            created_at: row.get("created_at")?,
        })
    }
}

const LOST: &str = "kind IN ('evidence_lost', 'log_gap') AND NOT EXISTS (
    SELECT 1 FROM audit_acknowledgements WHERE audit_acknowledgements.zone_id = audit_alerts.zone_id
        AND audit_acknowledgements.alert_id = audit_alerts.id)";

impl<A: Access> OnPlatform<A> {
    /// The newest key.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn newest_audit_key(&self) -> Result<Option<AuditKey>, StoreError> {
        self.fetch_one("ORDER BY version DESC", vec![]).await
    }

    /// Alerts about lost evidence that no operator has acknowledged.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn lost_evidence(&self) -> Result<LostEvidence, StoreError> {
        let sql = format!(
            "SELECT COUNT(*) AS n FROM (SELECT 1 AS one FROM audit_alerts WHERE {LOST} LIMIT 1000)
                AS lost"
        );
        let rows = self.query("audit_alerts", sql, vec![]).await?;
        let count = rows.first().map(|row| Row::new(row, "audit_alerts"));
        let alerts = count.map_or(Ok(0), |row| unsigned(&row, "n"))?;
        let oldest = if alerts == 0 {
            None
        } else {
            let tail = format!("WHERE {LOST} ORDER BY raised_at, id");
            self.fetch_one(&tail, vec![]).await?
        };
        Ok(LostEvidence { alerts, oldest })
    }

    /// The months whose texts are kept, in order. A file has none: there texts go one by one.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn audit_months(&self) -> Result<Vec<AuditMonth>, StoreError> {
        const PARTITIONS: &str = "pg_inherits";
        if self.inner.dialect() == Dialect::Sqlite {
            return Ok(Vec::new());
        }
        let sql = "SELECT CAST(extract(epoch FROM month) AS BIGINT) * 1000000 AS begins,
                CAST(extract(epoch FROM month + INTERVAL '1 month') AS BIGINT) * 1000000 AS ends
             FROM (SELECT to_timestamp(substring(relname FROM 'y([0-9]{4}m[0-9]{2})$'), 'YYYY\"m\"MM')
                    AT TIME ZONE current_setting('TimeZone') AS month
                FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
                WHERE inhparent = CAST('audit_events' AS REGCLASS)) AS months
             WHERE month IS NOT NULL ORDER BY month";
        let rows = self.query(PARTITIONS, sql, vec![]).await?;
        rows.iter()
            .map(|row| {
                let row = Row::new(row, PARTITIONS);
                Ok(AuditMonth {
                    begins: row.get("begins")?,
                    ends: row.get("ends")?,
                })
            })
            .collect()
    }
}

impl PlatformUnit {
    /// Stores a key unless its version is there already; answers whether it was stored.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn insert_audit_key(&mut self, key: &AuditKey) -> Result<bool, StoreError> {
        let sql = "INSERT INTO audit_keys (version, sealed, public_key, created_at)
             VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let values = params![
            signed(key.version)?,
            key.sealed,
            key.public_key,
            key.created_at
        ];
        Ok(self.execute("audit_keys", sql, values).await? > 0)
    }

    /// Stores an alert unless one of its id is there already.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn raise_audit_alert(&mut self, alert: &AuditAlert) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO audit_alerts ({}) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            AuditAlert::COLUMNS
        );
        let values = params![
            alert.zone_id,
            alert.id,
            alert.kind,
            alert.event_id,
            alert.detail,
            alert.raised_at
        ];
        self.execute("audit_alerts", sql, values).await.map(|_| ())
    }

    /// An operator has looked into alerts about lost evidence: all of them, or one. Answers how many
    /// that were.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn acknowledge_lost_evidence(
        &mut self,
        alert: Option<&EventId>,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let sql = format!(
            "INSERT INTO audit_acknowledgements (zone_id, alert_id, at)
             SELECT zone_id, id, $1 FROM audit_alerts WHERE {LOST} AND ($2 = '' OR id = $2)"
        );
        let alert = alert.map_or("", EventId::as_str);
        self.execute("audit_acknowledgements", sql, params![at, alert])
            .await
    }

    /// Makes the month that holds an instant; answers whether it was missing. Nothing to do in a file.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be made.
    pub async fn ensure_audit_month(&mut self, at: Timestamp) -> Result<bool, StoreError> {
        self.month_function("SELECT audit_partition_ensure($1) AS done", at)
            .await
    }

    /// Drops a month's texts; places and hashes stay. The server refuses a month that is not over for
    /// a day.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be dropped; [`StoreError::Unavailable`] also when readers or
    /// writers are in the way: try again later.
    pub async fn drop_audit_month(&mut self, begins: Timestamp) -> Result<bool, StoreError> {
        self.month_function("SELECT audit_partition_drop($1) AS done", begins)
            .await
    }

    async fn month_function(&mut self, sql: &str, at: Timestamp) -> Result<bool, StoreError> {
        if self.inner.dialect() == Dialect::Sqlite {
            return Ok(false);
        }
        let rows = self.query(TABLE, sql, params![at]).await?;
        let row = rows.first().map(|row| Row::new(row, TABLE));
        row.map_or(Ok(false), |row| row.get("done"))
    }
}

impl ZoneUnit {
    /// Takes the texts of events that happened before `before` away, at most `limit` of them; their
    /// places and hashes stay. For a file; on a server whole months go
    /// ([`PlatformUnit::drop_audit_month`]).
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn remove_audit_texts(
        &mut self,
        before: Timestamp,
        limit: i64,
    ) -> Result<u64, StoreError> {
        if self.inner.dialect() == Dialect::Postgres {
            return Ok(0);
        }
        let sql = "UPDATE audit_events SET data = NULL, signature = NULL, request_id = '',
                application_id = NULL, agent_session_id = NULL, authority_record_id = NULL
             WHERE zone_id = $1 AND seq IN (SELECT seq FROM audit_events
                WHERE zone_id = $1 AND occurred_at < $2 AND data IS NOT NULL
                ORDER BY occurred_at LIMIT $3)
             RETURNING occurred_at";
        let rows = self.query(TABLE, sql, params![before, limit]).await?;
        let mut last = None;
        for row in &rows {
            last = last.max(Some(Row::new(row, TABLE).get::<Timestamp>("occurred_at")?));
        }
        if let Some(last) = last {
            self.remove_audit_labels(last).await?;
        }
        Ok(rows.len() as u64)
    }

    /// Removes the labels of events up to `last`: label by label, each a range of the table's key.
    async fn remove_audit_labels(&mut self, last: Timestamp) -> Result<(), StoreError> {
        self.execute(
            "audit_event_labels",
            "WITH RECURSIVE used (label) AS (
                SELECT MIN(label) FROM audit_event_labels WHERE zone_id = $1
                UNION ALL
                SELECT (SELECT MIN(later.label) FROM audit_event_labels AS later
                    WHERE later.zone_id = $1 AND later.label > used.label)
                FROM used WHERE used.label IS NOT NULL)
             DELETE FROM audit_event_labels WHERE zone_id = $1 AND occurred_at <= $2
                AND label IN (SELECT label FROM used WHERE label IS NOT NULL)",
            params![last],
        )
        .await
        .map(|_| ())
    }
}
