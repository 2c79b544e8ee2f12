//! Authority records: the nodes of mandate lineages.

use caracal_core::id::{ApplicationId, AuthorityRecordId, ZoneId};
use caracal_core::{SubjectType, Timestamp};
use sea_orm::Value;

use crate::change::ChangeKind;
use crate::entity::{AuthorityRecord, RecordStatus};
use crate::error::StoreError;
use crate::handle::{Access, InZone, OnPlatform, ZoneUnit};
use crate::page::{Cursor, Page, Slice};
use crate::sql::{Bind, Column, Entity, IN_LIST, Row, Where, params, placeholders};

const TABLE: &str = "authority_records";

/// Which records to list.
#[derive(Debug, Clone, Default)]
pub struct AuthorityRecordFilter {
    /// Only this record.
    pub id: Option<AuthorityRecordId>,
    /// Only records that say this status; a record past its end may still say active.
    pub status: Option<RecordStatus>,
    /// Only records of this subject.
    pub subject_id: Option<String>,
    /// Only records of this kind.
    pub kind: Option<SubjectType>,
    /// Only records minted for this application.
    pub application_id: Option<ApplicationId>,
}

impl Bind for SubjectType {
    fn bind(&self) -> Value {
        self.as_str().bind()
    }
    fn null() -> Value {
        Value::String(None)
    }
}

impl Column for SubjectType {
    type Raw = String;
    fn parse(raw: String) -> Result<Self, String> {
        match raw.as_str() {
            "application" => Ok(Self::Application),
            "user" => Ok(Self::User),
            _ => Err(format!("{raw:?} is not a subject type")),
        }
    }
}

impl Entity for AuthorityRecord {
    const TABLE: &'static str = TABLE;
    const COLUMNS: &'static str = "zone_id, id, kind, subject_id, issuer, application_id, \
         parent_id, status, expires_at, authenticated_at, created_at, revoked_at, revoked_reason";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            zone_id: row.get("zone_id")?,
            kind: row.get("kind")?,
            subject_id: row.get("subject_id")?,
            issuer: row.opt("issuer")?,
            application_id: row.get("application_id")?,
            parent_id: row.opt("parent_id")?,
            status: row.get("status")?,
            expires_at: row.get("expires_at")?,
            authenticated_at: row.get("authenticated_at")?,
            created_at: row.get("created_at")?,
            revoked_at: row.opt("revoked_at")?,
            revoked_reason: row.opt("revoked_reason")?,
        })
    }
}

impl<A: Access> InZone<A> {
    /// One record, whatever its state.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn get_authority_record(
        &self,
        id: &AuthorityRecordId,
    ) -> Result<Option<AuthorityRecord>, StoreError> {
        self.fetch_one("WHERE zone_id = $1 AND id = $2", params![id])
            .await
    }

    /// The records among these ids, in no order.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn get_authority_records(
        &self,
        ids: &[AuthorityRecordId],
    ) -> Result<Vec<AuthorityRecord>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(IN_LIST) {
            let (tail, values) = Where::zone().and_in("id", some).tail("");
            found.extend(self.fetch::<AuthorityRecord>(&tail, values).await?);
        }
        Ok(found)
    }

    /// Records, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_authority_records(
        &self,
        filter: &AuthorityRecordFilter,
        page: &Page,
    ) -> Result<Slice<AuthorityRecord>, StoreError> {
        let rows = Where::zone()
            .and_some("id", filter.id.as_ref())
            .and_some("status", filter.status)
            .and_some("subject_id", filter.subject_id.as_ref())
            .and_some("kind", filter.kind)
            .and_some("application_id", filter.application_id.as_ref());
        self.fetch_page(rows, ("created_at", "id"), page, |row: &AuthorityRecord| {
            Cursor {
                at: row.created_at,
                id: row.id.to_string(),
            }
        })
        .await
    }

    /// Active records that have not ended at `now`.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be counted.
    pub async fn count_live_authority_records(&self, now: Timestamp) -> Result<i64, StoreError> {
        self.number(
            TABLE,
            "SELECT COUNT(*) AS n FROM authority_records
             WHERE zone_id = $1 AND status = 'active' AND expires_at > $2",
            params![now],
        )
        .await
    }

    pub(crate) async fn active_record_ids(&self) -> Result<Vec<AuthorityRecordId>, StoreError> {
        let sql = "SELECT id FROM authority_records WHERE zone_id = $1 AND status = 'active'";
        let rows = self.query(TABLE, sql, vec![]).await?;
        rows.iter()
            .map(|row| Row::new(row, TABLE).get("id"))
            .collect()
    }
}

