//! Admin tokens.

use caracal_core::Timestamp;
use caracal_core::id::AdminTokenId;

use crate::entity::AdminToken;
use crate::error::StoreError;
use crate::handle::{Access, OnPlatform, PlatformUnit};
use crate::page::{Cursor, Page, Slice};
use crate::sql::{Entity, Row, Where, params};

const TABLE: &str = "admin_tokens";

impl Entity for AdminToken {
    const TABLE: &'static str = TABLE;
    const COLUMNS: &'static str = "id, name, zone_id, capability, reveal, digest, created_by, \
         created_at, last_used_at, revoked_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            name: row.get("name")?,
            zone_id: row.opt("zone_id")?,
            capability: row.get("capability")?,
            reveal: row.get("reveal")?,
            digest: row.get("digest")?,
            created_by: row.get("created_by")?,
            created_at: row.get("created_at")?,
            last_used_at: row.opt("last_used_at")?,
            revoked_at: row.opt("revoked_at")?,
        })
    }
}

impl<A: Access> OnPlatform<A> {
    /// The unrevoked token of that digest.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn find_admin_token(&self, digest: &str) -> Result<Option<AdminToken>, StoreError> {
        self.fetch_one("WHERE digest = $1 AND revoked_at IS NULL", params![digest])
            .await
    }

    /// One token, revoked or not.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn get_admin_token(
        &self,
        id: &AdminTokenId,
    ) -> Result<Option<AdminToken>, StoreError> {
        self.fetch_one("WHERE id = $1", params![id]).await
    }

    /// All tokens, revoked and seeded ones included, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_admin_tokens(&self, page: &Page) -> Result<Slice<AdminToken>, StoreError> {
        self.fetch_page(
            Where::any(),
            ("created_at", "id"),
            page,
            |row: &AdminToken| Cursor {
                at: row.created_at,
                id: row.id.to_string(),
            },
        )
        .await
    }
}

impl PlatformUnit {
    /// Stores a new token.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with `AdminTokenDigest` when the same token exists.
    pub async fn insert_admin_token(&mut self, row: &AdminToken) -> Result<(), StoreError> {
        self.insert(
            TABLE,
            AdminToken::COLUMNS,
            params![
                row.id,
                row.name,
                row.zone_id,
                row.capability,
                row.reveal,
                row.digest,
                row.created_by,
                row.created_at,
                row.last_used_at,
                row.revoked_at
            ],
        )
        .await
    }

    /// Makes sure that a token which the deployment's configuration defines is there and works, even
    /// when the same token was revoked before, and that it is the only one of its `created_by`:
    /// others, from an earlier configuration, are revoked.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn ensure_seeded_token(&mut self, row: &AdminToken) -> Result<(), StoreError> {
        let now = self.now();
        self.execute(
            TABLE,
            "INSERT INTO admin_tokens (id, name, zone_id, capability, reveal, digest, created_by,
                created_at, last_used_at, revoked_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, NULL)
             ON CONFLICT (digest) DO UPDATE SET name = excluded.name, zone_id = excluded.zone_id,
                capability = excluded.capability, reveal = excluded.reveal,
                created_by = excluded.created_by, revoked_at = NULL",
            params![
                row.id,
                row.name,
                row.zone_id,
                row.capability,
                row.reveal,
                row.digest,
                row.created_by,
                row.created_at
            ],
        )
        .await?;
        self.execute(
            TABLE,
            "UPDATE admin_tokens SET revoked_at = $1
             WHERE created_by = $2 AND digest <> $3 AND revoked_at IS NULL",
            params![now, row.created_by, row.digest],
        )
        .await?;
        Ok(())
    }

    /// Revokes a token. False when it does not exist or was revoked.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn revoke_admin_token(&mut self, id: &AdminTokenId) -> Result<bool, StoreError> {
        let now = self.now();
        let touched = self
            .execute(
                TABLE,
                "UPDATE admin_tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
                params![id, now],
            )
            .await?;
        Ok(touched > 0)
    }

    /// Remembers that the token was used.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn touch_admin_token(
        &mut self,
        id: &AdminTokenId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            TABLE,
            "UPDATE admin_tokens SET last_used_at = $2 WHERE id = $1",
            params![id, at],
        )
        .await
        .map(|_| ())
    }
}
