//! Cutting what was read from a log into chunks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use caracal_core::Random;

use super::chunk::{Chunk, ChunkEvent, Hole, HoleKind, MAX_CHUNK_BYTES, MAX_CHUNK_EVENTS};
use crate::log::{Batch, Frame, LostRange, Origin, Position, ProducerId};

/// Cuts batches, in the log's order, into chunks. It leaves out what is stored already and finds
/// positions that are gone.
#[derive(Debug)]
pub(super) struct Cutter {
    random: Arc<dyn Random>,
    /// What the stretch without a name that is being read is called.
    alias: Option<Origin>,
    /// Up to where each producer's log was stored when it was first met.
    stored: HashMap<ProducerId, Position>,
    /// The last position of each producer that was taken.
    taken: HashMap<ProducerId, Position>,
    /// The last position that was taken, and whose it was.
    last: Option<(Origin, Position)>,
}

/// What a log holds, in order.
enum Item<'a> {
    Frame(&'a Frame),
    Lost(LostRange),
}

impl Cutter {
    pub(super) fn new(random: Arc<dyn Random>) -> Self {
        Self {
            random,
            alias: None,
            stored: HashMap::new(),
            taken: HashMap::new(),
            last: None,
        }
    }

    /// The producers of a batch whose stored position is not known.
    pub(super) fn unknown(&self, batch: &Batch) -> BTreeSet<ProducerId> {
        items(batch)
            .iter()
            .map(|item| item.origin().producer)
            .filter(|id| *id != ProducerId::UNKNOWN && !self.stored.contains_key(id))
            .collect()
    }

    /// Up to where a producer's log is stored when it is first met; `None` for nothing.
    pub(super) fn met(&mut self, producer: ProducerId, stored: Option<Position>) {
        self.stored.insert(producer, stored.unwrap_or_default());
    }

    /// The next batch will begin behind `last`.
    pub(super) fn rewind(&mut self, origin: Origin, last: Position) {
        self.taken.retain(|_, taken| *taken <= last);
        self.taken.insert(origin.producer, last);
        self.last = Some((origin, last));
    }

    /// The chunks of a batch.
    pub(super) fn cut(&mut self, batch: &Batch) -> Vec<Chunk> {
        let mut pieces = Pieces::default();
        for item in items(batch) {
            let (first, last) = item.range();
            let origin = self.named(item.origin(), first);
            for (owner, hole) in self.missing_before(origin, first) {
                pieces.hole(owner, hole);
            }
            self.last = Some((origin, last));
            self.taken.insert(origin.producer, last);
            if last
                <= self
                    .stored
                    .get(&origin.producer)
                    .copied()
                    .unwrap_or_default()
            {
                continue;
            }
            match item {
                Item::Frame(frame) => pieces.event(
                    origin,
                    ChunkEvent {
                        position: frame.position,
                        data: frame.data.clone(),
                        signature: frame.signature,
                    },
                ),
                Item::Lost(_) => pieces.hole(
                    origin,
                    Hole {
                        first,
                        last,
                        kind: HoleKind::Damaged,
                    },
                ),
            }
        }
        pieces.finish()
    }

    /// A stretch whose segments don't say who wrote them has a name of its own, so that how far it
    /// is stored can be told.
    fn named(&mut self, origin: Origin, first: Position) -> Origin {
        if origin.producer != ProducerId::UNKNOWN {
            return origin;
        }
        let goes_on = self
            .last
            .filter(|(before, last)| Some(*before) == self.alias && last.next() == first);
        let alias = goes_on.map_or_else(
            || Origin {
                producer: ProducerId::generate(&*self.random),
                first,
            },
            |(before, _)| before,
        );
        self.alias = Some(alias);
        alias
    }

    /// The positions before `first` that were due and are not there, and whose they were.
    fn missing_before(&self, origin: Origin, first: Position) -> Vec<(Origin, Hole)> {
        let mut missing = Vec::new();
        if let Some((before, last)) = self.last
            && before != origin
        {
            missing.push((before, last.next(), first.min(origin.first)));
        }
        let stored = self.stored.get(&origin.producer).copied();
        let behind_stored = stored.unwrap_or_default().next().max(origin.first);
        let due = self.taken.get(&origin.producer).map(|taken| taken.next());
        missing.push((origin, due.unwrap_or(behind_stored), first));
        missing
            .into_iter()
            .filter(|(_, due, end)| due < end)
            .map(|(owner, due, end)| {
                let hole = Hole {
                    first: due,
                    last: Position::new(end.get() - 1),
                    kind: HoleKind::Missing,
                };
                (owner, hole)
            })
            .collect()
    }
}

/// Chunks in the making.
#[derive(Default)]
struct Pieces {
    done: Vec<Chunk>,
    current: Option<Chunk>,
    /// The texts of the current one. Bytes.
    bytes: usize,
}

impl Pieces {
    fn event(&mut self, origin: Origin, event: ChunkEvent) {
        let bytes = event.data.len();
        let chunk = self.room(origin, event.position);
        chunk.last = event.position;
        chunk.events.push(event);
        self.bytes += bytes;
    }

    fn hole(&mut self, origin: Origin, hole: Hole) {
        let chunk = self.room(origin, hole.first);
        chunk.last = hole.last;
        chunk.holes.push(hole);
    }

    /// The current chunk, if `first` fits behind it, else another.
    fn room(&mut self, origin: Origin, first: Position) -> &mut Chunk {
        let bytes = self.bytes;
        let full = |chunk: &mut Chunk| {
            chunk.origin != origin
                || chunk.last.next() != first
                || chunk.events.len() + chunk.holes.len() >= MAX_CHUNK_EVENTS
                || bytes >= MAX_CHUNK_BYTES
        };
        if let Some(chunk) = self.current.take_if(full) {
            self.done.push(chunk);
            self.bytes = 0;
        }
        self.current.get_or_insert_with(|| Chunk {
            origin,
            first,
            last: first,
            events: Vec::new(),
            holes: Vec::new(),
        })
    }

    fn finish(mut self) -> Vec<Chunk> {
        self.done.extend(self.current);
        self.done
    }
}

impl Item<'_> {
    fn origin(&self) -> Origin {
        match self {
            Self::Frame(frame) => frame.origin,
            Self::Lost(range) => range.origin,
        }
    }

    fn range(&self) -> (Position, Position) {
        match self {
            Self::Frame(frame) => (frame.position, frame.position),
            Self::Lost(range) => (range.first, range.last),
        }
    }
}

fn items(batch: &Batch) -> Vec<Item<'_>> {
    let mut items: Vec<Item<'_>> = batch.frames.iter().map(Item::Frame).collect();
    if !batch.lost.is_empty() {
        items.extend(batch.lost.iter().map(|range| Item::Lost(*range)));
        items.sort_by_key(|item| item.range().0);
    }
    items
}
