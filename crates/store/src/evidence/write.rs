//! Storing a batch.

use std::collections::BTreeMap;

use caracal_core::Timestamp;
use caracal_core::id::ZoneId;
use sea_orm::Value;

use super::{AuditBatch, AuditCheckpoint, AuditEntry, AuditHead, TABLE, hour, signed};
use crate::dialect::{Dialect, sqlite};
use crate::error::StoreError;
use crate::handle::PlatformUnit;
use crate::sql::params;

/// The most rows of one `INSERT`. Rows are inserted in powers of two up to it, so that there are few
/// distinct statements and each stays prepared.
const ROWS_PER_INSERT: usize = 64;

impl PlatformUnit {
    /// Stores all of a batch.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when an event id (`AuditEventId`) or a place (`Id`) is stored
    /// already: drop the unit, nothing of the batch is stored.
    pub async fn append_audit(&mut self, batch: &AuditBatch) -> Result<(), StoreError> {
        match self.inner.dialect() {
            Dialect::Sqlite => self.append_rows(batch).await?,
            Dialect::Postgres => self.append_arrays(batch).await?,
        }
        self.cover_audit_parts(&batch.parts, batch.at).await?;
        for (producer, watermark) in &batch.watermarks {
            self.execute(
                "audit_producers",
                "INSERT INTO audit_producers (producer, watermark, updated_at) VALUES ($1, $2, $3)
                 ON CONFLICT (producer) DO UPDATE SET watermark = excluded.watermark,
                    updated_at = excluded.updated_at
                 WHERE excluded.watermark > audit_producers.watermark",
                params![producer, signed(*watermark)?, batch.at],
            )
            .await?;
        }
        for alert in &batch.alerts {
            self.raise_audit_alert(alert).await?;
        }
        Ok(())
    }

    async fn append_rows(&mut self, batch: &AuditBatch) -> Result<(), StoreError> {
        let mut rest = batch.entries.as_slice();
        while !rest.is_empty() {
            let (some, others) = rest.split_at(rows_of_next_insert(rest.len()));
            self.insert_audit_entries(some, batch.at).await?;
            rest = others;
        }
        self.insert_audit_labels(&batch.entries).await?;
        self.count_audit_hours(&batch.entries).await?;
        for head in &batch.heads {
            self.put_audit_head(head, batch.at).await?;
        }
        Ok(())
    }

    async fn insert_audit_entries(
        &mut self,
        entries: &[AuditEntry],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        const COLUMNS: usize = 16;
        let mut values: Vec<Value> = Vec::with_capacity(entries.len() * COLUMNS);
        for entry in entries {
            values.extend(params![
                entry.zone_id,
                signed(entry.seq)?,
                entry.event_id,
                entry.occurred_at,
                at,
                entry.event_type,
                entry.decision,
                entry.evaluation_status,
                entry.request_id,
                entry.application_id,
                entry.agent_session_id,
                entry.authority_record_id,
                entry.data,
                entry.signature,
                entry.leaf_hash,
                entry.chain_hash
            ]);
        }
        let rows = sqlite::value_rows(entries.len(), COLUMNS);
        let sql = format!(
            "INSERT INTO audit_events (zone_id, seq, event_id, occurred_at, ingested_at,
                event_type, decision, evaluation_status, request_id, application_id,
                agent_session_id, authority_record_id, data, signature, leaf_hash, chain_hash)
             VALUES {rows}"
        );
        self.execute(TABLE, sql, values).await.map(|_| ())
    }

    async fn insert_audit_labels(&mut self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let labels: Vec<(&AuditEntry, &String)> = entries
            .iter()
            .flat_map(|entry| entry.labels.iter().map(move |label| (entry, label)))
            .collect();
        let mut rest = labels.as_slice();
        while !rest.is_empty() {
            let (some, others) = rest.split_at(rows_of_next_insert(rest.len()));
            let rows = sqlite::value_rows(some.len(), 4);
            let sql = format!(
                "INSERT INTO audit_event_labels (zone_id, label, occurred_at, event_id)
                 VALUES {rows} ON CONFLICT DO NOTHING"
            );
            let values = some
                .iter()
                .flat_map(|(entry, label)| {
                    params![entry.zone_id, label, entry.occurred_at, entry.event_id]
                })
                .collect();
            self.execute("audit_event_labels", sql, values).await?;
            rest = others;
        }
        Ok(())
    }

    async fn count_audit_hours(&mut self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let mut hours: BTreeMap<(&ZoneId, i64, &str), i64> = BTreeMap::new();
        for entry in entries {
            *hours
                .entry((&entry.zone_id, hour(entry.occurred_at), &entry.decision))
                .or_default() += 1;
        }
        for ((zone, hour, decision), events) in hours {
            self.execute(
                "audit_hours",
                "INSERT INTO audit_hours (zone_id, hour, decision, events) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (zone_id, hour, decision)
                 DO UPDATE SET events = audit_hours.events + excluded.events",
                params![zone, hour, decision, events],
            )
            .await?;
        }
        Ok(())
    }

    async fn put_audit_head(&mut self, head: &AuditHead, at: Timestamp) -> Result<(), StoreError> {
        self.execute(
            "audit_heads",
            "INSERT INTO audit_heads (zone_id, seq, chain_hash, frontier, signed_size, updated_at)
             VALUES ($1, $2, $3, $4, 0, $5)
             ON CONFLICT (zone_id) DO UPDATE SET seq = excluded.seq,
                chain_hash = excluded.chain_hash, frontier = excluded.frontier,
                updated_at = excluded.updated_at",
            params![
                head.zone_id,
                signed(head.seq)?,
                head.chain_hash,
                head.frontier,
                at
            ],
        )
        .await
        .map(|_| ())
    }

    /// Stores checkpoints. On a server one of a size that is there already stays.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn insert_audit_checkpoints(
        &mut self,
        checkpoints: &[AuditCheckpoint],
    ) -> Result<(), StoreError> {
        for row in checkpoints {
            let size = signed(row.size)?;
            self.execute(
                "audit_checkpoints",
                self.inner.dialect().insert_audit_checkpoint(),
                params![row.zone_id, size, row.note, row.at],
            )
            .await?;
            self.execute(
                "audit_heads",
                "UPDATE audit_heads SET signed_size = $2 WHERE zone_id = $1 AND signed_size < $2",
                params![row.zone_id, size],
            )
            .await?;
        }
        Ok(())
    }
}

/// The largest power of two that is at most `left` and [`ROWS_PER_INSERT`].
fn rows_of_next_insert(left: usize) -> usize {
    let mut rows = ROWS_PER_INSERT;
    while rows > left {
        rows /= 2;
    }
    rows.max(1)
}
