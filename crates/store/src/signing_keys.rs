//! Zone signing keys at rest.

use caracal_core::Timestamp;
use caracal_core::id::KeyId;

use crate::change::ChangeKind;
use crate::entity::SigningKeyRow;
use crate::error::StoreError;
use crate::handle::{Access, InZone, ZoneUnit};
use crate::sql::{Entity, Row, params};

const TABLE: &str = "signing_keys";

impl Entity for SigningKeyRow {
    const TABLE: &'static str = TABLE;
    const COLUMNS: &'static str = "zone_id, id, sealed, x, y, created_at, signs_from, retires_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            zone_id: row.get("zone_id")?,
            sealed: row.get("sealed")?,
            x: row.get("x")?,
            y: row.get("y")?,
            created_at: row.get("created_at")?,
            signs_from: row.get("signs_from")?,
            retires_at: row.opt("retires_at")?,
        })
    }
}

impl SigningKeyRow {
    /// Whether verifiers must know the key at `now`.
    #[must_use]
    pub fn is_published(&self, now: Timestamp) -> bool {
        self.retires_at.is_none_or(|end| end > now)
    }
}

/// The keys that are published at `now`: the active one first, then the others, newest first. The
/// active key is the published one that began to sign last; a key that signs only later is never
/// active.
#[must_use]
pub fn published(keys: &[SigningKeyRow], now: Timestamp) -> Vec<SigningKeyRow> {
    let mut keys: Vec<SigningKeyRow> = keys
        .iter()
        .filter(|key| key.is_published(now))
        .cloned()
        .collect();
    keys.sort_by_key(|key| {
        let signs = key.signs_from <= now;
        (
            !signs,
            std::cmp::Reverse((key.signs_from, key.created_at, key.id.clone())),
        )
    });
    keys
}

impl<A: Access> InZone<A> {
    /// Every key of the zone, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_signing_keys(&self) -> Result<Vec<SigningKeyRow>, StoreError> {
        self.fetch(
            "WHERE zone_id = $1 ORDER BY created_at DESC, id DESC",
            vec![],
        )
        .await
    }

    /// The keys that are published at `now`, the active one first; see [`published`].
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_published_signing_keys(
        &self,
        now: Timestamp,
    ) -> Result<Vec<SigningKeyRow>, StoreError> {
        Ok(published(&self.list_signing_keys().await?, now))
    }
}

impl ZoneUnit {
    /// Publishes a new key.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn insert_signing_key(&mut self, row: &SigningKeyRow) -> Result<(), StoreError> {
        self.own(TABLE, &row.zone_id)?;
        let values = params![
            row.id,
            row.sealed,
            row.x,
            row.y,
            row.created_at,
            row.signs_from,
            row.retires_at
        ];
        self.insert(TABLE, SigningKeyRow::COLUMNS, values).await?;
        self.changed(ChangeKind::SigningKey, &row.id);
        Ok(())
    }

    /// Sets when a key leaves the published set. False when there is no such key.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn retire_signing_key(
        &mut self,
        id: &KeyId,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let touched = self
            .execute(
                TABLE,
                "UPDATE signing_keys SET retires_at = $3 WHERE zone_id = $1 AND id = $2",
                params![id, at],
            )
            .await?;
        self.changed(ChangeKind::SigningKey, id);
        Ok(touched > 0)
    }

    /// Deletes the keys that left the published set before `now`. Returns their ids.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn prune_signing_keys(&mut self, now: Timestamp) -> Result<Vec<KeyId>, StoreError> {
        let sql = "DELETE FROM signing_keys WHERE zone_id = $1 AND retires_at <= $2 RETURNING id";
        let rows = self.query(TABLE, sql, params![now]).await?;
        let ids: Result<Vec<KeyId>, StoreError> = rows
            .iter()
            .map(|row| Row::new(row, TABLE).get("id"))
            .collect();
        let ids = ids?;
        for id in &ids {
            self.changed(ChangeKind::SigningKey, id);
        }
        Ok(ids)
    }
}
