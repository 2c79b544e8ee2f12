use std::time::Duration;

use caracal_core::Timestamp;

use super::{append_each, event, key, name_of, names, open, read_all};
use crate::log::{Durability, Journal, JournalError, JournalOptions, Position};
use crate::sign::verifies;

fn small_segments() -> JournalOptions {
    JournalOptions {
        segment_bytes: 2_000,
        ..JournalOptions::default()
    }
}

#[tokio::test]
async fn what_was_appended_is_read_in_order_and_signed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), JournalOptions::default());
    let position = journal.append(&[event("r0"), event("r1")]).await.unwrap();
    assert_eq!(position, Position::new(2));
    let batch = journal
        .reader(Position::ZERO)
        .next_batch(10, 1 << 20)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(batch.upto, position);
    assert_eq!(batch.frames.len(), 2);
    for (frame, name) in batch.frames.iter().zip(["r0", "r1"]) {
        assert_eq!(name_of(&frame.data), name);
        assert!(verifies(&key(), &frame.data, &frame.signature.unwrap()));
        assert_eq!(frame.origin, journal.origin());
    }
}

#[tokio::test]
async fn an_event_that_is_too_large_is_logged_abridged() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), JournalOptions::default());
    let large = event("large").with("requested", "x".repeat(crate::event::MAX_EVENT_BYTES));
    journal
        .append(&[event("r0"), large, event("r1")])
        .await
        .unwrap();
    assert_eq!(read_all(&journal).await.0, ["r0", "large", "r1"]);
}

#[tokio::test]
async fn without_a_key_frames_are_unsigned() {
    let dir = tempfile::tempdir().unwrap();
    let random = caracal_core::SystemRandom;
    let journal = Journal::open(dir.path(), JournalOptions::default(), None, &random).unwrap();
    journal.append(&[event("r0")]).await.unwrap();
    let batch = journal
        .reader(Position::ZERO)
        .next_batch(10, 1 << 20)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(batch.frames[0].signature, None);
}

#[tokio::test]
async fn a_reader_waits_for_the_next_event_and_ends_with_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), JournalOptions::default());
    let mut reader = journal.reader(Position::ZERO);
    let waiting = tokio::spawn(async move {
        let first = reader.next_batch(10, 1 << 20).await.unwrap().unwrap();
        (
            first.frames.len(),
            reader.next_batch(10, 1 << 20).await.unwrap().is_none(),
        )
    });
    journal.append(&[event("r0")]).await.unwrap();
    journal.close().await;
    assert_eq!(waiting.await.unwrap(), (1, true));
}

#[tokio::test]
async fn appending_to_a_closed_log_fails() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), JournalOptions::default());
    journal.close().await;
    journal.close().await;
    assert!(journal.append(&[event("r0")]).await.is_err());
}

#[tokio::test]
async fn events_survive_reopening_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), small_segments());
    append_each(&journal, 0..20).await;
    let first_origin = journal.origin();
    journal.close().await;
    drop(journal);

    let journal = open(dir.path(), small_segments());
    append_each(&journal, 20..25).await;
    assert_eq!(read_all(&journal).await, (names(0..25), 0));
    assert_eq!(journal.recovery().pending_events, 20);
    assert_ne!(journal.origin().producer, first_origin.producer);
    assert_eq!(journal.origin().first, Position::new(21));
    let old = journal
        .reader(Position::new(20))
        .next_batch(1, 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(old.frames[0].origin, first_origin);
}

#[tokio::test]
async fn a_reader_that_fell_behind_reads_the_segments() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        tail_bytes: 0,
        ..small_segments()
    };
    let journal = open(dir.path(), options);
    append_each(&journal, 0..40).await;
    assert_eq!(read_all(&journal).await, (names(0..40), 0));
    let mut late = journal.reader(Position::new(33));
    let batch = late.next_batch(3, 1 << 20).await.unwrap().unwrap();
    assert_eq!(batch.frames[0].position, Position::new(33));
}

#[tokio::test]
async fn a_reader_crosses_from_the_segments_into_memory() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(
        dir.path(),
        JournalOptions {
            tail_bytes: 1_500,
            ..small_segments()
        },
    );
    append_each(&journal, 0..40).await;
    let mut reader = journal.reader(Position::ZERO);
    let mut seen = Vec::new();
    while seen.len() < 40 {
        let batch = reader.next_batch(3, 1 << 20).await.unwrap().unwrap();
        assert!(batch.frames.len() <= 3);
        seen.extend(batch.frames.iter().map(|frame| name_of(&frame.data)));
    }
    assert_eq!(seen, names(0..40));
}

