//! Disks that fail.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use caracal_core::{SystemRandom, Timestamp};
use parking_lot::Mutex;

use super::{append_each, event, key, names, open, read_all};
use crate::log::disk::{Disk, FileSystem, SegmentFile};
use crate::log::{AppendError, Durability, Journal, JournalOptions, Position};

/// A disk with room for so many bytes more; a write that doesn't fit writes what fits.
#[derive(Debug, Default)]
struct Faults {
    room: AtomicI64,
    no_truncate: AtomicBool,
    no_sync: AtomicBool,
    stuck: Mutex<()>,
}

#[derive(Debug, Clone)]
struct FaultyDisk(Arc<Faults>);

#[derive(Debug)]
struct FaultyFile(Arc<dyn SegmentFile>, Arc<Faults>);

impl FaultyDisk {
    fn with_room(bytes: i64) -> Self {
        Self(Arc::new(Faults {
            room: AtomicI64::new(bytes),
            ..Faults::default()
        }))
    }

    fn open(&self, dir: &Path, options: JournalOptions) -> Journal {
        let disk = Arc::new(self.clone());
        Journal::open_on(disk, dir, options, Some(key()), &SystemRandom).unwrap()
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(Arc::new(FaultyFile(
            FileSystem.create(path)?,
            Arc::clone(&self.0),
        )))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        FileSystem.sync_dir(dir)
    }
}

impl SegmentFile for FaultyFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        drop(self.1.stuck.lock());
        let room = self.1.room.load(Ordering::SeqCst);
        let fits = usize::try_from(room.max(0)).unwrap().min(bytes.len());
        self.1
            .room
            .fetch_sub(i64::try_from(fits).unwrap(), Ordering::SeqCst);
        self.0.write_all_at(&bytes[..fits], offset)?;
        if fits < bytes.len() {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.1.no_truncate.load(Ordering::SeqCst) {
            return Err(io::Error::other("no truncation"));
        }
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.1.no_sync.load(Ordering::SeqCst) {
            return Err(io::Error::other("no sync"));
        }
        self.0.sync_data()
    }
}

fn refused(outcome: &Result<Position, AppendError>) -> bool {
    matches!(outcome, Err(AppendError::Storage(_)))
}

#[tokio::test]
async fn a_full_disk_refuses_and_the_log_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::with_room(800);
    let journal = disk.open(dir.path(), JournalOptions::default());
    append_each(&journal, 0..2).await;
    assert!(refused(&journal.append(&[event("lost")]).await));
    assert!(refused(&journal.append(&[event("lost")]).await));
    let gauges = journal.gauges(Timestamp::default());
    assert_eq!((gauges.writable, gauges.storage_errors), (false, 2));
    disk.0.room.store(1_000_000, Ordering::SeqCst);
    append_each(&journal, 2..4).await;
    assert!(journal.gauges(Timestamp::default()).writable);
    assert_eq!(read_all(&journal).await, (names(0..4), 0));
    journal.close().await;
    drop(journal);
    let journal = open(dir.path(), JournalOptions::default());
    assert_eq!(journal.recovery().torn_bytes, 0);
    assert_eq!(read_all(&journal).await, (names(0..4), 0));
}

#[tokio::test]
async fn a_probe_finds_out_without_an_append_that_the_disk_has_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::with_room(800);
    let journal = disk.open(dir.path(), JournalOptions::default());
    append_each(&journal, 0..2).await;
    assert!(refused(&journal.append(&[event("lost")]).await));
    assert!(matches!(
        journal.probe().await,
        Err(AppendError::Storage(_))
    ));
    disk.0.room.store(1_000_000, Ordering::SeqCst);
    journal.probe().await.unwrap();
    assert!(journal.gauges(Timestamp::default()).writable);
    journal.close().await;
    assert!(matches!(journal.probe().await, Err(AppendError::Closed)));
    let left = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        !left
            .into_iter()
            .any(|name| name.to_string_lossy().starts_with(".ready"))
    );
}

