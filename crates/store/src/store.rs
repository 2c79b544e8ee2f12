//! Opening the store and handing out handles.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use caracal_core::id::ZoneId;
use caracal_core::{Clock, Random, Secret, Timestamp};
use parking_lot::RwLock;
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::change::{ChangeFeed, EmbeddedFeed};
use crate::dialect::sqlite::{self, ACQUIRE_TIMEOUT, FileLock, explain};
use crate::error::{OpenError, StoreError};
use crate::handle::{InZone, OnPlatform, PlatformReader, PlatformUnit, ZoneReader, ZoneUnit};
use crate::migrate::{self, MIGRATIONS};

/// The most units that wait for the writer; more are refused at once.
const MAX_WAITING_WRITERS: usize = 1024;

/// The store. Cheap to clone: all clones share the connections.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    readers: DatabaseConnection,
    writer: DatabaseConnection,
    /// One permit: held from before a transaction begins until its changes are published, so that
    /// commits are published in their order.
    turn: Arc<Semaphore>,
    waiting: AtomicUsize,
    pub(crate) feed: Arc<EmbeddedFeed>,
    pub(crate) outbox: Arc<Notify>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    audit_key: RwLock<Option<Arc<Secret<Vec<u8>>>>>,
    _lock: FileLock,
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
        Ok(Self {
            inner: Arc::new(Inner {
                readers,
                writer,
                turn: Arc::new(Semaphore::new(1)),
                waiting: AtomicUsize::new(0),
                feed: Arc::new(EmbeddedFeed::default()),
                outbox: Arc::new(Notify::new()),
                clock,
                random,
                audit_key: RwLock::new(None),
                _lock: lock,
            }),
        })
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
        let (permit, tx) = self.inner.begin().await?;
        Ok(InZone::writing(
            Arc::clone(&self.inner),
            zone.clone(),
            permit,
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
        let (permit, tx) = self.inner.begin().await?;
        Ok(OnPlatform::writing(Arc::clone(&self.inner), permit, tx))
    }

    /// Where changes are announced.
    #[must_use]
    pub fn changes(&self) -> Arc<dyn ChangeFeed> {
        Arc::clone(&self.inner.feed) as Arc<dyn ChangeFeed>
    }

    /// Notified after every commit that put a message into the outbox.
    #[must_use]
    pub fn outbox_signal(&self) -> Arc<Notify> {
        Arc::clone(&self.inner.outbox)
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.inner
            .readers
            .ping()
            .await
            .map_err(|e| explain("store", &e))
    }

    /// Closes the connections; handles that are still open fail from now on. Call it at shutdown, so
    /// that the journal is folded into the file.
    pub async fn close(&self) {
        let _ = self.inner.readers.close_by_ref().await;
        let _ = self.inner.writer.close_by_ref().await;
    }
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn readers(&self) -> &DatabaseConnection {
        &self.readers
    }

    pub(crate) fn audit_key(&self) -> Option<Arc<Secret<Vec<u8>>>> {
        self.audit_key.read().clone()
    }

    async fn begin(&self) -> Result<(OwnedSemaphorePermit, DatabaseTransaction), StoreError> {
        let permit = self.take_turn().await?;
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let tx = self
            .writer
            .begin_with_options(options)
            .await
            .map_err(|e| explain("store", &e))?;
        Ok((permit, tx))
    }

    async fn take_turn(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        let _waiting = Waiting::enter(&self.waiting)?;
        let turn = Arc::clone(&self.turn).acquire_owned();
        match tokio::time::timeout(ACQUIRE_TIMEOUT, turn).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(StoreError::Unavailable("the store is closed".to_owned())),
            Err(_) => Err(StoreError::Unavailable(
                "the writer did not become free".to_owned(),
            )),
        }
    }
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
