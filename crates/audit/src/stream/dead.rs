//! Dead letters: entries that can't be stored, and what operators do with them.
//!
//! A letter holds the entry's fields as `src_<name>`, why it was set aside and when. One that the
//! ledger refused may be sent again; one whose seal, signature or form is wrong may not: sending it
//! again could only end here again.

use bytes::Bytes;
use caracal_core::Timestamp;
use caracal_evidence::ReceivedEvent;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{DeadLetter, EvidenceQueue, Fields, QueueError};
use crate::ledger::{Alert, AlertKind};

/// How the reason begins when the ledger refused the entry.
pub(crate) const REFUSED: &str = "pg_permanent_error:";
/// Likewise, of letters that other versions wrote.
const OVERDUE: &str = "transient_exceeded_max_deliveries:";
const SOURCE: &str = "src_";
/// Letters of one read.
const PAGE: usize = 100;
/// The most letters that one call looks at.
const LOOKED_AT: usize = 100_000;

/// A letter about an entry.
pub(crate) fn letter(reason: &str, entry: &Fields, now: Timestamp) -> Fields {
    let source = |(name, value): (&String, &Bytes)| (format!("{SOURCE}{name}"), value.clone());
    let mut letter: Fields = entry.iter().map(source).collect();
    letter.insert("reason".to_owned(), Bytes::from(reason.to_owned()));
    let millis = now.micros().div_euclid(1000);
    letter.insert("received_at".to_owned(), Bytes::from(millis.to_string()));
    letter
}

/// A letter about one event of a good entry; `None` when the alert is about something else.
pub(crate) fn letter_of(alert: &Alert, now: Timestamp) -> Option<Fields> {
    let detail: Value = serde_json::from_str(&alert.detail).ok()?;
    let data = detail.get("data")?.as_str()?.to_owned();
    let why = detail
        .get("reason")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let reason = match alert.kind {
        AlertKind::BadSignature => alert.kind.to_string(),
        AlertKind::MalformedEvent => format!("{}:{why}", alert.kind),
        AlertKind::ContentMismatch => "tamper_on_replay".to_owned(),
        AlertKind::EvidenceLost | AlertKind::LogGap => return None,
    };
    let mut entry = Fields::from([("data".to_owned(), Bytes::from(data))]);
    if let Some(id) = &alert.event_id {
        entry.insert("id".to_owned(), Bytes::from(id.to_string()));
    }
    if let Some(sig) = detail.get("sig").and_then(Value::as_str) {
        entry.insert("sig".to_owned(), Bytes::from(sig.to_owned()));
    }
    Some(letter(&reason, &entry, now))
}

/// A letter as operators see it.
#[derive(Debug, Serialize)]
pub(crate) struct Item {
    id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    source_id: String,
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    received_at: String,
    age_seconds: i64,
    replayable: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    event_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    zone_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    event_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    request_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    decision: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    source_sig: String,
}

/// A letter with everything in it.
#[derive(Debug, Serialize)]
pub(crate) struct Detail {
    #[serde(flatten)]
    item: Item,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_event: Option<Box<RawValue>>,
    fields: Value,
}

/// A page of letters.
#[derive(Debug, Serialize)]
pub(crate) struct List {
    entries: Vec<Item>,
    next_cursor: String,
}

/// What sending again did.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Replay {
    scanned: usize,
    replayed: usize,
    skipped: usize,
}

/// Where a list begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the first letter.
    First,
    /// At this letter.
    At(String),
    /// Behind this letter.
    Behind(String),
}

/// Up to `limit` letters.
pub(crate) async fn list(
    queue: &dyn EvidenceQueue,
    start: &Start,
    limit: usize,
    now: Timestamp,
) -> Result<List, QueueError> {
    let mut letters = Vec::new();
    let after = match start {
        Start::First => None,
        Start::At(id) => {
            letters.extend(queue.dead(id).await?);
            Some(id.as_str())
        }
        Start::Behind(id) => Some(id.as_str()),
    };
    let left = limit.saturating_sub(letters.len());
    if left > 0 {
        letters.extend(queue.dead_behind(after, left).await?);
    }
    Ok(List {
        next_cursor: letters
            .last()
            .map(|letter| letter.id.clone())
            .unwrap_or_default(),
        entries: letters.iter().map(|letter| Item::of(letter, now)).collect(),
    })
}

