use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use caracal_core::{SystemRandom, Timestamp};
use caracal_crypto::HmacKey;
use caracal_evidence::{ChainHead, Checkpoint, Journal, JournalOptions, Position};

use serde_json::json;

use super::{event, key, open, parts, start, zone};
use crate::Audit;
use crate::ledger::memory::MemoryLedger;
use crate::ledger::{AlertKind, Batch, Ledger};

#[tokio::test]
async fn events_are_chained_per_zone_and_the_log_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(MemoryLedger::default());
    let running = start(open(dir.path(), Some(key())), &ledger);
    let (a, b) = (zone("a"), zone("b"));
    running
        .append(&[event("1", &a), event("2", &b), event("3", &a)])
        .await;
    running.settle().await;
    let state = ledger.state();
    let places: Vec<_> = state
        .entries
        .iter()
        .map(|entry| {
            (
                entry.zone_id.as_str(),
                entry.event_id.as_str(),
                entry.link.seq,
            )
        })
        .collect();
    assert_eq!(places, [("a", "1", 1), ("b", "2", 1), ("a", "3", 2)]);
    let mut head = ChainHead::genesis(&a);
    for entry in state.entries.iter().filter(|entry| entry.zone_id == a) {
        assert_eq!(head.append(entry.data.as_bytes()), entry.link);
    }
    assert_eq!(state.heads[&a], head);
    assert_eq!(state.entries[0].application_id.as_deref(), Some("app-1"));
    assert_eq!(state.entries[0].labels, ["batch"]);
    assert_eq!(running.journal.released(), Position::new(3));
    running.stop().await;
}

#[tokio::test]
async fn the_barrier_covers_what_was_appended_before_it_and_cuts_the_linger() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(MemoryLedger::default());
    let running = start(open(dir.path(), Some(key())), &ledger);
    for n in 0..20 {
        running.append(&[event(&n.to_string(), &zone("a"))]).await;
        running.settle().await;
        assert_eq!(ledger.state().entries.len(), n + 1);
    }
    running.stop().await;
}

#[tokio::test]
async fn what_waits_is_stored_together() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Some(key()));
    for n in 0..120 {
        journal
            .append(&[event(&n.to_string(), &zone("a"))])
            .await
            .unwrap();
    }
    let ledger = Arc::new(MemoryLedger::default());
    let running = start(journal, &ledger);
    running.settle().await;
    let state = ledger.state();
    assert_eq!(state.entries.len(), 120);
    assert!(state.batches <= 2, "{} batches", state.batches);
    running.stop().await;
}

#[tokio::test]
async fn a_ledger_that_fails_for_a_while_gets_everything_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(MemoryLedger::default());
    ledger.failures.store(2, Ordering::SeqCst);
    let running = start(open(dir.path(), Some(key())), &ledger);
    running.append(&[event("1", &zone("a"))]).await;
    assert!(
        running
            .audit
            .caught_up(Duration::from_millis(10))
            .await
            .is_err()
    );
    let not_ready = running.audit.readiness().check().await.unwrap_err();
    assert_eq!(not_ready.reason, "consumer_unhealthy");
    running
        .audit
        .caught_up(Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(ledger.state().entries.len(), 1);
    assert!(running.audit.readiness().check().await.is_ok());
    running.stop().await;
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(MemoryLedger::default());
    ledger.lost_answers.store(1, Ordering::SeqCst);
    let running = start(open(dir.path(), Some(key())), &ledger);
    running
        .append(&[event("1", &zone("a")), event("2", &zone("a"))])
        .await;
    running
        .audit
        .caught_up(Duration::from_secs(60))
        .await
        .unwrap();
    running.append(&[event("3", &zone("a"))]).await;
    running
        .audit
        .caught_up(Duration::from_secs(60))
        .await
        .unwrap();
    let ids: Vec<_> = ledger
        .state()
        .entries
        .iter()
        .map(|e| (e.event_id.to_string(), e.link.seq))
        .collect();
    assert_eq!(
        ids,
        [
            ("1".to_owned(), 1),
            ("2".to_owned(), 2),
            ("3".to_owned(), 3)
        ]
    );
    assert!(ledger.state().alerts.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn after_a_restart_nothing_is_stored_twice() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(MemoryLedger::default());
    let running = start(open(dir.path(), Some(key())), &ledger);
    running.append(&[event("1", &zone("a"))]).await;
    running.settle().await;
    running.stop().await;
    let running = start(open(dir.path(), Some(key())), &ledger);
    running.append(&[event("2", &zone("a"))]).await;
    running.settle().await;
    assert_eq!(ledger.state().entries.len(), 2);
    assert!(ledger.state().alerts.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_log_whose_watermark_is_gone_is_deduplicated_by_event_id() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(MemoryLedger::default());
    let running = start(open(dir.path(), Some(key())), &ledger);
    running
        .append(&[event("1", &zone("a")), event("2", &zone("a"))])
        .await;
    running.settle().await;
    running.stop().await;
    ledger.edit(|state| state.watermarks.clear());
    let running = start(open(dir.path(), Some(key())), &ledger);
    running.append(&[event("3", &zone("a"))]).await;
    running.settle().await;
    let seqs: Vec<_> = ledger
        .state()
        .entries
        .iter()
        .map(|entry| entry.link.seq)
        .collect();
    assert_eq!(seqs, [1, 2, 3]);
    assert!(ledger.state().alerts.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn an_event_id_that_comes_again_is_benign_or_an_alert_by_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(MemoryLedger::default());
    let running = start(open(dir.path(), Some(key())), &ledger);
    let first = event("1", &zone("a"));
    running.append(&[first.clone(), first.clone()]).await;
    running.settle().await;
    running.append(std::slice::from_ref(&first)).await;
    running.settle().await;
    assert!(ledger.state().alerts.is_empty());
    running.append(&[first.with("reason", "changed")]).await;
    running.settle().await;
    let state = ledger.state();
    assert_eq!(state.entries.len(), 1);
    assert_eq!(state.alerts.len(), 1);
    assert_eq!(state.alerts[0].kind, AlertKind::ContentMismatch);
    assert_eq!(state.alerts[0].event_id.as_ref().unwrap().as_str(), "1");
    assert!(state.alerts[0].detail.contains("changed"));
    running.stop().await;
}

#[tokio::test]
async fn an_event_signed_by_another_key_is_kept_as_an_alert() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(MemoryLedger::default());
    let wrong = HmacKey::from_secret_bytes(&[8; 32]);
    let running = start(open(dir.path(), Some(wrong)), &ledger);
    running.append(&[event("1", &zone("a"))]).await;
    running.settle().await;
    let state = ledger.state();
    assert!(state.entries.is_empty());
    assert_eq!(state.alerts[0].kind, AlertKind::BadSignature);
    assert!(state.alerts[0].detail.contains("req-1"));
    assert_eq!(running.audit.json_metrics()()["hmac_failures_total"], 1);
    running.stop().await;
}

#[tokio::test]
async fn an_unsigned_event_is_refused_when_there_is_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(MemoryLedger::default());
    let running = start(open(dir.path(), None), &ledger);
    running.append(&[event("1", &zone("a"))]).await;
    running.settle().await;
    assert_eq!(ledger.state().alerts[0].kind, AlertKind::BadSignature);
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_record_of_the_log_is_an_alert_and_the_rest_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Some(key()));
    for n in 1..=3 {
        journal
            .append(&[event(&n.to_string(), &zone("a"))])
            .await
            .unwrap();
    }
    journal.close().await;
    drop(journal);
    let segment = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "wal"))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let ledger = Arc::new(MemoryLedger::default());
    let running = start(open(dir.path(), Some(key())), &ledger);
    running.settle().await;
    let state = ledger.state();
    let ids: Vec<_> = state
        .entries
        .iter()
        .map(|entry| entry.event_id.as_str())
        .collect();
    assert_eq!(ids, ["1", "3"]);
    let kinds: Vec<_> = state.alerts.iter().map(|alert| alert.kind).collect();
    assert_eq!(kinds, [AlertKind::EvidenceLost]);
    running.stop().await;
}

