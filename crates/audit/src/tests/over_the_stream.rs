//! Evidence that arrives over the stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use caracal_core::Secret;
use caracal_evidence::log::{Origin, Position, ProducerId};
use caracal_evidence::ship::{Chunk, ChunkEvent, Hole, HoleKind};
use caracal_evidence::{ChainHead, Event, sign};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::queue::MemoryQueue;
use super::{event, key, parts_from, zone};
use crate::ledger::memory::MemoryLedger;
use crate::ledger::{AlertKind, Ledger, Part};
use crate::stream::{EvidenceQueue, Fields};
use crate::{Audit, Source};

struct Replica {
    audit: Audit,
    task: tokio::task::JoinHandle<()>,
}

impl Replica {
    async fn settle(&self) {
        self.audit.caught_up(Duration::from_secs(5)).await.unwrap();
    }

    async fn stop(self) {
        self.audit.stop();
        self.task.await.unwrap();
    }

    async fn call(&self, method: &str, path: &str) -> (StatusCode, Value) {
        let router = self.audit.router(Some(Secret::new("token".to_owned())));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", "Bearer token");
        let request = request.body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }
}

fn start(queue: &Arc<MemoryQueue>, ledger: &Arc<MemoryLedger>) -> Replica {
    let ledger = Arc::clone(ledger) as Arc<dyn Ledger>;
    let source = Source::Stream(Arc::clone(queue) as Arc<dyn EvidenceQueue>);
    let mut parts = parts_from(source, &ledger);
    parts.options.claim_idle = Duration::from_millis(20);
    parts.options.max_deliveries = 3;
    let audit = Audit::new(parts);
    let running = audit.clone();
    let task = tokio::spawn(async move { running.run().await });
    Replica { audit, task }
}

fn origin() -> Origin {
    Origin {
        producer: ProducerId::from_bytes([9; 16]),
        first: Position::new(1),
    }
}

fn chunk(first: u64, events: &[Event]) -> Chunk {
    let positions = first..;
    let events: Vec<ChunkEvent> = positions
        .zip(events)
        .map(|(position, event)| {
            let data = Bytes::from(event.to_json().unwrap());
            ChunkEvent {
                position: Position::new(position),
                signature: Some(sign::sign(&key(), &data)),
                data,
            }
        })
        .collect();
    Chunk {
        origin: origin(),
        first: Position::new(first),
        last: events.last().unwrap().position,
        events,
        holes: Vec::new(),
    }
}

fn entry(chunk: &Chunk) -> Fields {
    chunk
        .encode(Some(&key()))
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Bytes::from(value)))
        .collect()
}

fn single(data: &[u8]) -> Fields {
    let sig = sign::sign(&key(), data).to_string();
    Fields::from([
        ("id".to_owned(), Bytes::from_static(b"an-id")),
        ("data".to_owned(), Bytes::copy_from_slice(data)),
        ("sig".to_owned(), Bytes::from(sig)),
    ])
}

fn events(ids: std::ops::Range<u32>) -> Vec<Event> {
    ids.map(|n| event(&n.to_string(), &zone("a"))).collect()
}

