//! The ledger in the store.

use async_trait::async_trait;
use caracal_core::id::{EventId, ZoneId};
use caracal_evidence::log::ProducerId;
use caracal_evidence::{ChainHead, Hash, Position};
use caracal_store::{
    AuditAlert, AuditBatch, AuditCheckpoint, AuditEntry, AuditHead, AuditRecord, AuditWalk, Store,
    StoreError,
};

use super::{
    Alert, Batch, ChainRow, Entry, Known, Ledger, LedgerError, Record, Search, SignedCheckpoint,
};

/// The ledger in the store.
#[derive(Debug, Clone)]
pub struct StoreLedger(Store);

impl StoreLedger {
    /// In this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self(store)
    }
}

impl From<StoreError> for LedgerError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(_) => Self::Conflict,
            StoreError::Unavailable(what) => Self::Unavailable(what),
            StoreError::Corrupt { .. } => Self::Corrupt(error.to_string()),
        }
    }
}

#[async_trait]
impl Ledger for StoreLedger {
    async fn ping(&self) -> Result<(), LedgerError> {
        Ok(self.0.ping().await?)
    }

    async fn watermark(&self, producer: ProducerId) -> Result<Option<Position>, LedgerError> {
        let watermark = self
            .0
            .platform()
            .audit_watermark(&producer.to_string())
            .await?;
        Ok(watermark.map(Position::new))
    }

    async fn head(&self, zone: &ZoneId) -> Result<ChainHead, LedgerError> {
        match self.0.read(zone).audit_head().await? {
            Some(head) => restore(&head),
            None => Ok(ChainHead::genesis(zone)),
        }
    }

    async fn known(&self, zone: &ZoneId, ids: &[EventId]) -> Result<Vec<Known>, LedgerError> {
        let known = self.0.read(zone).known_audit_events(ids).await?;
        known
            .into_iter()
            .map(|row| {
                Ok(Known {
                    event_id: row.event_id,
                    seq: row.seq,
                    leaf: hash(&row.leaf_hash)?,
                })
            })
            .collect()
    }

    async fn store(&self, batch: &Batch) -> Result<(), LedgerError> {
        let rows = AuditBatch {
            entries: batch.entries.iter().map(entry).collect(),
            heads: batch.heads.iter().map(head).collect(),
            watermarks: batch
                .watermarks
                .iter()
                .map(|(producer, at)| (producer.to_string(), at.get()))
                .collect(),
            alerts: batch
                .alerts
                .iter()
                .map(|alert| raised(alert, batch))
                .collect(),
            at: batch.at,
        };
        let mut unit = self.0.begin_platform().await?;
        unit.append_audit(&rows).await?;
        Ok(unit.commit().await?)
    }

    async fn search(&self, zone: &ZoneId, search: &Search) -> Result<Vec<Record>, LedgerError> {
        let walk = AuditWalk {
            after: search.after,
            since: search.since,
            until: search.until,
            decision: search.decision.clone(),
            request_id: search.request_id.clone(),
            limit: search.limit,
        };
        let rows = self.0.read(zone).walk_audit_events(&walk).await?;
        rows.into_iter().map(record).collect()
    }

    async fn next_zone(&self, after: Option<&ZoneId>) -> Result<Option<ZoneId>, LedgerError> {
        Ok(self.0.platform().next_audit_zone(after).await?)
    }

    async fn chain_rows(
        &self,
        zone: &ZoneId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<ChainRow>, LedgerError> {
        let walk = AuditWalk {
            after,
            limit,
            ..AuditWalk::default()
        };
        let rows = self.0.read(zone).walk_audit_events(&walk).await?;
        let rows = rows.into_iter().map(|row| ChainRow {
            seq: row.seq,
            leaf: Hash::from_slice(&row.leaf_hash),
            chain: Hash::from_slice(&row.chain_hash),
            ingested_at: row.ingested_at,
            data: row.data,
        });
        Ok(rows.collect())
    }

    async fn unsigned_heads(&self, limit: usize) -> Result<Vec<ChainHead>, LedgerError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let heads = self.0.platform().unsigned_audit_heads(limit).await?;
        heads.iter().map(restore).collect()
    }

    async fn store_checkpoints(&self, signed: &[SignedCheckpoint]) -> Result<(), LedgerError> {
        let rows: Vec<_> = signed
            .iter()
            .map(|signed| AuditCheckpoint {
                zone_id: signed.zone_id.clone(),
                size: signed.size,
                note: signed.note.clone(),
                at: signed.at,
            })
            .collect();
        let mut unit = self.0.begin_platform().await?;
        unit.insert_audit_checkpoints(&rows).await?;
        Ok(unit.commit().await?)
    }

    async fn latest_checkpoint(
        &self,
        zone: &ZoneId,
    ) -> Result<Option<SignedCheckpoint>, LedgerError> {
        let row = self.0.read(zone).latest_audit_checkpoint().await?;
        Ok(row.map(|row| SignedCheckpoint {
            zone_id: row.zone_id,
            size: row.size,
            note: row.note,
            at: row.at,
        }))
    }
}

fn entry(entry: &Entry) -> AuditEntry {
    AuditEntry {
        zone_id: entry.zone_id.clone(),
        seq: entry.link.seq,
        event_id: entry.event_id.clone(),
        occurred_at: entry.occurred_at,
        event_type: entry.event_type.clone(),
        decision: entry.decision.clone(),
        evaluation_status: entry.evaluation_status.clone(),
        request_id: entry.request_id.clone(),
        application_id: entry.application_id.clone(),
        agent_session_id: entry.agent_session_id.clone(),
        authority_record_id: entry.authority_record_id.clone(),
        labels: entry.labels.clone(),
        data: entry.data.clone(),
        signature: entry
            .signature
            .map(|signature| signature.as_bytes().to_vec()),
        leaf_hash: entry.link.leaf.as_bytes().to_vec(),
        chain_hash: entry.link.chain.as_bytes().to_vec(),
    }
}

fn head(head: &ChainHead) -> AuditHead {
    AuditHead {
        zone_id: head.zone().clone(),
        seq: head.seq(),
        chain_hash: head.chain().as_bytes().to_vec(),
        frontier: head.frontier().to_bytes(),
    }
}

fn raised(alert: &Alert, batch: &Batch) -> AuditAlert {
    AuditAlert {
        zone_id: alert.zone_id.clone(),
        id: alert.id.clone(),
        kind: alert.kind.as_str().to_owned(),
        event_id: alert.event_id.clone(),
        detail: alert.detail.clone(),
        raised_at: batch.at,
    }
}

fn record(row: AuditRecord) -> Result<Record, LedgerError> {
    let before = match &row.chain_hash_before {
        Some(before) => hash(before)?,
        None if row.seq == 1 => Hash::ZERO,
        None => return Err(LedgerError::Corrupt(format!("no event before {}", row.seq))),
    };
    Ok(Record {
        seq: row.seq,
        leaf: hash(&row.leaf_hash)?,
        chain: hash(&row.chain_hash)?,
        before,
        ingested_at: row.ingested_at,
        data: row.data,
    })
}

fn restore(head: &AuditHead) -> Result<ChainHead, LedgerError> {
    ChainHead::restore(&head.zone_id, head.seq, &head.chain_hash, &head.frontier)
        .map_err(|error| LedgerError::Corrupt(format!("zone {}: {error}", head.zone_id)))
}

fn hash(bytes: &[u8]) -> Result<Hash, LedgerError> {
    Hash::from_slice(bytes).ok_or_else(|| LedgerError::Corrupt("a hash is not 32 bytes".to_owned()))
}