#[tokio::test]
async fn a_log_that_lost_its_beginning_is_an_alert() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        segment_bytes: 500,
        ..JournalOptions::default()
    };
    let journal = Journal::open(dir.path(), options, Some(key()), &SystemRandom).unwrap();
    for n in 1..=6 {
        journal
            .append(&[event(&n.to_string(), &zone("a"))])
            .await
            .unwrap();
    }
    journal.close().await;
    drop(journal);
    std::fs::remove_file(dir.path().join(format!("{:020}.wal", 1))).unwrap();
    let ledger = Arc::new(MemoryLedger::default());
    let running = start(open(dir.path(), Some(key())), &ledger);
    running.settle().await;
    let kinds: Vec<_> = ledger
        .state()
        .alerts
        .iter()
        .map(|alert| alert.kind)
        .collect();
    assert_eq!(kinds, [AlertKind::LogGap]);
    running.stop().await;
}

#[tokio::test]
async fn grown_chains_are_signed_when_the_role_stops() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(MemoryLedger::default());
    let running = start(open(dir.path(), Some(key())), &ledger);
    let zone = zone("a");
    running
        .append(&[event("1", &zone), event("2", &zone)])
        .await;
    running.settle().await;
    let verifier = running.audit.verifier(&zone).unwrap();
    running.stop().await;
    let state = ledger.state();
    let (_, signed) = state.checkpoints.last_key_value().unwrap();
    let checkpoint = Checkpoint::open(&signed.note, &verifier).unwrap();
    assert_eq!(checkpoint.size, 2);
    assert_eq!(checkpoint.root, state.heads[&zone].root());
}

#[tokio::test]
async fn a_chain_left_unsigned_by_a_crash_is_signed_by_the_next_run() {
    let ledger = Arc::new(MemoryLedger::default());
    let mut head = ChainHead::genesis(&zone("a"));
    head.append(b"{}");
    let batch = Batch {
        heads: vec![head],
        at: Timestamp::default(),
        ..Batch::default()
    };
    ledger.store(&batch).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let running = start(open(dir.path(), Some(key())), &ledger);
    running.stop().await;
    assert_eq!(ledger.state().checkpoints.len(), 1);
}

#[tokio::test]
async fn readiness_follows_the_ledger_and_the_configured_lag() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), Some(key()));
    let ledger = Arc::new(MemoryLedger::default());
    let mut parts = parts(journal.clone(), &ledger);
    parts.options.ready_lag_max = Some(1);
    parts.options.ready_oldest_max = Some(Duration::from_secs(30));
    let audit = Audit::new(parts);
    let reason = async || {
        audit
            .readiness()
            .check()
            .await
            .map_err(|not_ready| not_ready.reason)
    };
    assert_eq!(audit.readiness().ready_body(), json!({"ready": true}));
    assert_eq!(reason().await, Ok(()));
    ledger.failures.store(1, Ordering::SeqCst);
    assert_eq!(reason().await, Err("postgres_unreachable"));
    ledger.failures.store(0, Ordering::SeqCst);
    journal.append(&[event("1", &zone("a"))]).await.unwrap();
    assert_eq!(reason().await, Err("audit_pel_oldest_threshold"));
    journal.append(&[event("2", &zone("a"))]).await.unwrap();
    assert_eq!(reason().await, Err("audit_lag_threshold"));
}
