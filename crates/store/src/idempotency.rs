//! Idempotency receipts: what a repeated request is answered with.

use caracal_core::Timestamp;

use crate::error::StoreError;
use crate::handle::{Access, InZone, OnPlatform, ZoneUnit};
use crate::sql::{Entity, Row, Where, params};

const TABLE: &str = "idempotency_receipts";

/// The answer to a request that carried an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The operation, such as `session.start.v2`.
    pub operation: String,
    /// Within which keys are distinct: the calling application's id.
    pub scope_id: String,
    /// Keyed digest of the key.
    pub key_digest: String,
    /// Digest of the request.
    pub fingerprint: String,
    /// Kind of the created thing.
    pub resource_type: String,
    /// Its id.
    pub resource_id: String,
    /// Status of the answer.
    pub status_code: i64,
    /// Body of the answer, JSON text.
    pub body: String,
    /// When it was stored.
    pub created_at: Timestamp,
    /// Until when it is replayed.
    pub expires_at: Timestamp,
}

impl Entity for Receipt {
    const TABLE: &'static str = TABLE;
    const COLUMNS: &'static str = "operation, scope_id, key_digest, fingerprint, resource_type, \
         resource_id, status_code, body, created_at, expires_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            operation: row.get("operation")?,
            scope_id: row.get("scope_id")?,
            key_digest: row.get("key_digest")?,
            fingerprint: row.get("fingerprint")?,
            resource_type: row.get("resource_type")?,
            resource_id: row.get("resource_id")?,
            status_code: row.get("status_code")?,
            body: row.get("body")?,
            created_at: row.get("created_at")?,
            expires_at: row.get("expires_at")?,
        })
    }
}

impl<A: Access> InZone<A> {
    /// The unexpired receipt under any of the digests (of the current key and the previous one).
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn find_receipt(
        &self,
        operation: &str,
        scope_id: &str,
        digests: &[String],
        now: Timestamp,
    ) -> Result<Option<Receipt>, StoreError> {
        let (tail, values) = Where::zone()
            .and(
                "operation = ? AND scope_id = ?",
                params![operation, scope_id],
            )
            .and_in("key_digest", digests)
            .and("expires_at > ?", params![now])
            .tail("LIMIT 1");
        self.fetch_one(&tail, values).await
    }

    /// How many receipts a scope holds. Exact when it is `limit` or more; below that it may count
    /// expired ones.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be counted.
    pub async fn held_receipts(
        &self,
        operation: &str,
        scope_id: &str,
        limit: i64,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        let sql = "SELECT receipts AS n FROM idempotency_counters
             WHERE zone_id = $1 AND operation = $2 AND scope_id = $3";
        let counted = self
            .number("idempotency_counters", sql, params![operation, scope_id])
            .await?;
        if counted < limit {
            return Ok(counted);
        }
        let sql = "SELECT COUNT(*) AS n FROM idempotency_receipts
             WHERE zone_id = $1 AND operation = $2 AND scope_id = $3 AND expires_at > $4";
        self.number(TABLE, sql, params![operation, scope_id, now])
            .await
    }
}

impl ZoneUnit {
    /// Stores a receipt; an expired one under the same key makes room.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with `IdempotencyKey` when a live one holds the key.
    pub async fn insert_receipt(&mut self, row: &Receipt) -> Result<(), StoreError> {
        let now = self.now();
        let dropped = self
            .execute(
                TABLE,
                "DELETE FROM idempotency_receipts WHERE zone_id = $1 AND operation = $2
                    AND scope_id = $3 AND key_digest = $4 AND expires_at <= $5",
                params![row.operation, row.scope_id, row.key_digest, now],
            )
            .await?;
        self.insert(
            TABLE,
            "zone_id, operation, scope_id, key_digest, fingerprint, resource_type, resource_id, \
             status_code, body, created_at, expires_at",
            params![
                row.operation,
                row.scope_id,
                row.key_digest,
                row.fingerprint,
                row.resource_type,
                row.resource_id,
                row.status_code,
                row.body,
                row.created_at,
                row.expires_at
            ],
        )
        .await?;
        if dropped == 0 {
            self.count_receipts(&row.operation, &row.scope_id, 1)
                .await?;
        }
        Ok(())
    }

    /// Deletes expired receipts of the zone, at most `limit` of them. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn delete_expired_receipts(&mut self, limit: i64) -> Result<u64, StoreError> {
        let now = self.now();
        let sql = "DELETE FROM idempotency_receipts
             WHERE zone_id = $1 AND (operation, scope_id, key_digest) IN (
                SELECT operation, scope_id, key_digest FROM idempotency_receipts
                WHERE zone_id = $1 AND expires_at <= $2 LIMIT $3)
             RETURNING operation, scope_id";
        let rows = self.query(TABLE, sql, params![now, limit]).await?;
        let mut by_scope: std::collections::BTreeMap<(String, String), i64> =
            std::collections::BTreeMap::new();
        for row in &rows {
            let row = Row::new(row, TABLE);
            *by_scope
                .entry((row.get("operation")?, row.get("scope_id")?))
                .or_default() += 1;
        }
        for ((operation, scope_id), count) in by_scope {
            self.count_receipts(&operation, &scope_id, -count).await?;
        }
        Ok(rows.len() as u64)
    }

    async fn count_receipts(
        &mut self,
        operation: &str,
        scope_id: &str,
        by: i64,
    ) -> Result<(), StoreError> {
        self.execute(
            "idempotency_counters",
            "INSERT INTO idempotency_counters (zone_id, operation, scope_id, receipts)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (zone_id, operation, scope_id)
             DO UPDATE SET receipts = idempotency_counters.receipts + excluded.receipts",
            params![operation, scope_id, by],
        )
        .await
        .map(|_| ())
    }
}

/// Receipts over all zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiptStats {
    /// How many are stored.
    pub rows: i64,
    /// When the one that expires first was stored.
    pub oldest: Option<Timestamp>,
}

impl<A: Access> OnPlatform<A> {
    /// Figures for metrics.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn receipt_stats(&self) -> Result<ReceiptStats, StoreError> {
        let sql = "SELECT (SELECT CAST(COALESCE(SUM(receipts), 0) AS BIGINT)
                    FROM idempotency_counters) AS held,
                (SELECT created_at FROM idempotency_receipts ORDER BY expires_at LIMIT 1) AS oldest";
        let rows = self.query(TABLE, sql, vec![]).await?;
        let Some(row) = rows.first().map(|row| Row::new(row, TABLE)) else {
            return Ok(ReceiptStats::default());
        };
        Ok(ReceiptStats {
            rows: row.get("held")?,
            oldest: row.opt("oldest")?,
        })
    }
}
