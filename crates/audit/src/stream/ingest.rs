//! From the stream into the ledger.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::draft::{Unusable, add, alert_about};
use super::{Delivery, EvidenceQueue, QueueError, dead};
use crate::Inner;
use crate::ledger::{Batch, Draft, LedgerError};

/// Entries of one read. An entry is bounded, so this bounds what a replica holds.
const ENTRIES: usize = 32;
/// The longest wait for entries, and so the longest that stopping takes while nothing arrives.
const WAIT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The state of one replica's reading.
struct Reading<'a> {
    inner: &'a Inner,
    queue: &'a dyn EvidenceQueue,
    stop: watch::Receiver<bool>,
    /// When to look for entries that others left behind.
    claim_at: Instant,
}

/// Ingests until it is told to stop. What is not acknowledged then, another replica claims.
pub(crate) async fn run(inner: &Inner, queue: &dyn EvidenceQueue, stop: watch::Receiver<bool>) {
    let mut reading = Reading {
        inner,
        queue,
        stop,
        claim_at: Instant::now(),
    };
    let mut pause = FIRST_PAUSE;
    while !reading.is_stopped() {
        match reading.turn().await {
            Ok(()) => {
                inner.progress.working();
                pause = FIRST_PAUSE;
            }
            Err(error) => {
                tracing::error!(%error, "audit ingestion waits for the stream");
                reading.wait(&mut pause).await;
            }
        }
    }
}

impl Reading<'_> {
    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Takes what others left behind, when it is time to look, else what is new.
    async fn turn(&mut self) -> Result<(), QueueError> {
        let idle = self.inner.parts.options.claim_idle;
        if self.claim_at <= Instant::now() {
            let left = self.queue.claim(idle, ENTRIES).await?;
            if left.is_empty() {
                self.claim_at = Instant::now() + idle / 2;
            } else {
                return self.take(left).await;
            }
        }
        let fresh = self.queue.read(ENTRIES, WAIT).await?;
        let is_trickle = (1..ENTRIES).contains(&fresh.len());
        self.take(fresh).await?;
        if is_trickle {
            // A transaction costs the store the same for one entry as for many: let some gather.
            sleep(self.inner.parts.options.linger).await;
        }
        Ok(())
    }

    /// Stores entries in transactions of bounded size.
    async fn take(&mut self, entries: Vec<Delivery>) -> Result<(), QueueError> {
        let options = &self.inner.parts.options;
        let mut group = Vec::new();
        let mut bytes = 0;
        for entry in entries {
            bytes += entry.fields.values().map(bytes::Bytes::len).sum::<usize>();
            group.push(entry);
            if bytes >= options.batch_bytes {
                self.store(std::mem::take(&mut group)).await?;
                bytes = 0;
            }
        }
        self.store(group).await
    }

    /// Stores a group; when that can never be, each entry of it by itself.
    async fn store(&mut self, group: Vec<Delivery>) -> Result<(), QueueError> {
        let Some(failure) = self.try_store(&group).await? else {
            return Ok(());
        };
        if let [entry] = group.as_slice() {
            return self.give_up(entry, &failure).await;
        }
        for entry in group {
            if self.is_stopped() {
                return Ok(());
            }
            let one = [entry];
            if let Some(failure) = self.try_store(&one).await? {
                self.give_up(&one[0], &failure).await?;
            }
        }
        Ok(())
    }

    /// Stores a group and acknowledges it, however long the ledger takes; answers why it can't be
    /// stored. When it is told to stop meanwhile, the entries stay pending.
    async fn try_store(&mut self, group: &[Delivery]) -> Result<Option<LedgerError>, QueueError> {
        if group.is_empty() {
            return Ok(None);
        }
        let (draft, unusable) = self.draft(group).await;
        let mut pause = FIRST_PAUSE;
        let mut careful = false;
        let stored = loop {
            match self.inner.parts.ledger.append(&draft, careful).await {
                Ok(batch) => break batch,
                Err(LedgerError::Conflict) if !careful => careful = true,
                Err(LedgerError::Unavailable(what)) => {
                    tracing::error!(what, "audit ingestion waits for the ledger");
                    self.wait(&mut pause).await;
                    if self.is_stopped() {
                        return Ok(None);
                    }
                }
                Err(error) => return Ok(Some(error)),
            }
        };
        self.inner.progress.working();
        self.inner.counters.stored(&stored);
        self.inner.progress.set_grown();
        self.set_aside(&stored, &unusable).await?;
        let ids: Vec<String> = group.iter().map(|entry| entry.id.clone()).collect();
        self.queue.ack(&ids).await?;
        Ok(None)
    }

    async fn draft<'d>(&self, group: &'d [Delivery]) -> (Draft, Vec<(&'d Delivery, Unusable)>) {
        let parts = &self.inner.parts;
        let mut draft = Draft {
            at: parts.clock.now(),
            ..Draft::default()
        };
        let mut unusable = Vec::new();
        for entry in group {
            if let Err(why) = add(&mut draft, &entry.fields, parts) {
                tracing::error!(entry = entry.id, %why, "an audit entry can't be stored");
                draft.alerts.extend(alert_about(&why, entry));
                unusable.push((entry, why));
            }
            // Signatures cost time; others get a turn.
            tokio::task::yield_now().await;
        }
        (draft, unusable)
    }

    /// Puts what was refused among the dead letters. It is in the ledger's alerts already; when this
    /// fails the entries stay pending and come again, and their alerts are known then.
    async fn set_aside(
        &self,
        stored: &Batch,
        unusable: &[(&Delivery, Unusable)],
    ) -> Result<(), QueueError> {
        let now = self.inner.parts.clock.now();
        for (entry, why) in unusable {
            let letter = dead::letter(&why.reason(), &entry.fields, now);
            self.queue.set_aside(&letter).await?;
            self.inner.counters.set_aside();
        }
        for letter in stored
            .alerts
            .iter()
            .filter_map(|alert| dead::letter_of(alert, now))
        {
            self.queue.set_aside(&letter).await?;
            self.inner.counters.set_aside();
        }
        Ok(())
    }

    /// An entry that the ledger refuses: tried again when it is claimed again, until that was often
    /// enough.
    async fn give_up(&self, entry: &Delivery, why: &LedgerError) -> Result<(), QueueError> {
        let deliveries = entry.deliveries;
        tracing::error!(entry = entry.id, deliveries, %why, "the ledger refuses an audit entry");
        self.inner.counters.retried();
        if deliveries < self.inner.parts.options.max_deliveries {
            return Ok(());
        }
        let now = self.inner.parts.clock.now();
        let reason = format!("{}{why}", dead::REFUSED);
        let letter = dead::letter(&reason, &entry.fields, now);
        self.queue.set_aside(&letter).await?;
        self.inner.counters.set_aside();
        self.queue.ack(std::slice::from_ref(&entry.id)).await
    }

    async fn wait(&mut self, pause: &mut Duration) {
        self.inner.progress.failed();
        self.inner.counters.retried();
        tokio::select! {
            () = sleep(*pause) => {}
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
        *pause = (*pause * 2).min(LONGEST_PAUSE);
    }
}
