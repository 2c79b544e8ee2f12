//! What a delivered entry holds, once it is proven to be a producer's.

use caracal_core::id::{EventId, ZoneId};
use caracal_evidence::log::ProducerId;
use caracal_evidence::ship::{BadChunk, Chunk, HoleKind};
use caracal_evidence::{FrameSignature, Hash, ReceivedEvent};
use serde_json::json;
use thiserror::Error;

use super::{Delivery, Fields};
use crate::AuditParts;
use crate::ingest::admit::{Refusal, admit};
use crate::ledger::{Alert, AlertKind, Draft, NO_ZONE, Part, Unplaced};

/// Why nothing of an entry can be stored.
#[derive(Debug, Error)]
pub(crate) enum Unusable {
    /// It carries nothing.
    #[error("the entry has no field data")]
    NoData,
    /// Its chunk is not good.
    #[error(transparent)]
    Chunk(#[from] BadChunk),
    /// It is a single event that is not good.
    #[error(transparent)]
    Event(#[from] Refusal),
}

impl Unusable {
    /// The dead letter's reason.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::NoData => "missing_data_field".to_owned(),
            Self::Chunk(BadChunk::Seal) | Self::Event(Refusal::Signature) => {
                AlertKind::BadSignature.as_str().to_owned()
            }
            Self::Chunk(error) => format!("{}:{error}", AlertKind::MalformedEvent),
            Self::Event(error) => format!("{}:{error}", AlertKind::MalformedEvent),
        }
    }

    pub(crate) fn kind(&self) -> AlertKind {
        match self {
            Self::Chunk(BadChunk::Seal) | Self::Event(Refusal::Signature) => {
                AlertKind::BadSignature
            }
            Self::NoData | Self::Chunk(_) | Self::Event(_) => AlertKind::MalformedEvent,
        }
    }
}

/// An alert about a whole entry that was set aside.
pub(crate) fn alert_about(unusable: &Unusable, delivery: &Delivery) -> Option<Alert> {
    let detail = json!({ "reason": unusable.reason(), "entry": delivery.id });
    Some(Alert {
        id: alert_id(&[b"entry", delivery.id.as_bytes()])?,
        zone_id: no_zone()?,
        kind: unusable.kind(),
        event_id: None,
        detail: detail.to_string(),
    })
}

/// Adds what the entry holds to a draft: all of it or, with an error, nothing.
pub(crate) fn add(draft: &mut Draft, fields: &Fields, parts: &AuditParts) -> Result<(), Unusable> {
    if Chunk::is_one(fields) {
        let chunk = Chunk::decode(fields, parts.producer_key.as_ref())?;
        add_chunk(draft, &chunk, parts);
        return Ok(());
    }
    let data = fields.get("data").ok_or(Unusable::NoData)?;
    let signature = fields
        .get("sig")
        .and_then(|sig| FrameSignature::from_hex(std::str::from_utf8(sig).ok()?));
    let event = admit(data, signature, parts.producer_key.as_ref())?;
    draft.events.push(Unplaced::of(&event, signature, None));
    Ok(())
}

fn add_chunk(draft: &mut Draft, chunk: &Chunk, parts: &AuditParts) {
    let part = draft.parts.len();
    draft.parts.push(Part {
        producer: chunk.origin.producer,
        origin: chunk.origin.first,
        first: chunk.first,
        last: chunk.last,
    });
    let producer = chunk.origin.producer;
    for hole in &chunk.holes {
        let (first, last) = (hole.first.get(), hole.last.get());
        let kind = match hole.kind {
            HoleKind::Damaged => AlertKind::EvidenceLost,
            HoleKind::Missing => AlertKind::LogGap,
        };
        draft.alerts.extend(hole_alert(kind, producer, first, last));
    }
    for event in &chunk.events {
        let key = parts.producer_key.as_ref();
        match admit(&event.data, event.signature, key) {
            Ok(received) => {
                let unplaced = Unplaced::of(&received, event.signature, Some(part));
                draft.events.push(unplaced);
            }
            Err(refusal) => {
                let place = format!("{producer}:{}", event.position.get());
                draft.alerts.extend(refused(
                    refusal.kind(),
                    &refusal.to_string(),
                    &place,
                    &event.data,
                    event.signature,
                ));
            }
        }
    }
}

/// An alert about positions of a log that are lost.
pub(crate) fn hole_alert(
    kind: AlertKind,
    producer: ProducerId,
    first: u64,
    last: u64,
) -> Option<Alert> {
    let producer = producer.to_string();
    let detail = json!({ "producer": producer, "from": first, "to": last });
    Some(Alert {
        id: alert_id(&[
            kind.as_str().as_bytes(),
            producer.as_bytes(),
            &first.to_be_bytes(),
        ])?,
        zone_id: no_zone()?,
        kind,
        event_id: None,
        detail: detail.to_string(),
    })
}

/// An alert that keeps a refused event's bytes: a wrong key must not lose evidence.
pub(crate) fn refused(
    kind: AlertKind,
    what: &str,
    place: &str,
    data: &[u8],
    signature: Option<FrameSignature>,
) -> Option<Alert> {
    let event = ReceivedEvent::from_json(data).ok();
    let detail = json!({
        "reason": what,
        "place": place,
        "sig": signature.map(|signature| signature.to_string()),
        "data": String::from_utf8_lossy(data),
    });
    let (zone, event_id) = event.map(|event| (event.zone_id, event.id)).unzip();
    Some(Alert {
        id: alert_id(&[kind.as_str().as_bytes(), place.as_bytes(), data])?,
        zone_id: zone.or_else(no_zone)?,
        kind,
        event_id,
        detail: detail.to_string(),
    })
}

/// The same alert has the same id, however often its cause is delivered. Never `None`: hex digits are
/// of the id alphabet.
fn alert_id(parts: &[&[u8]]) -> Option<EventId> {
    let mut text = Vec::new();
    for part in parts {
        text.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        text.extend_from_slice(part);
    }
    let digest = Hash::of_data(&text).to_string();
    EventId::parse(&format!("alert-{}", digest.get(..32)?)).ok()
}

fn no_zone() -> Option<ZoneId> {
    ZoneId::parse(NO_ZONE).ok()
}