fn both() -> (Arc<MemoryQueue>, Arc<MemoryLedger>) {
    (Arc::default(), Arc::default())
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn events_of_chunks_and_single_events_are_chained_and_acknowledged() {
    let (queue, ledger) = both();
    let replica = start(&queue, &ledger);
    queue.push(entry(&chunk(1, &events(1..4))));
    queue.push(single(&event("4", &zone("a")).to_json().unwrap()));
    replica.settle().await;
    let state = ledger.state();
    let mut head = ChainHead::genesis(&zone("a"));
    for entry in &state.entries {
        assert_eq!(head.append(entry.data.as_bytes()), entry.link);
    }
    assert_eq!(state.entries.len(), 4);
    assert_eq!(state.heads[&zone("a")], head);
    let stored = Part {
        producer: origin().producer,
        origin: Position::new(1),
        first: Position::new(1),
        last: Position::new(3),
    };
    assert_eq!(state.parts, [stored]);
    replica.stop().await;
}

#[tokio::test]
async fn what_comes_twice_is_stored_once() {
    let (queue, ledger) = both();
    let replica = start(&queue, &ledger);
    queue.push(entry(&chunk(1, &events(1..4))));
    replica.settle().await;
    queue.push(entry(&chunk(2, &events(2..6))));
    queue.push(single(&event("1", &zone("a")).to_json().unwrap()));
    replica.settle().await;
    let ids: Vec<_> = ledger
        .state()
        .entries
        .iter()
        .map(|entry| entry.event_id.to_string())
        .collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5"]);
    assert!(ledger.state().alerts.is_empty() && queue.reasons().is_empty());
    replica.stop().await;
}

#[tokio::test]
async fn while_the_ledger_is_down_nothing_is_set_aside() {
    let (queue, ledger) = both();
    ledger.failures.store(4, Ordering::SeqCst);
    let replica = start(&queue, &ledger);
    queue.push(entry(&chunk(1, &events(1..4))));
    until(|| ledger.state().entries.len() == 3).await;
    replica.settle().await;
    assert!(queue.reasons().is_empty());
    replica.stop().await;
}

#[tokio::test]
async fn stopping_while_the_ledger_is_down_leaves_the_entries_to_others() {
    let (queue, ledger) = both();
    ledger.failures.store(u32::MAX, Ordering::SeqCst);
    let replica = start(&queue, &ledger);
    queue.push(entry(&chunk(1, &events(1..4))));
    until(|| ledger.failures.load(Ordering::SeqCst) < u32::MAX).await;
    replica.stop().await;
    assert_eq!(queue.tidy().await.unwrap().pending, 1);
    ledger.failures.store(0, Ordering::SeqCst);
    let other = start(&queue, &ledger);
    other.settle().await;
    assert_eq!(ledger.state().entries.len(), 3);
    other.stop().await;
}

#[tokio::test]
async fn a_stream_that_fails_is_tried_again() {
    let (queue, ledger) = both();
    queue.failures.store(3, Ordering::SeqCst);
    queue.push(entry(&chunk(1, &events(1..4))));
    let replica = start(&queue, &ledger);
    until(|| ledger.state().entries.len() == 3).await;
    replica.stop().await;
}

#[tokio::test]
async fn entries_that_are_not_good_are_set_aside_with_an_alert() {
    let (queue, ledger) = both();
    let replica = start(&queue, &ledger);
    let mut forged = entry(&chunk(1, &events(1..2)));
    forged.insert("last".to_owned(), Bytes::from_static(b"9"));
    queue.push(forged);
    queue.push(Fields::from([("id".to_owned(), Bytes::new())]));
    queue.push(single(b"[]"));
    let mut unsigned = single(&event("1", &zone("a")).to_json().unwrap());
    unsigned.remove("sig");
    queue.push(unsigned);
    replica.settle().await;
    let reasons = queue.reasons();
    assert_eq!(reasons[0], "hmac_verify_failed");
    assert_eq!(reasons[1], "missing_data_field");
    assert!(
        reasons[2].starts_with("json_parse_error:"),
        "{}",
        reasons[2]
    );
    assert_eq!(reasons[3], "hmac_verify_failed");
    assert_eq!(ledger.state().alerts.len(), 4);
    assert!(ledger.state().entries.is_empty() && ledger.state().parts.is_empty());
    replica.stop().await;
}

#[tokio::test]
async fn a_bad_event_of_a_good_chunk_is_set_aside_and_the_rest_is_stored() {
    let (queue, ledger) = both();
    let replica = start(&queue, &ledger);
    let mut altered = chunk(1, &events(1..4));
    altered.events[1].data = Bytes::from_static(b"{\"id\":\"2\"}");
    queue.push(entry(&altered));
    replica.settle().await;
    assert_eq!(ledger.state().entries.len(), 2);
    assert_eq!(ledger.state().alerts[0].kind, AlertKind::BadSignature);
    assert_eq!(queue.reasons(), ["hmac_verify_failed"]);
    replica.stop().await;
}

#[tokio::test]
async fn an_id_with_another_content_is_told_as_tampering() {
    let (queue, ledger) = both();
    let replica = start(&queue, &ledger);
    queue.push(entry(&chunk(1, &events(1..4))));
    let other = event("2", &zone("a")).with("reason", "another");
    queue.push(single(&other.to_json().unwrap()));
    replica.settle().await;
    assert_eq!(ledger.state().entries.len(), 3);
    assert_eq!(ledger.state().alerts[0].kind, AlertKind::ContentMismatch);
    assert_eq!(queue.reasons(), ["tamper_on_replay"]);
    replica.stop().await;
}

#[tokio::test]
async fn an_entry_that_the_ledger_refuses_is_set_aside_after_some_tries_and_can_be_sent_again() {
    let (queue, ledger) = both();
    ledger.edit(|state| state.poison = Some("2".parse().unwrap()));
    let replica = start(&queue, &ledger);
    queue.push(entry(&chunk(1, &events(1..2))));
    queue.push(entry(&chunk(2, &events(2..3))));
    queue.push(entry(&chunk(3, &events(3..4))));
    replica.settle().await;
    assert_eq!(ledger.state().entries.len(), 2);
    assert!(queue.reasons()[0].starts_with("pg_permanent_error:"));
    queue.push(Fields::new());
    replica.settle().await;

    let (status, list) = replica.call("GET", "/api/audit/dlq").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(list["entries"][0]["replayable"], true);
    assert_eq!(list["entries"][0]["event_id"], "2");
    assert_eq!(list["entries"][1]["replayable"], false);
    let id = list["entries"][0]["id"].as_str().unwrap();
    let (_, detail) = replica.call("GET", &format!("/api/audit/dlq/{id}")).await;
    assert_eq!(detail["source_event"]["id"], "2");
    assert_eq!(detail["fields"]["src_first"], "2");

    ledger.edit(|state| state.poison = None);
    let (_, done) = replica.call("POST", "/api/audit/dlq/replay?limit=5").await;
    assert_eq!(done, json!({"scanned": 2, "replayed": 1, "skipped": 1}));
    replica.settle().await;
    assert_eq!(ledger.state().entries.len(), 3);
    assert_eq!(queue.reasons(), ["missing_data_field"]);
    replica.stop().await;
}

#[tokio::test]
async fn letters_that_can_not_be_sent_again_do_not_stand_in_the_way() {
    let (queue, ledger) = both();
    let letter = |reason: &str| {
        Fields::from([
            ("reason".to_owned(), Bytes::from(reason.to_owned())),
            ("src_data".to_owned(), Bytes::from_static(b"[]")),
        ])
    };
    for _ in 0..250 {
        queue
            .set_aside(&letter("hmac_verify_failed"))
            .await
            .unwrap();
    }
    queue
        .set_aside(&letter("pg_permanent_error:x"))
        .await
        .unwrap();
    let done = crate::stream::dead::replay(&*queue, 1).await.unwrap();
    assert_eq!(
        json!(done),
        json!({"scanned": 251, "replayed": 1, "skipped": 250})
    );
    let replica = start(&queue, &ledger);
    let (status, _) = replica.call("GET", "/api/audit/dlq?limit=0").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (_, page) = replica.call("GET", "/api/audit/dlq?limit=2&start=(1").await;
    assert_eq!(page["entries"][0]["id"], "2");
    assert_eq!(page["next_cursor"], "3");
    let (status, _) = replica.call("DELETE", "/api/audit/dlq/2").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = replica.call("GET", "/api/audit/dlq/2").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    replica.stop().await;
}

#[tokio::test]
async fn lost_evidence_shows_until_an_operator_acknowledges_it() {
    let (queue, ledger) = both();
    let replica = start(&queue, &ledger);
    let mut holed = chunk(3, &events(3..4));
    holed.first = Position::new(1);
    holed.holes.push(Hole {
        first: Position::new(1),
        last: Position::new(2),
        kind: HoleKind::Damaged,
    });
    queue.push(entry(&holed));
    queue.push(entry(&holed));
    replica.settle().await;
    let kinds: Vec<_> = ledger
        .state()
        .alerts
        .iter()
        .map(|alert| alert.kind)
        .collect();
    assert_eq!(kinds, [AlertKind::EvidenceLost]);
    crate::lost::look(&replica.audit.0).await.unwrap();
    let ready = replica.audit.readiness();
    ready.check().await.unwrap();
    assert_eq!(ready.ready_body()["audit_evidence_lost"], 1);
    let (_, lost) = replica.call("GET", "/api/audit/evidence-lost").await;
    assert_eq!(lost["unacknowledged"], 1);
    assert_eq!(lost["oldest"]["detail"]["to"], 2);
    let path = "/api/audit/evidence-lost/acknowledge";
    let (_, done) = replica.call("POST", path).await;
    assert_eq!(done["acknowledged"], 1);
    assert_eq!(ready.ready_body(), json!({"ready": true}));
    replica.stop().await;
}

#[tokio::test]
async fn a_hole_that_nothing_closes_is_told_once() {
    let (queue, ledger) = both();
    let hole = Part {
        producer: origin().producer,
        origin: Position::new(1),
        first: Position::new(4),
        last: Position::new(9),
    };
    ledger.edit(|state| state.holes = vec![hole]);
    let replica = start(&queue, &ledger);
    for _ in 0..2 {
        crate::stream::backlog::tell_holes(&replica.audit.0).await;
    }
    let alerts = ledger.state().alerts;
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].kind, AlertKind::LogGap);
    assert!(alerts[0].detail.contains("\"from\":4"));
    replica.stop().await;
}

