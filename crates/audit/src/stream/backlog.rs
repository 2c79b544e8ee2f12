//! Measures and trims the stream, and finds holes in producers' logs that nothing closes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::draft::hole_alert;
use super::{Backlog, DeadLetters, EvidenceQueue};
use crate::Inner;
use crate::ledger::AlertKind;

const INTERVAL: Duration = Duration::from_secs(1);
/// How often holes are looked for.
const HOLES_INTERVAL: Duration = Duration::from_secs(60);
/// A hole of this age is told. A producer that still has what is missing has sent it again by then.
const HOLE_SECONDS: i64 = 15 * 60;
/// How often somebody who waits for the stream to be empty looks.
const LOOK: Duration = Duration::from_millis(20);

/// What was measured last.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    backlog: Mutex<Backlog>,
    dead: Mutex<DeadLetters>,
    failures: AtomicU64,
}

impl Measured {
    pub(crate) fn backlog(&self) -> Backlog {
        *self.backlog.lock()
    }

    pub(crate) fn dead(&self) -> DeadLetters {
        *self.dead.lock()
    }
}

/// Measures and trims until it is told to stop.
pub(crate) async fn run(inner: &Inner, queue: &dyn EvidenceQueue, mut stop: watch::Receiver<bool>) {
    let mut holes_at = Instant::now() + HOLES_INTERVAL;
    while !*stop.borrow() {
        measure(inner, queue).await;
        if holes_at <= Instant::now() {
            tell_holes(inner).await;
            holes_at = Instant::now() + HOLES_INTERVAL;
        }
        tokio::select! {
            () = sleep(INTERVAL) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
    measure(inner, queue).await;
}

/// Whether everything in the stream was stored within `wait`.
pub(crate) async fn emptied(queue: &dyn EvidenceQueue, wait: Duration) -> bool {
    let empty = async {
        loop {
            let left = queue.tidy().await;
            if left.is_ok_and(|left| left.unread == 0 && left.pending == 0) {
                return;
            }
            sleep(LOOK).await;
        }
    };
    tokio::time::timeout(wait, empty).await.is_ok()
}

async fn measure(inner: &Inner, queue: &dyn EvidenceQueue) {
    let measured = &inner.measured;
    let outcome = match queue.tidy().await {
        Ok(backlog) => {
            *measured.backlog.lock() = backlog;
            queue.dead_letters().await
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(dead) => {
            *measured.dead.lock() = dead;
            measured.failures.store(0, Ordering::Relaxed);
        }
        // Ingestion tells of the stream's absence; once is enough here.
        Err(error) if measured.failures.fetch_add(1, Ordering::Relaxed) == 0 => {
            tracing::warn!(%error, "the audit stream can't be measured");
        }
        Err(_) => {}
    }
}

/// Raises an alert about each hole that is too old to be closed by itself.
pub(crate) async fn tell_holes(inner: &Inner) {
    let now = inner.parts.clock.now();
    let told = async {
        let holes = inner
            .parts
            .ledger
            .holes(now.plus_seconds(-HOLE_SECONDS))
            .await?;
        let alerts: Vec<_> = holes
            .iter()
            .filter_map(|hole| {
                let (first, last) = (hole.first.get(), hole.last.get());
                hole_alert(AlertKind::LogGap, hole.producer, first, last)
            })
            .collect();
        if alerts.is_empty() {
            return Ok(());
        }
        inner.parts.ledger.raise(&alerts, now).await
    };
    if let Err(error) = told.await {
        tracing::warn!(%error, "holes in producers' audit logs could not be looked for");
    }
}
