//! A stream in memory; it can be made to fail.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::stream::{
    Backlog, DeadLetter, DeadLetters, Delivery, EvidenceQueue, Fields, QueueError,
};

#[derive(Debug, Default)]
pub(super) struct MemoryQueue {
    pub(super) state: Mutex<State>,
    pub(super) failures: AtomicU32,
    arrived: Notify,
}

#[derive(Debug, Default)]
pub(super) struct State {
    next: u64,
    unread: Vec<(u64, Fields)>,
    /// What was given out, and how often.
    pending: BTreeMap<u64, (Fields, u64)>,
    pub(super) dead: BTreeMap<u64, Fields>,
}

impl MemoryQueue {
    pub(super) fn push(&self, fields: Fields) {
        let mut state = self.state.lock();
        state.next += 1;
        let id = state.next;
        state.unread.push((id, fields));
        drop(state);
        self.arrived.notify_one();
    }

    pub(super) fn reasons(&self) -> Vec<String> {
        let state = self.state.lock();
        let text = |fields: &Fields| String::from_utf8(fields["reason"].to_vec()).unwrap();
        state.dead.values().map(text).collect()
    }

    fn answer(&self) -> Result<(), QueueError> {
        let failing = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match failing {
            Ok(_) => Err(QueueError::Unavailable("down".to_owned())),
            Err(_) => Ok(()),
        }
    }
}

fn parse(id: &str) -> Result<u64, QueueError> {
    id.parse().map_err(|_| QueueError::BadId)
}

fn delivery(id: u64, fields: &Fields, deliveries: u64) -> Delivery {
    Delivery {
        id: id.to_string(),
        fields: fields.clone(),
        deliveries,
    }
}

#[async_trait]
impl EvidenceQueue for MemoryQueue {
    async fn ping(&self) -> Result<(), QueueError> {
        self.answer()
    }

    async fn read(&self, count: usize, _: Duration) -> Result<Vec<Delivery>, QueueError> {
        self.answer()?;
        if self.state.lock().unread.is_empty() {
            let wait = Duration::from_millis(10);
            let _ = tokio::time::timeout(wait, self.arrived.notified()).await;
        }
        let mut state = self.state.lock();
        let count = count.min(state.unread.len());
        let given: Vec<_> = state.unread.drain(..count).collect();
        let mut read = Vec::new();
        for (id, fields) in given {
            read.push(delivery(id, &fields, 1));
            state.pending.insert(id, (fields, 1));
        }
        Ok(read)
    }

    async fn claim(&self, _: Duration, count: usize) -> Result<Vec<Delivery>, QueueError> {
        self.answer()?;
        let mut state = self.state.lock();
        let pending = state.pending.iter_mut().take(count);
        Ok(pending
            .map(|(id, (fields, deliveries))| {
                *deliveries += 1;
                delivery(*id, fields, *deliveries)
            })
            .collect())
    }

    async fn ack(&self, ids: &[String]) -> Result<(), QueueError> {
        self.answer()?;
        for id in ids {
            self.state.lock().pending.remove(&parse(id)?);
        }
        Ok(())
    }

    async fn tidy(&self) -> Result<Backlog, QueueError> {
        let state = self.state.lock();
        Ok(Backlog {
            unread: u64::try_from(state.unread.len()).unwrap(),
            pending: u64::try_from(state.pending.len()).unwrap(),
            oldest_millis: None,
        })
    }

    async fn send_again(&self, fields: &Fields) -> Result<(), QueueError> {
        self.push(fields.clone());
        Ok(())
    }

    async fn set_aside(&self, fields: &Fields) -> Result<(), QueueError> {
        self.answer()?;
        let mut state = self.state.lock();
        state.next += 1;
        let id = state.next;
        state.dead.insert(id, fields.clone());
        Ok(())
    }

    async fn dead_letters(&self) -> Result<DeadLetters, QueueError> {
        Ok(DeadLetters {
            count: u64::try_from(self.state.lock().dead.len()).unwrap(),
            oldest_millis: None,
        })
    }

    async fn dead_behind(
        &self,
        after: Option<&str>,
        count: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let after = after.map_or(Ok(0), parse)?;
        let state = self.state.lock();
        let behind = state.dead.range(after + 1..).take(count);
        Ok(behind
            .map(|(id, fields)| DeadLetter {
                id: id.to_string(),
                fields: fields.clone(),
            })
            .collect())
    }

    async fn dead(&self, id: &str) -> Result<Option<DeadLetter>, QueueError> {
        let fields = self.state.lock().dead.get(&parse(id)?).cloned();
        Ok(fields.map(|fields| DeadLetter {
            id: id.to_owned(),
            fields,
        }))
    }

    async fn bury(&self, id: &str) -> Result<bool, QueueError> {
        Ok(self.state.lock().dead.remove(&parse(id)?).is_some())
    }
}
