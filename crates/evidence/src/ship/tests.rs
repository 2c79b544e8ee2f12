use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use caracal_core::id::ZoneId;
use caracal_core::{ManualClock, RequestId, SeededRandom, SystemRandom, Timestamp};
use caracal_crypto::HmacKey;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::cut::Cutter;
use super::{
    BadChunk, Chunk, ChunkEvent, EntryId, EvidenceStream, Field, Hole, HoleKind, Shipper,
    ShipperOptions, ShipperParts, StoredUpto, TransportError,
};
use crate::event::{Decision, Event, EventType, Stamp};
use crate::log::{Batch, Frame, Journal, JournalOptions, LostRange, Origin, Position, ProducerId};
use crate::sign::{sign, verifies};

fn key() -> HmacKey {
    HmacKey::from_secret_bytes(&[7; 32])
}

fn origin(id: u8, first: u64) -> Origin {
    Origin {
        producer: ProducerId::from_bytes([id; 16]),
        first: Position::new(first),
    }
}

fn frame(origin: Origin, position: u64) -> Frame {
    let data = Bytes::from(format!("{{\"n\":{position}}}"));
    Frame {
        origin,
        position: Position::new(position),
        signature: Some(sign(&key(), &data)),
        data,
    }
}

fn batch(frames: Vec<Frame>) -> Batch {
    let upto = frames
        .last()
        .map(|frame| frame.position)
        .unwrap_or_default();
    Batch {
        frames,
        lost: Vec::new(),
        upto,
    }
}

fn fields(entry: Vec<Field>) -> HashMap<String, Bytes> {
    entry
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Bytes::from(value)))
        .collect()
}

fn chunk() -> Chunk {
    let origin = origin(1, 3);
    let event = |position| {
        let frame = frame(origin, position);
        ChunkEvent {
            position: frame.position,
            data: frame.data,
            signature: frame.signature,
        }
    };
    let hole = |first, last, kind| Hole {
        first: Position::new(first),
        last: Position::new(last),
        kind,
    };
    Chunk {
        origin,
        first: Position::new(4),
        last: Position::new(12),
        events: vec![event(6), event(7), event(11)],
        holes: vec![
            hole(4, 5, HoleKind::Missing),
            hole(8, 10, HoleKind::Damaged),
            hole(12, 12, HoleKind::Damaged),
        ],
    }
}

#[test]
fn what_is_encoded_is_what_is_decoded() {
    let decoded = Chunk::decode(&fields(chunk().encode(Some(&key()))), Some(&key())).unwrap();
    assert_eq!(decoded, chunk());
    assert!(verifies(
        &key(),
        &decoded.events[0].data,
        &decoded.events[0].signature.unwrap()
    ));
    let unsealed = fields(chunk().encode(None));
    assert_eq!(Chunk::decode(&unsealed, None), Ok(chunk()));
    assert_eq!(Chunk::decode(&unsealed, Some(&key())), Err(BadChunk::Seal));
}

#[test]
fn a_chunk_of_one_event_has_the_published_fields_of_an_event() {
    let mut one = chunk();
    one.holes.clear();
    one.events.truncate(1);
    one.events[0].position = one.first;
    one.last = one.first;
    let entry = fields(one.encode(Some(&key())));
    assert_eq!(entry["data"], one.events[0].data);
    assert_eq!(entry["sig"], sign(&key(), &one.events[0].data).to_string());
    assert!(Chunk::is_one(&entry));
}

#[test]
fn a_changed_field_breaks_the_seal() {
    for name in [
        "producer", "origin", "first", "last", "damaged", "missing", "data", "sig",
    ] {
        let mut entry = fields(chunk().encode(Some(&key())));
        entry.insert(name.to_owned(), Bytes::from_static(b"1"));
        assert_eq!(
            Chunk::decode(&entry, Some(&key())),
            Err(BadChunk::Seal),
            "{name}"
        );
        let mut entry = fields(chunk().encode(Some(&key())));
        entry.remove(name);
        assert!(Chunk::decode(&entry, Some(&key())).is_err(), "{name}");
    }
    let other = HmacKey::from_secret_bytes(&[8; 32]);
    let entry = fields(chunk().encode(Some(&other)));
    assert_eq!(Chunk::decode(&entry, Some(&key())), Err(BadChunk::Seal));
}

