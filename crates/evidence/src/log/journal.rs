//! The handle of a log.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use caracal_core::{Random, Timestamp};
use caracal_crypto::HmacKey;
use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot, watch};

use super::disk::{Disk, FileSystem, create_private_dir};
use super::index::Index;
use super::keeper::{self, Chores};
use super::queue::{Pending, Queue};
use super::recover::recover;
use super::segment::push_record;
use super::writer::Writer;
use super::{JournalGauges, JournalOptions, Origin, Position, ProducerId, Reader, Recovery};
use crate::event::{EncodeError, Event};
use crate::sign::sign;

/// What a probe writes: a block, so that a full disk refuses it.
const PROBE_BYTES: usize = 4096;

/// Why a log could not be opened.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Another process, or another handle of this one, has the directory open.
    #[error("the audit log in {0} is open elsewhere")]
    Locked(PathBuf),
    /// The directory or a file in it could not be read or written.
    #[error("the audit log in {0} cannot be opened: {1}")]
    Io(PathBuf, #[source] io::Error),
}

/// Why an append failed. In every case the caller must not go on with what the events record; after
/// [`AppendError::TimedOut`] they may reach the log nevertheless.
#[derive(Debug, Clone, Error)]
pub enum AppendError {
    /// The queue stayed full for as long as an append may take.
    #[error("the audit log is overloaded")]
    Overloaded,
    /// The events were queued but not written in time.
    #[error("the audit log did not answer in time")]
    TimedOut,
    /// The log has its configured size and the consumer releases nothing.
    #[error("the audit log is full")]
    Full,
    /// The disk refused the write.
    #[error("the audit log cannot be written: {0}")]
    Storage(#[source] Arc<io::Error>),
    /// An event has no JSON text, or the events together exceed the queue.
    #[error("the audit event cannot be logged: {0}")]
    Event(#[from] EncodeError),
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        Self::Storage(Arc::new(error))
    }
}

/// What the handle, the threads and the reader share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) options: JournalOptions,
    pub(super) queue: Queue,
    pub(super) index: Mutex<Index>,
    /// Woken by every write; true when nothing follows.
    pub(super) ended: watch::Sender<bool>,
    pub(super) chores: Chores,
    pub(super) stats: Stats,
}

/// Counters of a log.
#[derive(Debug, Default)]
pub(super) struct Stats {
    appended: AtomicU64,
    dropped: AtomicU64,
    storage_errors: AtomicU64,
    failing: AtomicBool,
}

impl Stats {
    pub(super) fn wrote(&self, stored: bool, events: u64) {
        let counter = if stored {
            &self.appended
        } else {
            &self.storage_errors
        };
        counter.fetch_add(if stored { events } else { 1 }, Ordering::Relaxed);
        self.failing.store(!stored, Ordering::Relaxed);
    }

    fn recovered(&self) {
        self.failing.store(false, Ordering::Relaxed);
    }

    pub(super) fn lost(&self, events: u64) {
        self.dropped.fetch_add(events, Ordering::Relaxed);
    }
}

