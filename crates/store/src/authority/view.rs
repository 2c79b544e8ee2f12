//! What can be asked of a zone.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use caracal_core::id::{
    ApplicationId, AuthorityRecordId, DelegationId, ProviderId, SessionId, ZoneId,
};
use caracal_core::{ResourceIdentifier, Timestamp};

use super::cache::{Facts, Keys, Ticket, ZoneCache};
use super::{Authority, LANES, Unavailable};
use crate::change::ChangeKind;
use crate::entity::{
    ActivePolicySet, Application, AuthorityRecord, Delegation, Lifecycle, Provider, Resource,
    Session, SessionStatus, SigningKeyRow, Zone,
};
use crate::error::StoreError;
use crate::handle::ZoneReader;
use crate::signing_keys::published;

/// A view of one zone, no older than the call that made it. Make one per request; do not keep it.
#[derive(Debug, Clone)]
pub struct ZoneView {
    authority: Arc<Authority>,
    zone: ZoneId,
    pub(super) cache: Arc<ZoneCache>,
    seq: u64,
}

type Answer<T> = Result<Option<Arc<T>>, Unavailable>;

impl ZoneView {
    pub(super) fn new(
        authority: Arc<Authority>,
        zone: ZoneId,
        cache: Arc<ZoneCache>,
        seq: u64,
    ) -> Self {
        Self {
            authority,
            zone,
            cache,
            seq,
        }
    }

    /// The zone's position in the change feed when the view was made.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The zone that the view is of.
    #[must_use]
    pub fn zone_id(&self) -> &ZoneId {
        &self.zone
    }

    /// The zone itself, archived or not.
    ///
    /// # Errors
    /// [`Unavailable`] when it can't be read.
    pub async fn zone(&self) -> Answer<Zone> {
        self.ask(
            (ChangeKind::Zone, self.zone.as_str()),
            |facts| facts.zone.clone(),
            async |store| Ok(store.get_zone().await?.map(Arc::new)),
            |facts, zone| facts.zone = Some(Arc::clone(zone)),
        )
        .await
    }

    /// An application, archived or not.
    ///
    /// # Errors
    /// [`Unavailable`] when it can't be read.
    pub async fn application(&self, id: &ApplicationId) -> Answer<Application> {
        self.ask(
            (ChangeKind::Application, id.as_str()),
            |facts| facts.applications.get(id),
            async |store| Ok(store.get_application(id).await?.map(Arc::new)),
            |facts, row| facts.applications.put(id.clone(), Arc::clone(row)),
        )
        .await
    }

    /// The live resource of that identifier.
    ///
    /// # Errors
    /// [`Unavailable`] when it can't be read.
    pub async fn resource(&self, identifier: &ResourceIdentifier) -> Answer<Resource> {
        self.ask(
            (ChangeKind::Resource, identifier.as_str()),
            |facts| facts.names.get(identifier),
            async |store| Ok(store.find_resource(identifier).await?.map(Arc::new)),
            keep_resource,
        )
        .await
    }

    /// The live resource of that identifier, else of that row id.
    ///
    /// # Errors
    /// [`Unavailable`] when it can't be read.
    pub async fn resource_by_name(&self, name: &str) -> Answer<Resource> {
        self.ask(
            (ChangeKind::Resource, name),
            // Row ids have no colon and identifiers are absolute URIs, so a cached row id hides none.
            |facts| facts.names.get(name).or_else(|| facts.resources.get(name)),
            async |store| Ok(store.find_resource_by_name(name).await?.map(Arc::new)),
            keep_resource,
        )
        .await
    }

    /// A provider, archived or not.
    ///
    /// # Errors
    /// [`Unavailable`] when it can't be read.
    pub async fn provider(&self, id: &ProviderId) -> Answer<Provider> {
        self.ask(
            (ChangeKind::Provider, id.as_str()),
            |facts| facts.providers.get(id),
            async |store| Ok(store.get_provider(id).await?.map(Arc::new)),
            |facts, row| facts.providers.put(id.clone(), Arc::clone(row)),
        )
        .await
    }

    /// A Session, whatever its state. Its `child_count` may be out of date.
    ///
    /// # Errors
    /// [`Unavailable`] when it can't be read.
    pub async fn session(&self, id: &SessionId) -> Answer<Session> {
        let now = self.now();
        self.ask(
            (ChangeKind::Session, id.as_str()),
            |facts| {
                facts
                    .sessions
                    .get(id)
                    .filter(|session| !may_have_been_renewed(session, now))
            },
            async |store| Ok(store.get_session(id).await?.map(Arc::new)),
            |facts, row| facts.sessions.put(id.clone(), Arc::clone(row)),
        )
        .await
    }

    /// A delegation edge, whatever its state. Its `budget_used` may be out of date.
    ///
    /// # Errors
    /// [`Unavailable`] when it can't be read.
    pub async fn delegation(&self, id: &DelegationId) -> Answer<Delegation> {
        self.ask(
            (ChangeKind::Delegation, id.as_str()),
            |facts| facts.delegations.get(id),
            async |store| Ok(store.get_delegation(id).await?.map(Arc::new)),
            |facts, row| facts.delegations.put(id.clone(), Arc::clone(row)),
        )
        .await
    }

