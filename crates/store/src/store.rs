//! Opening the store and handing out handles.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use caracal_core::id::ZoneId;
use caracal_core::{Clock, Random, Secret, Timestamp};
use parking_lot::RwLock;
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::change::{Change, ChangeFeed, EmbeddedFeed, PostgresFeed};
use crate::dialect::Dialect;
use crate::dialect::postgres::{self, Pools, PostgresOptions, ReadPool, Scope, Turns};
use crate::dialect::sqlite::{self, ACQUIRE_TIMEOUT, FileLock};
use crate::error::{OpenError, StoreError};
use crate::group::Groups;
use crate::handle::{InZone, OnPlatform, PlatformReader, PlatformUnit, ZoneReader, ZoneUnit};
use crate::migrate::{self, MIGRATIONS};
use crate::outbox::Wakes;

/// The most units that wait for the writer; more are refused at once.
const MAX_WAITING_WRITERS: usize = 1024;

/// The store. Cheap to clone: all clones share the connections.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    database: Database,
    waiting: AtomicUsize,
    pub(crate) outbox: Arc<Notify>,
    pub(crate) groups: Groups,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    audit_key: RwLock<Option<Arc<Secret<Vec<u8>>>>>,
    schema_version: i64,
}

#[derive(Debug)]
enum Database {
    Sqlite(SqliteFile),
    Postgres(Box<PostgresServer>),
}

/// A file that this process owns.
#[derive(Debug)]
struct SqliteFile {
    readers: DatabaseConnection,
    writer: DatabaseConnection,
    /// One permit: held from before a transaction begins until its changes are published, so that
    /// commits are published in their order.
    turn: Arc<Semaphore>,
    feed: Arc<EmbeddedFeed>,
    _lock: FileLock,
}

/// A server that many processes share.
#[derive(Debug)]
struct PostgresServer {
    pools: Pools,
    turns: Turns,
    feed: Arc<PostgresFeed>,
    wakes: Wakes,
}

/// The right to be the writer, until dropped.
#[derive(Debug)]
pub(crate) enum WriterTurn {
    /// Of the whole file.
    File { _permit: OwnedSemaphorePermit },
    /// Of one zone, or of one kind of work on what belongs to no zone, in this process.
    Queue { _turn: postgres::Turn },
    /// Beside every other.
    Free,
}

/// The connections that reads go to.
pub(crate) enum Readers<'a> {
    Sqlite(&'a DatabaseConnection),
    Postgres(&'a ReadPool),
}

/// Kinds of work on what belongs to no zone. On a shared server, units of one lane come one after
/// the other over all processes; units of different lanes don't wait for each other. In a file there
/// is one writer anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformLane {
    /// Administration, and the chain that tells of it.
    Administration,
    /// Storing evidence: serial by zone and producer, see [`Store::begin_evidence`].
    Evidence,
    /// Publishing messages: not serial, rows are locked one by one.
    Publishing,
}

impl PlatformLane {
    /// The numbers are any that no hash of a zone is likely to be.
    fn lock(self) -> Option<i64> {
        match self {
            Self::Administration => Some(1),
            Self::Evidence | Self::Publishing => None,
        }
    }
}

