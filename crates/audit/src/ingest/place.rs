//! Each event's place: its number and links in its zone's chain.
//!
//! Heads and watermarks are remembered between batches, because only this role writes them. If that
//! turns out wrong the ledger answers with a conflict; then everything is forgotten and the batch is
//! placed carefully, with a look at which of its events are stored already.

use std::collections::HashMap;

use caracal_core::id::{EventId, ZoneId};
use caracal_evidence::chain::leaf;
use caracal_evidence::log::{self, Frame, LostRange, Origin, ProducerId};
use caracal_evidence::{ChainHead, Hash, Position, ReceivedEvent};
use serde_json::json;

use super::admit::admit;
use crate::AuditParts;
use crate::ledger::{Alert, AlertKind, Batch, Known, LedgerError, NO_ZONE, Unplaced};

/// Zones whose heads are remembered; beyond it all are forgotten.
const MAX_REMEMBERED: usize = 10_000;
/// After so many events other tasks get a turn.
const EVENTS_PER_TURN: usize = 64;

/// What is known of the ledger.
#[derive(Debug, Default)]
pub(crate) struct Placer {
    heads: HashMap<ZoneId, ChainHead>,
    /// Up to where each producer's log is stored; `None` for a producer without events there.
    stored: HashMap<ProducerId, Option<Position>>,
}

/// A batch to store, and what is true once it is stored.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) batch: Batch,
    heads: HashMap<ZoneId, ChainHead>,
    stored: HashMap<ProducerId, Position>,
}

/// A batch in the making.
struct Draft<'a> {
    parts: &'a AuditParts,
    placer: &'a mut Placer,
    careful: bool,
    batch: Batch,
    heads: HashMap<ZoneId, ChainHead>,
    stored: HashMap<ProducerId, Position>,
    /// The content of the events of this batch, and of those in the ledger when careful.
    contents: HashMap<(ZoneId, EventId), Content>,
}

/// What is known of an event id.
enum Content {
    Hash(Hash),
    Stored(Known),
}

/// What a log holds at a position, in the log's order.
enum Item<'a> {
    Frame(&'a Frame),
    Lost(LostRange),
}

impl Placer {
    /// Places what of a log's batch is not stored yet.
    pub(crate) async fn place(
        &mut self,
        parts: &AuditParts,
        read: &log::Batch,
        careful: bool,
    ) -> Result<Placed, LedgerError> {
        let mut draft = Draft {
            careful,
            batch: Batch {
                at: parts.clock.now(),
                ..Batch::default()
            },
            heads: HashMap::new(),
            stored: HashMap::new(),
            contents: HashMap::new(),
            parts,
            placer: self,
        };
        for (count, item) in in_order(read).enumerate() {
            if count % EVENTS_PER_TURN == EVENTS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            draft.take(&item).await?;
        }
        Ok(draft.finish())
    }

    /// The batch is stored.
    pub(crate) fn commit(&mut self, placed: Placed) {
        if self.heads.len() > MAX_REMEMBERED || self.stored.len() > MAX_REMEMBERED {
            self.forget();
        }
        self.heads.extend(placed.heads);
        self.stored.extend(
            placed
                .stored
                .into_iter()
                .map(|(producer, at)| (producer, Some(at))),
        );
    }

    /// Everything is to be read from the ledger again.
    pub(crate) fn forget(&mut self) {
        self.heads.clear();
        self.stored.clear();
    }
}

