//! A ledger in memory, for tests; it can be made to fail.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use caracal_core::Timestamp;
use caracal_core::id::{EventId, ZoneId};
use caracal_evidence::log::ProducerId;
use caracal_evidence::{ChainHead, Hash, Position};
use parking_lot::Mutex;

use super::placing::{Held, place};
use super::{
    Alert, AlertKind, Batch, ChainRow, Draft, Entry, Known, Ledger, LedgerError, Lost, LostAlert,
    Part, Record, Retained, Search, SignedCheckpoint,
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
    pub(crate) parts: Vec<Part>,
    pub(crate) holes: Vec<Part>,
    pub(crate) acknowledged: HashSet<EventId>,
    pub(crate) retained: Vec<Timestamp>,
    pub(crate) retention_days: Option<i64>,
    /// An event of this id can't be stored.
    pub(crate) poison: Option<EventId>,
}

impl State {
    fn raise(&mut self, alerts: &[Alert]) {
        for alert in alerts {
            if !self.alerts.iter().any(|raised| raised.id == alert.id) {
                self.alerts.push(alert.clone());
            }
        }
    }
}

fn takes_poison(state: &State, draft: &Draft) -> bool {
    let poison = state.poison.as_ref();
    poison.is_some_and(|id| draft.events.iter().any(|event| event.event_id == *id))
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
        state.raise(&batch.alerts);
        state.batches += 1;
        if takes(&self.lost_answers) {
            return Err(LedgerError::Unavailable("the answer was lost".to_owned()));
        }
        Ok(())
    }

    async fn append(&self, draft: &Draft, careful: bool) -> Result<Batch, LedgerError> {
        if takes(&self.failures) {
            return Err(LedgerError::Unavailable("down".to_owned()));
        }
        let batch = {
            let mut state = self.state.lock();
            if takes_poison(&state, draft) {
                return Err(LedgerError::Corrupt("poison".to_owned()));
            }
            let again = |part: &Part| {
                state.parts.iter().any(|stored| {
                    stored.producer == part.producer
                        && stored.first <= part.last
                        && part.first <= stored.last
                })
            };
            let again: Vec<bool> = draft.parts.iter().map(again).collect();
            let mut held = Held {
                heads: state.heads.clone(),
                ..Held::default()
            };
            for event in &draft.events {
                let doubtful = event.part.is_none_or(|part| again[part]);
                let stored = state.entries.iter().find(|entry| {
                    entry.zone_id == event.zone_id && entry.event_id == event.event_id
                });
                if let Some(stored) = stored.filter(|_| careful || doubtful) {
                    let known = Known {
                        event_id: stored.event_id.clone(),
                        seq: stored.link.seq,
                        leaf: stored.link.leaf,
                    };
                    let key = (event.zone_id.clone(), event.event_id.clone());
                    held.known.insert(key, known);
                }
            }
            let batch = place(draft, held);
            state.parts.extend(batch.parts.iter().copied());
            batch
        };
        self.store(&batch).await?;
        Ok(batch)
    }

    async fn holes(&self, _: Timestamp) -> Result<Vec<Part>, LedgerError> {
        Ok(self.state.lock().holes.clone())
    }

    async fn raise(&self, alerts: &[Alert], _: Timestamp) -> Result<(), LedgerError> {
        self.state.lock().raise(alerts);
        Ok(())
    }

    async fn lost(&self) -> Result<Lost, LedgerError> {
        let state = self.state.lock();
        let lost = |alert: &&Alert| {
            matches!(alert.kind, AlertKind::EvidenceLost | AlertKind::LogGap)
                && !state.acknowledged.contains(&alert.id)
        };
        let lost: Vec<&Alert> = state.alerts.iter().filter(lost).collect();
        Ok(Lost {
            alerts: u64::try_from(lost.len()).unwrap(),
            oldest: lost.first().map(|alert| LostAlert {
                id: alert.id.clone(),
                kind: alert.kind.to_string(),
                detail: alert.detail.clone(),
                raised_at: Timestamp::from_seconds(1),
            }),
        })
    }

    async fn acknowledge(&self, alert: Option<&EventId>, _: Timestamp) -> Result<u64, LedgerError> {
        let mut state = self.state.lock();
        let ids: Vec<EventId> = state.alerts.iter().map(|alert| alert.id.clone()).collect();
        let fresh = ids
            .into_iter()
            .filter(|id| alert.is_none_or(|one| one == id))
            .filter(|id| state.acknowledged.insert(id.clone()))
            .count();
        Ok(u64::try_from(fresh).unwrap())
    }

    async fn retain(&self, before: Timestamp, _: Timestamp) -> Result<Retained, LedgerError> {
        self.state.lock().retained.push(before);
        Ok(Retained::default())
    }

    async fn retention_days(&self) -> Result<Option<i64>, LedgerError> {
        Ok(self.state.lock().retention_days)
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