impl ZoneUnit {
    /// Stores a new record.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn insert_authority_record(
        &mut self,
        row: &AuthorityRecord,
    ) -> Result<(), StoreError> {
        self.own(TABLE, &row.zone_id)?;
        self.insert(TABLE, AuthorityRecord::COLUMNS, values(row))
            .await
    }

    /// Stores new records, all or none, in one statement.
    pub(crate) async fn insert_authority_records<'r>(
        &mut self,
        rows: impl Iterator<Item = &'r AuthorityRecord>,
    ) -> Result<(), StoreError> {
        let mut all = Vec::new();
        let mut marks = Vec::new();
        for row in rows {
            self.own(TABLE, &row.zone_id)?;
            let values = values(row);
            let marks_of_row = placeholders(all.len() + 2, values.len());
            marks.push(format!("($1, {marks_of_row})"));
            all.extend(values);
        }
        let sql = format!(
            "INSERT INTO {TABLE} ({}) VALUES {}",
            AuthorityRecord::COLUMNS,
            marks.join(", ")
        );
        self.execute(TABLE, sql, all).await.map(|_| ())
    }

    /// Revokes these records and every active record below them. Returns all that it revoked.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn revoke_authority_records(
        &mut self,
        ids: &[AuthorityRecordId],
        reason: &str,
    ) -> Result<Vec<AuthorityRecordId>, StoreError> {
        let now = self.now();
        let mut revoked = Vec::new();
        for some in ids.chunks(IN_LIST) {
            let marks = placeholders(4, some.len());
            // A record may be reached through a parent that is no longer active itself.
            let sql = format!(
                "WITH RECURSIVE lineage (id) AS (
                    SELECT id FROM authority_records WHERE zone_id = $1 AND id IN ({marks})
                    UNION
                    SELECT child.id FROM authority_records AS child
                    JOIN lineage ON child.parent_id = lineage.id WHERE child.zone_id = $1)
                 UPDATE authority_records
                 SET status = 'revoked', revoked_at = $2, revoked_reason = $3
                 WHERE zone_id = $1 AND status = 'active' AND id IN (SELECT id FROM lineage)
                 RETURNING id"
            );
            let mut values = params![now, reason];
            values.extend(some.iter().map(Bind::bind));
            for row in &self.query(TABLE, sql, values).await? {
                revoked.push(Row::new(row, TABLE).get::<AuthorityRecordId>("id")?);
            }
        }
        for id in &revoked {
            self.changed(ChangeKind::AuthorityRecord, id);
        }
        Ok(revoked)
    }

    /// Revokes every active record of a subject, and those below them.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn revoke_subject(
        &mut self,
        subject_id: &str,
        reason: &str,
    ) -> Result<Vec<AuthorityRecordId>, StoreError> {
        let sql = "SELECT id FROM authority_records
             WHERE zone_id = $1 AND subject_id = $2 AND status = 'active'";
        let rows = self.query(TABLE, sql, params![subject_id]).await?;
        let ids: Result<Vec<AuthorityRecordId>, StoreError> = rows
            .iter()
            .map(|row| Row::new(row, TABLE).get("id"))
            .collect();
        self.revoke_authority_records(&ids?, reason).await
    }

    /// Marks active records past their end as expired, at most `limit` of them. Nothing that relied
    /// on them changes: their end was known.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn expire_authority_records(&mut self, limit: i64) -> Result<u64, StoreError> {
        let now = self.now();
        self.execute(
            TABLE,
            "UPDATE authority_records SET status = 'expired'
             WHERE zone_id = $1 AND id IN (SELECT id FROM authority_records
                WHERE zone_id = $1 AND status = 'active' AND expires_at <= $2
                ORDER BY expires_at LIMIT $3)",
            params![now, limit],
        )
        .await
    }

    /// Deletes ended records older than `before` that nothing refers to, at most `limit` of them.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn delete_ended_authority_records(
        &mut self,
        before: Timestamp,
        limit: i64,
    ) -> Result<u64, StoreError> {
        self.execute(
            TABLE,
            "DELETE FROM authority_records WHERE zone_id = $1 AND id IN (
                SELECT r.id FROM authority_records AS r
                WHERE r.zone_id = $1 AND r.status <> 'active' AND r.expires_at < $2
                  AND NOT EXISTS (SELECT 1 FROM authority_records AS c
                    WHERE c.zone_id = $1 AND c.parent_id = r.id)
                  AND NOT EXISTS (SELECT 1 FROM sessions AS s
                    WHERE s.zone_id = $1 AND s.subject_authority_record_id = r.id)
                LIMIT $3)",
            params![before, limit],
        )
        .await
    }
}

/// The values of a record's columns behind its zone.
fn values(row: &AuthorityRecord) -> Vec<Value> {
    params![
        row.id,
        row.kind,
        row.subject_id,
        row.issuer,
        row.application_id,
        row.parent_id,
        row.status,
        row.expires_at,
        row.authenticated_at,
        row.created_at,
        row.revoked_at,
        row.revoked_reason
    ]
}

impl<A: Access> OnPlatform<A> {
    /// Zones that have active records past their end.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn zones_with_lapsed_records(&self) -> Result<Vec<ZoneId>, StoreError> {
        let sql = "SELECT id FROM zones WHERE EXISTS (SELECT 1 FROM authority_records AS r
                WHERE r.zone_id = zones.id AND r.status = 'active' AND r.expires_at <= $1)";
        let rows = self.query(TABLE, sql, params![self.now()]).await?;
        rows.iter()
            .map(|row| Row::new(row, TABLE).get("id"))
            .collect()
    }
}