#[test]
fn positions_that_do_not_add_up_are_refused() {
    for (name, value) in [
        ("last", "13"),
        ("last", "3"),
        ("first", "2"),
        ("first", "0"),
        ("damaged", "8-10"),
        ("damaged", "8-10,12-12,20-20"),
        ("damaged", "10-8,12-12"),
        ("damaged", "8-10,9-12"),
        ("missing", "4-5,6-6"),
        ("last", "18446744073709551615"),
        ("sig", "-"),
    ] {
        let mut entry = fields(chunk().encode(None));
        entry.insert(name.to_owned(), Bytes::from_static(value.as_bytes()));
        assert!(Chunk::decode(&entry, None).is_err(), "{name} {value}");
    }
}

#[test]
fn a_text_of_several_lines_is_carried_without_its_signature() {
    let mut odd = chunk();
    odd.events[1].data = Bytes::from_static(b"{\n}\xff");
    let decoded = Chunk::decode(&fields(odd.encode(Some(&key()))), Some(&key())).unwrap();
    assert_eq!(decoded.events.len(), 3);
    assert_eq!(decoded.events[1].signature, None);
}

proptest! {
    #[test]
    fn arbitrary_entries_never_panic_the_decoder(
        values in proptest::collection::hash_map(
            prop_oneof![
                Just("producer"), Just("origin"), Just("first"), Just("last"), Just("damaged"),
                Just("missing"), Just("data"), Just("sig"), Just("seal"),
            ],
            prop_oneof!["[0-9,-]{0,12}", "[0-9a-f]{32}", "[ -~\n]{0,40}", "18446744073709551615"],
            0..9,
        ),
    ) {
        let entry: HashMap<String, Bytes> = values
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Bytes::from(value)))
            .collect();
        if let Ok(chunk) = Chunk::decode(&entry, None) {
            let holes: u64 = chunk.holes.iter().map(Hole::count).sum();
            let covered = chunk.last.get() - chunk.first.get() + 1;
            prop_assert_eq!(holes + chunk.events.len() as u64, covered);
        }
        let _ = Chunk::decode(&entry, Some(&key()));
    }
}

fn cutter() -> Cutter {
    Cutter::new(Arc::new(SystemRandom))
}

fn shape(chunks: &[Chunk]) -> Vec<(u64, u64, usize)> {
    chunks
        .iter()
        .map(|chunk| (chunk.first.get(), chunk.last.get(), chunk.events.len()))
        .collect()
}

#[test]
fn what_is_stored_already_is_not_sent() {
    let mut cutter = cutter();
    let a = origin(1, 1);
    cutter.met(a.producer, Some(Position::new(2)));
    let chunks = cutter.cut(&batch((1..=4).map(|n| frame(a, n)).collect()));
    assert_eq!(shape(&chunks), [(3, 4, 2)]);
}

#[test]
fn each_opening_of_a_log_has_chunks_of_its_own() {
    let mut cutter = cutter();
    let (a, b) = (origin(1, 1), origin(2, 3));
    for id in cutter.unknown(&batch(vec![frame(a, 1), frame(b, 3)])) {
        cutter.met(id, None);
    }
    let frames = vec![frame(a, 1), frame(a, 2), frame(b, 3), frame(b, 4)];
    let chunks = cutter.cut(&batch(frames));
    assert_eq!(shape(&chunks), [(1, 2, 2), (3, 4, 2)]);
    assert_eq!((chunks[0].origin, chunks[1].origin), (a, b));
}

#[test]
fn positions_that_are_gone_are_told_to_be_missing() {
    let mut cutter = cutter();
    let (a, b) = (origin(1, 1), origin(2, 8));
    cutter.met(a.producer, None);
    cutter.met(b.producer, None);
    let frames = vec![frame(a, 3), frame(a, 6), frame(b, 9)];
    let chunks = cutter.cut(&batch(frames));
    assert_eq!(shape(&chunks), [(1, 7, 2), (8, 9, 1)]);
    let holes: Vec<_> = chunks
        .iter()
        .flat_map(|chunk| &chunk.holes)
        .map(|hole| (hole.first.get(), hole.last.get(), hole.kind))
        .collect();
    let missing = HoleKind::Missing;
    assert_eq!(
        holes,
        [
            (1, 2, missing),
            (4, 5, missing),
            (7, 7, missing),
            (8, 8, missing)
        ]
    );
}

