//! The log's background thread: syncs what was written and removes what was released, so that the
//! writer waits for neither.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::disk::{Disk, SegmentFile, create_private_dir};
use super::index::Removal;

/// The least pause between two syncs, so that a slow disk doesn't make them one endless sync.
const MIN_PAUSE: Duration = Duration::from_millis(1);

/// What waits to be done.
#[derive(Debug, Default)]
pub(super) struct Chores {
    state: Mutex<State>,
    changed: Condvar,
    sync_errors: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    unsynced: Vec<Arc<dyn SegmentFile>>,
    names_changed: bool,
    removals: Vec<Removal>,
    closed: bool,
}

impl Chores {
    /// The file was written and is to be synced.
    pub(super) fn sync(&self, file: &Arc<dyn SegmentFile>) {
        let mut state = self.state.lock();
        if !state.unsynced.iter().any(|held| Arc::ptr_eq(held, file)) {
            state.unsynced.push(Arc::clone(file));
            drop(state);
            self.changed.notify_one();
        }
    }

    /// A segment was created.
    pub(super) fn sync_names(&self) {
        self.state.lock().names_changed = true;
        self.changed.notify_one();
    }

    /// These segments are no longer needed.
    pub(super) fn remove(&self, removals: Vec<Removal>) {
        if !removals.is_empty() {
            self.state.lock().removals.extend(removals);
            self.changed.notify_one();
        }
    }

    /// Does what waits and ends.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    pub(super) fn sync_errors(&self) -> u64 {
        self.sync_errors.load(Ordering::Relaxed)
    }

    /// Waits for something to do, then `pause` longer to gather more.
    fn take(&self, pause: Duration) -> State {
        let mut state = self.state.lock();
        while state.unsynced.is_empty() && !state.names_changed && state.removals.is_empty() {
            if state.closed {
                return std::mem::take(&mut state);
            }
            self.changed.wait(&mut state);
        }
        let until = Instant::now() + pause;
        while !state.closed && !self.changed.wait_until(&mut state, until).timed_out() {}
        let closed = state.closed;
        let taken = std::mem::take(&mut *state);
        state.closed = closed;
        taken
    }
}

/// Runs until the chores are closed. Holds the directory's lock as long as it runs.
pub(super) fn run(
    chores: &Chores,
    disk: &dyn Disk,
    dir: &Path,
    flush_interval: Duration,
    lock: File,
) {
    let mut cost = Duration::ZERO;
    loop {
        let work = chores.take(flush_interval.saturating_sub(cost).max(MIN_PAUSE));
        let idle = work.unsynced.is_empty() && !work.names_changed && work.removals.is_empty();
        if idle && work.closed {
            break;
        }
        let started = Instant::now();
        if let Err(error) = sync(&work, disk, dir) {
            chores.sync_errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, dir = %dir.display(), "the audit log could not be synced");
        }
        cost = started.elapsed();
        for removal in &work.removals {
            discard(removal, dir);
        }
    }
    drop(lock);
}

fn sync(work: &State, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    for file in &work.unsynced {
        file.sync_data()?;
    }
    if work.names_changed {
        disk.sync_dir(dir)?;
    }
    Ok(())
}

/// Removes a segment; one with damage goes to the quarantine, for inspection.
fn discard(removal: &Removal, dir: &Path) {
    let outcome = if removal.damaged {
        quarantine_path(dir, &removal.path).and_then(|to| std::fs::rename(&removal.path, to))
    } else {
        std::fs::remove_file(&removal.path)
    };
    if let Err(error) = outcome {
        let path = removal.path.display();
        tracing::error!(%error, %path, "a released audit segment could not be removed");
    }
}

/// Where a damaged file is kept.
pub(super) fn quarantine_path(dir: &Path, file: &Path) -> io::Result<PathBuf> {
    let quarantine = dir.join("quarantine");
    create_private_dir(&quarantine)?;
    Ok(quarantine.join(file.file_name().unwrap_or_default()))
}
