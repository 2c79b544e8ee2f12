//! The feed of a store on PostgreSQL, which many processes share.
//!
//! - [`ChangeFeed::current`] passes the [`Barrier`]: a read of `zone_sequences` on a connection of its
//!   own, always of the primary.
//! - [`ChangeFeed::since`] reads `zone_changes`; what was fetched serves all who ask for it.
//! - [`ChangeFeed::watch`] is woken by `NOTIFY`, by the barrier's own reads, and by a look at the
//!   watched zones: now and then, or every 50 ms while notifications can't arrive.
//!
//! A position is the zone's sequence number and, above it, how often the barrier has had to connect
//! anew. After a failover to a standby that lacked the last commits, sequence numbers begin again
//! below what caches have seen; a failover breaks the connection, so the first position behind it is
//! above all earlier ones, and what was cached before is forgotten ([`Changes::Gap`]).

mod copies;
mod position;
mod sequences;
mod watchers;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::dialect::postgres::ReadPool;
use async_trait::async_trait;
use caracal_core::id::ZoneId;
use sea_orm::{DbBackend, Statement};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::barrier::{Barrier, Patience};
use super::{Change, ChangeFeed, ChangeKind, Changes};
use crate::dialect::postgres::{Connector, Scope, rows};
use crate::error::StoreError;
use crate::sql::{Row, params};
use copies::{Copies, Fetched};
use position::Position;
use sequences::Sequences;
use watchers::Watchers;

/// The longest that a caller waits at the barrier.
const PASS: Duration = Duration::from_secs(3);
/// The most changes that are fetched at once; a reader further behind starts afresh.
const MAX_CHANGES: usize = 4096;

/// The change feed of a database that many processes share.
#[derive(Debug)]
pub(crate) struct PostgresFeed {
    shared: Arc<Shared>,
    /// Ended when the feed is dropped.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    barrier: Barrier,
    readers: ReadPool,
    copies: Copies,
    watchers: Watchers,
    /// Of the barrier's connection that is, or was the last.
    epoch: AtomicU64,
    /// The database was seen to go back: the barrier must connect anew.
    doubt: AtomicBool,
}

impl PostgresFeed {
    /// Starts the barrier's reader and the listener; they take a connection each, beside the pools,
    /// and end with the feed.
    pub(crate) fn new(connector: Connector, readers: ReadPool) -> Self {
        let channel = connector.listening();
        let shared = Arc::new(Shared {
            barrier: Barrier::new(),
            readers,
            copies: Copies::default(),
            watchers: Watchers::default(),
            epoch: AtomicU64::new(0),
            doubt: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        let sequences = Sequences::new(connector, Arc::clone(&shared));
        let reader = Arc::clone(&shared);
        tasks.spawn(async move { reader.barrier.run(sequences).await });
        let listener = Arc::clone(&shared);
        tasks.spawn(async move { listener.listen(&channel).await });
        let looker = Arc::clone(&shared);
        tasks.spawn(async move { looker.look_now_and_then().await });
        Self {
            shared,
            _tasks: tasks,
        }
    }
}

#[async_trait]
impl ChangeFeed for PostgresFeed {
    async fn current(&self, zone: &ZoneId) -> Result<u64, StoreError> {
        self.shared.current(zone).await
    }

    async fn since(&self, zone: &ZoneId, from: u64) -> Result<Changes, StoreError> {
        self.shared.since(zone, Position::unpack(from)).await
    }

    fn watch(&self, zone: &ZoneId) -> watch::Receiver<u64> {
        self.shared.watchers.subscribe(zone)
    }
}

impl Shared {
    async fn current(&self, zone: &ZoneId) -> Result<u64, StoreError> {
        let began = Instant::now();
        let passed = tokio::time::timeout(PASS, self.barrier.pass(zone)).await;
        metrics::histogram!("caracal_barrier_wait_seconds").record(began.elapsed());
        let position = passed.map_err(|_| late("the barrier did not answer in time"))??;
        self.copies.saw(zone, position);
        Ok(position)
    }

    async fn since(&self, zone: &ZoneId, from: Position) -> Result<Changes, StoreError> {
        if from.epoch() != self.epoch.load(Ordering::SeqCst) {
            return self.gap(zone).await;
        }
        let copy = self.copies.of(zone);
        if let Some(changes) = copy.since(from) {
            return Ok(changes);
        }
        // Who comes second finds what the first one fetched.
        let _turn = copy.turn().await;
        if let Some(changes) = copy.since(from) {
            return Ok(changes);
        }
        match self.fetch(zone, copy.goes_on_from(from)).await? {
            Some(fetched) => Ok(copy.take(from, fetched)),
            None => self.gap(zone).await,
        }
    }

    /// Everything may have changed. Go on from a position read now.
    async fn gap(&self, zone: &ZoneId) -> Result<Changes, StoreError> {
        let upto = self.current(zone).await?;
        Ok(Changes::Gap { upto })
    }

    /// All changes of the zone after `from`, of one snapshot; `None` when some are not known any more.
    async fn fetch(&self, zone: &ZoneId, from: Position) -> Result<Option<Fetched>, StoreError> {
        const TABLE: &str = "zone_changes";
        const SINCE: &str = "SELECT s.seq AS upto, c.seq AS seq, c.kind AS kind, c.id AS id
             FROM zone_sequences AS s
             LEFT JOIN zone_changes AS c ON c.zone_id = s.zone_id AND c.seq > $2
             WHERE s.zone_id = $1 ORDER BY c.seq LIMIT $3";
        let after = from.sequence()?;
        let limit = i64::try_from(MAX_CHANGES + 1).unwrap_or(i64::MAX);
        let statement =
            Statement::from_sql_and_values(DbBackend::Postgres, SINCE, params![zone, after, limit]);
        let asked = rows(&self.readers, Scope::Zone(zone), TABLE, statement);
        let found = tokio::time::timeout(PASS, asked)
            .await
            .map_err(|_| late("the change log did not answer in time"))??;
        let mut upto = 0;
        let mut changes = Vec::with_capacity(found.len());
        for row in &found {
            let row = Row::new(row, TABLE);
            upto = row.get::<i64>("upto")?;
            if row.opt::<i64>("seq")?.is_some() {
                changes.push(Change {
                    kind: row.get::<ChangeKind>("kind")?,
                    id: row.get("id")?,
                });
            }
        }
        if upto < after {
            self.doubt.store(true, Ordering::SeqCst);
            return Err(late("the change log has gone back"));
        }
        let complete = usize::try_from(upto - after) == Ok(changes.len());
        Ok(complete.then_some(Fetched { from, changes }))
    }
}

fn late(what: &str) -> StoreError {
    StoreError::Unavailable(what.to_owned())
}

/// Lets callers gather. Looks once in a millisecond, which is as fine as the timer is.
pub(super) async fn linger(patience: Patience, waiting: impl Fn() -> usize + Send + Sync) {
    const LOOK: Duration = Duration::from_millis(1);
    let began = Instant::now();
    let (mut most, mut since) = (waiting(), began);
    loop {
        tokio::time::sleep(LOOK).await;
        let (now, here) = (Instant::now(), waiting());
        if here > most {
            (most, since) = (here, now);
        }
        let is_over = here >= patience.enough
            || now - since >= patience.quiet
            || now - began >= patience.at_most;
        if is_over {
            return;
        }
    }
}
