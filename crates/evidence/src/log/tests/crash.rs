//! What a crash, a bad disk or a curious hand leaves behind.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use caracal_core::Timestamp;

use super::{append_each, event, name_of, names, open, read_all};
use crate::log::{JournalOptions, Position};

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "wal"))
        .collect();
    found.sort();
    found
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

fn cut(path: &Path, bytes: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len - bytes).unwrap();
}

fn quarantined(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("quarantine")).map_or(0, Iterator::count)
}

async fn filled(options: &JournalOptions, count: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), options.clone());
    append_each(&journal, 0..count).await;
    journal.close().await;
    dir
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_kept_aside_and_the_log_goes_on() {
    let dir = filled(&JournalOptions::default(), 5).await;
    let segment = &segments(dir.path())[0];
    let length = || std::fs::metadata(segment).unwrap().len();
    cut(segment, 7);
    let torn = length();
    let journal = open(dir.path(), JournalOptions::default());
    assert_eq!(journal.recovery().torn_bytes, torn - length());
    assert!(length() < torn);
    assert_eq!(
        journal.append(&[event("r4")]).await.unwrap(),
        Position::new(5)
    );
    assert_eq!(read_all(&journal).await, (names(0..5), 0));
    assert_eq!(quarantined(dir.path()), 1);
}

#[tokio::test]
async fn garbage_behind_the_last_record_is_a_torn_tail() {
    let dir = filled(&JournalOptions::default(), 3).await;
    let path = &segments(dir.path())[0];
    let len = std::fs::metadata(path).unwrap().len();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[0; 4096], len).unwrap();
    let journal = open(dir.path(), JournalOptions::default());
    assert_eq!(journal.recovery().torn_bytes, 4096);
    assert_eq!(read_all(&journal).await, (names(0..3), 0));
}

#[tokio::test]
async fn a_segment_that_only_has_a_torn_header_is_dropped() {
    let dir = filled(&JournalOptions::default(), 3).await;
    std::fs::write(dir.path().join(format!("{:020}.wal", 4)), b"CARWAL").unwrap();
    let journal = open(dir.path(), JournalOptions::default());
    assert_eq!(segments(dir.path()).len(), 1);
    append_each(&journal, 3..4).await;
    assert_eq!(read_all(&journal).await, (names(0..4), 0));
}

#[tokio::test]
async fn a_damaged_record_is_reported_and_its_segment_kept() {
    let options = JournalOptions {
        segment_bytes: 2_000,
        ..Default::default()
    };
    for which in [0, 1] {
        let dir = filled(&options, 10).await;
        let paths = segments(dir.path());
        assert!(paths.len() >= 2);
        let path = if which == 0 {
            &paths[0]
        } else {
            &paths[paths.len() - 1]
        };
        flip(path, 100);
        let journal = open(dir.path(), options.clone());
        append_each(&journal, 10..12).await;
        let (found, lost) = read_all(&journal).await;
        assert_eq!((found.len(), lost), (11, 1), "segment {which}");
        assert_eq!(journal.gauges(Timestamp::default()).dropped, 1);
        journal.release(journal.last());
        journal.close().await;
        assert_eq!(quarantined(dir.path()), 1);
    }
}

#[tokio::test]
async fn lost_positions_are_named() {
    let options = JournalOptions {
        segment_bytes: 1 << 20,
        ..Default::default()
    };
    let dir = filled(&options, 6).await;
    let path = &segments(dir.path())[0];
    // All records have the same length here.
    let record = (std::fs::metadata(path).unwrap().len() - 52) / 6;
    flip(path, 52 + 2 * record + 40);
    flip(path, 52 + 3 * record + 2);
    let journal = open(dir.path(), options);
    let mut reader = journal.reader(Position::ZERO);
    let (mut lost, mut seen) = (Vec::new(), Vec::new());
    let mut upto = Position::ZERO;
    while upto < journal.last() {
        let batch = reader.next_batch(10, 1 << 20).await.unwrap().unwrap();
        upto = batch.upto;
        lost.extend(
            batch
                .lost
                .iter()
                .map(|range| (range.first.get(), range.last.get())),
        );
        seen.extend(batch.frames.iter().map(|frame| name_of(&frame.data)));
    }
    assert_eq!(lost, [(3, 4)]);
    assert_eq!(seen, ["r0", "r1", "r4", "r5"]);
}

#[tokio::test]
async fn a_segment_cut_in_the_middle_of_the_log_is_lost_evidence_not_a_torn_tail() {
    let options = JournalOptions {
        segment_bytes: 2_000,
        ..Default::default()
    };
    let dir = filled(&options, 15).await;
    cut(&segments(dir.path())[0], 10);
    let journal = open(dir.path(), options);
    assert_eq!(journal.recovery().torn_bytes, 0);
    let (found, lost) = read_all(&journal).await;
    assert_eq!((found.len(), lost), (14, 1));
}

#[tokio::test]
async fn a_segment_that_was_deleted_is_lost_evidence() {
    let options = JournalOptions {
        segment_bytes: 2_000,
        ..Default::default()
    };
    let dir = filled(&options, 15).await;
    let paths = segments(dir.path());
    std::fs::remove_file(&paths[1]).unwrap();
    let journal = open(dir.path(), options);
    let (found, lost) = read_all(&journal).await;
    assert!(lost > 0);
    assert_eq!(found.len() + usize::try_from(lost).unwrap(), 15);
}

#[tokio::test]
async fn a_segment_with_a_damaged_header_still_gives_its_events() {
    let dir = filled(&JournalOptions::default(), 4).await;
    flip(&segments(dir.path())[0], 20);
    let journal = open(dir.path(), JournalOptions::default());
    assert_eq!(read_all(&journal).await, (names(0..4), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_taken_in_mid_write_holds_every_acknowledged_event() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        segment_bytes: 8_000,
        ..Default::default()
    };
    let journal = open(dir.path(), options.clone());
    let writer = {
        let journal = journal.clone();
        tokio::spawn(async move { append_each(&journal, 0..400).await })
    };
    let mut rounds = 0;
    while !writer.is_finished() {
        let acknowledged = journal.gauges(Timestamp::default()).appended;
        let copy = tempfile::tempdir().unwrap();
        for path in segments(dir.path()) {
            std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        let reopened = open(copy.path(), options.clone());
        let (found, lost) = read_all(&reopened).await;
        assert_eq!(lost, 0);
        assert!(u64::try_from(found.len()).unwrap() >= acknowledged);
        assert_eq!(found, names(0..u32::try_from(found.len()).unwrap()));
        rounds += 1;
    }
    writer.await.unwrap();
    assert!(rounds > 0);
}
