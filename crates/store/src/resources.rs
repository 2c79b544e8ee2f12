//! Protected resources.

use caracal_core::ResourceIdentifier;
use caracal_core::id::{ProviderId, ResourceId};

use crate::applications::RowStatus;
use crate::change::ChangeKind;
use crate::entity::{Author, Resource};
use crate::error::StoreError;
use crate::handle::{Access, InZone, ZoneUnit};
use crate::page::{Cursor, Page, Slice};
use crate::sql::{Entity, IN_LIST, Row, Where, json_text, params};
use crate::zones::attribution;

const TABLE: &str = "resources";

/// Which resources to list.
#[derive(Debug, Clone, Default)]
pub struct ResourceFilter {
    /// Live or archived.
    pub status: RowStatus,
    /// Leaves out the resource of this identifier.
    pub except: Option<ResourceIdentifier>,
}

/// Counts for an overview.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResourceCounts {
    /// Live resources.
    pub total: i64,
    /// Of these, those that don't enforce operations.
    pub unenforced: i64,
}

impl Entity for Resource {
    const TABLE: &'static str = TABLE;
    const COLUMNS: &'static str = "zone_id, id, name, identifier, upstream_url, scopes, \
         credential_provider_id, operations, operation_enforcement, created_by, \
         created_via_operator, updated_by, updated_via_operator, created_at, updated_at, archived_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            zone_id: row.get("zone_id")?,
            name: row.get("name")?,
            identifier: row.get("identifier")?,
            upstream_url: row.opt("upstream_url")?,
            scopes: row.json("scopes")?,
            credential_provider_id: row.opt("credential_provider_id")?,
            operations: row.json("operations")?,
            operation_enforcement: row.get("operation_enforcement")?,
            attribution: attribution(row)?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            archived_at: row.opt("archived_at")?,
        })
    }
}

impl<A: Access> InZone<A> {
    /// One resource, archived or not.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn get_resource(&self, id: &ResourceId) -> Result<Option<Resource>, StoreError> {
        self.fetch_one("WHERE zone_id = $1 AND id = $2", params![id])
            .await
    }

    /// The live resource of that identifier.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn find_resource(
        &self,
        identifier: &ResourceIdentifier,
    ) -> Result<Option<Resource>, StoreError> {
        self.fetch_one(
            "WHERE zone_id = $1 AND identifier = $2 AND archived_at IS NULL",
            params![identifier],
        )
        .await
    }

    /// The live resource of that identifier, else of that row id.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn find_resource_by_name(&self, name: &str) -> Result<Option<Resource>, StoreError> {
        let found = self.find_resource(&ResourceIdentifier::new(name)).await?;
        if found.is_some() {
            return Ok(found);
        }
        self.fetch_one(
            "WHERE zone_id = $1 AND id = $2 AND archived_at IS NULL",
            params![name],
        )
        .await
    }

    /// The live resources among these identifiers, in no order.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn find_resources(
        &self,
        identifiers: &[ResourceIdentifier],
    ) -> Result<Vec<Resource>, StoreError> {
        let mut found = Vec::with_capacity(identifiers.len());
        for some in identifiers.chunks(IN_LIST) {
            let (tail, values) = Where::zone()
                .and_in("identifier", some)
                .and("archived_at IS NULL", vec![])
                .tail("");
            found.extend(self.fetch::<Resource>(&tail, values).await?);
        }
        Ok(found)
    }

    /// Resources, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_resources(
        &self,
        filter: &ResourceFilter,
        page: &Page,
    ) -> Result<Slice<Resource>, StoreError> {
        let mut rows = Where::zone().and(filter.status.condition(), vec![]);
        if let Some(except) = &filter.except {
            rows = rows.and("identifier <> ?", params![except]);
        }
        self.fetch_page(rows, ("created_at", "id"), page, |row: &Resource| Cursor {
            at: row.created_at,
            id: row.id.to_string(),
        })
        .await
    }

    /// Counts for an overview and for the zone's limit.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be counted.
    pub async fn count_resources(&self) -> Result<ResourceCounts, StoreError> {
        let sql = "SELECT COUNT(*) AS total, COALESCE(SUM(CASE WHEN operation_enforcement =
                'enforced' THEN 0 ELSE 1 END), 0) AS unenforced
             FROM resources WHERE zone_id = $1 AND archived_at IS NULL";
        let rows = self.query(TABLE, sql, vec![]).await?;
        let Some(row) = rows.first().map(|row| Row::new(row, TABLE)) else {
            return Ok(ResourceCounts::default());
        };
        Ok(ResourceCounts {
            total: row.get("total")?,
            unenforced: row.get("unenforced")?,
        })
    }

    /// Live resources that use the provider.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be counted.
    pub async fn count_resources_of_provider(&self, id: &ProviderId) -> Result<i64, StoreError> {
        self.number(
            TABLE,
            "SELECT COUNT(*) AS n FROM resources
             WHERE zone_id = $1 AND credential_provider_id = $2 AND archived_at IS NULL",
            params![id],
        )
        .await
    }

    /// Whether no live resource has the identifier.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn resource_identifier_is_free(
        &self,
        identifier: &ResourceIdentifier,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT COUNT(*) AS n FROM resources
             WHERE zone_id = $1 AND identifier = $2 AND archived_at IS NULL";
        Ok(self.number(TABLE, sql, params![identifier]).await? == 0)
    }
}