impl Store {
    /// Opens a SQLite file as its only owner, creating it when it is missing, and brings its schema
    /// to the newest version.
    ///
    /// # Errors
    /// [`OpenError`]: the file is held by another process, can't be opened, or has a schema that
    /// this build can't vouch for.
    pub async fn open_sqlite(
        path: &Path,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, OpenError> {
        let lock = FileLock::take(path)?;
        let writer = sqlite::connect_writer(path).await?;
        migrate::run(&writer, MIGRATIONS, clock.now()).await?;
        let readers = sqlite::connect_readers(path, &writer).await?;
        let file = SqliteFile {
            readers,
            writer,
            turn: Arc::new(Semaphore::new(1)),
            feed: Arc::new(EmbeddedFeed::default()),
            _lock: lock,
        };
        let version = MIGRATIONS.last().map_or(0, |newest| newest.version);
        Ok(Self::new(Database::Sqlite(file), version, clock, random))
    }

    /// Opens a PostgreSQL database that [`migrate_postgres`](crate::migrate_postgres) has brought to
    /// this build's schema. Many processes may.
    ///
    /// # Errors
    /// [`OpenError`]: the URL can't be used, the server does not answer, the login may not act as the
    /// role, or the schema is older or newer than this build's.
    pub async fn open_postgres(
        options: PostgresOptions,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, OpenError> {
        let pools = Pools::open(&options).await?;
        let version = postgres::check_schema(&pools).await?;
        let feed = Arc::new(PostgresFeed::new(
            pools.connector.clone(),
            pools.readers.clone(),
        ));
        let server = PostgresServer {
            pools,
            turns: Turns::default(),
            feed,
            wakes: Wakes::default(),
        };
        Ok(Self::new(
            Database::Postgres(Box::new(server)),
            version,
            clock,
            random,
        ))
    }

    fn new(
        database: Database,
        schema_version: i64,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                database,
                waiting: AtomicUsize::new(0),
                outbox: Arc::new(Notify::new()),
                groups: Groups::default(),
                clock,
                random,
                audit_key: RwLock::new(None),
                schema_version,
            }),
        }
    }

    /// The number of the newest migration of the schema.
    #[must_use]
    pub fn schema_version(&self) -> i64 {
        self.inner.schema_version
    }

    /// Sets the key that signs the admin audit chain; without one, rows are chained but unsigned.
    #[must_use]
    pub fn with_admin_audit_key(self, key: Secret<Vec<u8>>) -> Self {
        *self.inner.audit_key.write() = Some(Arc::new(key));
        self
    }

    /// A handle that reads one zone, each call on its own snapshot of the committed state.
    #[must_use]
    pub fn read(&self, zone: &ZoneId) -> ZoneReader {
        InZone::reading(Arc::clone(&self.inner), zone.clone())
    }

    /// Begins a write transaction on one zone. Dropping the unit undoes it.
    ///
    /// A new zone is made by a unit of its own id, so that its first key and audit row come with it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the writer does not become free within five seconds.
    pub async fn begin(&self, zone: &ZoneId) -> Result<ZoneUnit, StoreError> {
        let (turn, tx) = self
            .inner
            .begin(Scope::Zone(zone), Some(lock_of(zone)))
            .await?;
        Ok(InZone::writing(
            Arc::clone(&self.inner),
            zone.clone(),
            turn,
            tx,
        ))
    }

    /// A handle that reads what belongs to no zone, and finds zones.
    #[must_use]
    pub fn platform(&self) -> PlatformReader {
        OnPlatform::reading(Arc::clone(&self.inner))
    }

    /// Begins a write transaction on what belongs to no zone. Dropping the unit undoes it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the writer does not become free within five seconds.
    pub async fn begin_platform(&self) -> Result<PlatformUnit, StoreError> {
        self.begin_platform_work(PlatformLane::Administration).await
    }

    /// The same for another kind of work than administration.
    ///
    /// # Errors
    /// As for [`Store::begin_platform`].
    pub async fn begin_platform_work(
        &self,
        lane: PlatformLane,
    ) -> Result<PlatformUnit, StoreError> {
        let (turn, tx) = self.inner.begin(Scope::Platform, lane.lock()).await?;
        Ok(OnPlatform::writing(Arc::clone(&self.inner), turn, tx))
    }

    /// Where changes are announced.
    #[must_use]
    pub fn changes(&self) -> Arc<dyn ChangeFeed> {
        match &self.inner.database {
            Database::Sqlite(file) => Arc::clone(&file.feed) as Arc<dyn ChangeFeed>,
            Database::Postgres(server) => Arc::clone(&server.feed) as Arc<dyn ChangeFeed>,
        }
    }

    /// Notified after every commit that put a message into the outbox, whichever process made it.
    /// Must be asked for inside a Tokio runtime.
    #[must_use]
    pub fn outbox_signal(&self) -> Arc<Notify> {
        if let Database::Postgres(server) = &self.inner.database {
            let channel = || server.pools.connector.listening();
            server.wakes.pass_on(channel, &self.inner.outbox);
        }
        Arc::clone(&self.inner.outbox)
    }

    /// What readiness calls the store: the dependency, and the reason when it does not answer.
    #[must_use]
    pub fn readiness_names(&self) -> (&'static str, &'static str) {
        match &self.inner.database {
            Database::Sqlite(_) => ("store", "store_unreachable"),
            Database::Postgres(_) => ("postgres", "postgres_unreachable"),
        }
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match self.inner.readers() {
            Readers::Sqlite(readers) => {
                let asked = readers.ping().await;
                asked.map_err(|e| sqlite::explain("store", &e))
            }
            Readers::Postgres(readers) => postgres::ping(readers).await,
        }
    }

    /// Closes the connections; handles that are still open fail from now on. Call it at shutdown, so
    /// that the journal is folded into the file.
    pub async fn close(&self) {
        match &self.inner.database {
            Database::Sqlite(file) => {
                let _ = file.readers.close_by_ref().await;
                let _ = file.writer.close_by_ref().await;
            }
            Database::Postgres(server) => server.pools.close().await,
        }
    }
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn readers(&self) -> Readers<'_> {
        match &self.database {
            Database::Sqlite(file) => Readers::Sqlite(&file.readers),
            Database::Postgres(server) => Readers::Postgres(&server.pools.readers),
        }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match &self.database {
            Database::Sqlite(_) => Dialect::Sqlite,
            Database::Postgres(_) => Dialect::Postgres,
        }
    }

    /// What a failed statement on `table` means to the caller.
    pub(crate) fn explain(&self, table: &'static str, error: &DbErr) -> StoreError {
        match self.dialect() {
            Dialect::Sqlite => sqlite::explain(table, error),
            Dialect::Postgres => postgres::explain(table, error),
        }
    }

    /// Waits for the answer to a unit's statement; a server may be gone without a word.
    pub(crate) async fn wait<T>(&self, answer: impl Future<Output = T>) -> Result<T, StoreError> {
        match &self.database {
            Database::Sqlite(_) => Ok(answer.await),
            Database::Postgres(server) => postgres::within(server.pools.patience, answer).await,
        }
    }

    /// Tells the process's caches of a commit; on a server they ask it themselves.
    pub(crate) fn publish(&self, zone: &ZoneId, changes: impl IntoIterator<Item = Change>) {
        if let Database::Sqlite(file) = &self.database {
            file.feed.publish(zone, changes);
        }
    }

    /// Tells the process's caches of a commit whose outcome is unknown.
    pub(crate) fn publish_doubt(&self, zone: &ZoneId) {
        if let Database::Sqlite(file) = &self.database {
            file.feed.publish_doubt(zone);
        }
    }

    pub(crate) fn audit_key(&self) -> Option<Arc<Secret<Vec<u8>>>> {
        self.audit_key.read().clone()
    }

    async fn begin(
        &self,
        scope: Scope<'_>,
        lock: Option<i64>,
    ) -> Result<(WriterTurn, DatabaseTransaction), StoreError> {
        match &self.database {
            Database::Sqlite(file) => {
                let turn = self.file_turn(file).await?;
                let options = TransactionOptions {
                    sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                    ..TransactionOptions::default()
                };
                let begun = file.writer.begin_with_options(options).await;
                Ok((turn, begun.map_err(|e| sqlite::explain("store", &e))?))
            }
            Database::Postgres(server) => {
                let turn = self.queue_turn(server, lock).await?;
                let tx = postgres::begin(&server.pools, scope, lock).await?;
                Ok((turn, tx))
            }
        }
    }

    async fn file_turn(&self, file: &SqliteFile) -> Result<WriterTurn, StoreError> {
        let _waiting = Waiting::enter(&self.waiting)?;
        let turn = Arc::clone(&file.turn).acquire_owned();
        match tokio::time::timeout(ACQUIRE_TIMEOUT, turn).await {
            Ok(Ok(permit)) => Ok(WriterTurn::File { _permit: permit }),
            Ok(Err(_)) => Err(StoreError::Unavailable("the store is closed".to_owned())),
            Err(_) => Err(StoreError::Unavailable(
                "the writer did not become free".to_owned(),
            )),
        }
    }

    async fn queue_turn(
        &self,
        server: &PostgresServer,
        lock: Option<i64>,
    ) -> Result<WriterTurn, StoreError> {
        let _waiting = Waiting::enter(&self.waiting)?;
        match lock {
            Some(lock) => {
                let within = server.pools.acquire_timeout;
                let turn = server.turns.take(lock, within).await?;
                Ok(WriterTurn::Queue { _turn: turn })
            }
            None => Ok(WriterTurn::Free),
        }
    }
}

/// The number of a zone's lock, the same in every process.
fn lock_of(zone: &ZoneId) -> i64 {
    let digest = digest(&SHA256, zone.as_str().as_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&digest.as_ref()[..8]);
    i64::from_be_bytes(number)
}

/// Counts one waiter for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Result<Self, StoreError> {
        let before = count.fetch_add(1, Ordering::SeqCst);
        let entered = Self(count);
        if before >= MAX_WAITING_WRITERS {
            return Err(StoreError::Unavailable(
                "too many writers are waiting".to_owned(),
            ));
        }
        Ok(entered)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
