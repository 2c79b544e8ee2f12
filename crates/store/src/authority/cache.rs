//! One zone's cache: entries, and the position in the change feed that they are good for.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use caracal_core::id::{
    ApplicationId, AuthorityRecordId, DelegationId, ProviderId, ResourceId, SessionId,
};
use caracal_core::{ResourceIdentifier, Timestamp};
use parking_lot::RwLock;

use crate::change::{Change, ChangeKind};
use crate::entity::{
    ActivePolicySet, Application, AuthorityRecord, Delegation, Provider, Resource, Session,
    SigningKeyRow, Zone,
};

/// The cache of one zone. Everything is under one lock: an entry goes in only while the cache stands
/// where it stood when the entry's read began.
#[derive(Debug)]
pub(super) struct ZoneCache {
    state: RwLock<State>,
    entries: usize,
}

#[derive(Debug)]
struct State {
    position: u64,
    facts: Facts,
}

/// What a zone's cache holds.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) zone: Option<Arc<Zone>>,
    pub(super) policy: Option<Arc<ActivePolicySet>>,
    pub(super) epoch: Option<i64>,
    pub(super) keys: Option<Keys>,
    pub(super) applications: Bounded<ApplicationId, Application>,
    pub(super) providers: Bounded<ProviderId, Provider>,
    pub(super) resources: Bounded<ResourceId, Resource>,
    /// The same live resources by their public names.
    pub(super) names: Bounded<ResourceIdentifier, Resource>,
    pub(super) records: Bounded<AuthorityRecordId, AuthorityRecord>,
    pub(super) sessions: Bounded<SessionId, Session>,
    pub(super) delegations: Bounded<DelegationId, Delegation>,
}

/// Published keys, and until when their order holds.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) published: Arc<[SigningKeyRow]>,
    pub(super) until: Timestamp,
}

/// A read-through that has begun: where the cache stood.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket(u64);

impl ZoneCache {
    pub(super) fn new(position: u64, entries: usize) -> Self {
        Self {
            state: RwLock::new(State {
                position,
                facts: Facts::new(entries),
            }),
            entries,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.state.read().position
    }

    /// Evicts exactly what changed and stands at `upto` from now on.
    pub(super) fn apply(&self, upto: u64, changes: &[Change]) {
        let mut state = self.state.write();
        // Evicting what changed before the cache's own position again does no harm.
        for change in changes {
            state.facts.evict(change);
        }
        state.position = state.position.max(upto);
    }

    /// Drops everything and stands at `upto` from now on.
    pub(super) fn forget(&self, upto: u64) {
        let mut state = self.state.write();
        state.facts = Facts::new(self.entries);
        state.position = state.position.max(upto);
    }

    /// What the cache holds, or the ticket for reading it.
    pub(super) fn look<T>(&self, find: impl FnOnce(&Facts) -> Option<T>) -> Result<T, Ticket> {
        let state = self.state.read();
        find(&state.facts).ok_or(Ticket(state.position))
    }

    /// Puts a read fact in, unless the cache has moved since the read began.
    pub(super) fn keep(&self, ticket: Ticket, put: impl FnOnce(&mut Facts)) {
        let mut state = self.state.write();
        if state.position == ticket.0 {
            put(&mut state.facts);
        }
    }
}

impl Facts {
    fn new(entries: usize) -> Self {
        Self {
            zone: None,
            policy: None,
            epoch: None,
            keys: None,
            applications: Bounded::new(entries),
            providers: Bounded::new(entries),
            resources: Bounded::new(entries),
            names: Bounded::new(entries),
            records: Bounded::new(entries),
            sessions: Bounded::new(entries),
            delegations: Bounded::new(entries),
        }
    }

    fn evict(&mut self, change: &Change) {
        let id: &str = &change.id;
        match change.kind {
            ChangeKind::Zone => self.zone = None,
            ChangeKind::Policy => self.policy = None,
            ChangeKind::DelegationEpoch => self.epoch = None,
            ChangeKind::SigningKey => self.keys = None,
            ChangeKind::Application => self.applications.remove(id),
            ChangeKind::Provider => self.providers.remove(id),
            ChangeKind::Resource => {
                self.resources.remove(id);
                self.names
                    .remove_values(|resource| resource.id.as_str() == id);
            }
            ChangeKind::AuthorityRecord => self.records.remove(id),
            ChangeKind::Session => self.sessions.remove(id),
            ChangeKind::Delegation => self.delegations.remove(id),
        }
    }
}

/// A map that never holds more than its bound.
///
/// Entries go into the young half; when that is full it becomes the old half and the former old half
/// is dropped. So a lookup needs no write, and an entry in use is read again at most once in that
/// many insertions.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    young: HashMap<K, Arc<V>>,
    old: HashMap<K, Arc<V>>,
    half: usize,
}

impl<K: Eq + Hash, V> Bounded<K, V> {
    pub(super) fn new(entries: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half: (entries / 2).max(1),
        }
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.young.get(key).or_else(|| self.old.get(key)).cloned()
    }

    pub(super) fn put(&mut self, key: K, value: Arc<V>) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.young.remove(key);
        self.old.remove(key);
    }

    fn remove_values(&mut self, dead: impl Fn(&V) -> bool) {
        self.young.retain(|_, value| !dead(value));
        self.old.retain(|_, value| !dead(value));
    }
}
