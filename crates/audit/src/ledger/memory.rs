//! A ledger in memory, for tests; it can be made to fail.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use caracal_core::id::{EventId, ZoneId};
use caracal_evidence::log::ProducerId;
use caracal_evidence::{ChainHead, Hash, Position};
use parking_lot::Mutex;

use super::{
    Alert, Batch, ChainRow, Entry, Known, Ledger, LedgerError, Record, Search, SignedCheckpoint,
};

#[derive(Debug, Default)]
pub(crate) struct MemoryLedger {
    state: Mutex<State>,
    /// So many calls of `store` fail.
    pub(crate) failures: AtomicU32,
    /// So many calls of `store` store and fail nevertheless.
    pub(crate) lost_answers: AtomicU32,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct State {
    pub(crate) entries: Vec<Entry>,
    pub(crate) heads: HashMap<ZoneId, ChainHead>,
    pub(crate) watermarks: HashMap<ProducerId, Position>,
    pub(crate) alerts: Vec<Alert>,
    pub(crate) checkpoints: BTreeMap<(ZoneId, u64), SignedCheckpoint>,
    pub(crate) batches: usize,
}

impl MemoryLedger {
    pub(crate) fn state(&self) -> State {
        self.state.lock().clone()
    }

    pub(crate) fn edit(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.state.lock());
    }
}

fn takes(counter: &AtomicU32) -> bool {
    counter
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
        .is_ok()
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn ping(&self) -> Result<(), LedgerError> {
        match self.failures.load(Ordering::SeqCst) {
            0 => Ok(()),
            _ => Err(LedgerError::Unavailable("down".to_owned())),
        }
    }

    async fn watermark(&self, producer: ProducerId) -> Result<Option<Position>, LedgerError> {
        Ok(self.state.lock().watermarks.get(&producer).copied())
    }

    async fn head(&self, zone: &ZoneId) -> Result<ChainHead, LedgerError> {
        let head = self.state.lock().heads.get(zone).cloned();
        Ok(head.unwrap_or_else(|| ChainHead::genesis(zone)))
    }

    async fn known(&self, zone: &ZoneId, ids: &[EventId]) -> Result<Vec<Known>, LedgerError> {
        let state = self.state.lock();
        let wanted = state
            .entries
            .iter()
            .filter(|e| e.zone_id == *zone && ids.contains(&e.event_id));
        Ok(wanted
            .map(|entry| Known {
                event_id: entry.event_id.clone(),
                seq: entry.link.seq,
                leaf: entry.link.leaf,
            })
            .collect())
    }

    async fn store(&self, batch: &Batch) -> Result<(), LedgerError> {
        if takes(&self.failures) {
            return Err(LedgerError::Unavailable("down".to_owned()));
        }
        let mut state = self.state.lock();
        for entry in &batch.entries {
            let taken = |e: &Entry| {
                e.zone_id == entry.zone_id
                    && (e.event_id == entry.event_id || e.link.seq == entry.link.seq)
            };
            if state.entries.iter().any(taken) {
                return Err(LedgerError::Conflict);
            }
        }
        state.entries.extend(batch.entries.iter().cloned());
        state.heads.extend(
            batch
                .heads
                .iter()
                .map(|head| (head.zone().clone(), head.clone())),
        );
        state.watermarks.extend(batch.watermarks.iter().copied());
        state.alerts.extend(batch.alerts.iter().cloned());
        state.batches += 1;
        if takes(&self.lost_answers) {
            return Err(LedgerError::Unavailable("the answer was lost".to_owned()));
        }
        Ok(())
    }

    async fn search(&self, zone: &ZoneId, search: &Search) -> Result<Vec<Record>, LedgerError> {
        let state = self.state.lock();
        let mut before = Hash::ZERO;
        let mut records = Vec::new();
        for entry in state.entries.iter().filter(|entry| entry.zone_id == *zone) {
            let matches = entry.link.seq > search.after
                && search.since.is_none_or(|since| entry.occurred_at >= since)
                && search.until.is_none_or(|until| entry.occurred_at < until)
                && search
                    .decision
                    .as_ref()
                    .is_none_or(|decision| *decision == entry.decision)
                && search
                    .request_id
                    .as_ref()
                    .is_none_or(|id| *id == entry.request_id);
            if matches && records.len() < search.limit {
                records.push(Record {
                    seq: entry.link.seq,
                    leaf: entry.link.leaf,
                    chain: entry.link.chain,
                    before,
                    ingested_at: entry.occurred_at,
                    data: Some(entry.data.clone()),
                });
            }
            before = entry.link.chain;
        }
        Ok(records)
    }

    async fn next_zone(&self, after: Option<&ZoneId>) -> Result<Option<ZoneId>, LedgerError> {
        let state = self.state.lock();
        let behind = state
            .heads
            .keys()
            .filter(|zone| after.is_none_or(|after| zone.as_str() > after.as_str()));
        Ok(behind.min_by_key(|zone| zone.as_str().to_owned()).cloned())
    }

    async fn chain_rows(
        &self,
        zone: &ZoneId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<ChainRow>, LedgerError> {
        let records = self.search(zone, &Search::all_after(after, limit)).await?;
        let rows = records.into_iter().map(|record| ChainRow {
            seq: record.seq,
            leaf: Some(record.leaf),
            chain: Some(record.chain),
            ingested_at: record.ingested_at,
            data: record.data,
        });
        Ok(rows.collect())
    }

    async fn unsigned_heads(&self, limit: usize) -> Result<Vec<ChainHead>, LedgerError> {
        let state = self.state.lock();
        let unsigned = state.heads.values().filter(|head| {
            !state
                .checkpoints
                .contains_key(&(head.zone().clone(), head.seq()))
        });
        Ok(unsigned.take(limit).cloned().collect())
    }

    async fn store_checkpoints(&self, signed: &[SignedCheckpoint]) -> Result<(), LedgerError> {
        let mut state = self.state.lock();
        for checkpoint in signed {
            let key = (checkpoint.zone_id.clone(), checkpoint.size);
            state.checkpoints.insert(key, checkpoint.clone());
        }
        Ok(())
    }

    async fn latest_checkpoint(
        &self,
        zone: &ZoneId,
    ) -> Result<Option<SignedCheckpoint>, LedgerError> {
        let state = self.state.lock();
        let of_zone = state
            .checkpoints
            .values()
            .filter(|signed| signed.zone_id == *zone);
        Ok(of_zone.max_by_key(|signed| signed.size).cloned())
    }
}
