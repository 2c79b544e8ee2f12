//! The barrier's connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use caracal_core::id::ZoneId;
use sea_orm::sqlx::postgres::{PgConnection, PgRow};
use sea_orm::sqlx::{self, Row as _};
use tokio::time::Instant;

use super::position::Position;
use super::{Shared, late, linger};
use crate::change::barrier::{Patience, Source};
use crate::dialect::postgres::{Connector, explain_sqlx};
use crate::error::StoreError;

const TABLE: &str = "zone_sequences";
/// The longest that a read may take, a new connection included.
const READ: Duration = Duration::from_secs(2);
/// Zones whose last sequence number is remembered, to notice a database that goes back.
const REMEMBERED: usize = 4096;

/// Reads the zones' sequence numbers, from one connection for as long as it lasts.
#[derive(Debug)]
pub(super) struct Sequences {
    connector: Connector,
    shared: Arc<Shared>,
    connection: Option<PgConnection>,
    has_connected: bool,
    /// What this connection has read.
    last: HashMap<ZoneId, i64>,
}

impl Sequences {
    pub(super) fn new(connector: Connector, shared: Arc<Shared>) -> Self {
        Self {
            connector,
            shared,
            connection: None,
            has_connected: false,
            last: HashMap::new(),
        }
    }

    async fn read_now(&mut self, zones: &[ZoneId]) -> Result<Vec<Position>, StoreError> {
        let connection = self.connected().await?;
        let found = sequences(connection, zones).await?;
        let epoch = self.shared.epoch.load(Ordering::SeqCst);
        let mut positions = Vec::with_capacity(zones.len());
        for zone in zones {
            // A zone that nothing has changed has no row.
            let sequence = found.get(zone.as_str()).copied().unwrap_or(0);
            self.advance(zone, sequence)?;
            positions.push(Position::new(epoch, sequence)?);
        }
        Ok(positions)
    }

    /// On one connection to one server a sequence only rises. Something between that changes the
    /// server unseen shows itself here.
    fn advance(&mut self, zone: &ZoneId, sequence: i64) -> Result<(), StoreError> {
        if self.last.get(zone).is_some_and(|last| sequence < *last) {
            return Err(late("the sequence of a zone has gone back"));
        }
        if self.last.len() >= REMEMBERED && !self.last.contains_key(zone) {
            self.last.clear();
        }
        self.last.insert(zone.clone(), sequence);
        Ok(())
    }

    async fn connected(&mut self) -> Result<&mut PgConnection, StoreError> {
        if self.shared.doubt.swap(false, Ordering::SeqCst) {
            self.connection = None;
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Connects to the primary. The epoch rises before anything is read: from then on no position of
    /// the connection before is current.
    async fn connect(&mut self) -> Result<PgConnection, StoreError> {
        let mut connection = self.connector.connect().await?;
        let all = "SELECT set_config('caracal.zone', '*', false), pg_is_in_recovery() AS standby";
        let row: PgRow = sqlx::query(all)
            .fetch_one(&mut connection)
            .await
            .map_err(|e| explain_sqlx(TABLE, &e))?;
        let is_standby: bool = row
            .try_get("standby")
            .map_err(|e| explain_sqlx(TABLE, &e))?;
        if is_standby {
            return Err(late("the database is a standby"));
        }
        if self.has_connected {
            self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        }
        self.has_connected = true;
        self.last.clear();
        Ok(connection)
    }
}

async fn sequences(
    connection: &mut PgConnection,
    zones: &[ZoneId],
) -> Result<HashMap<String, i64>, StoreError> {
    let names: Vec<&str> = zones.iter().map(ZoneId::as_str).collect();
    let rows: Vec<PgRow> =
        sqlx::query("SELECT zone_id, seq FROM zone_sequences WHERE zone_id = ANY($1)")
            .bind(&names)
            .fetch_all(connection)
            .await
            .map_err(|e| explain_sqlx(TABLE, &e))?;
    rows.iter()
        .map(|row| Ok((row.try_get("zone_id")?, row.try_get("seq")?)))
        .collect::<Result<_, sqlx::Error>>()
        .map_err(|e| explain_sqlx(TABLE, &e))
}

impl Source for Sequences {
    async fn read(&mut self, zones: &[ZoneId]) -> Result<Vec<u64>, StoreError> {
        let began = Instant::now();
        let read = tokio::time::timeout(READ, self.read_now(zones)).await;
        let read = read.unwrap_or_else(|_| Err(late("the database did not answer in time")));
        metrics::counter!("caracal_barrier_reads_total").increment(1);
        metrics::histogram!("caracal_barrier_read_seconds").record(began.elapsed());
        match read {
            Ok(positions) => {
                let positions: Vec<u64> = positions.into_iter().map(Position::pack).collect();
                self.shared.watchers.read(zones, &positions);
                Ok(positions)
            }
            Err(error) => {
                // Whatever is still under way on it is nobody's answer.
                self.connection = None;
                metrics::counter!("caracal_barrier_failures_total").increment(1);
                tracing::warn!(%error, "barrier_read_failed");
                Err(unavailable(error))
            }
        }
    }

    async fn linger(&mut self, patience: Patience, waiting: impl Fn() -> usize + Send + Sync) {
        linger(patience, waiting).await;
    }
}

/// Nothing that goes wrong here says anything about a zone.
fn unavailable(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(_) => error,
        other => StoreError::Unavailable(other.to_string()),
    }
}
