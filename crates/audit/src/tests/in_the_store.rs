//! The same role over the real store.

use std::sync::Arc;
use std::time::Duration;

use caracal_core::{ManualClock, SystemRandom, Timestamp};
use caracal_evidence::verify::{Trust, verify};
use caracal_evidence::{ChainHead, Decision, JournalOptions};
use caracal_store::Store;
use http_body_util::BodyExt;

use super::{NOW, event, event_at, key, open, parts_over, start_over, zone};
use crate::ledger::{Ledger, LedgerError, Search, StoreLedger};

async fn store(dir: &tempfile::TempDir) -> Store {
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(NOW)));
    Store::open_sqlite(&dir.path().join("store.db"), clock, Arc::new(SystemRandom))
        .await
        .unwrap()
}

#[tokio::test]
async fn events_are_stored_once_and_in_order_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let ledger: Arc<dyn Ledger> = Arc::new(StoreLedger::new(store));
    let log = dir.path().join("log");
    let mut expected = ChainHead::genesis(&zone("a"));
    for round in 0..3 {
        let running = start_over(open(&log, Some(key())), &ledger);
        for n in 0..30 {
            let event = event(&format!("{round}-{n}"), &zone("a"));
            expected.append(&event.to_json().unwrap());
            running.append(&[event]).await;
        }
        running.settle().await;
        running.stop().await;
    }
    assert_eq!(ledger.head(&zone("a")).await.unwrap(), expected);
    let records = ledger
        .search(&zone("a"), &Search::all_after(0, 1000))
        .await
        .unwrap();
    assert_eq!(records.len(), 90);
    let links: Vec<_> = records.iter().map(|record| record.chain).collect();
    assert!(
        records[1..]
            .iter()
            .zip(&links)
            .all(|(record, before)| record.before == *before)
    );
}

#[tokio::test]
async fn a_log_of_another_producer_with_known_events_adds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let ledger: Arc<dyn Ledger> = Arc::new(StoreLedger::new(store));
    for log in ["first", "second"] {
        let running = start_over(open(&dir.path().join(log), Some(key())), &ledger);
        running
            .append(&[event("1", &zone("a")), event("2", &zone("b"))])
            .await;
        running.settle().await;
        running.append(&[event(log, &zone("a"))]).await;
        running.settle().await;
        assert_eq!(running.audit.json_metrics()()["tamper_replay_total"], 0);
        running.stop().await;
    }
    assert_eq!(ledger.head(&zone("a")).await.unwrap().seq(), 3);
    assert_eq!(ledger.head(&zone("b")).await.unwrap().seq(), 1);
}

#[tokio::test]
async fn a_conflicting_batch_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let ledger: Arc<dyn Ledger> = Arc::new(StoreLedger::new(store(&dir).await));
    let running = start_over(open(&dir.path().join("log"), Some(key())), &ledger);
    running.append(&[event("1", &zone("a"))]).await;
    running.settle().await;
    running.stop().await;
    let stored = ledger
        .search(&zone("a"), &Search::all_after(0, 10))
        .await
        .unwrap();
    let mut head = ChainHead::genesis(&zone("a"));
    let data = stored[0].data.clone().unwrap();
    let batch = crate::ledger::Batch {
        entries: vec![crate::ledger::Entry {
            zone_id: zone("a"),
            link: head.append(data.as_bytes()),
            event_id: caracal_core::id::EventId::parse("other").unwrap(),
            occurred_at: Timestamp::from_seconds(NOW),
            event_type: String::new(),
            decision: String::new(),
            evaluation_status: String::new(),
            request_id: String::new(),
            application_id: None,
            agent_session_id: None,
            authority_record_id: None,
            labels: Vec::new(),
            data,
            signature: None,
        }],
        ..crate::ledger::Batch::default()
    };
    assert!(matches!(
        ledger.store(&batch).await,
        Err(LedgerError::Conflict)
    ));
    assert_eq!(
        ledger
            .search(&zone("a"), &Search::all_after(0, 10))
            .await
            .unwrap(),
        stored
    );
}

#[tokio::test]
async fn an_export_verifies_after_retention_removed_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let ledger: Arc<dyn Ledger> = Arc::new(StoreLedger::new(store.clone()));
    let journal = caracal_evidence::Journal::open(
        &dir.path().join("log"),
        JournalOptions::default(),
        Some(key()),
        &SystemRandom,
    )
    .unwrap();
    let running = start_over(journal, &ledger);
    let old = event_at("old", &zone("a"), Decision::Deny, NOW - 400 * 24 * 60 * 60);
    running
        .append(&[old, event("1", &zone("a")), event("2", &zone("a"))])
        .await;
    running.settle().await;
    let audit = running.audit.clone();
    running.stop().await;
    let mut unit = store.begin(&zone("a")).await.unwrap();
    let cutoff = Timestamp::from_seconds(NOW - 24 * 60 * 60);
    assert_eq!(unit.remove_audit_texts(cutoff, 100).await.unwrap(), 1);
    unit.commit().await.unwrap();
    let router = audit.router(Some("t".to_owned().into()));
    let request = http::Request::get("/api/audit/export?zone_id=a")
        .header("authorization", "t")
        .body(axum::body::Body::empty())
        .unwrap();
    let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
    let bundle = response.into_body().collect().await.unwrap().to_bytes();
    let trust = Trust {
        key: Some(audit.verifier(&zone("a")).unwrap()),
        earlier: Vec::new(),
    };
    let verified = verify(&bundle[..], &trust).unwrap();
    assert_eq!(
        (verified.events, verified.removed, verified.first_event),
        (2, 1, Some(2))
    );
}

#[tokio::test]
async fn a_closed_store_is_waited_for_and_makes_the_role_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let ledger: Arc<dyn Ledger> = Arc::new(StoreLedger::new(store.clone()));
    let journal = open(&dir.path().join("log"), Some(key()));
    store.close().await;
    let audit = crate::Audit::new(parts_over(journal.clone(), &ledger));
    let not_ready = audit.readiness().check().await.unwrap_err();
    assert_eq!(not_ready.reason, "postgres_unreachable");
    let running = tokio::spawn({
        let audit = audit.clone();
        async move { audit.run().await }
    });
    journal.append(&[event("1", &zone("a"))]).await.unwrap();
    assert!(audit.caught_up(Duration::from_millis(200)).await.is_err());
    assert_eq!(
        journal.gauges(Timestamp::from_seconds(NOW)).pending_events,
        1
    );
    running.abort();
}