    /// An authority record, whatever its state.
    ///
    /// # Errors
    /// [`Unavailable`] when it can't be read.
    pub async fn authority_record(&self, id: &AuthorityRecordId) -> Answer<AuthorityRecord> {
        self.ask(
            (ChangeKind::AuthorityRecord, id.as_str()),
            |facts| facts.records.get(id),
            async |store| Ok(store.get_authority_record(id).await?.map(Arc::new)),
            |facts, row| facts.records.put(id.clone(), Arc::clone(row)),
        )
        .await
    }

    /// The policy that governs the zone; `None` when nothing governs it.
    ///
    /// # Errors
    /// [`Unavailable`] when it can't be read.
    pub async fn active_policy(&self) -> Answer<ActivePolicySet> {
        self.ask(
            (ChangeKind::Policy, ""),
            |facts| facts.policy.clone(),
            async |store| Ok(store.active_policy().await?.map(Arc::new)),
            |facts, policy| facts.policy = Some(Arc::clone(policy)),
        )
        .await
    }

    /// The zone's published keys, the one that signs now first; empty for an unknown zone.
    ///
    /// # Errors
    /// [`Unavailable`] when they can't be read.
    pub async fn signing_keys(&self) -> Result<Arc<[SigningKeyRow]>, Unavailable> {
        let now = self.now();
        let keys = self
            .ask(
                (ChangeKind::SigningKey, ""),
                |facts| facts.keys.clone().filter(|keys| now < keys.until),
                async |store| {
                    let all = store.list_signing_keys().await?;
                    Ok((!all.is_empty()).then(|| ordered(&all, now)))
                },
                |facts, keys| facts.keys = Some(keys.clone()),
            )
            .await?;
        Ok(keys.map_or_else(|| Arc::from([]), |keys| keys.published))
    }

    /// The zone's delegation epoch; 0 until the first explicit revoke.
    ///
    /// # Errors
    /// [`Unavailable`] when it can't be read.
    pub async fn delegation_epoch(&self) -> Result<i64, Unavailable> {
        let epoch = self
            .ask(
                (ChangeKind::DelegationEpoch, ""),
                |facts| facts.epoch,
                async |store| Ok(Some(store.delegation_epoch().await?)),
                |facts, epoch| facts.epoch = Some(*epoch),
            )
            .await?;
        Ok(epoch.unwrap_or(0))
    }

    fn now(&self) -> Timestamp {
        self.authority.store.inner.now()
    }

    /// A fact from the cache, else from the store; the first of several misses reads for them all.
    async fn ask<T>(
        &self,
        fact: (ChangeKind, &str),
        find: impl Fn(&Facts) -> Option<T>,
        read: impl AsyncFnOnce(&ZoneReader) -> Result<Option<T>, StoreError>,
        put: impl FnOnce(&mut Facts, &T),
    ) -> Result<Option<T>, Unavailable> {
        if let Ok(found) = self.cache.look(&find) {
            return Ok(Some(found));
        }
        let _turn = self.authority.lanes[self.lane(fact)].lock().await;
        let store = self.authority.store.read(&self.zone);
        let value = read_through(&self.cache, find, async || read(&store).await, put).await?;
        if value.is_some() {
            self.authority.adopt(&self.zone, &self.cache);
        }
        Ok(value)
    }

    fn lane(&self, fact: (ChangeKind, &str)) -> usize {
        let mut hasher = DefaultHasher::new();
        (&self.zone, fact).hash(&mut hasher);
        let lanes = LANES as u64;
        usize::try_from(hasher.finish() % lanes).unwrap_or(0)
    }
}

/// A fact from the cache, else from the store; what was read is kept, unless the cache has moved on
/// since.
pub(super) async fn read_through<T>(
    cache: &ZoneCache,
    find: impl Fn(&Facts) -> Option<T>,
    read: impl AsyncFnOnce() -> Result<Option<T>, StoreError>,
    put: impl FnOnce(&mut Facts, &T),
) -> Result<Option<T>, StoreError> {
    let ticket: Ticket = match cache.look(&find) {
        Ok(found) => return Ok(Some(found)),
        Err(ticket) => ticket,
    };
    let value = read().await?;
    if let Some(value) = &value {
        cache.keep(ticket, |facts| put(facts, value));
    }
    Ok(value)
}

fn keep_resource(facts: &mut Facts, row: &Arc<Resource>) {
    facts.names.put(row.identifier.clone(), Arc::clone(row));
    facts.resources.put(row.id.clone(), Arc::clone(row));
}

fn may_have_been_renewed(session: &Session, now: Timestamp) -> bool {
    match session.lifecycle {
        Lifecycle::Task { .. } => false,
        Lifecycle::Service(lease) => {
            session.status == SessionStatus::Active && lease.heartbeat_deadline_at <= now
        }
    }
}

/// The keys published at `now`, with the next instant at which the list or its order changes.
fn ordered(all: &[SigningKeyRow], now: Timestamp) -> Keys {
    let until = all
        .iter()
        .flat_map(|key| [Some(key.signs_from), key.retires_at])
        .flatten()
        .filter(|at| *at > now)
        .min()
        .unwrap_or(Timestamp::MAX);
    Keys {
        published: published(all, now).into(),
        until,
    }
}
