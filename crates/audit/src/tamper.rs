//! Reads what is stored again and recomputes it, to find what was changed behind the role's back.
//!
//! At the start everything is read once; from then on, every hour, what was stored lately. A sweep
//! goes through all zones that the ledger has ever heard of, in bounded pages with a pause after each,
//! so that it never keeps the writer from writing. It changes nothing: a finding is counted and
//! logged, and looking into it is the operator's.
//!
//! 1. `start` finds where the recent events of a zone begin. No event is passed over: a sweep begins
//!    no later than where the one before ended, whatever the clock did meanwhile.
//! 2. `check` recomputes leaf and link of each event, and compares where the chain ends with the head
//!    and, read from the first event on, the tree with the latest signed checkpoint.

mod check;
mod start;

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use caracal_core::Timestamp;
use caracal_core::id::ZoneId;
use caracal_evidence::{ChainHead, Checkpoint};

use crate::Inner;
use crate::ledger::LedgerError;
use check::{ChainCheck, Finding};

pub(crate) use check::Fault;

/// From the end of a sweep to the next.
const INTERVAL: Duration = Duration::from_secs(60 * 60);
/// How long a sweep that the ledger did not answer waits to begin again.
const RETRY: Duration = Duration::from_secs(60);
/// Events of one read.
const PAGE: usize = 128;
/// After each page: at most 40 pages, about 5,000 events, of one second.
const PAUSE: Duration = Duration::from_millis(25);
/// Zones whose last sweep is remembered; of others only the recent events are swept.
const MAX_REMEMBERED: usize = 100_000;
/// Findings of one zone that one sweep logs; all are counted.
const LOGGED: usize = 100;

/// How much of each chain is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Full,
    /// What was stored within the look-back, and what no sweep has read yet.
    Recent,
}

/// Sweeps, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Sweeper {
    /// Up to which event each zone was swept.
    swept: HashMap<ZoneId, u64>,
}

/// Sweeps until it is dropped; it may be dropped at any time.
pub(crate) async fn run(inner: &Inner) -> Infallible {
    let mut sweeper = Sweeper::default();
    let mut extent = Extent::Full;
    loop {
        match sweeper.sweep(inner, extent).await {
            Ok(()) => {
                extent = Extent::Recent;
                tokio::time::sleep(INTERVAL).await;
            }
            Err(error) => {
                tracing::error!(%error, "the audit tamper sweep could not go on");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

impl Sweeper {
    /// Sweeps every zone once.
    pub(crate) async fn sweep(&mut self, inner: &Inner, extent: Extent) -> Result<(), LedgerError> {
        let ledger = &inner.parts.ledger;
        let mut next = ledger.next_zone(None).await?;
        while let Some(zone) = next {
            match self.sweep_zone(inner, &zone, extent).await {
                // What can't be read back was not written like this.
                Err(LedgerError::Corrupt(what)) => {
                    tracing::error!(%zone, what, "the audit chain can't be read");
                    inner.counters.found(Finding::Unreadable.fault());
                }
                swept => swept?,
            }
            next = ledger.next_zone(Some(&zone)).await?;
        }
        let at = inner.parts.clock.now();
        inner.counters.swept(at, extent == Extent::Full);
        Ok(())
    }

    async fn sweep_zone(
        &mut self,
        inner: &Inner,
        zone: &ZoneId,
        extent: Extent,
    ) -> Result<(), LedgerError> {
        // In this order: a head is never behind a checkpoint that was signed before it was read.
        let signed = inner.parts.ledger.latest_checkpoint(zone).await?;
        let head = inner.parts.ledger.head(zone).await?;
        let before = self.swept.get(zone).copied();
        let mut check = match self.first(inner, &head, extent).await? {
            0 => ChainCheck::from_the_first(zone),
            seq => {
                let anchor = inner.parts.ledger.chain_rows(zone, seq - 1, 1).await?;
                ChainCheck::behind(zone, seq, anchor.first())
            }
        };
        if let Some(signed) = signed {
            let key = Checkpoint::verifier(&inner.parts.checkpoint_key, zone);
            check.expect(
                key.ok()
                    .and_then(|key| Checkpoint::open(&signed.note, &key).ok()),
            );
        }
        check.end_is_behind(before.unwrap_or(0), &head);
        let mut log = Log::new(zone);
        self.walk(inner, &head, &mut check, &mut log).await?;
        check.finish(&head, self.stray(inner, &head).await?);
        log.tell(inner, &mut check);
        if self.swept.len() < MAX_REMEMBERED || before.is_some() {
            self.swept.insert(zone.clone(), head.seq());
        }
        Ok(())
    }

    /// Behind which event the sweep of a zone starts.
    async fn first(
        &self,
        inner: &Inner,
        head: &ChainHead,
        extent: Extent,
    ) -> Result<u64, LedgerError> {
        let latest = match (self.swept.get(head.zone()), extent) {
            (_, Extent::Full) => return Ok(0),
            (Some(swept), Extent::Recent) => *swept,
            (None, Extent::Recent) if self.swept.len() < MAX_REMEMBERED => return Ok(0),
            (None, Extent::Recent) => head.seq(),
        };
        let lookback = inner.parts.options.tamper_lookback;
        let since = earlier(inner.parts.clock.now(), lookback);
        let recent = start::of_recent(&*inner.parts.ledger, head, since).await?;
        Ok(recent.min(latest))
    }

    /// Reads the events up to the head.
    async fn walk(
        &self,
        inner: &Inner,
        head: &ChainHead,
        check: &mut ChainCheck<'_>,
        log: &mut Log<'_>,
    ) -> Result<(), LedgerError> {
        while check.last() < head.seq() {
            let after = check.last();
            let rows = inner.parts.ledger.chain_rows(head.zone(), after, PAGE);
            let rows = rows.await.map_err(|error| match error {
                LedgerError::Corrupt(what) => {
                    LedgerError::Corrupt(format!("behind event {after}: {what}"))
                }
                other => other,
            })?;
            let rows: Vec<_> = rows.iter().filter(|row| row.seq <= head.seq()).collect();
            for row in &rows {
                check.row(row);
            }
            inner.counters.checked(rows.len());
            log.tell(inner, check);
            tokio::time::sleep(PAUSE).await;
            if rows.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// An event behind the head that no head leads to. One that was stored meanwhile is behind the
    /// head that was read first, but not behind the one that is read now.
    async fn stray(&self, inner: &Inner, head: &ChainHead) -> Result<Option<u64>, LedgerError> {
        let ledger = &inner.parts.ledger;
        let behind = ledger.chain_rows(head.zone(), head.seq(), 1).await?;
        let Some(row) = behind.first() else {
            return Ok(None);
        };
        let now = ledger.head(head.zone()).await?;
        Ok((row.seq > now.seq()).then_some(row.seq))
    }
}

/// Tells what was found in one zone.
struct Log<'a> {
    zone: &'a ZoneId,
    left: usize,
}

impl<'a> Log<'a> {
    fn new(zone: &'a ZoneId) -> Self {
        Self { zone, left: LOGGED }
    }

    fn tell(&mut self, inner: &Inner, check: &mut ChainCheck<'_>) {
        for (seq, finding) in check.take_found() {
            inner.counters.found(finding.fault());
            if self.left > 0 {
                self.left -= 1;
                let fault = match finding.fault() {
                    Fault::Mismatch => "mismatch",
                    Fault::Break => "chain_break",
                };
                tracing::error!(zone = %self.zone, seq, fault, %finding, "audit tampering found");
            }
        }
    }
}

fn earlier(now: Timestamp, by: Duration) -> Timestamp {
    let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_sub(micros))
}