/// A local write-ahead log. Clones are handles of the same log; when the last one is dropped, what
/// was queued is still written.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// The queue's free bytes.
    capacity: Arc<Semaphore>,
    key: Option<HmacKey>,
    disk: Arc<dyn Disk>,
    origin: Origin,
    recovery: Recovery,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Handle {
    fn probe(&self) -> Result<(), AppendError> {
        let shared = &self.shared;
        if *shared.ended.borrow() {
            return Err(AppendError::Closed);
        }
        {
            let index = shared.index.lock();
            let full = index.total_bytes() >= shared.options.max_total_bytes;
            if full && index.pending_events() > 0 {
                return Err(AppendError::Full);
            }
        }
        let path = shared.dir.join(format!(".ready-{}", std::process::id()));
        let file = self.disk.create(&path)?;
        let written = file.write_all_at(&[0; PROBE_BYTES], 0);
        std::fs::remove_file(&path)?;
        written?;
        shared.stats.recovered();
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl Journal {
    /// Opens the log in `dir`, creating the directory, and repairs what a crash left unfinished.
    ///
    /// With a key every event is signed. Blocking: call it before serving.
    ///
    /// # Errors
    /// [`JournalError`] when the directory is in use or cannot be read or written.
    pub fn open(
        dir: &Path,
        options: JournalOptions,
        key: Option<HmacKey>,
        random: &dyn Random,
    ) -> Result<Self, JournalError> {
        Self::open_on(Arc::new(FileSystem), dir, options, key, random)
    }

    pub(super) fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: JournalOptions,
        key: Option<HmacKey>,
        random: &dyn Random,
    ) -> Result<Self, JournalError> {
        let failed = |error| JournalError::Io(dir.to_owned(), error);
        create_private_dir(dir).map_err(failed)?;
        let lock = lock(dir)?;
        let recovered = recover(dir).map_err(failed)?;
        if recovered.report.torn_bytes > 0 || recovered.report.damaged_records > 0 {
            tracing::warn!(report = ?recovered.report, dir = %dir.display(), "audit log repaired");
        }
        let origin = Origin {
            producer: ProducerId::generate(random),
            first: Position::new(recovered.next),
        };
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            queue: Queue::default(),
            index: Mutex::new(Index::recovered(
                recovered.segments,
                recovered.next,
                options.tail_bytes,
            )),
            ended: watch::Sender::new(false),
            chores: Chores::default(),
            stats: Stats::default(),
            options,
        });
        let threads = spawn(&shared, Arc::clone(&disk), origin, lock).map_err(failed)?;
        Ok(Self(Arc::new(Handle {
            capacity: Arc::new(Semaphore::new(shared.options.queue_bytes)),
            shared,
            key,
            disk,
            origin,
            recovery: recovered.report,
            threads: Mutex::new(threads),
        })))
    }

    /// Logs events, in order and without others between them; answers the position of the last one.
    ///
    /// When this returns `Ok` the events survive the process's death ([`super::Durability::Process`])
    /// or the machine's ([`super::Durability::Disk`]). It takes at most
    /// [`JournalOptions::append_timeout`]. An event that is too large is logged abridged. Dropping the future does not withdraw queued events.
    ///
    /// # Errors
    /// [`AppendError`]: the events may not be relied on, so what they record must not take effect.
    pub async fn append(&self, events: &[Event]) -> Result<Position, AppendError> {
        let Some(first) = events.first() else {
            return Ok(Position::new(
                self.0.shared.index.lock().next().saturating_sub(1),
            ));
        };
        let records = self.encode(events)?;
        let wait = self.0.shared.options.append_timeout;
        let deadline = tokio::time::Instant::now() + wait;
        let share = self.share(records.len(), deadline).await?;
        let (ack, written) = oneshot::channel();
        let events = u64::try_from(events.len()).unwrap_or(u64::MAX);
        let pending = Pending {
            records,
            events,
            occurred: first.occurred_at(),
            ack,
            _share: share,
        };
        self.0
            .shared
            .queue
            .push(pending)
            .map_err(|_| AppendError::Closed)?;
        match tokio::time::timeout_at(deadline, written).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(AppendError::Closed),
            Err(_) => Err(AppendError::TimedOut),
        }
    }

    /// A reader that starts at `from`, or at the oldest event that is still there.
    #[must_use]
    pub fn reader(&self, from: Position) -> Reader {
        Reader::new(Arc::clone(&self.0.shared), from)
    }

    /// Everything up to and including `upto` is stored: segments that hold nothing else are removed.
    pub fn release(&self, upto: Position) {
        let removals = self.0.shared.index.lock().release(upto.get());
        self.0.shared.chores.remove(removals);
    }

    /// The position of the last event in the log.
    #[must_use]
    pub fn last(&self) -> Position {
        Position::new(self.0.shared.index.lock().next().saturating_sub(1))
    }

    /// The last position that is released, or was when the log was opened.
    #[must_use]
    pub fn released(&self) -> Position {
        Position::new(self.0.shared.index.lock().first_pending().saturating_sub(1))
    }

    /// The id of this opening of the log.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.origin
    }

    /// What opening the log found.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.0.recovery
    }

    /// The log's state at `now`.
    #[must_use]
    pub fn gauges(&self, now: Timestamp) -> JournalGauges {
        let stats = &self.0.shared.stats;
        let index = self.0.shared.index.lock();
        JournalGauges {
            pending_events: index.pending_events(),
            bytes: index.total_bytes(),
            oldest_age: index.oldest().map(|at| now.since(at)).unwrap_or_default(),
            files: u64::try_from(index.files()).unwrap_or(u64::MAX),
            appended: stats.appended.load(Ordering::Relaxed),
            dropped: stats.dropped.load(Ordering::Relaxed),
            storage_errors: stats.storage_errors.load(Ordering::Relaxed),
            sync_errors: self.0.shared.chores.sync_errors(),
            writable: !stats.failing.load(Ordering::Relaxed),
        }
    }

    /// Whether the log would take an event now: for readiness, which must find out by itself that a
    /// disk has room again, because a role that is not ready gets no request that would tell.
    ///
    /// # Errors
    /// [`AppendError`] as an append would answer it.
    pub async fn probe(&self) -> Result<(), AppendError> {
        let handle = Arc::clone(&self.0);
        let probed = tokio::task::spawn_blocking(move || handle.probe()).await;
        probed.unwrap_or_else(|error| Err(io::Error::other(error).into()))
    }

    /// Writes and syncs what is queued and ends the log; later appends fail. Safe to call twice.
    pub async fn close(&self) {
        self.0.shared.queue.close();
        let threads = std::mem::take(&mut *self.0.threads.lock());
        let joined = tokio::task::spawn_blocking(move || {
            threads
                .into_iter()
                .map(JoinHandle::join)
                .filter(Result::is_err)
                .count()
        });
        if !matches!(joined.await, Ok(0)) {
            tracing::error!("a thread of the audit log ended abnormally");
        }
    }

    fn encode(&self, events: &[Event]) -> Result<Vec<u8>, EncodeError> {
        let mut records = Vec::with_capacity(events.len().saturating_mul(1024));
        for event in events {
            let whole = records.len();
            match self.push(&mut records, event) {
                Err(EncodeError::TooLarge) => {
                    records.truncate(whole);
                    self.push(&mut records, &event.abridged())?;
                }
                pushed => pushed?,
            }
        }
        Ok(records)
    }

    fn push(&self, records: &mut Vec<u8>, event: &Event) -> Result<(), EncodeError> {
        let signed = |data: &[u8]| self.0.key.as_ref().map(|key| sign(key, data));
        push_record(records, |out| event.write_json(out), signed)
    }

    /// Waits for room in the queue.
    async fn share(
        &self,
        bytes: usize,
        deadline: tokio::time::Instant,
    ) -> Result<tokio::sync::OwnedSemaphorePermit, AppendError> {
        let capacity = &self.0.capacity;
        let bytes = u32::try_from(bytes)
            .ok()
            .filter(|bytes| {
                usize::try_from(*bytes).is_ok_and(|b| b <= self.0.shared.options.queue_bytes)
            })
            .ok_or(AppendError::Event(EncodeError::TooLarge))?;
        if let Ok(share) = Arc::clone(capacity).try_acquire_many_owned(bytes) {
            return Ok(share);
        }
        let waiting = Arc::clone(capacity).acquire_many_owned(bytes);
        match tokio::time::timeout_at(deadline, waiting).await {
            Ok(share) => share.map_err(|_| AppendError::Closed),
            Err(_) => Err(AppendError::Overloaded),
        }
    }
}

