//! Giving the events of a draft their places, with the chains' heads held.

use std::collections::HashMap;

use caracal_core::id::{EventId, ZoneId};
use caracal_evidence::chain::leaf;
use caracal_evidence::{ChainHead, Hash};

use super::{Alert, AlertKind, Batch, Draft, Known, Unplaced};
use crate::stream::draft::refused;

/// What the ledger holds of the zones and events of a draft.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The heads; zones without events have none.
    pub(super) heads: HashMap<ZoneId, ChainHead>,
    /// The events that are stored.
    pub(super) known: HashMap<(ZoneId, EventId), Known>,
}

/// What is known of an event's content.
enum Content {
    Hash(Hash),
    Stored(Known),
}

/// The batch that stores a draft. An event that came before is left out; one of its id but with
/// another content becomes an alert.
pub(super) fn place(draft: &Draft, held: Held) -> Batch {
    let mut batch = Batch {
        parts: draft.parts.clone(),
        alerts: draft.alerts.clone(),
        at: draft.at,
        ..Batch::default()
    };
    let mut heads = held.heads;
    let mut contents: HashMap<(ZoneId, EventId), Content> = held
        .known
        .into_iter()
        .map(|(key, known)| (key, Content::Stored(known)))
        .collect();
    let mut grown: HashMap<ZoneId, ChainHead> = HashMap::new();
    for event in &draft.events {
        let key = (event.zone_id.clone(), event.event_id.clone());
        let content = Hash::of_data(event.data.as_bytes());
        match contents.get(&key) {
            Some(seen) if seen.is(event, &content) => continue,
            Some(_) => {
                batch.alerts.extend(mismatch(event));
                continue;
            }
            None => {}
        }
        contents.insert(key, Content::Hash(content));
        let head = grown.entry(event.zone_id.clone()).or_insert_with(|| {
            let held = heads.remove(&event.zone_id);
            held.unwrap_or_else(|| ChainHead::genesis(&event.zone_id))
        });
        let link = head.append(event.data.as_bytes());
        batch.entries.push(event.clone().at(link));
    }
    batch.heads = grown.into_values().collect();
    batch
}

impl Content {
    fn is(&self, event: &Unplaced, content: &Hash) -> bool {
        match self {
            Self::Hash(seen) => seen == content,
            Self::Stored(known) => leaf(&event.zone_id, known.seq, content) == known.leaf,
        }
    }
}

fn mismatch(event: &Unplaced) -> Option<Alert> {
    let what = "the event id is stored with another content";
    refused(
        AlertKind::ContentMismatch,
        what,
        event.event_id.as_str(),
        event.data.as_bytes(),
        event.signature,
    )
}

/// The events of a draft by zone, each id once.
pub(super) fn ids_by_zone<'a>(
    events: impl Iterator<Item = &'a Unplaced>,
) -> HashMap<ZoneId, Vec<EventId>> {
    let mut ids: HashMap<ZoneId, Vec<EventId>> = HashMap::new();
    for event in events {
        let of_zone = ids.entry(event.zone_id.clone()).or_default();
        of_zone.push(event.event_id.clone());
    }
    for of_zone in ids.values_mut() {
        of_zone.sort_unstable();
        of_zone.dedup();
    }
    ids
}