impl ZoneUnit {
    /// Stores a new resource.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with `ResourceIdentifier` when a live resource has the identifier.
    pub async fn insert_resource(&mut self, row: &Resource) -> Result<(), StoreError> {
        self.own(TABLE, &row.zone_id)?;
        self.insert(
            TABLE,
            "zone_id, id, name, identifier, upstream_url, scopes, credential_provider_id, \
             operations, operation_enforcement, created_by, created_via_operator, updated_by, \
             updated_via_operator, created_at, updated_at, archived_at",
            params![
                row.id,
                row.name,
                row.identifier,
                row.upstream_url,
                json_text(TABLE, &row.scopes)?,
                row.credential_provider_id,
                json_text(TABLE, &row.operations)?,
                row.operation_enforcement,
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
    /// [`StoreError::Conflict`] with `ResourceIdentifier` as for an insert.
    pub async fn update_resource(&mut self, row: &Resource) -> Result<bool, StoreError> {
        self.own(TABLE, &row.zone_id)?;
        let touched = self
            .execute_or_conflict(
                TABLE,
                "UPDATE resources SET name = $3, identifier = $4, upstream_url = $5, scopes = $6,
                    credential_provider_id = $7, operations = $8, operation_enforcement = $9,
                    updated_by = $10, updated_via_operator = $11, updated_at = $12
                 WHERE zone_id = $1 AND id = $2 AND archived_at IS NULL",
                params![
                    row.id,
                    row.name,
                    row.identifier,
                    row.upstream_url,
                    json_text(TABLE, &row.scopes)?,
                    row.credential_provider_id,
                    json_text(TABLE, &row.operations)?,
                    row.operation_enforcement,
                    row.attribution.updated_by,
                    row.attribution.updated_via_operator,
                    row.updated_at
                ],
            )
            .await?;
        self.changed(ChangeKind::Resource, &row.id);
        Ok(touched > 0)
    }

    /// Archives the resource: its route is gone with the commit, its identifier free again. False
    /// when there is no live row.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn archive_resource(
        &mut self,
        id: &ResourceId,
        by: &Author,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let touched = self
            .execute(
                TABLE,
                "UPDATE resources SET archived_at = $3, updated_at = $3, updated_by = $4,
                    updated_via_operator = $5
                 WHERE zone_id = $1 AND id = $2 AND archived_at IS NULL",
                params![id, now, by.by, by.via_operator],
            )
            .await?;
        self.changed(ChangeKind::Resource, id);
        Ok(touched > 0)
    }
}