/// One opening at a time: two writers would give the same positions to different events.
fn lock(dir: &Path) -> Result<File, JournalError> {
    let failed = |error| JournalError::Io(dir.to_owned(), error);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(dir.join("lock")).map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::Locked(dir.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

fn spawn(
    shared: &Arc<Shared>,
    disk: Arc<dyn Disk>,
    origin: Origin,
    lock: File,
) -> io::Result<Vec<JoinHandle<()>>> {
    let keeping = Arc::clone(shared);
    let keeper_disk = Arc::clone(&disk);
    let keeper = std::thread::Builder::new()
        .name("audit-log-sync".to_owned())
        .spawn(move || {
            let interval = keeping.options.flush_interval;
            keeper::run(
                &keeping.chores,
                keeper_disk.as_ref(),
                &keeping.dir,
                interval,
                lock,
            );
        })?;
    let writing = Arc::clone(shared);
    let writer = Writer::new(Arc::clone(shared), disk, origin);
    let writer = std::thread::Builder::new()
        .name("audit-log-write".to_owned())
        .spawn(move || {
            writer.run();
            writing.chores.close();
            writing.ended.send_replace(true);
        });
    match writer {
        Ok(writer) => Ok(vec![writer, keeper]),
        Err(error) => {
            shared.chores.close();
            Err(error)
        }
    }
}