#[tokio::test]
async fn a_batch_is_bounded_by_bytes_but_never_empty() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), JournalOptions::default());
    append_each(&journal, 0..3).await;
    let mut reader = journal.reader(Position::ZERO);
    let batch = reader.next_batch(100, 1).await.unwrap().unwrap();
    assert_eq!(batch.frames.len(), 1);
}

#[tokio::test]
async fn a_segment_goes_only_when_all_of_it_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), small_segments());
    append_each(&journal, 0..20).await;
    let before = journal.gauges(Timestamp::default());
    assert!(before.files > 2);
    journal.release(Position::new(1));
    assert_eq!(journal.gauges(Timestamp::default()).files, before.files);
    assert_eq!(journal.gauges(Timestamp::default()).pending_events, 19);
    journal.release(Position::new(20));
    let after = journal.gauges(Timestamp::default());
    assert_eq!((after.files, after.pending_events), (1, 0));
    journal.close().await;
    let left = std::fs::read_dir(dir.path()).unwrap().filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .path()
            .extension()
            .is_some_and(|e| e == "wal")
    });
    assert_eq!(left.count(), 1);
}

#[tokio::test]
async fn what_was_released_is_not_read_again_after_reopening_when_its_segment_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), small_segments());
    append_each(&journal, 0..20).await;
    journal.release(Position::new(20));
    journal.close().await;
    drop(journal);
    let journal = open(dir.path(), small_segments());
    assert!(journal.recovery().pending_events < 20);
    assert_eq!(
        journal.append(&[event("next")]).await.unwrap(),
        Position::new(21)
    );
}

#[tokio::test]
async fn the_age_is_that_of_the_oldest_unreleased_event() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), JournalOptions::default());
    let now = Timestamp::from_seconds(1_767_225_600).plus(Duration::from_secs(90));
    assert_eq!(journal.gauges(now).oldest_age, Duration::ZERO);
    let position = journal.append(&[event("r0")]).await.unwrap();
    assert_eq!(journal.gauges(now).oldest_age, Duration::from_secs(90));
    journal.release(position);
    assert_eq!(journal.gauges(now).oldest_age, Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_keep_each_callers_order() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(
        dir.path(),
        JournalOptions {
            segment_bytes: 20_000,
            ..Default::default()
        },
    );
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let journal = journal.clone();
            tokio::spawn(async move {
                let mut last = Position::ZERO;
                for turn in 0..50 {
                    let pair = [
                        event(&format!("c{caller}-{turn}-a")),
                        event(&format!("c{caller}-{turn}-b")),
                    ];
                    let position = journal.append(&pair).await.unwrap();
                    assert!(position > last);
                    last = position;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let (all, lost) = read_all(&journal).await;
    assert_eq!((all.len(), lost), (800, 0));
    for caller in 0..8 {
        let own: Vec<_> = all
            .iter()
            .filter(|n| n.starts_with(&format!("c{caller}-")))
            .collect();
        let expected: Vec<_> = (0..50)
            .flat_map(|turn| ["a", "b"].map(|half| format!("c{caller}-{turn}-{half}")))
            .collect();
        assert!(own.iter().zip(&expected).all(|(a, b)| *a == b));
    }
    // The two events of one append are neighbours.
    assert!(
        all.chunks(2)
            .all(|pair| pair[0].trim_end_matches('a') == pair[1].trim_end_matches('b'))
    );
}

#[tokio::test]
async fn a_directory_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), JournalOptions::default());
    let random = caracal_core::SystemRandom;
    let second = Journal::open(dir.path(), JournalOptions::default(), None, &random);
    assert!(matches!(second, Err(JournalError::Locked(_))));
    journal.close().await;
    assert!(Journal::open(dir.path(), JournalOptions::default(), None, &random).is_ok());
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_the_log() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let journal = open(
        &log,
        JournalOptions {
            durability: Durability::Disk,
            ..Default::default()
        },
    );
    journal.append(&[event("r0")]).await.unwrap();
    assert_eq!(
        std::fs::metadata(&log).unwrap().permissions().mode() & 0o777,
        0o700
    );
    for entry in std::fs::read_dir(&log).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
