//! Changes that were fetched, kept for whoever asks next: when a zone's sequence moves, every request
//! of the zone wants the same changes at the same time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use caracal_core::id::ZoneId;
use parking_lot::{Mutex, RwLock};
use tokio::sync::MutexGuard;

use super::position::Position;
use super::{Change, Changes};

/// Zones whose changes are kept.
const ZONES: usize = 256;
/// Changes kept of a zone.
const KEPT: usize = 1024;

/// The copies of all zones.
#[derive(Debug, Default)]
pub(super) struct Copies {
    zones: RwLock<HashMap<ZoneId, Arc<ZoneCopy>>>,
}

/// A copy of the end of a zone's change log.
#[derive(Debug, Default)]
pub(super) struct ZoneCopy {
    /// The last position that a caller was told since the copy was made. The copy serves only when it
    /// reaches so far: whoever asks was told no later one.
    seen: AtomicU64,
    fetching: tokio::sync::Mutex<()>,
    held: Mutex<Option<Held>>,
}

/// The changes at `first..first + changes.len()`.
#[derive(Debug)]
struct Held {
    first: Position,
    changes: VecDeque<Change>,
}

/// What one fetch has brought: all changes after `from`.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) from: Position,
    pub(super) changes: Vec<Change>,
}

impl Copies {
    /// A caller is about to be told this position.
    pub(super) fn saw(&self, zone: &ZoneId, position: u64) {
        if let Some(copy) = self.zones.read().get(zone) {
            copy.seen.fetch_max(position, Ordering::SeqCst);
        }
    }

    /// The zone's copy. A new one is empty: what it serves was fetched later than this call.
    pub(super) fn of(&self, zone: &ZoneId) -> Arc<ZoneCopy> {
        if let Some(copy) = self.zones.read().get(zone) {
            return Arc::clone(copy);
        }
        let mut zones = self.zones.write();
        if zones.len() >= ZONES
            && !zones.contains_key(zone)
            && let Some(other) = zones.keys().next().cloned()
        {
            zones.remove(&other);
        }
        Arc::clone(zones.entry(zone.clone()).or_default())
    }
}

impl ZoneCopy {
    /// The right to fetch.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.fetching.lock().await
    }

    /// The changes after `from`, when the copy has all of them.
    pub(super) fn since(&self, from: Position) -> Option<Changes> {
        let held = self.held.lock();
        let held = held.as_ref()?;
        let skip = from.changes_since(held.first)?;
        let is_enough =
            skip <= held.changes.len() && held.upto().pack() >= self.seen.load(Ordering::SeqCst);
        is_enough.then(|| held.after(skip))
    }

    /// Where a fetch for a caller that stands at `from` has to begin.
    pub(super) fn goes_on_from(&self, from: Position) -> Position {
        let held = self.held.lock();
        let reaches = held.as_ref().filter(|held| {
            let skip = from.changes_since(held.first);
            skip.is_some_and(|skip| skip <= held.changes.len())
        });
        reaches.map_or(from, Held::upto)
    }

    /// Adds what was fetched, and answers the caller that stands at `from`.
    pub(super) fn take(&self, from: Position, fetched: Fetched) -> Changes {
        let mut slot = self.held.lock();
        let mut held = match slot.take() {
            Some(held) if held.upto() == fetched.from => held,
            _ => Held {
                first: fetched.from,
                changes: VecDeque::new(),
            },
        };
        held.changes.extend(fetched.changes);
        let skip = from.changes_since(held.first).unwrap_or(0);
        let answer = held.after(skip);
        let surplus = held.changes.len().saturating_sub(KEPT);
        held.changes.drain(..surplus);
        held.first = held.first.plus(surplus);
        *slot = Some(held);
        answer
    }
}

impl Held {
    fn upto(&self) -> Position {
        self.first.plus(self.changes.len())
    }

    fn after(&self, skip: usize) -> Changes {
        Changes::Complete {
            upto: self.upto().pack(),
            changes: self.changes.iter().skip(skip).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::ChangeKind;

    fn at(sequence: i64) -> Position {
        Position::new(1, sequence).unwrap()
    }

    fn fetched(from: i64, ids: &[&str]) -> Fetched {
        Fetched {
            from: at(from),
            changes: ids.iter().map(|id| change(id)).collect(),
        }
    }

    fn change(id: &str) -> Change {
        Change {
            kind: ChangeKind::Session,
            id: id.into(),
        }
    }

    fn complete(upto: i64, ids: &[&str]) -> Changes {
        Changes::Complete {
            upto: at(upto).pack(),
            changes: ids.iter().map(|id| change(id)).collect(),
        }
    }

    #[test]
    fn what_one_fetched_serves_the_others() {
        let copy = ZoneCopy::default();
        assert_eq!(copy.since(at(5)), None);
        assert_eq!(copy.goes_on_from(at(5)), at(5));
        let answer = copy.take(at(5), fetched(5, &["a", "b"]));
        assert_eq!(answer, complete(7, &["a", "b"]));
        assert_eq!(copy.since(at(6)), Some(complete(7, &["b"])));
        assert_eq!(copy.since(at(4)), None, "what came before is not known");
        assert_eq!(copy.goes_on_from(at(6)), at(7));
        assert_eq!(
            copy.take(at(6), fetched(7, &["c"])),
            complete(8, &["b", "c"])
        );
    }

    #[test]
    fn a_copy_that_a_barrier_has_overtaken_serves_nobody() {
        let copies = Copies::default();
        let zone: ZoneId = "z".parse().unwrap();
        let copy = copies.of(&zone);
        copy.take(at(5), fetched(5, &["a"]));
        copies.saw(&zone, at(6).pack());
        assert!(copy.since(at(5)).is_some());
        copies.saw(&zone, at(7).pack());
        assert_eq!(copy.since(at(5)), None);
    }

    #[test]
    fn a_copy_of_an_earlier_epoch_serves_nobody() {
        let copy = ZoneCopy::default();
        copy.take(at(5), fetched(5, &["a"]));
        let later = Position::new(2, 5).unwrap();
        assert_eq!(copy.since(later), None);
        assert_eq!(copy.goes_on_from(later), later);
    }

    #[test]
    fn a_copy_keeps_a_bounded_number_of_changes_and_still_answers_in_full() {
        let copy = ZoneCopy::default();
        let many: Vec<String> = (0..KEPT + 3).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let upto = i64::try_from(many.len()).unwrap();
        assert_eq!(copy.take(at(0), fetched(0, &many)), complete(upto, &many));
        assert_eq!(copy.since(at(2)), None);
        assert_eq!(copy.since(at(3)), Some(complete(upto, &many[3..])));
    }

    #[test]
    fn copies_of_a_bounded_number_of_zones_are_kept() {
        let copies = Copies::default();
        for n in 0..ZONES + 9 {
            copies.of(&format!("z-{n}").parse().unwrap());
        }
        assert_eq!(copies.zones.read().len(), ZONES);
    }
}