#[tokio::test]
async fn readiness_tells_what_is_wrong_with_the_stream() {
    let (queue, ledger) = both();
    let source = Source::Stream(Arc::clone(&queue) as Arc<dyn EvidenceQueue>);
    let ledger = Arc::clone(&ledger) as Arc<dyn Ledger>;
    let mut parts = parts_from(source, &ledger);
    parts.options.ready_dead_max = Some(1);
    let audit = Audit::new(parts);
    let ready = audit.readiness();
    ready.check().await.unwrap();
    queue.failures.store(1, Ordering::SeqCst);
    assert_eq!(ready.check().await.unwrap_err().reason, "redis_unreachable");
    for _ in 0..2 {
        queue.set_aside(&Fields::new()).await.unwrap();
    }
    let running = audit.clone();
    let task = tokio::spawn(async move { running.run().await });
    until(|| audit.json_metrics()()["dlq_size"] == 2).await;
    assert_eq!(
        ready.check().await.unwrap_err().reason,
        "audit_dlq_threshold"
    );
    audit.stop();
    task.await.unwrap();
}

#[tokio::test]
async fn operators_can_shorten_retention_and_not_lengthen_it() {
    let (queue, ledger) = both();
    let source = Source::Stream(Arc::clone(&queue) as Arc<dyn EvidenceQueue>);
    let shared = Arc::clone(&ledger) as Arc<dyn Ledger>;
    let mut parts = parts_from(source, &shared);
    parts.options.retention_days = 30;
    let now = parts.clock.now();
    let audit = Audit::new(parts);
    for (wanted, days) in [(None, 30), (Some(7), 7), (Some(90), 30), (Some(0), 1)] {
        ledger.edit(|state| state.retention_days = wanted);
        crate::retention::retain(&audit.0).await.unwrap();
        let before = ledger.state().retained.pop().unwrap();
        assert_eq!(
            now.seconds() - before.seconds(),
            days * 86_400,
            "{wanted:?}"
        );
    }
}