impl Draft<'_> {
    async fn take(&mut self, item: &Item<'_>) -> Result<(), LedgerError> {
        let (origin, first, last) = item.range();
        if origin.producer != ProducerId::UNKNOWN {
            let stored = self.stored_upto(origin).await?;
            if last <= stored {
                return Ok(());
            }
            if first > stored.next() {
                self.alert_gap(origin, stored.next(), first);
            }
            self.stored.insert(origin.producer, last);
        }
        match item {
            Item::Lost(range) => {
                self.alert_lost(*range);
                Ok(())
            }
            Item::Frame(frame) => match admit(
                &frame.data,
                frame.signature,
                self.parts.producer_key.as_ref(),
            ) {
                Ok(event) => self.append(&event, frame).await,
                Err(refusal) => {
                    self.alert_refused(refusal.kind(), &refusal.to_string(), frame);
                    Ok(())
                }
            },
        }
    }

    /// Up to where the producer's log is stored, with this draft.
    async fn stored_upto(&mut self, origin: Origin) -> Result<Position, LedgerError> {
        if let Some(position) = self.stored.get(&origin.producer) {
            return Ok(*position);
        }
        let known = match self.placer.stored.get(&origin.producer) {
            Some(known) => *known,
            None => {
                let known = self.parts.ledger.watermark(origin.producer).await?;
                self.placer.stored.insert(origin.producer, known);
                known
            }
        };
        Ok(known.unwrap_or(Position::new(origin.first.get().saturating_sub(1))))
    }

    async fn append(
        &mut self,
        event: &ReceivedEvent<'_>,
        frame: &Frame,
    ) -> Result<(), LedgerError> {
        let content = Hash::of_data(event.data.as_bytes());
        if let Some(same) = self.seen(event, &content).await? {
            if !same {
                let what = "the event id is stored with another content";
                self.alert_refused(AlertKind::ContentMismatch, what, frame);
            }
            return Ok(());
        }
        let link = self
            .head(&event.zone_id)
            .await?
            .append(event.data.as_bytes());
        self.contents.insert(
            (event.zone_id.clone(), event.id.clone()),
            Content::Hash(content),
        );
        let unplaced = Unplaced::of(event, frame.signature, None);
        self.batch.entries.push(unplaced.at(link));
        Ok(())
    }

    /// Whether the event is here already: with the same content, with another, or not at all.
    async fn seen(
        &mut self,
        event: &ReceivedEvent<'_>,
        content: &Hash,
    ) -> Result<Option<bool>, LedgerError> {
        let key = (event.zone_id.clone(), event.id.clone());
        if self.careful && !self.contents.contains_key(&key) {
            let ids = std::slice::from_ref(&event.id);
            let known = self.parts.ledger.known(&event.zone_id, ids).await?;
            if let Some(known) = known.into_iter().next() {
                self.contents.insert(key.clone(), Content::Stored(known));
            }
        }
        Ok(self.contents.get(&key).map(|seen| match seen {
            Content::Hash(seen) => seen == content,
            Content::Stored(known) => leaf(&event.zone_id, known.seq, content) == known.leaf,
        }))
    }

    /// The zone's head, with this draft.
    async fn head(&mut self, zone: &ZoneId) -> Result<&mut ChainHead, LedgerError> {
        if !self.heads.contains_key(zone) {
            let head = match self.placer.heads.get(zone) {
                Some(head) => head.clone(),
                None => self.parts.ledger.head(zone).await?,
            };
            self.heads.insert(zone.clone(), head);
        }
        let empty = || ChainHead::genesis(zone);
        Ok(self.heads.entry(zone.clone()).or_insert_with(empty))
    }

    fn alert_gap(&mut self, origin: Origin, from: Position, to: Position) {
        let detail = json!({
            "producer": origin.producer.to_string(), "from": from.get(), "to": to.get() - 1,
        });
        self.alert(AlertKind::LogGap, None, None, detail.to_string());
    }

    fn alert_lost(&mut self, range: LostRange) {
        let detail = json!({
            "producer": range.origin.producer.to_string(),
            "from": range.first.get(), "to": range.last.get(),
        });
        self.alert(AlertKind::EvidenceLost, None, None, detail.to_string());
    }

    /// The refused bytes stay in the alert: a wrong key must not lose evidence.
    fn alert_refused(&mut self, kind: AlertKind, what: &str, frame: &Frame) {
        let event = ReceivedEvent::from_json(&frame.data).ok();
        let detail = json!({
            "reason": what,
            "producer": frame.origin.producer.to_string(),
            "position": frame.position.get(),
            "sig": frame.signature.map(|signature| signature.to_string()),
            "data": String::from_utf8_lossy(&frame.data),
        });
        let (zone, id) = event.map(|event| (event.zone_id, event.id)).unzip();
        self.alert(kind, zone, id, detail.to_string());
    }

    fn alert(
        &mut self,
        kind: AlertKind,
        zone: Option<ZoneId>,
        event_id: Option<EventId>,
        detail: String,
    ) {
        tracing::error!(%kind, zone = ?zone, event_id = ?event_id, "audit alert");
        let Some(zone_id) = zone.or_else(|| ZoneId::parse(NO_ZONE).ok()) else {
            return;
        };
        let id = EventId::generate(&*self.parts.clock, &*self.parts.random);
        self.batch.alerts.push(Alert {
            id,
            zone_id,
            kind,
            event_id,
            detail,
        });
    }

    fn finish(mut self) -> Placed {
        self.heads.retain(|zone, _| {
            self.batch
                .entries
                .iter()
                .any(|entry| entry.zone_id == *zone)
        });
        self.batch.heads = self.heads.values().cloned().collect();
        self.batch.watermarks = self.stored.iter().map(|(id, at)| (*id, *at)).collect();
        Placed {
            batch: self.batch,
            heads: self.heads,
            stored: self.stored,
        }
    }
}

impl Item<'_> {
    fn range(&self) -> (Origin, Position, Position) {
        match self {
            Self::Frame(frame) => (frame.origin, frame.position, frame.position),
            Self::Lost(range) => (range.origin, range.first, range.last),
        }
    }
}

fn in_order(read: &log::Batch) -> impl Iterator<Item = Item<'_>> {
    let mut items: Vec<Item<'_>> = read.frames.iter().map(Item::Frame).collect();
    if !read.lost.is_empty() {
        items.extend(read.lost.iter().map(|range| Item::Lost(*range)));
        items.sort_by_key(|item| item.range().1);
    }
    items.into_iter()
}