#[test]
fn damaged_positions_are_told_to_be_damaged() {
    let mut cutter = cutter();
    let a = origin(1, 1);
    cutter.met(a.producer, None);
    let mut read = batch(vec![frame(a, 1), frame(a, 4)]);
    read.lost.push(LostRange {
        origin: a,
        first: Position::new(2),
        last: Position::new(3),
    });
    let chunks = cutter.cut(&read);
    assert_eq!(shape(&chunks), [(1, 4, 2)]);
    assert_eq!(chunks[0].holes[0].kind, HoleKind::Damaged);
}

#[test]
fn a_stretch_without_a_name_gets_one_and_keeps_it_to_its_end() {
    let mut cutter = cutter();
    let unknown = Origin {
        producer: ProducerId::UNKNOWN,
        first: Position::new(1),
    };
    let first = cutter.cut(&batch(vec![frame(unknown, 1), frame(unknown, 2)]));
    let second = cutter.cut(&batch(vec![frame(unknown, 3)]));
    assert_ne!(first[0].origin.producer, ProducerId::UNKNOWN);
    assert_eq!(first[0].origin, second[0].origin);
    assert!(first[0].holes.is_empty() && second[0].holes.is_empty());
    let a = origin(1, 4);
    cutter.met(a.producer, None);
    cutter.cut(&batch(vec![frame(a, 4)]));
    let third = cutter.cut(&batch(vec![frame(unknown, 5)]));
    assert_ne!(third[0].origin, first[0].origin);
    assert_eq!(third[0].origin.first, Position::new(5));
}

/// A stream and a ledger in memory.
#[derive(Debug, Default)]
struct Road {
    entries: Mutex<Vec<(EntryId, HashMap<String, Bytes>)>>,
    stored: Mutex<HashMap<ProducerId, Position>>,
    next: AtomicU32,
    failures: AtomicU32,
}

impl Road {
    fn texts(&self) -> Vec<String> {
        let entries = self.entries.lock();
        entries
            .iter()
            .flat_map(|(_, entry)| Chunk::decode(entry, Some(&key())).unwrap().events)
            .map(|event| name_of(&event.data))
            .collect()
    }

    /// Stores everything that is in the stream and takes it out.
    fn store_all(&self) {
        for (_, entry) in self.entries.lock().drain(..) {
            let chunk = Chunk::decode(&entry, Some(&key())).unwrap();
            let mut stored = self.stored.lock();
            let upto = stored
                .entry(chunk.origin.producer)
                .or_insert(Position::new(chunk.origin.first.get() - 1));
            if chunk.first <= upto.next() {
                *upto = (*upto).max(chunk.last);
            }
        }
    }

