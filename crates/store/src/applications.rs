//! Applications.

use caracal_core::Timestamp;
use caracal_core::id::ApplicationId;

use crate::change::ChangeKind;
use crate::entity::{Application, Author};
use crate::error::StoreError;
use crate::handle::{Access, InZone, OnPlatform, ZoneUnit};
use crate::page::{Cursor, Page, Slice};
use crate::sql::{Entity, Row, Where, json_text, params};
use crate::zones::attribution;

const TABLE: &str = "applications";

/// Which of the archivable rows to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RowStatus {
    /// Not archived.
    #[default]
    Live,
    /// Archived.
    Archived,
}

impl RowStatus {
    pub(crate) fn condition(self) -> &'static str {
        match self {
            Self::Live => "archived_at IS NULL",
            Self::Archived => "archived_at IS NOT NULL",
        }
    }
}

/// Counts for an overview.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ApplicationCounts {
    /// Not archived.
    pub total: i64,
    /// Of these, past their end.
    pub expired: i64,
    /// Of these, not yet past their end but before the given instant.
    pub expiring_soon: i64,
}

impl Entity for Application {
    const TABLE: &'static str = TABLE;
    const COLUMNS: &'static str = "zone_id, id, name, registration_method, traits, secret_hash, \
         sealed_secret, expires_at, created_by, created_via_operator, updated_by, \
         updated_via_operator, created_at, updated_at, archived_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            zone_id: row.get("zone_id")?,
            name: row.get("name")?,
            registration_method: row.get("registration_method")?,
            traits: row.json("traits")?,
            secret_hash: row.opt("secret_hash")?,
            sealed_secret: row.opt("sealed_secret")?,
            expires_at: row.opt("expires_at")?,
            attribution: attribution(row)?,
            created_at: row.get("created_at")?,
            updated_at: row.opt("updated_at")?,
            archived_at: row.opt("archived_at")?,
        })
    }
}

impl<A: Access> InZone<A> {
    /// One application, archived or not.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn get_application(
        &self,
        id: &ApplicationId,
    ) -> Result<Option<Application>, StoreError> {
        self.fetch_one("WHERE zone_id = $1 AND id = $2", params![id])
            .await
    }

    /// The live managed application of that name, whatever its case.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn find_managed_application(
        &self,
        name: &str,
    ) -> Result<Option<Application>, StoreError> {
        self.fetch_one(
            "WHERE zone_id = $1 AND name_key = $2 AND registration_method = 'managed'
                AND archived_at IS NULL",
            params![name.to_lowercase()],
        )
        .await
    }

    /// Applications, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_applications(
        &self,
        status: RowStatus,
        page: &Page,
    ) -> Result<Slice<Application>, StoreError> {
        let rows = Where::zone().and(status.condition(), vec![]);
        self.fetch_page(rows, ("created_at", "id"), page, |row: &Application| {
            Cursor {
                at: row.created_at,
                id: row.id.to_string(),
            }
        })
        .await
    }

    /// Self-registered applications that may act at `now`.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be counted.
    pub async fn count_live_dcr_applications(&self, now: Timestamp) -> Result<i64, StoreError> {
        self.number(
            TABLE,
            "SELECT COUNT(*) AS n FROM applications
             WHERE zone_id = $1 AND archived_at IS NULL AND registration_method = 'dcr'
                AND expires_at > $2",
            params![now],
        )
        .await
    }

    /// Counts for an overview; `soon` is the end of the period that counts as soon.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be counted.
    pub async fn count_applications(
        &self,
        now: Timestamp,
        soon: Timestamp,
    ) -> Result<ApplicationCounts, StoreError> {
        let sql = "SELECT COUNT(*) AS total,
                COALESCE(SUM(CASE WHEN expires_at <= $2 THEN 1 ELSE 0 END), 0) AS expired,
                COALESCE(SUM(CASE WHEN expires_at > $2 AND expires_at <= $3
                    THEN 1 ELSE 0 END), 0) AS soon
             FROM applications WHERE zone_id = $1 AND archived_at IS NULL";
        let rows = self.query(TABLE, sql, params![now, soon]).await?;
        let Some(row) = rows.first().map(|row| Row::new(row, TABLE)) else {
            return Ok(ApplicationCounts::default());
        };
        Ok(ApplicationCounts {
            total: row.get("total")?,
            expired: row.get("expired")?,
            expiring_soon: row.get("soon")?,
        })
    }
}