#[tokio::test]
async fn a_part_of_a_record_that_could_not_be_cut_is_cut_before_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::with_room(800);
    let journal = disk.open(dir.path(), JournalOptions::default());
    append_each(&journal, 0..2).await;
    disk.0.no_truncate.store(true, Ordering::SeqCst);
    assert!(refused(&journal.append(&[event("lost")]).await));
    disk.0.room.store(1_000_000, Ordering::SeqCst);
    assert!(refused(&journal.append(&[event("lost")]).await));
    disk.0.no_truncate.store(false, Ordering::SeqCst);
    append_each(&journal, 2..3).await;
    journal.close().await;
    drop(journal);
    let journal = open(dir.path(), JournalOptions::default());
    assert_eq!(read_all(&journal).await, (names(0..3), 0));
}

#[tokio::test]
async fn a_disk_that_is_full_from_the_start_gets_its_first_segment_later() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::with_room(20);
    let journal = disk.open(dir.path(), JournalOptions::default());
    assert!(refused(&journal.append(&[event("lost")]).await));
    disk.0.room.store(1_000_000, Ordering::SeqCst);
    append_each(&journal, 0..1).await;
    journal.close().await;
    drop(journal);
    let journal = open(dir.path(), JournalOptions::default());
    assert_eq!(read_all(&journal).await, (names(0..1), 0));
}

#[tokio::test]
async fn with_disk_durability_an_event_that_cannot_be_synced_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::with_room(1_000_000);
    let options = JournalOptions {
        durability: Durability::Disk,
        ..Default::default()
    };
    let journal = disk.open(dir.path(), options);
    append_each(&journal, 0..1).await;
    disk.0.no_sync.store(true, Ordering::SeqCst);
    assert!(refused(&journal.append(&[event("lost")]).await));
    disk.0.no_sync.store(false, Ordering::SeqCst);
    append_each(&journal, 1..2).await;
    assert_eq!(read_all(&journal).await, (names(0..2), 0));
}

#[tokio::test]
async fn the_size_limit_refuses_until_the_consumer_releases() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        segment_bytes: 1_000,
        max_total_bytes: 4_000,
        ..Default::default()
    };
    let journal = open(dir.path(), options);
    let mut taken = 0;
    let refused = loop {
        match journal.append(&[event(&format!("r{taken}"))]).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::Full));
    assert!(journal.gauges(Timestamp::default()).bytes <= 4_000);
    journal.release(journal.last());
    append_each(&journal, 0..30u32.min(taken)).await;
}

#[tokio::test]
async fn a_full_queue_refuses_after_the_wait() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::with_room(1_000_000);
    let options = JournalOptions {
        queue_bytes: 700,
        append_timeout: Duration::from_millis(50),
        ..Default::default()
    };
    let journal = disk.open(dir.path(), options);
    let stuck = Arc::clone(&disk.0);
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let (held, wait_held) = tokio::sync::oneshot::channel();
    let holder = std::thread::spawn(move || {
        let guard = stuck.stuck.lock();
        held.send(()).unwrap();
        told.recv().unwrap();
        drop(guard);
    });
    wait_held.await.unwrap();
    let [queued, queued_too, overloaded] = {
        let names = ["r0", "r1", "r2"].map(event);
        let appends = names
            .each_ref()
            .map(|event| journal.append(std::slice::from_ref(event)));
        let [a, b, c] = appends;
        let (a, b, c) = tokio::join!(a, b, c);
        [a, b, c]
    };
    assert!(matches!(queued, Err(AppendError::TimedOut)));
    assert!(matches!(queued_too, Err(AppendError::TimedOut)));
    assert!(matches!(overloaded, Err(AppendError::Overloaded)));
    tell.send(()).unwrap();
    holder.join().unwrap();
    journal.close().await;
    // What was queued is in the log although nobody waited for it.
    drop(journal);
    let journal = open(dir.path(), JournalOptions::default());
    assert_eq!(read_all(&journal).await.0, ["r0", "r1"]);
}

#[tokio::test]
async fn an_event_larger_than_the_queue_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(
        dir.path(),
        JournalOptions {
            queue_bytes: 100,
            ..Default::default()
        },
    );
    assert!(matches!(
        journal.append(&[event("r0")]).await,
        Err(AppendError::Event(_))
    ));
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    File::create(&file).unwrap();
    assert!(Journal::open(&file, JournalOptions::default(), None, &SystemRandom).is_err());
}
