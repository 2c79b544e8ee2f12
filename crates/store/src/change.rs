//! The change log of a zone, and how its readers learn of it.
//!
//! Every commit that makes a fact wrong which somebody may have cached records what it touched, in
//! the same commit. A pure creation records nothing: absence is never cached.
//!
//! [`ChangeFeed`] is what a cache needs: a position to await before it answers, and the changes since
//! the position it stands at. The embedded feed lives in the process that owns the store file. A
//! commit publishes to it after the database has the data and before anybody is told of the commit,
//! and the next commit waits for that; so a position read later covers every commit acknowledged
//! earlier.

pub(crate) mod barrier;
mod postgres;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use caracal_core::id::ZoneId;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::entity::wire_names;
use crate::error::StoreError;

pub(crate) use postgres::PostgresFeed;

/// What kind of fact changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// The zone itself.
    Zone,
    /// An application.
    Application,
    /// A credential provider.
    Provider,
    /// A resource.
    Resource,
    /// The policy that governs the zone; the id is the policy set's.
    Policy,
    /// An authority record.
    AuthorityRecord,
    /// A Session.
    Session,
    /// A delegation edge.
    Delegation,
    /// The zone's delegation epoch; the id is the zone's.
    DelegationEpoch,
    /// The zone's signing keys; the id is the key's.
    SigningKey,
}

wire_names!(ChangeKind {
    Zone => "zone",
    Application => "application",
    Provider => "provider",
    Resource => "resource",
    Policy => "policy",
    AuthorityRecord => "authority_record",
    Session => "session",
    Delegation => "delegation",
    DelegationEpoch => "delegation_epoch",
    SigningKey => "signing_key",
});

/// One fact that a commit made wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    /// The kind.
    pub kind: ChangeKind,
    /// The row's id.
    pub id: Arc<str>,
}

/// The changes since a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// All of them, oldest first.
    Complete {
        /// The position behind the last one.
        upto: u64,
        /// What changed.
        changes: Vec<Change>,
    },
    /// They are no longer known: everything about the zone may have changed.
    Gap {
        /// The position to go on from.
        upto: u64,
    },
}

/// Where a cache learns what became wrong.
#[async_trait]
pub trait ChangeFeed: Send + Sync + std::fmt::Debug {
    /// The barrier: a position that covers every commit acknowledged before the call.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the position can't be read: nothing cached may be used.
    async fn current(&self, zone: &ZoneId) -> Result<u64, StoreError>;

    /// What changed after position `from`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] as for [`ChangeFeed::current`].
    async fn since(&self, zone: &ZoneId, from: u64) -> Result<Changes, StoreError>;

    /// Fires on every change of the zone, with its position. Wakes, never proves: read
    /// [`ChangeFeed::current`] before deciding.
    fn watch(&self, zone: &ZoneId) -> watch::Receiver<u64>;
}

/// How many changes of a zone are remembered; a reader further behind drops what it has.
const REMEMBERED: usize = 4096;

/// The feed of a store that one process owns.
///
/// Positions live as long as the process, as the caches that use them do.
#[derive(Debug, Default)]
pub struct EmbeddedFeed {
    zones: RwLock<HashMap<ZoneId, Arc<ZoneFeed>>>,
}

#[derive(Debug)]
struct ZoneFeed {
    /// Stored after `recent` holds the changes that it covers.
    position: AtomicU64,
    recent: Mutex<Recent>,
    watch: watch::Sender<u64>,
}

/// The changes at positions `first..first + changes.len()`.
#[derive(Debug)]
struct Recent {
    first: u64,
    changes: VecDeque<Change>,
}

impl EmbeddedFeed {
    /// Makes the changes of one commit known. The caller still holds the writer, so commits are
    /// published in their order.
    pub(crate) fn publish(&self, zone: &ZoneId, changes: impl IntoIterator<Item = Change>) {
        let feed = self.feed(zone);
        let position = {
            let mut recent = feed.recent.lock();
            recent.changes.extend(changes);
            while recent.changes.len() > REMEMBERED {
                recent.changes.pop_front();
                recent.first += 1;
            }
            recent.first + recent.changes.len() as u64
        };
        feed.announce(position);
    }