impl ZoneUnit {
    /// Stores a new application.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with `ApplicationName` when a live managed application has the name,
    /// whatever its case.
    pub async fn insert_application(&mut self, row: &Application) -> Result<(), StoreError> {
        self.own(TABLE, &row.zone_id)?;
        self.insert(
            TABLE,
            "zone_id, id, name, name_key, registration_method, traits, secret_hash, sealed_secret, \
             expires_at, created_by, created_via_operator, updated_by, updated_via_operator, \
             created_at, updated_at, archived_at",
            params![
                row.id,
                row.name,
                row.name.to_lowercase(),
                row.registration_method,
                json_text(TABLE, &row.traits)?,
                row.secret_hash,
                row.sealed_secret,
                row.expires_at,
                row.attribution.created_by,
                row.attribution.created_via_operator,
                row.attribution.updated_by,
                row.attribution.updated_via_operator,
                row.created_at,
                row.updated_at,
                row.archived_at
            ],
        )
        .await
    }

    /// Stores the changeable fields (name, traits, secret, attribution, `updated_at`). False when
    /// there is no live row.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with `ApplicationName` as for an insert.
    pub async fn update_application(&mut self, row: &Application) -> Result<bool, StoreError> {
        self.own(TABLE, &row.zone_id)?;
        let touched = self
            .execute_or_conflict(
                TABLE,
                "UPDATE applications SET name = $3, name_key = $4, traits = $5, secret_hash = $6,
                    sealed_secret = $7, updated_by = $8, updated_via_operator = $9, updated_at = $10
                 WHERE zone_id = $1 AND id = $2 AND archived_at IS NULL",
                params![
                    row.id,
                    row.name,
                    row.name.to_lowercase(),
                    json_text(TABLE, &row.traits)?,
                    row.secret_hash,
                    row.sealed_secret,
                    row.attribution.updated_by,
                    row.attribution.updated_via_operator,
                    row.updated_at
                ],
            )
            .await?;
        self.changed(ChangeKind::Application, &row.id);
        Ok(touched > 0)
    }

    /// Replaces the secret: the old one dies with the commit. False when there is no live row.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn set_application_secret(
        &mut self,
        id: &ApplicationId,
        hash: Option<&str>,
        sealed: Option<&[u8]>,
        by: &Author,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let touched = self
            .execute(
                TABLE,
                "UPDATE applications SET secret_hash = $3, sealed_secret = $4, updated_by = $5,
                    updated_via_operator = $6, updated_at = $7
                 WHERE zone_id = $1 AND id = $2 AND archived_at IS NULL",
                params![id, hash, sealed, by.by, by.via_operator, now],
            )
            .await?;
        self.changed(ChangeKind::Application, id);
        Ok(touched > 0)
    }

    /// Archives the application and forgets its secret. False when there is no live row.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn archive_application(
        &mut self,
        id: &ApplicationId,
        by: &Author,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let touched = self
            .execute(
                TABLE,
                "UPDATE applications SET archived_at = $3, updated_at = $3, updated_by = $4,
                    updated_via_operator = $5, secret_hash = NULL, sealed_secret = NULL
                 WHERE zone_id = $1 AND id = $2 AND archived_at IS NULL",
                params![id, now, by.by, by.via_operator],
            )
            .await?;
        self.changed(ChangeKind::Application, id);
        Ok(touched > 0)
    }
}

impl<A: Access> OnPlatform<A> {
    /// The application of that id, whatever its zone, archived or not.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn find_application(
        &self,
        id: &ApplicationId,
    ) -> Result<Option<Application>, StoreError> {
        self.fetch_one("WHERE id = $1", params![id]).await
    }
}
