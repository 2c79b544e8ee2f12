//! The ledger in the store.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use caracal_core::Timestamp;
use caracal_core::id::{EventId, ZoneId};
use caracal_evidence::log::ProducerId;
use caracal_evidence::{ChainHead, Hash, Position};
use caracal_store::{
    AuditAlert, AuditBatch, AuditCheckpoint, AuditEntry, AuditHead, AuditPart, AuditRecord,
    AuditWalk, KnownAuditEvent, PlatformLane, SettingName, Store, StoreError,
};

use super::placing::{Held, ids_by_zone, place};
use super::{
    Alert, Batch, ChainRow, Draft, Entry, Known, Ledger, LedgerError, Lost, LostAlert, Part,
    Record, Retained, Search, SignedCheckpoint,
};

/// Logs with a hole that are told at once.
const HOLES: i64 = 100;
/// So many months are made before they come.
const MONTHS_AHEAD: i64 = 3;
const MONTH_SECONDS: i64 = 30 * 24 * 60 * 60;
/// Texts taken away in one transaction, and the pause after it.
const TEXTS_AT_ONCE: i64 = 500;
const PAUSE: Duration = Duration::from_millis(25);

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
        known.into_iter().map(self::known).collect()
    }

    async fn store(&self, batch: &Batch) -> Result<(), LedgerError> {
        let mut unit = self.0.begin_platform_work(PlatformLane::Evidence).await?;
        unit.append_audit(&rows(batch)).await?;
        Ok(unit.commit().await?)
    }

    async fn append(&self, draft: &Draft, careful: bool) -> Result<Batch, LedgerError> {
        let zones: BTreeSet<ZoneId> = draft.events.iter().map(|e| e.zone_id.clone()).collect();
        let parts: Vec<AuditPart> = draft.parts.iter().map(part).collect();
        let producers = parts.iter().map(|part| part.producer.clone()).collect();
        let mut unit = self.0.begin_evidence(&zones, &producers).await?;
        let zones: Vec<ZoneId> = zones.into_iter().collect();
        let mut held = Held::default();
        for head in unit.audit_heads(&zones).await? {
            held.heads.insert(head.zone_id.clone(), restore(&head)?);
        }
        let again = unit.stored_audit_parts(&parts).await?;
        let doubtful = draft.events.iter().filter(|event| {
            let again = event.part.and_then(|part| again.get(part).copied());
            careful || again.unwrap_or(true)
        });
        for (zone, ids) in ids_by_zone(doubtful) {
            for known in unit.known_audit_events_of(&zone, &ids).await? {
                let known = self::known(known)?;
                let key = (zone.clone(), known.event_id.clone());
                held.known.insert(key, known);
            }
        }
        let batch = place(draft, held);
        unit.append_audit(&rows(&batch)).await?;
        unit.commit().await?;
        Ok(batch)
    }

    async fn holes(&self, before: Timestamp) -> Result<Vec<Part>, LedgerError> {
        let holes = self.0.platform().audit_holes(before, HOLES).await?;
        holes
            .into_iter()
            .map(|hole| {
                let producer = hex_id(&hole.producer)
                    .ok_or_else(|| LedgerError::Corrupt("a producer is no id".to_owned()))?;
                Ok(Part {
                    producer,
                    origin: Position::new(hole.origin),
                    first: Position::new(hole.first),
                    last: Position::new(hole.last),
                })
            })
            .collect()
    }

    async fn raise(&self, alerts: &[Alert], at: Timestamp) -> Result<(), LedgerError> {
        let mut unit = self.0.begin_platform_work(PlatformLane::Evidence).await?;
        for alert in alerts {
            unit.raise_audit_alert(&raised(alert, at)).await?;
        }
        Ok(unit.commit().await?)
    }

    async fn lost(&self) -> Result<Lost, LedgerError> {
        let lost = self.0.platform().lost_evidence().await?;
        Ok(Lost {
            alerts: lost.alerts,
            oldest: lost.oldest.map(|alert| LostAlert {
                id: alert.id,
                kind: alert.kind,
                detail: alert.detail,
                raised_at: alert.raised_at,
            }),
        })
    }

    async fn acknowledge(
        &self,
        alert: Option<&EventId>,
        at: Timestamp,
    ) -> Result<u64, LedgerError> {
        let mut unit = self.0.begin_platform_work(PlatformLane::Evidence).await?;
        let acknowledged = unit.acknowledge_lost_evidence(alert, at).await?;
        unit.commit().await?;
        Ok(acknowledged)
    }

    async fn retain(&self, before: Timestamp, now: Timestamp) -> Result<Retained, LedgerError> {
        let mut retained = Retained::default();
        for ahead in 0..=MONTHS_AHEAD {
            let at = now.plus_seconds(ahead * MONTH_SECONDS);
            let mut unit = self.0.begin_platform_work(PlatformLane::Evidence).await?;
            retained.created += u64::from(unit.ensure_audit_month(at).await?);
            unit.commit().await?;
        }
        for month in self.0.platform().audit_months().await? {
            if month.ends > before {
                continue;
            }
            let mut unit = self.0.begin_platform_work(PlatformLane::Evidence).await?;
            retained.dropped += u64::from(unit.drop_audit_month(month.begins).await?);
            unit.commit().await?;
        }
        let mut next = self.next_zone(None).await?;
        while let Some(zone) = next {
            retained.texts += self.remove_texts(&zone, before).await?;
            next = self.next_zone(Some(&zone)).await?;
        }
        Ok(retained)
    }

    async fn retention_days(&self) -> Result<Option<i64>, LedgerError> {
        let setting = self
            .0
            .platform()
            .get_setting(SettingName::AuditRetentionDays)
            .await?;
        Ok(setting.map(|setting| setting.value))
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
        let mut unit = self.0.begin_platform_work(PlatformLane::Evidence).await?;
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

impl StoreLedger {
    /// Takes the texts of a zone away in bounded steps, so that nobody waits long for the file.
    async fn remove_texts(&self, zone: &ZoneId, before: Timestamp) -> Result<u64, LedgerError> {
        let mut removed = 0;
        loop {
            let mut unit = self.0.begin(zone).await?;
            let some = unit.remove_audit_texts(before, TEXTS_AT_ONCE).await?;
            unit.commit().await?;
            removed += some;
            if some == 0 {
                return Ok(removed);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn rows(batch: &Batch) -> AuditBatch {
    let watermark = |(producer, at): &(ProducerId, Position)| (producer.to_string(), at.get());
    AuditBatch {
        entries: batch.entries.iter().map(entry).collect(),
        heads: batch.heads.iter().map(head).collect(),
        watermarks: batch.watermarks.iter().map(watermark).collect(),
        parts: batch.parts.iter().map(part).collect(),
        alerts: batch
            .alerts
            .iter()
            .map(|alert| raised(alert, batch.at))
            .collect(),
        at: batch.at,
    }
}

fn part(part: &Part) -> AuditPart {
    AuditPart {
        producer: part.producer.to_string(),
        origin: part.origin.get(),
        first: part.first.get(),
        last: part.last.get(),
    }
}

fn hex_id(text: &str) -> Option<ProducerId> {
    let bytes = (0..32)
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok());
    let bytes: Option<Vec<u8>> = bytes.collect();
    Some(ProducerId::from_bytes(bytes?.try_into().ok()?))
}

fn known(row: KnownAuditEvent) -> Result<Known, LedgerError> {
    Ok(Known {
        event_id: row.event_id,
        seq: row.seq,
        leaf: hash(&row.leaf_hash)?,
    })
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

fn raised(alert: &Alert, at: Timestamp) -> AuditAlert {
    AuditAlert {
        zone_id: alert.zone_id.clone(),
        id: alert.id.clone(),
        kind: alert.kind.as_str().to_owned(),
        event_id: alert.event_id.clone(),
        detail: alert.detail.clone(),
        raised_at: at,
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