/// One letter.
pub(crate) async fn show(
    queue: &dyn EvidenceQueue,
    id: &str,
    now: Timestamp,
) -> Result<Option<Detail>, QueueError> {
    Ok(queue.dead(id).await?.map(|letter| Detail::of(&letter, now)))
}

/// Sends up to `limit` letters again, the oldest first, and passes over those that can't be.
pub(crate) async fn replay(queue: &dyn EvidenceQueue, limit: usize) -> Result<Replay, QueueError> {
    let mut done = Replay::default();
    let mut after: Option<String> = None;
    while done.replayed < limit && done.scanned < LOOKED_AT {
        let letters = queue.dead_behind(after.as_deref(), PAGE).await?;
        let Some(last) = letters.last() else {
            break;
        };
        after = Some(last.id.clone());
        for letter in &letters {
            if done.replayed == limit {
                break;
            }
            done.scanned += 1;
            if !letter.is_replayable() {
                done.skipped += 1;
                continue;
            }
            queue.send_again(&letter.source()).await?;
            queue.bury(&letter.id).await?;
            done.replayed += 1;
        }
    }
    Ok(done)
}

impl DeadLetter {
    fn text(&self, name: &str) -> String {
        let value = self.fields.get(name).map(Bytes::as_ref).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    }

    fn is_replayable(&self) -> bool {
        let reason = self.text("reason");
        let refused = reason.starts_with(REFUSED) || reason.starts_with(OVERDUE);
        refused
            && self
                .fields
                .get("src_data")
                .is_some_and(|data| !data.is_empty())
    }

    /// The entry that was set aside.
    fn source(&self) -> Fields {
        let source = |(name, value): (&String, &Bytes)| {
            Some((name.strip_prefix(SOURCE)?.to_owned(), value.clone()))
        };
        self.fields.iter().filter_map(source).collect()
    }
}

impl Item {
    fn of(letter: &DeadLetter, now: Timestamp) -> Self {
        let data = letter
            .fields
            .get("src_data")
            .map(Bytes::as_ref)
            .unwrap_or_default();
        let event = ReceivedEvent::from_json(data).ok();
        let of_event =
            |get: fn(&ReceivedEvent<'_>) -> String| event.as_ref().map(get).unwrap_or_default();
        let received = letter.text("received_at").parse::<i64>().ok();
        let received = received.map(|millis| Timestamp::from_micros(millis.saturating_mul(1000)));
        Self {
            id: letter.id.clone(),
            source_id: letter.text("src_id"),
            reason: letter.text("reason"),
            received_at: received
                .map(|at| at.to_rfc3339_micros())
                .unwrap_or_default(),
            age_seconds: received.map_or(0, |at| (now.seconds() - at.seconds()).max(0)),
            replayable: letter.is_replayable(),
            event_id: of_event(|event| event.id.to_string()),
            zone_id: of_event(|event| event.zone_id.to_string()),
            event_type: of_event(|event| event.event_type.to_string()),
            request_id: of_event(|event| event.request_id.to_string()),
            decision: of_event(|event| event.decision.to_string()),
            source_sig: letter.text("src_sig"),
        }
    }
}

impl Detail {
    fn of(letter: &DeadLetter, now: Timestamp) -> Self {
        let fields: serde_json::Map<String, Value> = letter
            .fields
            .keys()
            .map(|name| (name.clone(), json!(letter.text(name))))
            .collect();
        Self {
            item: Item::of(letter, now),
            source_event: RawValue::from_string(letter.text("src_data")).ok(),
            fields: Value::Object(fields),
        }
    }
}