    fn fails(&self) -> Result<(), TransportError> {
        let failing = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match failing {
            Ok(_) => Err(TransportError("down".to_owned())),
            Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl EvidenceStream for Road {
    async fn append(&self, entry: &[Field]) -> Result<EntryId, TransportError> {
        self.fails()?;
        let id = EntryId::new(self.next.fetch_add(1, Ordering::SeqCst).to_string());
        self.entries
            .lock()
            .push((id.clone(), fields(entry.to_vec())));
        Ok(id)
    }

    async fn holds(&self, id: &EntryId) -> Result<bool, TransportError> {
        self.fails()?;
        Ok(self.entries.lock().iter().any(|(held, _)| held == id))
    }
}

#[async_trait]
impl StoredUpto for Road {
    async fn stored(&self, producer: ProducerId) -> Result<Option<Position>, TransportError> {
        self.fails()?;
        Ok(self.stored.lock().get(&producer).copied())
    }
}

fn name_of(data: &[u8]) -> String {
    crate::event::ReceivedEvent::from_json(data)
        .unwrap()
        .request_id
        .into_owned()
}

fn event(name: &str) -> Event {
    let clock = ManualClock::at(Timestamp::from_seconds(1_767_225_600));
    let request = RequestId::accept(Some(name), &clock, &SeededRandom::new(1));
    Event::new(
        Stamp::now(&clock, &SystemRandom),
        &ZoneId::parse("zone-1").unwrap(),
        &request,
        EventType::TokenExchange,
        Decision::Allow,
        "complete",
    )
}

fn names(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("r{n}")).collect()
}

fn open(dir: &Path) -> Journal {
    let options = JournalOptions {
        segment_bytes: 2_000,
        ..JournalOptions::default()
    };
    Journal::open(dir, options, Some(key()), &SystemRandom).unwrap()
}

fn start(journal: &Journal, road: &Arc<Road>) -> (Shipper, tokio::task::JoinHandle<()>) {
    let shipper = Shipper::new(ShipperParts {
        journal: journal.clone(),
        stream: road.clone(),
        stored: road.clone(),
        key: Some(key()),
        random: Arc::new(SystemRandom),
        options: ShipperOptions {
            linger: Duration::from_millis(1),
            poll_interval: Duration::from_millis(5),
            stalled_after: Duration::from_millis(50),
            ..ShipperOptions::default()
        },
    });
    let running = shipper.clone();
    (shipper, tokio::spawn(async move { running.run().await }))
}

async fn append(journal: &Journal, range: std::ops::Range<u32>) {
    for name in names(range) {
        journal.append(&[event(&name)]).await.unwrap();
    }
}

/// Waits until something is so; the test's runner bounds the wait.
async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn every_event_is_shipped_once_and_the_log_goes_when_it_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, road) = (open(dir.path()), Arc::new(Road::default()));
    let (shipper, task) = start(&journal, &road);
    append(&journal, 0..40).await;
    until(|| road.texts().len() == 40).await;
    assert_eq!(road.texts(), names(0..40));
    assert_eq!(journal.released(), Position::ZERO);
    road.store_all();
    until(|| journal.released() == Position::new(40)).await;
    assert_eq!(shipper.gauges().unstored_bytes, 0);
    journal.close().await;
    task.await.unwrap();
    assert_eq!(shipper.gauges().resent, 0);
}

#[tokio::test]
async fn closing_the_log_ships_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, road) = (open(dir.path()), Arc::new(Road::default()));
    append(&journal, 0..30).await;
    let (_, task) = start(&journal, &road);
    journal.close().await;
    task.await.unwrap();
    assert_eq!(road.texts(), names(0..30));
}

#[tokio::test]
async fn a_stream_that_fails_is_tried_again_and_nothing_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, road) = (open(dir.path()), Arc::new(Road::default()));
    road.failures.store(3, Ordering::SeqCst);
    let (shipper, task) = start(&journal, &road);
    append(&journal, 0..10).await;
    until(|| road.texts().len() == 10).await;
    assert_eq!(shipper.gauges().errors, 3);
    journal.close().await;
    task.await.unwrap();
}

#[tokio::test]
async fn what_the_stream_lost_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, road) = (open(dir.path()), Arc::new(Road::default()));
    let (shipper, task) = start(&journal, &road);
    append(&journal, 0..10).await;
    until(|| road.texts().len() == 10).await;
    road.entries.lock().clear();
    until(|| road.texts().len() == 10).await;
    assert!(shipper.gauges().resent > 0);
    road.store_all();
    until(|| journal.released() == Position::new(10)).await;
    journal.close().await;
    task.await.unwrap();
}

#[tokio::test]
async fn what_the_stream_still_holds_is_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, road) = (open(dir.path()), Arc::new(Road::default()));
    let (shipper, task) = start(&journal, &road);
    append(&journal, 0..10).await;
    until(|| road.texts().len() == 10).await;
    // Longer than the shipper's patience, so that it has looked at least once.
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert_eq!((road.texts().len(), shipper.gauges().resent), (10, 0));
    journal.close().await;
    task.await.unwrap();
}

#[tokio::test]
async fn a_restart_ships_only_what_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let road = Arc::new(Road::default());
    let journal = open(dir.path());
    let (_, task) = start(&journal, &road);
    append(&journal, 0..10).await;
    until(|| road.texts().len() == 10).await;
    road.store_all();
    append(&journal, 10..15).await;
    until(|| road.texts().len() == 5).await;
    road.entries.lock().clear();
    journal.close().await;
    task.await.unwrap();
    drop(journal);
    let journal = open(dir.path());
    let (_, task) = start(&journal, &road);
    append(&journal, 15..20).await;
    until(|| road.texts().len() == 10).await;
    assert_eq!(road.texts(), names(10..20));
    road.store_all();
    until(|| journal.released() == Position::new(20)).await;
    journal.close().await;
    task.await.unwrap();
}
