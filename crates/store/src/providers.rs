//! Credential providers.

use caracal_core::Timestamp;
use caracal_core::id::ProviderId;

use crate::applications::RowStatus;
use crate::change::ChangeKind;
use crate::entity::{Author, Provider};
use crate::error::StoreError;
use crate::handle::{Access, InZone, ZoneUnit};
use crate::page::{Cursor, Page, Slice};
use crate::sql::{Entity, Row, Where, json_text, params};
use crate::zones::attribution;

const TABLE: &str = "providers";

impl Entity for Provider {
    const TABLE: &'static str = TABLE;
    const COLUMNS: &'static str = "zone_id, id, name, identifier, kind, config, \
         secret_config_keys, sealed_config, connectivity_failed_at, created_by, \
         created_via_operator, updated_by, updated_via_operator, created_at, updated_at, archived_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            zone_id: row.get("zone_id")?,
            name: row.get("name")?,
            identifier: row.get("identifier")?,
            kind: row.get("kind")?,
            config: row.json("config")?,
            secret_config_keys: row.json("secret_config_keys")?,
            sealed_config: row.opt("sealed_config")?,
            connectivity_failed_at: row.opt("connectivity_failed_at")?,
            attribution: attribution(row)?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            archived_at: row.opt("archived_at")?,
        })
    }
}

impl<A: Access> InZone<A> {
    /// One provider, archived or not.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn get_provider(&self, id: &ProviderId) -> Result<Option<Provider>, StoreError> {
        self.fetch_one("WHERE zone_id = $1 AND id = $2", params![id])
            .await
    }

    /// The live provider of that identifier.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn find_provider(&self, identifier: &str) -> Result<Option<Provider>, StoreError> {
        self.fetch_one(
            "WHERE zone_id = $1 AND identifier = $2 AND archived_at IS NULL",
            params![identifier],
        )
        .await
    }

    /// Providers, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_providers(
        &self,
        status: RowStatus,
        page: &Page,
    ) -> Result<Slice<Provider>, StoreError> {
        let rows = Where::zone().and(status.condition(), vec![]);
        self.fetch_page(rows, ("created_at", "id"), page, |row: &Provider| Cursor {
            at: row.created_at,
            id: row.id.to_string(),
        })
        .await
    }

    /// Live providers.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be counted.
    pub async fn count_live_providers(&self) -> Result<i64, StoreError> {
        self.number(
            TABLE,
            "SELECT COUNT(*) AS n FROM providers WHERE zone_id = $1 AND archived_at IS NULL",
            vec![],
        )
        .await
    }

    /// Whether no live provider has the identifier.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn provider_identifier_is_free(&self, identifier: &str) -> Result<bool, StoreError> {
        let sql = "SELECT COUNT(*) AS n FROM providers
             WHERE zone_id = $1 AND identifier = $2 AND archived_at IS NULL";
        Ok(self.number(TABLE, sql, params![identifier]).await? == 0)
    }
}

impl ZoneUnit {
    /// Stores a new provider.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with `ProviderIdentifier` when a live provider has the identifier.
    pub async fn insert_provider(&mut self, row: &Provider) -> Result<(), StoreError> {
        self.own(TABLE, &row.zone_id)?;
        self.insert(
            TABLE,
            "zone_id, id, name, identifier, kind, config, secret_config_keys, sealed_config, \
             connectivity_failed_at, created_by, created_via_operator, updated_by, \
             updated_via_operator, created_at, updated_at, archived_at",
            params![
                row.id,
                row.name,
                row.identifier,
                row.kind,
                json_text(TABLE, &row.config)?,
                json_text(TABLE, &row.secret_config_keys)?,
                row.sealed_config,
                row.connectivity_failed_at,
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

    /// Stores every changeable field. False when there is no live row.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with `ProviderIdentifier` as for an insert.
    pub async fn update_provider(&mut self, row: &Provider) -> Result<bool, StoreError> {
        self.own(TABLE, &row.zone_id)?;
        let touched = self
            .execute_or_conflict(
                TABLE,
                "UPDATE providers SET name = $3, identifier = $4, kind = $5, config = $6,
                    secret_config_keys = $7, sealed_config = $8, connectivity_failed_at = $9,
                    updated_by = $10, updated_via_operator = $11, updated_at = $12
                 WHERE zone_id = $1 AND id = $2 AND archived_at IS NULL",
                params![
                    row.id,
                    row.name,
                    row.identifier,
                    row.kind,
                    json_text(TABLE, &row.config)?,
                    json_text(TABLE, &row.secret_config_keys)?,
                    row.sealed_config,
                    row.connectivity_failed_at,
                    row.attribution.updated_by,
                    row.attribution.updated_via_operator,
                    row.updated_at
                ],
            )
            .await?;
        self.changed(ChangeKind::Provider, &row.id);
        Ok(touched > 0)
    }

    /// Records how a connectivity check ended: the failure's time, or nothing when it passed. False
    /// when there is no live row.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn set_provider_connectivity(
        &mut self,
        id: &ProviderId,
        failed_at: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        let touched = self
            .execute(
                TABLE,
                "UPDATE providers SET connectivity_failed_at = $3
                 WHERE zone_id = $1 AND id = $2 AND archived_at IS NULL",
                params![id, failed_at],
            )
            .await?;
        self.changed(ChangeKind::Provider, id);
        Ok(touched > 0)
    }

    /// Archives the provider and forgets its sealed secrets. False when there is no live row.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn archive_provider(
        &mut self,
        id: &ProviderId,
        by: &Author,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let touched = self
            .execute(
                TABLE,
                "UPDATE providers SET archived_at = $3, updated_at = $3, updated_by = $4,
                    updated_via_operator = $5, sealed_config = NULL
                 WHERE zone_id = $1 AND id = $2 AND archived_at IS NULL",
                params![id, now, by.by, by.via_operator],
            )
            .await?;
        self.changed(ChangeKind::Provider, id);
        Ok(touched > 0)
    }

    /// Brings an archived provider back, without the secrets that it had. False when there is no
    /// archived row.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with `ProviderIdentifier` when a live provider has its identifier.
    pub async fn revive_provider(
        &mut self,
        id: &ProviderId,
        by: &Author,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let touched = self
            .execute_or_conflict(
                TABLE,
                "UPDATE providers SET archived_at = NULL, updated_at = $3, updated_by = $4,
                    updated_via_operator = $5
                 WHERE zone_id = $1 AND id = $2 AND archived_at IS NOT NULL",
                params![id, now, by.by, by.via_operator],
            )
            .await?;
        self.changed(ChangeKind::Provider, id);
        Ok(touched > 0)
    }
}
