//! From the producer's log into the ledger.
//!
//! Events are taken in the log's order, as many as wait. A batch is stored in one transaction
//! together with how far the log is stored; then the log may drop it. While the ledger does not
//! answer, the same batch is tried again: nothing is skipped, and nothing is set aside unless it can
//! never be stored (then an alert holds its bytes).

pub(crate) mod admit;
pub(crate) mod place;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use caracal_evidence::log::{Batch, Reader};
use caracal_evidence::{Journal, Position};
use tokio::sync::{Notify, watch};

use crate::ledger::LedgerError;
use crate::stream::backlog;
use crate::{Inner, NotCaughtUp, Source};
use place::Placer;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How far ingestion is, for whoever waits for it.
#[derive(Debug)]
pub(crate) struct Progress {
    stored: watch::Sender<Position>,
    /// Somebody waits: a small batch should not.
    hurry: Notify,
    failing: AtomicBool,
    /// Chains may have grown since they were signed.
    grown: AtomicBool,
}

impl Progress {
    pub(crate) fn new(stored: Position) -> Self {
        Self {
            stored: watch::Sender::new(stored),
            hurry: Notify::new(),
            failing: AtomicBool::new(false),
            grown: AtomicBool::new(true),
        }
    }

    /// Whether the last attempt to read or store failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// An attempt failed.
    pub(crate) fn failed(&self) {
        self.failing.store(true, Ordering::Relaxed);
    }

    /// An attempt succeeded.
    pub(crate) fn working(&self) {
        self.failing.store(false, Ordering::Relaxed);
    }

    /// Whether chains may have grown since this was last asked.
    pub(crate) fn take_grown(&self) -> bool {
        self.grown.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn set_grown(&self) {
        self.grown.store(true, Ordering::Release);
    }

    fn stored_upto(&self, position: Position) {
        self.set_grown();
        self.stored.send_replace(position);
    }
}

impl Inner {
    pub(crate) async fn caught_up(&self, wait: Duration) -> Result<(), NotCaughtUp> {
        let journal = match &self.parts.source {
            Source::Log(journal) => journal,
            Source::Stream(queue) => {
                let emptied = backlog::emptied(&**queue, wait).await;
                return if emptied { Ok(()) } else { Err(NotCaughtUp) };
            }
        };
        let target = journal.last();
        let mut stored = self.progress.stored.subscribe();
        if *stored.borrow() >= target {
            return Ok(());
        }
        self.progress.hurry.notify_one();
        let reached = stored.wait_for(|position| *position >= target);
        match tokio::time::timeout(wait, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotCaughtUp),
        }
    }
}

/// Ingests until the log is closed and everything in it is stored.
pub(crate) async fn run(inner: &Inner, journal: &Journal) {
    let mut reader = journal.reader(Position::ZERO);
    let mut placer = Placer::default();
    while let Some(batch) = gather(inner, &mut reader).await {
        store(inner, &mut placer, &batch).await;
        journal.release(batch.upto);
        inner.progress.stored_upto(batch.upto);
    }
}

/// What waits in the log; a small batch waits a moment for more. `None` when the log is closed.
async fn gather(inner: &Inner, reader: &mut Reader) -> Option<Batch> {
    let options = &inner.parts.options;
    let mut batch = next(inner, reader).await?;
    if batch.frames.len() >= options.batch_events || options.linger.is_zero() {
        return Some(batch);
    }
    tokio::select! {
        () = tokio::time::sleep(options.linger) => {}
        () = inner.progress.hurry.notified() => {}
    }
    let wanted = options.batch_events - batch.frames.len();
    let waiting = reader.next_batch(wanted, options.batch_bytes);
    if let Ok(Ok(Some(more))) = tokio::time::timeout(Duration::ZERO, waiting).await {
        batch.frames.extend(more.frames);
        batch.lost.extend(more.lost);
        batch.upto = more.upto;
    }
    Some(batch)
}

/// The next batch; a log that can't be read is tried again.
async fn next(inner: &Inner, reader: &mut Reader) -> Option<Batch> {
    let options = &inner.parts.options;
    let mut pause = FIRST_PAUSE;
    loop {
        match reader
            .next_batch(options.batch_events, options.batch_bytes)
            .await
        {
            Ok(batch) => return batch,
            Err(error) => {
                tracing::error!(%error, "audit ingestion waits");
                wait(inner, &mut pause).await;
            }
        }
    }
}

/// Stores a batch, however long it takes.
async fn store(inner: &Inner, placer: &mut Placer, batch: &Batch) {
    let mut pause = FIRST_PAUSE;
    let mut careful = false;
    loop {
        match try_store(inner, placer, batch, careful).await {
            Ok(()) => break,
            Err(LedgerError::Conflict) if !careful => careful = true,
            Err(error) => {
                tracing::error!(%error, "audit ingestion waits for the ledger");
                wait(inner, &mut pause).await;
            }
        }
        // Whatever was remembered may be what was wrong.
        placer.forget();
    }
    inner.progress.working();
}

async fn try_store(
    inner: &Inner,
    placer: &mut Placer,
    batch: &Batch,
    careful: bool,
) -> Result<(), LedgerError> {
    let placed = placer.place(&inner.parts, batch, careful).await?;
    inner.parts.ledger.store(&placed.batch).await?;
    inner.counters.stored(&placed.batch);
    placer.commit(placed);
    Ok(())
}

async fn wait(inner: &Inner, pause: &mut Duration) {
    inner.progress.failed();
    inner.counters.retried();
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}