    /// Makes known that anything about the zone may have changed: a commit ended without telling
    /// whether it happened.
    pub(crate) fn publish_doubt(&self, zone: &ZoneId) {
        let feed = self.feed(zone);
        let position = {
            let mut recent = feed.recent.lock();
            recent.first += recent.changes.len() as u64 + 1;
            recent.changes.clear();
            recent.first
        };
        feed.announce(position);
    }

    fn feed(&self, zone: &ZoneId) -> Arc<ZoneFeed> {
        if let Some(feed) = self.zones.read().get(zone) {
            return Arc::clone(feed);
        }
        let mut zones = self.zones.write();
        Arc::clone(
            zones
                .entry(zone.clone())
                .or_insert_with(|| Arc::new(ZoneFeed::default())),
        )
    }

    /// The barrier as a plain call.
    pub(crate) fn position(&self, zone: &ZoneId) -> u64 {
        self.zones
            .read()
            .get(zone)
            .map_or(0, |feed| feed.position.load(Ordering::SeqCst))
    }

    fn changes_since(&self, zone: &ZoneId, from: u64) -> Changes {
        let Some(feed) = self.zones.read().get(zone).map(Arc::clone) else {
            return Changes::Complete {
                upto: from,
                changes: Vec::new(),
            };
        };
        let recent = feed.recent.lock();
        let upto = recent.first + recent.changes.len() as u64;
        match from.checked_sub(recent.first).map(usize::try_from) {
            Some(Ok(skip)) => Changes::Complete {
                upto,
                changes: recent.changes.iter().skip(skip).cloned().collect(),
            },
            _ => Changes::Gap { upto },
        }
    }
}

impl ZoneFeed {
    fn announce(&self, position: u64) {
        self.position.store(position, Ordering::SeqCst);
        self.watch.send_replace(position);
    }
}

impl Default for ZoneFeed {
    fn default() -> Self {
        Self {
            position: AtomicU64::new(0),
            recent: Mutex::new(Recent {
                first: 0,
                changes: VecDeque::new(),
            }),
            watch: watch::Sender::new(0),
        }
    }
}

#[async_trait]
impl ChangeFeed for EmbeddedFeed {
    async fn current(&self, zone: &ZoneId) -> Result<u64, StoreError> {
        Ok(self.position(zone))
    }

    async fn since(&self, zone: &ZoneId, from: u64) -> Result<Changes, StoreError> {
        Ok(self.changes_since(zone, from))
    }

    fn watch(&self, zone: &ZoneId) -> watch::Receiver<u64> {
        self.feed(zone).watch.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> ZoneId {
        ZoneId::parse("z-1").unwrap()
    }

    fn session(id: &str) -> Change {
        Change {
            kind: ChangeKind::Session,
            id: id.into(),
        }
    }

    #[test]
    fn a_reader_gets_exactly_the_changes_since_its_position() {
        let feed = EmbeddedFeed::default();
        feed.publish(&zone(), [session("a")]);
        let at = feed.position(&zone());
        feed.publish(&zone(), [session("b"), session("c")]);
        assert_eq!(
            feed.changes_since(&zone(), at),
            Changes::Complete {
                upto: 3,
                changes: vec![session("b"), session("c")]
            }
        );
    }

    #[test]
    fn a_reader_too_far_behind_is_told_of_a_gap() {
        let feed = EmbeddedFeed::default();
        feed.publish(&zone(), (0..=REMEMBERED).map(|n| session(&n.to_string())));
        assert_eq!(
            feed.changes_since(&zone(), 0),
            Changes::Gap {
                upto: REMEMBERED as u64 + 1
            }
        );
        assert!(matches!(
            feed.changes_since(&zone(), 1),
            Changes::Complete { .. }
        ));
    }

    #[test]
    fn a_commit_of_unknown_outcome_opens_a_gap_for_every_reader() {
        let feed = EmbeddedFeed::default();
        feed.publish(&zone(), [session("a")]);
        let at = feed.position(&zone());
        feed.publish_doubt(&zone());
        assert!(feed.position(&zone()) > at);
        assert!(matches!(
            feed.changes_since(&zone(), at),
            Changes::Gap { .. }
        ));
    }

    #[test]
    fn watchers_see_the_position_of_the_last_change() {
        let feed = EmbeddedFeed::default();
        let watch = feed.watch(&zone());
        feed.publish(&zone(), [session("a")]);
        assert!(watch.has_changed().unwrap());
        assert_eq!(*watch.borrow(), 1);
    }
}
