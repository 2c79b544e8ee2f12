mod crash;
mod faults;
mod format;
mod ordinary;

use std::path::Path;

use caracal_core::id::ZoneId;
use caracal_core::{ManualClock, RequestId, SeededRandom, SystemRandom, Timestamp};
use caracal_crypto::HmacKey;

use super::{Journal, JournalOptions};
use crate::event::{Decision, Event, EventType, ReceivedEvent, Stamp};

fn key() -> HmacKey {
    HmacKey::from_secret_bytes(&[7; 32])
}

fn open(dir: &Path, options: JournalOptions) -> Journal {
    Journal::open(dir, options, Some(key()), &SystemRandom).unwrap()
}

/// An event that is told apart by its request id.
fn event(name: &str) -> Event {
    let clock = ManualClock::at(Timestamp::from_seconds(1_767_225_600));
    let seed = name.bytes().fold(17, |seed: u64, byte| {
        seed.wrapping_mul(31) + u64::from(byte)
    });
    let random = SeededRandom::new(seed);
    Event::new(
        Stamp::now(&clock, &random),
        &ZoneId::parse("zone-1").unwrap(),
        &RequestId::accept(Some(name), &clock, &random),
        EventType::TokenExchange,
        Decision::Allow,
        "complete",
    )
}

fn name_of(data: &[u8]) -> String {
    ReceivedEvent::from_json(data)
        .unwrap()
        .request_id
        .into_owned()
}

/// Reads everything that is in the log now; answers the names and the lost positions.
async fn read_all(journal: &Journal) -> (Vec<String>, u64) {
    let last = journal.last();
    let mut reader = journal.reader(super::Position::ZERO);
    let (mut names, mut lost, mut upto) = (Vec::new(), 0, super::Position::ZERO);
    while upto < last {
        let batch = reader.next_batch(7, 1 << 20).await.unwrap().unwrap();
        names.extend(batch.frames.iter().map(|frame| name_of(&frame.data)));
        lost += batch.lost.iter().map(|range| range.count()).sum::<u64>();
        upto = batch.upto;
    }
    (names, lost)
}

fn names(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("r{n}")).collect()
}

async fn append_each(journal: &Journal, range: std::ops::Range<u32>) {
    for name in names(range) {
        journal.append(&[event(&name)]).await.unwrap();
    }
}
